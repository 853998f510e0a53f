//! The one way from a request to the rows: who calls, what they may, whose rows they see.
//!
//! In: `Authorization: Bearer pfa_…`. Out: a [`Caller`], and for one who may, a [`Tenant`] or a [`Change`] of the
//! caller's own account.
//! Always holds: the store cannot be reached around the checks made here, since it is private to this file.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{StatusCode, header};
use policy::budget::Account as LedgerAccount;
use policy::ids::entitlement_id;
use policy::token::{self, TokenHash};

mod work;

pub use work::Kept;

use super::problem::Problem;
use super::rate::Limiter;
use super::{App, RequestId};
use crate::analytics::{Analytics as _, Backend, Decision, DecisionQuery, Usage, UsageQuery};
use crate::domain::permission::{Area, Role, scopes_allow};
use crate::guesses::Guesses;
use crate::storage::{
    Account, Actor, AdminKey, Bearer, Begun, Change, IdempotencyKey, Member, OwnSites, Page,
    Retention, Site, Store, Subscription, Tenant, Window,
};

/// What admin keys begin with.
pub const KEY_PREFIX: &str = "pfa_";

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    key_id: String,
    account_id: String,
    member_id: Option<String>,
    role: Role,
    scopes: Option<Vec<String>>,
    is_operator: bool,
    request_id: String,
}

impl Caller {
    /// The caller's account.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The member whose key it is; `None` where it is the account's.
    #[must_use]
    pub fn member_id(&self) -> Option<&str> {
        self.member_id.as_deref()
    }

    /// The caller's role: the key's, and never more than its member's is now.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The scopes that narrow the role; `None` for none.
    #[must_use]
    pub fn scopes(&self) -> Option<&[String]> {
        self.scopes.as_deref()
    }

    /// Whether the key has this scope; without scopes it has all.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        let Some((word, right)) = scope.split_once(':') else { return false };
        let area = Area::WORDS.iter().find(|(known, _)| *known == word);
        area.is_some_and(|(_, area)| scopes_allow(self.scopes(), *area, right == "write"))
    }

    /// Whether the key is an operator's, who runs the control plane.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.is_operator
    }

    fn actor(&self) -> Actor {
        Actor {
            kind: "admin_key",
            id: self.key_id.clone(),
            request_id: Some(self.request_id.clone()),
        }
    }

    /// Whether the role and the scopes allow it.
    #[must_use]
    pub fn may(&self, area: Area, is_write: bool) -> bool {
        self.role.may(area, is_write) && scopes_allow(self.scopes(), area, is_write)
    }

    fn check(&self, area: Area, is_write: bool) -> Result<(), Problem> {
        let right = if is_write { "write" } else { "read" };
        if !self.role.may(area, is_write) {
            return Err(Problem::forbidden(format!(
                "the role `{}` may not {right} {}",
                self.role.as_str(),
                area.as_str()
            )));
        }
        if !scopes_allow(self.scopes(), area, is_write) {
            let scope = format!("{}:{right}", area.as_str());
            return Err(Problem::forbidden(format!("the key has no scope `{scope}`")));
        }
        Ok(())
    }

    /// Whether the caller may do what only the operator may.
    ///
    /// # Errors
    /// 403 where it may not.
    pub fn check_operator(&self) -> Result<(), Problem> {
        if self.is_operator && self.role == Role::Owner && self.scopes.is_none() {
            return Ok(());
        }
        Err(Problem::forbidden("only a key of the operator, without scopes, may do this"))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = bearer(parts).ok_or_else(|| {
            refused("send an admin key as `Authorization: Bearer pfa_…`; `payfence controlplane init` prints the first")
        })?;
        // A typo is known without a look-up, so that guessing costs the database nothing.
        if !token::is_key(KEY_PREFIX, key.as_bytes()) {
            return Err(refused("this is no admin key, or a character of it is wrong"));
        }
        let now_ms = app.gate.store.world().now_ms();
        let Gate { store, guesses, .. } = &app.gate;
        let hash = TokenHash::of(key.as_bytes()).0;
        if !guesses.may_look_up(store, &hash).await? {
            let detail = "too many requests with unknown admin keys";
            let status = StatusCode::TOO_MANY_REQUESTS;
            return Err(Problem::new(status, "rate_limited", detail).retry_after(1));
        }
        let found = good(store.admin_key_by_hash(&hash).await?, now_ms);
        let found = found.inspect_err(|_| guesses.count_failed(store))?;
        app.gate.limiter.take(&found.id, now_ms).map_err(|wait_s| {
            let detail = "this key sends more requests than are allowed";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(wait_s)
        })?;
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone());
        let role = role_of(&found, &app.gate.store).await?;
        Ok(Self::of(found, role, request_id.unwrap_or_default()))
    }
}

