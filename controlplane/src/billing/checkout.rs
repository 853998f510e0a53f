//! Checkout sessions: from "this buyer wants this plan" to a page of Stripe's.
//!
//! In: a site, a plan, who buys. Out: a row and a session.
//! Always holds: the row with everything that the session is made of is there before Stripe is asked, so that the session can
//! be made by whoever finds the row, and made once; what a session sells is the plan's price in force.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::{ColumnTrait as _, Condition, ExprTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::payers::Payer;
use super::settle::checkout::{CHECKOUT_KEY, Paid, status};
use super::settle::{Owner, SettleError};
use super::stripe::{
    AutomaticTax, CustomerUpdate, LineItem, Mode, SessionRequest, StripeError, SubscriptionData,
    TrialEnd, TrialSettings,
};
use super::{Billing, BillingError, BillingResult, calls, catalogue, connect};
use crate::domain::site::SiteDraft;
use crate::storage::{
    Actor, Checkout, Customer, Plan, Site, StorageError, StripeAccount, StripeCustomer, column,
};

/// How often, and how far apart, a checkout is looked at that somebody else is at: together what a page may keep a buyer waiting.
const BUSY_LOOKS: u32 = 7;
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// How long Stripe lets a session be paid, milliseconds.
const SESSION_MS: i64 = 86_400_000;

const ARCHIVED: &str = "the site or the plan is archived";

/// Where a checkout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutStatus {
    /// Its session is not made yet.
    New,
    /// It can be paid.
    Open,
    /// It was completed; the money comes later.
    Waiting,
    /// It was paid; there is a subscription.
    Paid,
    /// The money did not come.
    Failed,
    /// Nobody paid in time.
    Expired,
}

impl CheckoutStatus {
    /// Its word, as rows have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => status::OPEN,
            Self::Waiting => status::WAITING,
            Self::Paid => status::PAID,
            Self::Failed => status::FAILED,
            Self::Expired => status::EXPIRED,
        }
    }

    /// From its word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let all = [Self::New, Self::Open, Self::Waiting, Self::Paid, Self::Failed, Self::Expired];
        all.into_iter().find(|status| status.as_str() == word).unwrap_or(Self::New)
    }
}

/// That a checkout may still be paid: its session is not over, or its money is on its way. One whose session is not known within a day has
/// none that is open.
pub fn may_be_paid(now_ms: i64) -> Condition {
    let is = |status: CheckoutStatus| column::Checkout::Status.eq(status.as_str());
    let until_ms = column::Checkout::ExpiresAtMs;
    let is_open = Condition::any().add(until_ms.is_null()).add(until_ms.gte(now_ms));
    let is_new = column::Checkout::CreatedAtMs.gt(now_ms.saturating_sub(SESSION_MS));
    Condition::any()
        .add(Condition::all().add(is(CheckoutStatus::Open)).add(is_open))
        .add(is_new.and(is(CheckoutStatus::New)))
        .add(is(CheckoutStatus::Waiting))
}

/// What is to be bought, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The site.
    pub site_id: String,
    /// A plan of it.
    pub plan_id: String,
    /// Which world.
    pub mode: Mode,
    /// A customer who is known.
    pub customer_id: Option<String>,
    /// The address of one who is not.
    pub email: Option<String>,
    /// Where the buyer comes afterwards; our own page where it is left out.
    pub success_url: Option<String>,
    /// Where one who turns back comes; the pricing page where it is left out.
    pub cancel_url: Option<String>,
    /// Whether codes can be entered.
    pub allow_promotion_codes: bool,
    /// Whether Stripe computes taxes; as the site has it where it is left out.
    pub automatic_tax: Option<bool>,
}

