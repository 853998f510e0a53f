//! Bringing all plans of an account to Stripe.
//!
//! In: an account, a mode, whether only to look. Out: what was or would be done, plan by plan.
//! Always holds: looking changes nothing, here or there; a plan that cannot be brought does not hold up the others.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::drift::{self, Difference};
use super::{Offer, ensure, in_force, make, mend, offer_of, rows_of};
use crate::billing::stripe::{Mode, Scope};
use crate::billing::{Billing, BillingError, BillingResult};
use crate::storage::{Plan, PlanPrice, Window};

/// What becomes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncAction {
    /// It is as it should be.
    Nothing,
    /// It becomes a product and a price.
    Create,
    /// Another price takes its price's place.
    Replace,
    /// It can no longer be bought.
    Retire,
    /// It was changed in Stripe; it stays so until somebody decides.
    Drift,
    /// It was changed in Stripe, and is as the plan says again.
    Mend,
    /// It could not be done; the others go on.
    Failed,
}

/// A plan and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncEntry {
    /// The plan.
    pub plan_id: String,
    /// The name that nodes know it by.
    pub reference: String,
    /// Its site.
    pub site_id: String,
    /// What becomes of it.
    pub action: SyncAction,
    /// What is otherwise in Stripe, or was until it was mended.
    pub differences: Vec<Difference>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// It says what would be done.
    DryRun,
    /// It does what the plans ask for, and finds what was changed at Stripe by hand.
    Whole,
    /// The same, and what was changed by hand becomes what the plans say.
    Mend,
    /// It does what the plans ask for, without asking Stripe about the others.
    Wanted,
}

/// Brings all plans to Stripe, or says what that would do; plans of which nothing becomes are left out.
///
/// # Errors
/// When the account is not connected, or the database cannot be asked.
pub async fn sync(
    billing: &Billing,
    account_id: &str,
    mode: Mode,
    depth: Depth,
) -> BillingResult<Vec<SyncEntry>> {
    let scope = billing.scope(account_id, mode).await?;
    let mut entries = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let tenant = billing.store.tenant(account_id);
        let window = Window { limit: 100, starting_after: after.as_deref() };
        let Some(page) = tenant.page::<Plan>(window, |query| query).await? else {
            return Ok(entries);
        };
        for plan in &page.rows {
            let entry = one(billing, &scope, account_id, plan, depth).await?;
            entries.extend(entry.filter(|entry| entry.action != SyncAction::Nothing));
        }
        after = page.rows.last().map(|plan| plan.id.clone());
        if !page.has_more || after.is_none() {
            return Ok(entries);
        }
    }
}

async fn one(
    billing: &Billing,
    scope: &Scope,
    account_id: &str,
    plan: &Plan,
    depth: Depth,
) -> BillingResult<Option<SyncEntry>> {
    let mut entry = SyncEntry {
        plan_id: plan.id.clone(),
        reference: plan.reference.clone(),
        site_id: plan.site_id.clone(),
        action: SyncAction::Nothing,
        differences: Vec::new(),
        reason: None,
    };
    let outcome = act(billing, scope, account_id, plan, depth, &mut entry).await;
    match outcome {
        Ok(()) => Ok(Some(entry)),
        Err(BillingError::Storage(error)) => Err(error.into()),
        Err(error) => {
            entry.action = SyncAction::Failed;
            entry.reason = Some(error.to_string());
            Ok(Some(entry))
        }
    }
}

/// What of a plan is sold through Stripe: a free one needs nothing of it, an archived one is not sold.
///
/// # Errors
/// When the plan cannot be read.
pub fn sold(plan: &Plan) -> BillingResult<Option<Offer>> {
    match plan.archived_at_ms {
        Some(_) => Ok(None),
        None => Ok(offer_of(plan)?.filter(|offer| !offer.price.is_free())),
    }
}

/// What a plan's offer and its rows ask for, without asking Stripe.
#[must_use]
pub fn wanted(offer: Option<&Offer>, known: &[PlanPrice]) -> SyncAction {
    match (offer, in_force(known)) {
        (None, None) => SyncAction::Nothing,
        (None, Some(_)) => SyncAction::Retire,
        (Some(_), None) => SyncAction::Create,
        (Some(offer), Some(row)) if row.terms != offer.price.terms() => SyncAction::Replace,
        (Some(_), Some(_)) => SyncAction::Nothing,
    }
}

async fn act(
    billing: &Billing,
    scope: &Scope,
    account_id: &str,
    plan: &Plan,
    depth: Depth,
    entry: &mut SyncEntry,
) -> BillingResult<()> {
    let known = rows_of(&billing.store.tenant(account_id), &plan.id, scope).await?;
    let offer = sold(plan)?;
    entry.action = wanted(offer.as_ref(), &known);
    match (entry.action, &offer) {
        (SyncAction::Nothing, Some(offer)) if depth != Depth::Wanted => {
            let Some(row) = in_force(&known) else { return Ok(()) };
            entry.differences = drift::find(&billing.stripe, scope, offer, row).await?;
            if !entry.differences.is_empty() {
                entry.action = SyncAction::Drift;
            }
            match depth {
                Depth::Mend if entry.action == SyncAction::Drift => {
                    let found = (row, entry.differences.as_slice());
                    let left = mend::mend(billing, account_id, scope, offer, found).await?;
                    if left.is_empty() {
                        entry.action = SyncAction::Mend;
                    } else {
                        entry.differences = left;
                    }
                }
                Depth::Whole | Depth::Mend => {
                    drift::keep(billing, account_id, row, &entry.differences).await?;
                }
                Depth::DryRun | Depth::Wanted => {}
            }
        }
        (SyncAction::Create | SyncAction::Replace, Some(offer)) if depth != Depth::DryRun => {
            ensure(billing, account_id, offer, scope.mode).await?;
        }
        (SyncAction::Retire, _) if depth != Depth::DryRun => {
            make::retire(billing, account_id, plan, scope.mode).await?;
        }
        _ => {}
    }
    Ok(())
}

/// How often plans are looked at that nobody brought.
const SWEEP_EVERY: Duration = Duration::from_secs(300);
/// Accounts read at once.
const ACCOUNTS_PAGE: u64 = 100;

/// Brings what was not brought because Stripe was away, or nobody asked, until it is dropped.
pub async fn sweep(billing: Billing) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if let Err(error) = sweep_once(&billing).await {
            tracing::debug!(%error, "plans stay as they are at Stripe for now");
        }
    }
}

/// The same once; says how many plans were brought.
///
/// # Errors
/// When the database cannot be asked.
pub async fn sweep_once(billing: &Billing) -> BillingResult<usize> {
    let (mut after, mut count) = (0, 0);
    loop {
        let accounts = billing.store.stripe_accounts_after(after, ACCOUNTS_PAGE).await?;
        for row in &accounts {
            let Some(mode) = Mode::of(&row.mode).filter(|mode| billing.stripe.has(*mode)) else {
                continue;
            };
            match sync(billing, &row.account_id, mode, Depth::Wanted).await {
                Ok(entries) => {
                    let is_brought = |entry: &&SyncEntry| entry.action != SyncAction::Failed;
                    count += entries.iter().filter(is_brought).count();
                }
                Err(BillingError::Storage(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::info!(account = row.account_id, %error, "an account's plans are not brought to Stripe")
                }
            }
        }
        match accounts.last() {
            Some(last) if accounts.len() as u64 == ACCOUNTS_PAGE => after = last.key,
            _ => return Ok(count),
        }
    }
}