/// The key that was looked up, where it is good.
fn good(found: Option<AdminKey>, now_ms: i64) -> Result<AdminKey, Problem> {
    let found = found.ok_or_else(|| refused("the admin key is not known"))?;
    if found.revoked_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
        return Err(refused("the admin key was revoked"));
    }
    if found.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
        return Err(refused("the admin key has expired"));
    }
    Ok(found)
}

/// What a key may do now. Asked for each request, so that a member's role counts at once.
async fn role_of(key: &AdminKey, store: &Store) -> Result<Role, Problem> {
    let role = Role::of(&key.role);
    let Some(member_id) = &key.member_id else { return Ok(role) };
    let member = store.tenant(&key.account_id).get::<Member>(member_id).await?;
    let member = member.filter(|member| member.archived_at_ms.is_none());
    let member = member.ok_or_else(|| refused("whose admin key this is, is no member any more"))?;
    Ok(role.min(Role::of(&member.role)))
}

impl Caller {
    /// Whether it may read use, and these sites are its own.
    fn check_sites(&self, sites: &OwnSites) -> Result<(), Problem> {
        self.check(Area::Usage, false)?;
        let is_own = sites.account_id() == self.account_id;
        if is_own { Ok(()) } else { Err(Problem::not_found("site")) }
    }

    fn of(key: AdminKey, role: Role, request_id: String) -> Self {
        // Scopes that cannot be read allow nothing.
        let scopes = key.scopes.map(|text| serde_json::from_str(&text).unwrap_or_default());
        Self {
            key_id: key.id,
            account_id: key.account_id,
            member_id: key.member_id,
            role,
            scopes,
            is_operator: key.is_operator,
            request_id,
        }
    }
}

fn refused(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// That a caller may do something to its account, for what cannot be done in one transaction.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The account.
    pub account_id: String,
    /// Who it is that acts.
    pub actor: Actor,
}

/// The store, behind its checks.
#[derive(Clone, Debug)]
pub struct Gate {
    store: Store,
    limiter: Limiter,
    guesses: Arc<Guesses>,
    backend: Backend,
}

impl Gate {
    /// A gate before a store.
    #[must_use]
    pub fn new(store: Store, limiter: Limiter) -> Self {
        let backend = Backend::Sql { store: store.clone(), kept: Retention::default() };
        Self { store, limiter, guesses: Arc::new(Guesses::new(Bearer::AdminKey)), backend }
    }

    /// The same with others who answer about decisions and use.
    #[must_use]
    pub fn with_analytics(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// The caller's rows, to read.
    ///
    /// # Errors
    /// 403 where the caller may not read in this area.
    pub fn read(&self, caller: &Caller, area: Area) -> Result<Tenant<'_>, Problem> {
        caller.check(area, false)?;
        Ok(self.store.tenant(&caller.account_id))
    }

    /// That the caller may write in this area, for work that asks Stripe in between.
    ///
    /// # Errors
    /// 403 where the caller may not.
    pub fn grant(&self, caller: &Caller, area: Area) -> Result<Grant, Problem> {
        caller.check(area, true)?;
        Ok(Grant { account_id: caller.account_id.clone(), actor: caller.actor() })
    }

    /// That the caller may do what only the operator may.
    ///
    /// # Errors
    /// 403 where the caller is no operator.
    pub fn grant_operator(&self, caller: &Caller) -> Result<Grant, Problem> {
        caller.check_operator()?;
        Ok(Grant { account_id: caller.account_id.clone(), actor: caller.actor() })
    }