/// All that a session is made of, as the row keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckoutSettings {
    /// A customer who was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<String>,
    /// The same, as Stripe knows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stripe_customer: Option<String>,
    /// The address of one who was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What is paid in advance.
    pub price_id: String,
    /// What overage is paid through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metered_price_id: Option<String>,
    /// Days before the first payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_days: Option<u32>,
    /// What the platform takes, percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_percent: Option<f64>,
    /// Whether codes can be entered.
    #[serde(default)]
    pub allow_promotion_codes: bool,
    /// Whether Stripe computes taxes.
    #[serde(default)]
    pub automatic_tax: bool,
    /// Where the buyer comes afterwards.
    pub success_url: String,
    /// Where one who turns back comes.
    pub cancel_url: String,
    /// Where the session is paid, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl CheckoutSettings {
    /// What a row says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(row: &Checkout) -> BillingResult<Self> {
        serde_json::from_str(&row.settings).map_err(BillingError::damaged)
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Makes a checkout with a session. With an id, the same one is found again when it is asked for again.
///
/// # Errors
/// When site or plan are none of the account's, the plan is not for sale, the account cannot sell yet, or Stripe or the
/// database cannot be asked; with an id, done again it goes on.
pub async fn create(
    billing: &Billing,
    account_id: &str,
    actor: Actor,
    id: Option<String>,
    wanted: &Wanted,
) -> BillingResult<Checkout> {
    if let Some(id) = &id
        && let Some(row) = billing.store.tenant(account_id).get::<Checkout>(id).await?
    {
        if row.plan_id != wanted.plan_id || row.mode != wanted.mode.as_str() {
            let text = "this Idempotency-Key was used for another checkout";
            return Err(BillingError::Conflict(text.to_owned()));
        }
        return open(billing, row).await;
    }
    let settings = settings(billing, account_id, wanted).await?;
    let mut change = billing.store.change(account_id, actor).await?;
    // Held, so that the site is not archived before it can be seen that somebody may pay.
    let site = change.share::<Site>(&wanted.site_id).await?;
    if site.is_none_or(|site| site.archived_at_ms.is_some()) {
        return Err(BillingError::Conflict(ARCHIVED.to_owned()));
    }
    let id = id.unwrap_or_else(|| change.new_id::<Checkout>());
    let row = Checkout {
        id: id.clone(),
        site_id: wanted.site_id.clone(),
        plan_id: wanted.plan_id.clone(),
        mode: wanted.mode.as_str().to_owned(),
        status: CheckoutStatus::New.as_str().to_owned(),
        settings: settings.text(),
        ..Checkout::default()
    };
    let row = match change.insert(row).await {
        Ok(row) => {
            change.commit().await?;
            row
        }
        // The same request at the same time was first.
        Err(StorageError::Taken(_)) => {
            drop(change);
            let row = billing.store.tenant(account_id).get::<Checkout>(&id).await?;
            row.ok_or(BillingError::NotFound("checkout"))?
        }
        Err(error) => return Err(error.into()),
    };
    open(billing, row).await
}

