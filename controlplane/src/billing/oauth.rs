//! Connecting a Stripe account that its owner has already.
//!
//! In: an owner's wish with an admin key, the browser that goes on with it, what Stripe sends that back with. Out: an account's row.
//! Always holds: states are kept as hashes, and belong to the admin key that began them and to the one browser that went on: an
//! address of Stripe's or of ours that is passed to somebody else connects nothing there. A state connects one account, once, and the row
//! says so in the same transaction; until then it can be come back with for as long as it is good, so that an outage costs nobody
//! anything; what Stripe granted to one that connects nothing is given back ([`grants`]). The code is sent with an idempotency key made of state and code, so that whoever comes again gets the same answer.

pub mod grants;

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::connect::record;
use super::error::RETRY_AFTER_S;
use super::stripe::{Mode, OauthToken, form};
use super::{Billing, BillingError, BillingResult};
use crate::ids::new_id;
use crate::storage::{
    Account, Actor, AdminKey, OauthState, StorageError, StorageResult, TenantRow as _,
};

/// How long an owner may take, milliseconds.
pub const STATE_MS: i64 = 15 * 60_000;

/// Why an owner's browser cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// There is no such attempt, it has expired, or its admin key is no more.
    #[error("no attempt to connect a Stripe account is under way here")]
    Unknown,
    /// Another browser went on with it, or none has.
    #[error("another browser went on with this attempt to connect a Stripe account")]
    OtherBrowser,
    /// Stripe takes the code no more: its owner has to agree once more.
    #[error("Stripe does not take the authorisation code (any more)")]
    CodeSpent,
    /// Something else.
    #[error(transparent)]
    Billing(#[from] BillingError),
}

impl From<StorageError> for OauthError {
    fn from(error: StorageError) -> Self {
        Self::Billing(error.into())
    }
}

/// What an owner is asked to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the account is called here.
    pub name: String,
    /// Test or live.
    pub mode: Mode,
}

/// A good attempt.
struct Attempt {
    hash: [u8; 32],
    row: OauthState,
    mode: Mode,
    key: AdminKey,
}

fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn client_id(billing: &Billing, mode: Mode) -> BillingResult<&str> {
    let text = "OAuth needs --stripe-client-id or --stripe-live-client-id";
    billing.settings.client_ids.of(mode).ok_or(BillingError::NotSetUp(text))
}

fn taken() -> BillingError {
    BillingError::Conflict("a Stripe account is connected already".to_owned())
}

/// Where the owner of an existing account goes on with their browser: a page of ours.
///
/// # Errors
/// When OAuth is not set up, an account is connected already, or the database cannot be asked.
pub async fn begin(
    billing: &Billing,
    account_id: &str,
    actor: &Actor,
    mode: Mode,
) -> BillingResult<String> {
    client_id(billing, mode)?;
    let pages = billing.public_url()?;
    if billing.connected(account_id, mode).await?.is_some() {
        return Err(taken());
    }
    let world = billing.store.world();
    let state = new_id("oauth", &**world);
    let row = OauthState {
        account_id: account_id.to_owned(),
        actor_id: actor.id.clone(),
        mode: mode.as_str().to_owned(),
        browser_hash: None,
        stripe_id: None,
        granted_id: None,
    };
    billing.store.keep_oauth_state(&hash_of(&state), &row, world.now_ms() + STATE_MS).await?;
    Ok(format!("{pages}/stripe/oauth/begin?state={state}"))
}

async fn attempt(billing: &Billing, state: &str) -> Result<Attempt, OauthError> {
    let hash = hash_of(state);
    let row = billing.store.oauth_state(&hash).await?.ok_or(OauthError::Unknown)?;
    let mode = Mode::stored(&row.mode)?;
    let now_ms = billing.store.world().now_ms();
    let key = billing.store.tenant(&row.account_id).get::<AdminKey>(&row.actor_id).await?;
    let key = key.filter(|key| {
        key.revoked_at_ms.is_none() && key.expires_at_ms.is_none_or(|until_ms| now_ms < until_ms)
    });
    Ok(Attempt { hash, row, mode, key: key.ok_or(OauthError::Unknown)? })
}

impl Attempt {
    fn check_browser(&self, browser: &str) -> Result<(), OauthError> {
        let hash = hash_of(browser);
        let is_same = |known: &[u8]| bool::from(known.ct_eq(hash.as_slice()));
        let is_bound = self.row.browser_hash.as_deref().is_some_and(is_same);
        if is_bound { Ok(()) } else { Err(OauthError::OtherBrowser) }
    }

    /// Writes the account down that was granted, while nobody may give it back.
    async fn connect(&self, billing: &Billing, granted: &str) -> BillingResult<()> {
        let Some(lease) = grants::lease(billing, self.mode, granted).await? else {
            let text = "what was granted for this account before is being given back";
            return Err(BillingError::NotNow {
                text: text.to_owned(),
                retry_after_s: RETRY_AFTER_S,
            });
        };
        let written = async {
            let account = billing.stripe.account(self.mode, granted).await?;
            let (id, request_id) = (self.key.id().to_owned(), None);
            let actor = Actor { kind: "admin_key", id, request_id };
            let (whose, state) = (&self.row.account_id, Some(&self.hash));
            record(billing, whose, actor, self.mode, &account, state).await
        };
        let written = written.await;
        billing.settler.let_go(&lease).await;
        written.map(drop)
    }