    /// A change of the caller's rows.
    ///
    /// # Errors
    /// 403 where the caller may not write in this area, 503 when the database is away.
    pub async fn write(&self, caller: &Caller, area: Area) -> Result<Change, Problem> {
        caller.check(area, true)?;
        Ok(self.store.change(&caller.account_id, caller.actor()).await?)
    }

    /// A change of the caller's rows by a POST: where the same request was answered before, that answer is the error.
    ///
    /// # Errors
    /// As [`Gate::write`]; 422 where the idempotency key was used for another request.
    pub async fn write_once(
        &self,
        caller: &Caller,
        area: Area,
        key: Option<&IdempotencyKey>,
    ) -> Result<Change, Problem> {
        caller.check(area, true)?;
        self.once(caller, &caller.account_id, key).await
    }

    async fn once(
        &self,
        caller: &Caller,
        account_id: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Change, Problem> {
        let Some(key) = key else {
            return Ok(self.store.change(account_id, caller.actor()).await?);
        };
        let begun = self.store.change_once(account_id, caller.actor(), key, &caller.account_id);
        match begun.await? {
            Begun::New(change) => Ok(change),
            Begun::Answered(answer) => Err(Problem::replay(answer)),
            Begun::KeyReused => Err(work::reused()),
            Begun::Running => Err(work::running()),
        }
    }

    /// A change of another account's rows, by a POST of the operator.
    ///
    /// # Errors
    /// 403 where the caller is no operator; otherwise as [`Gate::write_once`].
    pub async fn operate_once(
        &self,
        caller: &Caller,
        account_id: &str,
        key: Option<&IdempotencyKey>,
    ) -> Result<Change, Problem> {
        caller.check_operator()?;
        self.once(caller, account_id, key).await
    }

    /// Whether the caller is of the operator's account, the only one that has nodes.
    ///
    /// # Errors
    /// 403 where it is not, 503 when the database is away.
    pub async fn check_operators(&self, caller: &Caller) -> Result<(), Problem> {
        if caller.is_operator || self.store.is_operators(&caller.account_id).await? {
            return Ok(());
        }
        Err(Problem::forbidden(
            "nodes serve every account, so only the operator's account has them; ask whoever runs this control plane",
        ))
    }

    /// What the ledger knows of a subscription's use; none where no node ever asked. The row and its site were read through this gate.
    ///
    /// # Errors
    /// 503 when the database is away.
    pub async fn ledger_account(
        &self,
        site: &Site,
        subscription: &Subscription,
    ) -> Result<Option<LedgerAccount>, Problem> {
        let id = entitlement_id(&site.slug, &subscription.reference);
        Ok(self.store.ledger_account(id.0).await?)
    }

    /// Decisions about the caller's own sites, newest first.
    ///
    /// # Errors
    /// 403 where the caller may not read use, 503 when nobody can be asked.
    pub async fn decisions(
        &self,
        caller: &Caller,
        sites: &OwnSites,
        query: &DecisionQuery,
    ) -> Result<Vec<Decision>, Problem> {
        caller.check_sites(sites)?;
        Ok(self.backend.decisions(sites, query).await?)
    }

    /// Sums over decisions about the caller's own sites.
    ///
    /// # Errors
    /// As [`Gate::decisions`].
    pub async fn usage(
        &self,
        caller: &Caller,
        sites: &OwnSites,
        query: &UsageQuery,
    ) -> Result<Vec<Usage>, Problem> {
        caller.check_sites(sites)?;
        Ok(self.backend.usage(sites, query).await?)
    }

    /// How long use is kept by the minute, milliseconds; none: as long as decisions themselves.
    #[must_use]
    pub fn minutes_kept_ms(&self) -> Option<i64> {
        self.backend.minutes_kept_ms()
    }

    /// The last change that was published.
    #[must_use]
    pub fn published(&self) -> i64 {
        self.store.outbox().head()
    }

    /// Every account, for the operator.
    ///
    /// # Errors
    /// 403 where the caller is no operator, 503 when the database is away.
    pub async fn accounts(
        &self,
        caller: &Caller,
        window: Window<'_>,
    ) -> Result<Option<Page<Account>>, Problem> {
        caller.check_operator()?;
        Ok(self.store.accounts(window).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// 503 where it does not.
    pub async fn ping(&self) -> Result<(), Problem> {
        Ok(self.store.ping().await?)
    }
}