async fn settings(
    billing: &Billing,
    account_id: &str,
    wanted: &Wanted,
) -> BillingResult<CheckoutSettings> {
    let tenant = billing.store.tenant(account_id);
    let site = tenant.get::<Site>(&wanted.site_id).await?;
    let site = site.ok_or(BillingError::NotFound("site"))?;
    let draft: SiteDraft = serde_json::from_str(&site.settings).map_err(BillingError::damaged)?;
    let plan = tenant.get::<Plan>(&wanted.plan_id).await?;
    let plan = plan.filter(|plan| plan.site_id == site.id);
    let plan = plan.ok_or(BillingError::NotFound("plan of this site"))?;
    if site.archived_at_ms.or(plan.archived_at_ms).is_some() {
        return Err(BillingError::Conflict(ARCHIVED.to_owned()));
    }
    let known = match &wanted.customer_id {
        Some(id) => {
            let customer = tenant.get::<Customer>(id).await?;
            Some(customer.ok_or(BillingError::NotFound("customer"))?)
        }
        None => None,
    };
    let offer = catalogue::offer_of(&plan)?
        .ok_or_else(|| BillingError::Conflict("the plan has no price".to_owned()))?;
    if offer.price.is_free() {
        let text = "the plan is free; make a subscription with POST /v1/subscriptions";
        return Err(BillingError::Conflict(text.to_owned()));
    }
    let account = connect::ready(billing, account_id, wanted.mode).await?;
    let row = catalogue::ensure(billing, account_id, &offer, wanted.mode).await?;
    let is_metered = row.metered_price_id.is_some();
    let (stripe_customer, email) = buyer(billing, &account, known, wanted, is_metered).await?;
    let pages = format!("{}/pay/{}", billing.public_url()?, site.slug);
    let success = || format!("{pages}/success?session_id={{CHECKOUT_SESSION_ID}}");
    Ok(CheckoutSettings {
        customer_id: wanted.customer_id.clone(),
        stripe_customer,
        email,
        price_id: row.price_id.unwrap_or_default(),
        metered_price_id: row.metered_price_id,
        trial_days: offer.price.trial_days,
        fee_percent: connect::fee(billing, &account, &site.id).for_stripe(),
        allow_promotion_codes: wanted.allow_promotion_codes,
        automatic_tax: wanted.automatic_tax.unwrap_or(draft.automatic_tax == Some(true)),
        success_url: wanted.success_url.clone().unwrap_or_else(success),
        cancel_url: wanted.cancel_url.clone().unwrap_or(pages),
        url: None,
    })
}

/// A buyer's id in Stripe, or else their address, with which Stripe makes a customer.
async fn buyer(
    billing: &Billing,
    account: &StripeAccount,
    known: Option<Customer>,
    wanted: &Wanted,
    is_metered: bool,
) -> BillingResult<(Option<String>, Option<String>)> {
    let Some(customer) = known else { return Ok((None, wanted.email.clone())) };
    let tenant = billing.store.tenant(&account.account_id);
    let row = tenant
        .one::<StripeCustomer>(|query| {
            query
                .filter(column::StripeCustomer::CustomerId.eq(customer.id.as_str()))
                .filter(column::StripeCustomer::Mode.eq(wanted.mode.as_str()))
                .filter(column::StripeCustomer::StripeAccount.eq(account.stripe_id.as_str()))
        })
        .await?;
    if let Some(row) = &row {
        let payer = Payer {
            mode: wanted.mode,
            customer_id: &customer.id,
            stripe_id: &row.stripe_id,
            plan_id: &wanted.plan_id,
        };
        let now_ms = billing.store.world().now_ms();
        let is_taken = is_metered
            && (payer.has_another(&tenant, None).await?
                || payer.is_buying(&tenant, now_ms).await?);
        if !is_taken {
            return Ok((Some(row.stripe_id.clone()), None));
        }
    }
    let settings: serde_json::Value =
        serde_json::from_str(&customer.settings).map_err(BillingError::damaged)?;
    let email = settings.get("email").and_then(|email| email.as_str());
    let email = email.map(ToOwned::to_owned).or_else(|| wanted.email.clone());
    Ok((None, email.or(row.and_then(|row| row.email))))
}

/// The checkout with a session: the one it has, or one that is made now.
///
/// # Errors
/// When Stripe or the database cannot be asked; done again, it goes on.
pub async fn open(billing: &Billing, row: Checkout) -> BillingResult<Checkout> {
    if row.session_id.is_some() {
        return Ok(row);
    }
    let mode = Mode::stored(&row.mode)?;
    let scope = billing.scope(&row.account_id, mode).await?;
    let mut settings = CheckoutSettings::of(&row)?;
    let request = session_request(&row, &settings);
    let purpose = format!("checkout/{}", row.id);
    let store = &billing.store;
    let call = calls::once(store, &row.account_id, &purpose, &request).await?;
    let session = match billing.stripe.create_session(&scope, &request, &call.key).await {
        Ok(session) => session,
        Err(error) => {
            // A session that was made all the same is harmless: nobody knows its address, and it expires in a day.
            let is_stored = matches!(&error, StripeError::Refused(refusal) if !matches!(refusal.status, 409 | 429));
            if is_stored {
                calls::forget(store, &row.account_id, &purpose).await?;
            }
            return Err(error.into());
        }
    };
    calls::done(store, &row.account_id, &purpose, &session.id).await?;
    settings.url.clone_from(&session.url);
    let mut change = store.change(&row.account_id, catalogue::system()).await?;
    let before = change.lock::<Checkout>(&row.id).await?;
    let before = before.ok_or(BillingError::NotFound("checkout"))?;
    if before.session_id.is_some() {
        return Ok(before);
    }
    let after = Checkout {
        session_id: Some(session.id),
        status: CheckoutStatus::Open.as_str().to_owned(),
        settings: settings.text(),
        expires_at_ms: session.expires_at.map(|at_s| at_s * 1_000),
        ..before.clone()
    };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(row)
}

