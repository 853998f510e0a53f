//! A checkout that was paid: the subscription, its buyer and one claim of a key.
//!
//! In: a session's id, told by Stripe, by the buyer's browser or by a subscription that names its checkout. Out: what was
//! bought, once.
//! Always holds: what is given is paid, as Stripe says when asked; however many tell of it and at whatever moment any of
//! them breaks off, there is one subscription and one claim, since all work under the subscription's lease, look first, and
//! write everything in one change.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::json;

use super::owed::{self, Owed};
use super::subscription::{fill, known, overwrite, priced_plan, serve};
use super::{Owner, SettleError, Settled, Settler, Under, is_missing, state};
use crate::billing::stripe::{CheckoutSession, Mode, Subscription as Fetched};
use crate::notify::{self, Event};
use crate::storage::{
    Change, Checkout, Customer, Job, KeyClaim, StripeCustomer, StripeSubscription, Subscription,
    column,
};

/// The name under which a subscription of Stripe's carries the id of our checkout.
pub const CHECKOUT_KEY: &str = "checkout_id";
/// How long whoever has the session's id may redeem the claim, milliseconds.
pub const SESSION_CLAIM_MS: i64 = 3_600_000;
/// How long whoever has the link may.
pub const LINK_CLAIM_MS: i64 = 30 * 86_400_000;
/// Why nothing follows from a subscription whose checkout is not known to be paid.
pub(super) const NOT_PAID: &str = "its checkout is not paid";
const FAILED: &str = "checkout.session.async_payment_failed";

/// Words for where a checkout stands.
pub mod status {
    /// It can be paid.
    pub const OPEN: &str = "open";
    /// It was completed; the money comes later.
    pub const WAITING: &str = "waiting";
    /// It was paid, and what was bought was given.
    pub const PAID: &str = "paid";
    /// The money did not come.
    pub const FAILED: &str = "failed";
    /// Nobody paid in time.
    pub const EXPIRED: &str = "expired";
}

/// What came of asking whether a checkout was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paid {
    /// It was; this is what there is.
    Given {
        /// Our subscription.
        subscription_id: String,
        /// The claim.
        claim_id: String,
    },
    /// Not yet.
    Waits,
    /// It never will be.
    Over,
    /// It is no checkout of this account's.
    Unknown,
}

/// What was fetched of a paid checkout.
struct Bought<'a> {
    checkout: Checkout,
    session: &'a CheckoutSession,
    fetched: Fetched,
    owed: Owed,
}

impl Settler {
    /// Gives what was paid, if it was; for whoever shows a session's id. Called again, it finds what it gave.
    ///
    /// # Errors
    /// As [`Settler::settle`]; `Busy` while another does the same, who will have done it soon.
    pub async fn checkout_paid(
        &self,
        owner: &Owner,
        session_id: &str,
    ) -> Result<Paid, SettleError> {
        self.paid(owner, session_id, None).await
    }

    pub(super) async fn session(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        match self.paid(owner, id, Some(job)).await? {
            Paid::Unknown => Ok(Settled::Nothing("the checkout is none of ours")),
            _ => Ok(Settled::Written),
        }
    }

    async fn paid(
        &self,
        owner: &Owner,
        session_id: &str,
        job: Option<&Job>,
    ) -> Result<Paid, SettleError> {
        let session = match self.stripe.session(&owner.scope(), session_id).await {
            Ok(session) => session,
            Err(error) if is_missing(&error) => return Ok(Paid::Unknown),
            Err(error) => return Err(error.into()),
        };
        let Some(checkout) = self.checkout_of(owner, &session).await? else {
            return Ok(Paid::Unknown);
        };
        let is_paid = self.is_paid(owner, &session).await?;
        let Some(id) = session.subscription.as_deref().filter(|_| is_paid) else {
            return self.not_paid(owner, checkout, &session, job).await;
        };
        let lease = self.take(owner, id).await?;
        let under = Under { subscription: Some(&lease), job };
        let given = self.give_session(owner, checkout, &session, id, under).await;
        self.let_go(&lease).await;
        given
    }

