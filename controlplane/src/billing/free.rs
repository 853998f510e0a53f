//! Free plans: a key without a payment.
//!
//! In: a plan that costs nothing, an address; later the link that was sent there. Out: a customer, a subscription, a key.
//! Always holds: no Stripe is asked; all is made in one transaction, and only for a plan that is free then; an address has one
//! subscription to a free plan, however often it asks. Where mail reaches people, nothing is made before the link is redeemed, and what
//! is answered and sent is the same for every address.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use sha2::{Digest as _, Sha256};

use super::claims::{Key, REPLACED_WITHIN_MS, Redeemed, acknowledged};
use super::{Billing, BillingError, BillingResult, catalogue};
use crate::api::endpoints::fields::check_email;
use crate::api::endpoints::tokens::TokenMode;
use crate::api::endpoints::tokens::create::new_token;
use crate::notify::{self, Event, PENDING};
use crate::storage::{
    Actor, Change, Customer, FreeRequest, KeyClaim, Mail, Plan, Site, StorageError, StorageResult,
    Subscription, Token, column,
};

/// How long a link is good after its letter was written, milliseconds.
pub const LINK_MS: i64 = 86_400_000;
/// The time between two mails of a plan to an address, milliseconds.
pub const MAIL_EVERY_MS: i64 = 600_000;
/// Addresses that may ask for a plan in an hour: strangers make us write to so many people who did not ask.
pub const ASKED_PER_HOUR_MAX: i64 = 300;
const HOUR_MS: i64 = 3_600_000;
/// How long a request waits for its mail, milliseconds: as long as mails are tried.
const MAILED_WITHIN_MS: i64 = 3 * 86_400_000;
/// The status of what costs nothing.
const ACTIVE: &str = "active";

/// What somebody gets who asks for a free plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The key.
    Key(Box<Key>),
    /// A link to it, by mail to this address, whoever asked and whatever the address has.
    Sent(String),
}

/// Who buys without a key of this API.
#[must_use]
pub fn buyer() -> Actor {
    Actor { kind: "system", id: "buyer".to_owned(), request_id: None }
}

/// Takes a free plan: by a link to the address where mail reaches people, and else at once. For an address that has the plan it is another key
/// of the same subscription, so that asking again gives no more units; the answer does not tell which it was.
///
/// # Errors
/// When the plan is none of the site's or not free, the address is none or, at once, may not have it any more, too many have asked, or the
/// database cannot be asked.
pub async fn take(
    billing: &Billing,
    site: &Site,
    plan_id: &str,
    email: &str,
) -> BillingResult<Taken> {
    let mut faults = Vec::new();
    let email = check_email(email, &mut faults);
    if let Some(fault) = faults.pop() {
        return Err(BillingError::Field("email", fault.message));
    }
    if billing.settings.has_mail {
        billing.public_url()?;
        ask(billing, site, plan_id, &email).await?;
        return Ok(Taken::Sent(email));
    }
    let key = match give(billing, site, plan_id, &email).await {
        // The same address at the same time was first: now its subscription is there.
        Err(BillingError::Storage(StorageError::Taken(_))) => {
            give(billing, site, plan_id, &email).await?
        }
        outcome => outcome?,
    };
    Ok(Taken::Key(Box::new(key)))
}

/// Has a link sent. Whether the address has the plan is not even looked at.
async fn ask(billing: &Billing, site: &Site, plan_id: &str, email: &str) -> BillingResult<()> {
    let mut change = billing.store.change(&site.account_id, buyer()).await?;
    // Held alone, so that two at once are counted one after the other.
    let plan = change.lock::<Plan>(plan_id).await?;
    let plan = free_plan(plan.filter(|plan| plan.site_id == site.id))?;
    let now_ms = change.now_ms();
    if let Some(asked) = change.free_asked(&plan.id, email).await? {
        let is_early = now_ms < asked.asked_at_ms.saturating_add(MAIL_EVERY_MS);
        if is_early || is_on_its_way(&change, asked.event_id.as_deref()).await? {
            return Ok(());
        }
    }
    let since_ms = now_ms.saturating_sub(HOUR_MS);
    let (count, first_ms) = change.free_asked_since(&plan.id, since_ms).await?;
    if count >= ASKED_PER_HOUR_MAX {
        tracing::warn!(plan = plan.id, "too many addresses ask for a free plan in an hour");
        let wait_ms = first_ms.unwrap_or(now_ms).saturating_sub(since_ms);
        let retry_after_s = u64::try_from(wait_ms / 1_000).unwrap_or_default().max(1);
        let text =
            format!("more than {ASKED_PER_HOUR_MAX} addresses asked for this plan within an hour");
        return Err(BillingError::TooMany { text, retry_after_s });
    }
    let event_id = notify::enqueue(&mut change, Event::key_requested(&plan)).await?;
    notify::mail_to(&mut change, "free_key_link", &event_id, email).await?;
    let until_ms = now_ms.saturating_add(MAILED_WITHIN_MS);
    change.keep_free_request(&plan.id, email, &event_id, until_ms).await?;
    Ok(change.commit().await?)
}