fn session_request(row: &Checkout, settings: &CheckoutSettings) -> SessionRequest {
    let mut metadata = BTreeMap::from([
        (CHECKOUT_KEY.to_owned(), row.id.clone()),
        ("account_id".to_owned(), row.account_id.clone()),
        ("site_id".to_owned(), row.site_id.clone()),
        ("plan_id".to_owned(), row.plan_id.clone()),
    ]);
    metadata.extend(settings.customer_id.clone().map(|id| ("customer_id".to_owned(), id)));
    let licence = LineItem { price: settings.price_id.clone(), quantity: Some(1) };
    let metered = settings.metered_price_id.clone();
    let metered = metered.map(|price| LineItem { price, quantity: None });
    let is_trial = settings.trial_days.is_some();
    SessionRequest {
        mode: "subscription".to_owned(),
        ui_mode: Some("hosted_page".to_owned()),
        line_items: [licence].into_iter().chain(metered).collect(),
        subscription_data: Some(SubscriptionData {
            application_fee_percent: settings.fee_percent,
            trial_period_days: settings.trial_days,
            trial_settings: is_trial.then(|| TrialSettings {
                end_behavior: TrialEnd { missing_payment_method: "cancel".to_owned() },
            }),
            metadata: metadata.clone(),
        }),
        customer: settings.stripe_customer.clone(),
        customer_email: settings.email.clone(),
        // Taxes depend on an address, which a known customer may not have yet.
        customer_update: (settings.automatic_tax && settings.stripe_customer.is_some()).then(
            || {
                let auto = || Some("auto".to_owned());
                CustomerUpdate { address: auto(), name: auto() }
            },
        ),
        client_reference_id: Some(row.id.clone()),
        metadata,
        allow_promotion_codes: settings.allow_promotion_codes.then_some(true),
        automatic_tax: settings.automatic_tax.then_some(AutomaticTax { enabled: true }),
        // A trial without a card could be had again and again.
        payment_method_collection: is_trial.then(|| "always".to_owned()),
        success_url: settings.success_url.clone(),
        cancel_url: Some(settings.cancel_url.clone()),
        expires_at: None,
        locale: None,
    }
}

/// Whether it was paid, as Stripe says now; what was bought is given then, if it was not before.
///
/// A worker that is at it just now is waited for: it is as a rule the payment's own event, a fraction of a second ahead of the buyer.
///
/// # Errors
/// When Stripe or the database cannot be asked.
pub async fn look(billing: &Billing, row: &Checkout) -> BillingResult<Paid> {
    let mode = Mode::stored(&row.mode)?;
    let scope = billing.scope(&row.account_id, mode).await?;
    let session_id = row.session_id.as_deref().ok_or(BillingError::NotFound("session"))?;
    let owner = Owner {
        account_id: row.account_id.clone(),
        mode,
        stripe_account: scope.stripe_account.unwrap_or_default(),
    };
    for _ in 0..BUSY_LOOKS {
        match billing.settler.checkout_paid(&owner, session_id).await {
            Err(SettleError::Busy) => tokio::time::sleep(BUSY_WAIT).await,
            done => return Ok(done?),
        }
    }
    Ok(Paid::Waits)
}