    /// Whether the money is there: as the session says, or as its first invoice does, which a buyer whose bank refused may pay on
    /// the invoice's own page.
    async fn is_paid(&self, owner: &Owner, session: &CheckoutSession) -> Result<bool, SettleError> {
        if session.is_paid() {
            return Ok(true);
        }
        let is_complete = session.status.as_deref() == Some("complete");
        let Some(invoice) = session.invoice.as_deref().filter(|_| is_complete) else {
            return Ok(false);
        };
        match self.stripe.invoice(&owner.scope(), invoice).await {
            Ok(invoice) => Ok(invoice.status.as_deref() == Some("paid")),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn give_session(
        &self,
        owner: &Owner,
        checkout: Checkout,
        session: &CheckoutSession,
        id: &str,
        under: Under<'_>,
    ) -> Result<Paid, SettleError> {
        // Under the lease, or one fetched before another's would be written after it.
        let fetched = self.stripe.subscription(&owner.scope(), id).await?;
        let known = known(&self.store.tenant(&owner.account_id), owner.mode, id).await?;
        let owed = self.owed(owner, &fetched, known.as_ref()).await?;
        self.give(owner, Bought { checkout, session, fetched, owed }, under).await
    }

    /// A subscription that is not known and names a checkout: the session's event was lost, or comes later.
    pub(super) async fn bought(
        &self,
        owner: &Owner,
        checkout_id: &str,
        fetched: Fetched,
        under: Under<'_>,
    ) -> Result<Settled, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        let checkout = tenant.get::<Checkout>(checkout_id).await?;
        let checkout = checkout.filter(|row| row.mode == owner.mode.as_str());
        let Some(checkout) = checkout else {
            return Ok(Settled::Nothing("it names no checkout of ours"));
        };
        // Where the answer was lost, the session's own event brings its id.
        let Some(session_id) = checkout.session_id.clone() else {
            return Ok(Settled::Nothing(NOT_PAID));
        };
        let session = self.stripe.session(&owner.scope(), &session_id).await?;
        let is_its = session.subscription.as_deref() == Some(fetched.id.as_str());
        if !is_its || !self.is_paid(owner, &session).await? {
            return Ok(Settled::Nothing(NOT_PAID));
        }
        let owed = self.owed(owner, &fetched, None).await?;
        let bought = Bought { checkout, session: &session, fetched, owed };
        self.give(owner, bought, under).await?;
        Ok(Settled::Written)
    }

    /// Our checkout of a session: by the session, or by what we gave it to carry, where the answer that told us its id was lost.
    async fn checkout_of(
        &self,
        owner: &Owner,
        session: &CheckoutSession,
    ) -> Result<Option<Checkout>, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        let mode = owner.mode.as_str();
        let of_session = tenant.one::<Checkout>(|query| {
            query
                .filter(column::Checkout::SessionId.eq(session.id.as_str()))
                .filter(column::Checkout::Mode.eq(mode))
        });
        if let Some(checkout) = of_session.await? {
            return Ok(Some(checkout));
        }
        let Some(id) = &session.client_reference_id else { return Ok(None) };
        let carried = tenant.get::<Checkout>(id).await?;
        Ok(carried.filter(|row| row.mode == mode && row.session_id.is_none()))
    }

