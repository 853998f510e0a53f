//! Free plans: a key without a payment.
//!
//! In: a plan that costs nothing, an address. Out: a customer, a subscription, a key.
//! Always holds: no Stripe is asked; all is made in one transaction, and only for a plan that is free now.

use super::claims::{Key, acknowledged};
use super::{Billing, BillingError, BillingResult, catalogue};
use crate::api::endpoints::fields::check_email;
use crate::api::endpoints::tokens::TokenMode;
use crate::api::endpoints::tokens::create::new_token;
use crate::notify::{self, Event};
use crate::storage::{Actor, Customer, Plan, Site, Subscription, Token};

/// Who buys without a key of this API.
#[must_use]
pub fn buyer() -> Actor {
    Actor { kind: "system", id: "buyer".to_owned(), request_id: None }
}

/// Makes all that a free plan's key needs.
///
/// # Errors
/// When the plan is none of the site's or not free, the address is none, or the database cannot be asked.
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
    let head = billing.store.outbox().head();
    let mut change = billing.store.change(&site.account_id, buyer()).await?;
    let plan = change.share::<Plan>(plan_id).await?;
    let plan = plan.filter(|plan| plan.site_id == site.id && plan.archived_at_ms.is_none());
    let plan = plan.ok_or(BillingError::NotFound("plan"))?;
    if catalogue::offer_of(&plan)?.is_none_or(|offer| !offer.price.is_free()) {
        return Err(BillingError::NotFound("free plan"));
    }
    let id = change.new_id::<Customer>();
    let settings = serde_json::json!({ "email": email }).to_string();
    let row = Customer { reference: id.clone(), id, settings, ..Customer::default() };
    let customer = change.insert(row).await?;
    let id = change.new_id::<Subscription>();
    let row = Subscription {
        reference: id.clone(),
        id,
        site_id: site.id.clone(),
        plan_id: plan.id.clone(),
        customer_id: customer.id,
        status: "active".to_owned(),
        period_anchor_ms: Some(change.now_ms()),
        ..Subscription::default()
    };
    let subscription = change.insert(row).await?;
    let (text, mut token) = new_token(&subscription, TokenMode::Live, &**change.world());
    token.id = change.new_id::<Token>();
    token.reference.clone_from(&token.id);
    let token = change.insert(token).await?;
    if let Some(event) = Event::of_subscription(None, &subscription) {
        notify::enqueue(&mut change, event).await?;
    }
    notify::enqueue(&mut change, Event::token_issued(&token, None)).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(&billing.store, head, &token.id).await;
    Ok(Key { text, token, is_acknowledged })
}
