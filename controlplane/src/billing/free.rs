//! Free plans: a key without a payment.
//!
//! In: a plan that costs nothing, an address. Out: a customer, a subscription, a key.
//! Always holds: no Stripe is asked; all is made in one transaction, and only for a plan that is free now; an address has one
//! subscription to a free plan, however often it asks.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use sha2::{Digest as _, Sha256};

use super::claims::{Key, acknowledged};
use super::{Billing, BillingError, BillingResult, catalogue};
use crate::api::endpoints::fields::check_email;
use crate::api::endpoints::tokens::TokenMode;
use crate::api::endpoints::tokens::create::new_token;
use crate::notify::{self, Event};
use crate::storage::{
    Actor, Change, Customer, Plan, Site, StorageError, Subscription, Token, column,
};

/// The status of what costs nothing.
const ACTIVE: &str = "active";

/// Who buys without a key of this API.
#[must_use]
pub fn buyer() -> Actor {
    Actor { kind: "system", id: "buyer".to_owned(), request_id: None }
}

/// Makes all that a free plan's key needs. For an address that has the plan it is another key of the same subscription, so that asking
/// again gives no more units; the answer does not tell which it was.
///
/// # Errors
/// When the plan is none of the site's or not free, the address is none or may not have it any more, or the database cannot be asked.
pub async fn take(
    billing: &Billing,
    site: &Site,
    plan_id: &str,
    email: &str,
) -> BillingResult<Key> {
    let mut faults = Vec::new();
    let email = check_email(email, &mut faults);
    if let Some(fault) = faults.pop() {
        return Err(BillingError::Field("email", fault.message));
    }
    match give(billing, site, plan_id, &email).await {
        // The same address at the same time was first: now its subscription is there.
        Err(BillingError::Storage(StorageError::Taken(_))) => {
            give(billing, site, plan_id, &email).await
        }
        outcome => outcome,
    }
}

async fn give(billing: &Billing, site: &Site, plan_id: &str, email: &str) -> BillingResult<Key> {
    let head = billing.store.outbox().head();
    let mut change = billing.store.change(&site.account_id, buyer()).await?;
    let plan = change.share::<Plan>(plan_id).await?;
    let plan = plan.filter(|plan| plan.site_id == site.id && plan.archived_at_ms.is_none());
    let plan = plan.ok_or(BillingError::NotFound("plan"))?;
    if catalogue::offer_of(&plan)?.is_none_or(|offer| !offer.price.is_free()) {
        return Err(BillingError::NotFound("free plan"));
    }
    let reference = reference_of(&plan.id, email);
    let tenant = change.tenant();
    let known = tenant.one::<Subscription>(|query| {
        query
            .filter(column::Subscription::SiteId.eq(site.id.as_str()))
            .filter(column::Subscription::Reference.eq(reference.as_str()))
    });
    let subscription = match known.await? {
        // Held, so that it is not made something that costs while the key is made.
        Some(known) => still_free(change.share(&known.id).await?.unwrap_or(known), &plan)?,
        None => subscribe(&mut change, &plan, email, reference).await?,
    };
    let (text, mut token) = new_token(&subscription, TokenMode::Live, &**change.world());
    token.id = change.new_id::<Token>();
    token.reference.clone_from(&token.id);
    let token = change.insert(token).await?;
    notify::enqueue(&mut change, Event::token_issued(&token, None)).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(&billing.store, head, &token.id).await;
    Ok(Key { text, token, is_acknowledged })
}

/// What the subscription of an address to a plan is called. A reference is given once in a site, so there are no two.
fn reference_of(plan_id: &str, email: &str) -> String {
    let hash = Sha256::new().chain_update(plan_id).chain_update([0]).chain_update(email).finalize();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("free_{hex}")
}

/// A subscription that an address has, unless its owner has made it something else: nothing shows that who asks is whose address it is.
fn still_free(known: Subscription, plan: &Plan) -> BillingResult<Subscription> {
    if known.plan_id == plan.id && known.status == ACTIVE && known.archived_at_ms.is_none() {
        return Ok(known);
    }
    let text =
        "the address had the free plan, and its subscription is over or was moved to another plan";
    Err(BillingError::Conflict(text.to_owned()))
}

async fn subscribe(
    change: &mut Change,
    plan: &Plan,
    email: &str,
    reference: String,
) -> BillingResult<Subscription> {
    let id = change.new_id::<Customer>();
    let settings = serde_json::json!({ "email": email }).to_string();
    let row = Customer { reference: id.clone(), id, settings, ..Customer::default() };
    let customer = change.insert(row).await?;
    let row = Subscription {
        id: change.new_id::<Subscription>(),
        reference,
        site_id: plan.site_id.clone(),
        plan_id: plan.id.clone(),
        customer_id: customer.id,
        status: ACTIVE.to_owned(),
        period_anchor_ms: Some(change.now_ms()),
        ..Subscription::default()
    };
    let subscription = change.insert(row).await?;
    if let Some(event) = Event::of_subscription(None, &subscription) {
        notify::enqueue(change, event).await?;
    }
    Ok(subscription)
}