    async fn not_paid(
        &self,
        owner: &Owner,
        checkout: Checkout,
        session: &CheckoutSession,
        job: Option<&Job>,
    ) -> Result<Paid, SettleError> {
        let has_failed = || job.is_some_and(|job| job.events.iter().any(|it| it.kind == FAILED));
        let (word, paid) = match session.status.as_deref() {
            Some("expired") => (status::EXPIRED, Paid::Over),
            Some("complete") if has_failed() || checkout.status == status::FAILED => {
                (status::FAILED, Paid::Over)
            }
            Some("complete") => (status::WAITING, Paid::Waits),
            _ => (status::OPEN, Paid::Waits),
        };
        let mut change = self.change(owner).await?;
        let before = lock(&change, &checkout).await?;
        let mut after = before.clone();
        if before.status != status::PAID {
            word.clone_into(&mut after.status);
        }
        after.session_id = Some(session.id.clone());
        if after != before {
            change.update(&before, after).await?;
        }
        Under { subscription: None, job }.commit(change).await?;
        Ok(paid)
    }

    /// Writes what was bought, or finds it written.
    async fn give(
        &self,
        owner: &Owner,
        bought: Bought<'_>,
        under: Under<'_>,
    ) -> Result<Paid, SettleError> {
        let mut change = self.change(owner).await?;
        let before = lock(&change, &bought.checkout).await?;
        let row = match known(&change.tenant(), owner.mode, &bought.fetched.id).await? {
            Some(_) => overwrite(&mut change, owner, &bought.fetched, &bought.owed).await?,
            None => make(&mut change, owner, &before, &bought).await?,
        };
        let claim_id = claim(&mut change, &before, &row).await?;
        let after = Checkout {
            status: status::PAID.to_owned(),
            session_id: Some(bought.session.id.clone()),
            subscription_id: Some(row.id.clone()),
            ..before.clone()
        };
        if after != before {
            change.update(&before, after).await?;
        }
        under.commit(change).await?;
        Ok(Paid::Given { subscription_id: row.id, claim_id })
    }
}

async fn lock(change: &Change, checkout: &Checkout) -> Result<Checkout, SettleError> {
    let locked = change.lock::<Checkout>(&checkout.id).await?;
    locked.ok_or_else(|| SettleError::Permanent("our row of the checkout is gone".to_owned()))
}

/// Our subscription and what is known of Stripe's.
async fn make(
    change: &mut Change,
    owner: &Owner,
    checkout: &Checkout,
    bought: &Bought<'_>,
) -> Result<Subscription, SettleError> {
    let fetched = &bought.fetched;
    let status = state::status(fetched, false).ok_or_else(|| {
        SettleError::Permanent(format!("the status `{}` is not known", fetched.status))
    })?;
    let customer_id = customer(change, owner, bought).await?;
    let priced = priced_plan(&change.tenant(), owner.mode, fetched, &checkout.site_id).await?;
    let plan_id = priced.unwrap_or_else(|| checkout.plan_id.clone());
    serve(change, &plan_id).await?;
    let id = change.new_id::<Subscription>();
    let row = Subscription {
        id: id.clone(),
        site_id: checkout.site_id.clone(),
        plan_id,
        customer_id,
        reference: id,
        status: status.word(),
        past_due_since_ms: state::past_due_since_ms(fetched, None, bought.owed.at_s),
        period_anchor_ms: state::anchor_ms(fetched),
        ..Subscription::default()
    };
    let row = change.insert(row).await?;
    let mut facts = StripeSubscription {
        subscription_id: row.id.clone(),
        mode: owner.mode.as_str().to_owned(),
        stripe_account: owner.stripe_account.clone(),
        fetched_at_ms: change.now_ms(),
        ..StripeSubscription::default()
    };
    fill(&mut facts, fetched);
    owed::keep(&mut facts, &bought.owed);
    change.insert(facts).await?;
    if let Some(event) = Event::of_subscription(None, &row) {
        notify::enqueue(change, event).await?;
    }
    Ok(row)
}