/// Whether the mail of an event is tried still: it has the link, late as it may come.
async fn is_on_its_way(change: &Change, event_id: Option<&str>) -> StorageResult<bool> {
    let Some(event_id) = event_id else { return Ok(false) };
    let tenant = change.tenant();
    let mail = tenant.one::<Mail>(|query| {
        query.filter(column::Mail::EventId.eq(event_id)).filter(column::Mail::Status.eq(PENDING))
    });
    Ok(mail.await?.is_some())
}

async fn give(billing: &Billing, site: &Site, plan_id: &str, email: &str) -> BillingResult<Key> {
    let head = billing.store.outbox().head();
    let mut change = billing.store.change(&site.account_id, buyer()).await?;
    let plan = change.share::<Plan>(plan_id).await?;
    let plan = free_plan(plan.filter(|plan| plan.site_id == site.id))?;
    let subscription = subscription_of(&mut change, &plan, email).await?;
    let (text, token) = issue(&mut change, &subscription).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(&billing.store, head, &token.id).await;
    Ok(Key { text, token, is_acknowledged })
}

/// The key of a link that was sent, once: the link becomes a claim that is redeemed. `None` where there is no such request, or not any more.
///
/// # Errors
/// When the plan is none that is free any more or the address may not have it, for as long as that is so; when the database cannot be asked.
/// Nothing is made then, or it is not known.
pub async fn redeem(
    billing: &Billing,
    link_hash: &[u8; 32],
    once_hash: Option<Vec<u8>>,
) -> BillingResult<Option<Redeemed>> {
    let store = &billing.store;
    let Some(request) = store.free_request_of_link(link_hash).await? else { return Ok(None) };
    let FreeRequest { account_id, plan_id, email, link_until_ms } = request;
    let head = store.outbox().head();
    let mut change = store.change(&account_id, buyer()).await?;
    let plan = change.share::<Plan>(&plan_id).await?;
    if !change.spend_free_link(link_hash, HOUR_MS).await? {
        return Ok(None);
    }
    let plan = free_plan(plan).map_err(|error| match error {
        BillingError::NotFound(_) => gone(),
        error => error,
    })?;
    let site = change.tenant().get::<Site>(&plan.site_id).await?;
    if site.is_none_or(|site| site.archived_at_ms.is_some()) {
        return Err(gone());
    }
    let subscription = subscription_of(&mut change, &plan, &email).await?;
    let (text, token) = issue(&mut change, &subscription).await?;
    let now_ms = change.now_ms();
    let claim = KeyClaim {
        subscription_id: subscription.id,
        link_hash: Some(link_hash.to_vec()),
        // An answer that is lost in the link's last minutes is replaced as others are.
        link_until_ms: Some(link_until_ms.max(now_ms.saturating_add(REPLACED_WITHIN_MS))),
        redeemed_at_ms: Some(now_ms),
        token_id: Some(token.id.clone()),
        once_hash,
        ..KeyClaim::default()
    };
    change.insert(claim).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(store, head, &token.id).await;
    Ok(Some(Redeemed::Key(Box::new(Key { text, token, is_acknowledged }))))
}

fn gone() -> BillingError {
    BillingError::Conflict("the plan is not free any more, or no longer offered".to_owned())
}

/// A plan that anybody may have for nothing.
fn free_plan(plan: Option<Plan>) -> BillingResult<Plan> {
    let plan = plan.filter(|plan| plan.archived_at_ms.is_none());
    let plan = plan.ok_or(BillingError::NotFound("plan"))?;
    if catalogue::offer_of(&plan)?.is_none_or(|offer| !offer.price.is_free()) {
        return Err(BillingError::NotFound("free plan"));
    }
    Ok(plan)
}

/// The subscription of an address to a plan: the one it has, or a new one.
async fn subscription_of(
    change: &mut Change,
    plan: &Plan,
    email: &str,
) -> BillingResult<Subscription> {
    let reference = reference_of(&plan.id, email);
    let tenant = change.tenant();
    let known = tenant.one::<Subscription>(|query| {
        query
            .filter(column::Subscription::SiteId.eq(plan.site_id.as_str()))
            .filter(column::Subscription::Reference.eq(reference.as_str()))
    });
    match known.await? {
        // Held, so that it is not made something that costs while the key is made.
        Some(known) => still_free(change.share(&known.id).await?.unwrap_or(known), plan),
        None => subscribe(change, plan, email, reference).await,
    }
}

async fn issue(change: &mut Change, subscription: &Subscription) -> BillingResult<(String, Token)> {
    let (text, mut token) = new_token(subscription, TokenMode::Live, &**change.world());
    token.id = change.new_id::<Token>();
    token.reference.clone_from(&token.id);
    let token = change.insert(token).await?;
    notify::enqueue(change, Event::token_issued(&token, None)).await?;
    Ok((text, token))
}

/// What the subscription of an address to a plan is called. A reference is given once in a site, so there are no two.
fn reference_of(plan_id: &str, email: &str) -> String {
    let hash = Sha256::new().chain_update(plan_id).chain_update([0]).chain_update(email).finalize();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("free_{hex}")
}

/// A subscription that an address has, unless its owner has made it something else: what an owner gave or took is not had by asking.
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
