//! What owners agreed to at Stripe and nobody uses: it is given back.
//!
//! In: attempts that were refused, given up or never ended after their code was redeemed. Out: access that ends at Stripe.
//! Always holds: the access to an account that is connected here, by whomever, is never ended: whoever connects one and whoever gives one back
//! holds its lease meanwhile. What cannot be given back now is tried again for a day.

use std::time::Duration;

use super::client_id;
use crate::billing::connect::may_act_for;
use crate::billing::settle::LEASE_MS;
use crate::billing::stripe::Mode;
use crate::billing::{Billing, BillingResult};
use crate::storage::{Lease, StorageResult};

/// How often it is looked whether something is due.
const POLL: Duration = Duration::from_secs(30);
/// When what failed is tried again, milliseconds.
const AGAIN_MS: i64 = 300_000;
/// Grants taken up at once.
const BATCH: u64 = 20;

/// The right to connect an account, or to give it back; `None` while another does either.
pub(super) async fn lease(
    billing: &Billing,
    mode: Mode,
    stripe_id: &str,
) -> StorageResult<Option<Lease>> {
    billing.store.lease(&format!("grant/{mode}/{stripe_id}"), LEASE_MS).await
}

/// Has what was granted to an attempt given back soon, since it was refused. Where that cannot be kept, it is when the attempt is over.
pub(super) async fn refused(billing: &Billing, state_hash: &[u8; 32]) {
    let now_ms = billing.store.world().now_ms();
    if let Err(error) = billing.store.give_oauth_grant_back(state_hash, Some(now_ms)).await {
        tracing::debug!(%error, "an unused grant is given back when its attempt is over");
    }
}

/// Gives back what is due, until it is dropped.
pub async fn run(billing: Billing) {
    loop {
        tokio::time::sleep(POLL).await;
        if let Err(error) = give_back_due(&billing).await {
            tracing::debug!(%error, "unused grants wait for the database");
        }
    }
}

/// The same once, at most [`BATCH`]; says how many are done with.
///
/// # Errors
/// When the database cannot be asked.
pub async fn give_back_due(billing: &Billing) -> StorageResult<usize> {
    let mut count = 0;
    for grant in billing.store.unused_oauth_grants(BATCH).await? {
        let is_done = match Mode::of(&grant.mode) {
            Some(mode) => give_back(billing, mode, &grant.granted_id).await,
            None => true,
        };
        let again_ms = billing.store.world().now_ms().saturating_add(AGAIN_MS);
        let at_ms = (!is_done).then_some(again_ms);
        billing.store.give_oauth_grant_back(&grant.state_hash, at_ms).await?;
        count += usize::from(is_done);
    }
    Ok(count)
}

/// Gives one back, unless the account is connected; whether nothing is left to be done.
pub(super) async fn give_back(billing: &Billing, mode: Mode, stripe_id: &str) -> bool {
    let outcome = try_give_back(billing, mode, stripe_id).await;
    outcome.unwrap_or_else(|error| {
        tracing::warn!(%error, account = stripe_id, "an unused grant of Stripe's cannot be given back yet");
        false
    })
}

async fn try_give_back(billing: &Billing, mode: Mode, stripe_id: &str) -> BillingResult<bool> {
    let Some(lease) = lease(billing, mode, stripe_id).await? else { return Ok(false) };
    let outcome = alone(billing, mode, stripe_id).await;
    billing.settler.let_go(&lease).await;
    outcome.map(|()| true)
}

async fn alone(billing: &Billing, mode: Mode, stripe_id: &str) -> BillingResult<()> {
    if billing.store.stripe_account_named(stripe_id, mode.as_str()).await?.is_some() {
        return Ok(());
    }
    let client_id = client_id(billing, mode)?;
    match billing.stripe.oauth_deauthorize(mode, client_id, stripe_id).await {
        Ok(()) => {
            tracing::info!(account = stripe_id, "an unused grant of Stripe's was given back");
            Ok(())
        }
        // Its owner was first, or we were and the answer was lost.
        Err(error) if !error.is_temporary() && !may_act_for(billing, mode, stripe_id).await? => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