/// Who bought: whom the checkout was made for, whom Stripe's customer is, or somebody new.
async fn customer(
    change: &mut Change,
    owner: &Owner,
    bought: &Bought<'_>,
) -> Result<String, SettleError> {
    let session = bought.session;
    let missing = || SettleError::Permanent("the paid session has no customer".to_owned());
    let stripe_id = session.customer.as_ref().or(bought.fetched.customer.as_ref());
    let stripe_id = stripe_id.ok_or_else(missing)?;
    if let Some(known) = stripe_customer(change, owner.mode, stripe_id).await? {
        return Ok(known.customer_id);
    }
    let details = session.customer_details.clone().unwrap_or_default();
    let settings: serde_json::Value =
        serde_json::from_str(&bought.checkout.settings).map_err(|error| {
            SettleError::Permanent(format!(
                "the settings of {} cannot be read: {error}",
                bought.checkout.id
            ))
        })?;
    let asked = settings["customer_id"].as_str();
    let asked = match asked {
        Some(id) => change.share::<Customer>(id).await?,
        None => None,
    };
    let customer_id = match asked {
        Some(row) => row.id,
        None => {
            let id = change.new_id::<Customer>();
            let mut draft = json!({ "reference": id });
            for (field, value) in [("name", &details.name), ("email", &details.email)] {
                if let Some(value) = value.as_deref().filter(|value| is_plain(value)) {
                    draft[field] = value.into();
                }
            }
            let row = Customer {
                reference: id.clone(),
                id,
                settings: draft.to_string(),
                ..Customer::default()
            };
            change.insert(row).await?.id
        }
    };
    let row = StripeCustomer {
        customer_id: customer_id.clone(),
        mode: owner.mode.as_str().to_owned(),
        stripe_account: owner.stripe_account.clone(),
        stripe_id: stripe_id.clone(),
        email: details.email,
        ..StripeCustomer::default()
    };
    // A customer of ours may have been given another one at Stripe by an earlier checkout: then that one stays theirs.
    let has_one = has_stripe_customer(change, owner, &customer_id).await?;
    if !has_one {
        change.insert(row).await?;
    }
    Ok(customer_id)
}

async fn has_stripe_customer(
    change: &Change,
    owner: &Owner,
    customer_id: &str,
) -> Result<bool, SettleError> {
    let tenant = change.tenant();
    let found = tenant.one::<StripeCustomer>(|query| {
        query
            .filter(column::StripeCustomer::CustomerId.eq(customer_id))
            .filter(column::StripeCustomer::Mode.eq(owner.mode.as_str()))
            .filter(column::StripeCustomer::StripeAccount.eq(owner.stripe_account.as_str()))
    });
    Ok(found.await?.is_some())
}

/// Whether a text fits a name or an address of ours.
fn is_plain(text: &str) -> bool {
    (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

async fn stripe_customer(
    change: &Change,
    mode: Mode,
    stripe_id: &str,
) -> Result<Option<StripeCustomer>, SettleError> {
    let tenant = change.tenant();
    let found = tenant.one::<StripeCustomer>(|query| {
        query
            .filter(column::StripeCustomer::StripeId.eq(stripe_id))
            .filter(column::StripeCustomer::Mode.eq(mode.as_str()))
    });
    Ok(found.await?)
}

/// The one claim of a checkout.
async fn claim(
    change: &mut Change,
    checkout: &Checkout,
    row: &Subscription,
) -> Result<String, SettleError> {
    let tenant = change.tenant();
    let found = tenant.one::<KeyClaim>(|query| {
        query.filter(column::KeyClaim::CheckoutId.eq(checkout.id.as_str()))
    });
    if let Some(claim) = found.await? {
        return Ok(claim.id);
    }
    let now_ms = change.now_ms();
    let claim = KeyClaim {
        subscription_id: row.id.clone(),
        checkout_id: Some(checkout.id.clone()),
        session_until_ms: Some(now_ms.saturating_add(SESSION_CLAIM_MS)),
        link_until_ms: Some(now_ms.saturating_add(LINK_CLAIM_MS)),
        ..KeyClaim::default()
    };
    let claim = change.insert(claim).await?;
    notify::enqueue(change, Event::key_ready(row, &claim.id)).await?;
    Ok(claim.id)
}