    /// Whether another process or tab has connected the account meanwhile.
    async fn has_ended(&self, billing: &Billing) -> StorageResult<bool> {
        let now = billing.store.oauth_state(&self.hash).await?;
        Ok(now.is_some_and(|row| row.stripe_id.is_some()))
    }
}

/// What whoever opened the address is asked for.
///
/// # Errors
/// When the attempt is none that is good, or the database cannot be asked.
pub async fn offer(billing: &Billing, state: &str) -> Result<Offer, OauthError> {
    let attempt = attempt(billing, state).await?;
    let tenant = billing.store.tenant(&attempt.row.account_id);
    let account = tenant.get::<Account>(&attempt.row.account_id).await?;
    let name = account.ok_or(OauthError::Unknown)?.name;
    Ok(Offer { name, mode: attempt.mode })
}

/// Makes the attempt this browser's; where at Stripe it goes on.
///
/// # Errors
/// When the attempt is none that is good or another browser's, or the database cannot be asked.
pub async fn go_on(billing: &Billing, state: &str, browser: &str) -> Result<String, OauthError> {
    let attempt = attempt(billing, state).await?;
    let client_id = client_id(billing, attempt.mode)?;
    let back = format!("{}/stripe/oauth/callback", billing.public_url()?);
    if !billing.store.bind_oauth_state(&attempt.hash, &hash_of(browser)).await? {
        return Err(OauthError::OtherBrowser);
    }
    let query = form(&BTreeMap::from([
        ("client_id", client_id),
        ("redirect_uri", back.as_str()),
        ("response_type", "code"),
        ("scope", "read_write"),
        ("state", state),
    ]));
    let query = query.map_err(BillingError::from)?;
    Ok(format!("{}/oauth/authorize?{query}", billing.stripe.addresses().connect))
}

/// Takes what Stripe sent the owner's browser back with. Done again after it was done, it changes nothing and asks nobody.
///
/// # Errors
/// When the attempt is none that is good or another browser's, an account is connected already, Stripe takes the code no more, or Stripe or the
/// database cannot be asked: then the same may be done again.
pub async fn end(
    billing: &Billing,
    state: &str,
    browser: &str,
    code: &str,
) -> Result<(), OauthError> {
    let attempt = attempt(billing, state).await?;
    attempt.check_browser(browser)?;
    if attempt.row.stripe_id.is_some() {
        return Ok(());
    }
    if billing.connected(&attempt.row.account_id, attempt.mode).await?.is_some() {
        if attempt.has_ended(billing).await? {
            return Ok(());
        }
        grants::refused(billing, &attempt.hash).await;
        return Err(taken().into());
    }
    let token = exchange(billing, &attempt, code).await?;
    if token.livemode != attempt.mode.is_live() {
        let text = "Stripe answered for the other mode".to_owned();
        return Err(BillingError::Conflict(text).into());
    }
    let granted = token.stripe_user_id.as_str();
    if let Some(before) = attempt.row.granted_id.as_deref().filter(|before| *before != granted) {
        // The owner has chosen another account since; the row keeps one.
        grants::give_back(billing, attempt.mode, before).await;
    }
    billing.store.keep_oauth_grant(&attempt.hash, granted).await?;
    let connected = attempt.connect(billing, granted).await;
    if connected.as_ref().is_err_and(|error| !error.is_temporary()) {
        grants::refused(billing, &attempt.hash).await;
    }
    Ok(connected?)
}

/// Sends the code, again with the same key if it was sent before.
async fn exchange(
    billing: &Billing,
    attempt: &Attempt,
    code: &str,
) -> Result<OauthToken, OauthError> {
    let mut digest = Sha256::new();
    digest.update(attempt.hash);
    digest.update(code);
    let digest = digest.finalize();
    let key: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let key = format!("pf_oauth_{key}");
    let outcome = match billing.stripe.oauth_token(attempt.mode, code, Some(&key)).await {
        // Stripe keeps a failure for the key, too, and gives nothing else for a day.
        Err(error) if error.is_replayed() && error.is_uncertain() => {
            billing.stripe.oauth_token(attempt.mode, code, None).await
        }
        outcome => outcome,
    };
    outcome.map_err(|error| match error.code() {
        Some("invalid_grant") => OauthError::CodeSpent,
        _ => BillingError::from(error).into(),
    })
}

/// Gives an attempt up, since its owner does not agree.
///
/// # Errors
/// When the attempt is none that is good or another browser's, or the database cannot be asked.
pub async fn give_up(billing: &Billing, state: &str, browser: &str) -> Result<(), OauthError> {
    let attempt = attempt(billing, state).await?;
    attempt.check_browser(browser)?;
    Ok(billing.store.drop_oauth_state(&attempt.hash).await?)
}
