//! Moving to another plan: what it would cost, and the move.
//!
//! In: a plan of the same site. Out: Stripe's invoice as it would be; the same at Stripe, written down here.
//! Always holds: a plan that allows as much or more counts at once, one that allows less from the period's end, so nobody is blocked by
//! it in the middle; what is left of a period is paid once. A smaller price is put there without a credit, so while it waits, what was
//! paid is another price. Stripe keeps which ([`waiting`]), in the call that puts the smaller one there; moves up are reckoned from it.
//! A move up counts when it is paid; until then, and where it never is, everything stays as it was, a smaller plan that waits included,
//! and overage that no invoice has yet: with a move that waits and is given up Stripe would drop it.

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::{Bought, When, is_over};
use crate::billing::catalogue::{self, Offer};
use crate::billing::payers::Payer;
use crate::billing::settle::choose_plan;
use crate::billing::settle::state::allows_as_much;
use crate::billing::stripe::{
    Invoice, InvoiceLine, ItemChange, PreviewDetails, PreviewRequest, StripeError,
    Subscription as Fetched, SubscriptionItem, SubscriptionUpdate,
};
use crate::billing::waiting::{self, Notes, licensed_part, paid_price, parts, waiting_price};
use crate::billing::{Billing, BillingError, BillingResult, calls};
use crate::domain::site::PlanDraft;
use crate::ids::new_id;
use crate::overage::OverageTeller;
use crate::storage::{Lease, Plan, PlanPrice, StripeSubscription, Tenant, column};

/// Why a move waits until overage is told.
const LEFT_BEHIND: &str = "a move takes the part with the plan's meter out of the subscription, after which Stripe bills nothing more of it";

/// What moving to a plan would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// When it would count.
    pub when: When,
    /// What would be paid, and for what; for a change at once.
    pub invoice: Option<Invoice>,
    /// The moment that the amounts are for, Unix seconds.
    pub at_s: i64,
}

/// What came of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is done, and counts then.
    Done(When),
    /// It waits for its payment, which was refused or wants a word with the card's holder; until then nothing has changed.
    Unpaid,
}

/// What is needed to move to a plan.
struct Move {
    when: When,
    price: PlanPrice,
    items: Vec<ItemChange>,
    way: Way,
    fetched: Fetched,
}

/// How it is paid.
enum Way {
    /// It is there already.
    Done,
    /// What is left of the period is billed at once.
    Invoiced,
    /// What is left of the period is paid; what is noted of it.
    Free(Notes),
    /// The same as invoiced, after what was paid is put back in the place of what waits.
    Restored(Restored),
}

/// The payment of a move up was refused, or wants a word with the card's holder, and nothing was changed.
struct Refused;

impl Refused {
    fn told(self, subscription_id: &str) -> BillingError {
        BillingError::PaymentRefused(format!(
            "the payment was refused, or wants a word with the card's holder, so nothing was changed or charged: what was used past the \
             limit in this period is on no invoice yet, and would never be if the move waited for its payment and were given up; have the \
             customer change their card (POST /v1/subscriptions/{subscription_id}/portal) and ask again, or ask when the next period has \
             begun and nothing was used past its limit, when a move up can wait a day for its payment"
        ))
    }
}

/// What was paid, to be put back.
struct Restored {
    items: Vec<ItemChange>,
    price_id: String,
    notes: Notes,
}

impl Bought {
    /// What moving to a plan of the same site would cost. Nothing is changed.
    ///
    /// # Errors
    /// When the plan is none that can be moved to, or Stripe or the database cannot be asked.
    pub async fn preview(&self, billing: &Billing, plan_id: &str) -> BillingResult<Preview> {
        let to = self.plan_move(billing, plan_id).await?;
        if matches!(to.way, Way::Invoiced | Way::Restored(_)) {
            // An invoice that begins a period anew has what was used until then, and the move itself tells it first.
            self.tell_before(billing, LEFT_BEHIND, "").await?;
        }
        let at_s = billing.store.world().now_ms() / 1_000;
        let invoice = match to.way {
            Way::Done | Way::Free(_) => None,
            Way::Invoiced => Some(self.invoice_of(billing, to.items, at_s).await?),
            Way::Restored(paid) => {
                let toward = self.invoice_of(billing, to.items, at_s).await?;
                let back = self.invoice_of(billing, paid.items, at_s).await?;
                Some(reckoned_from(toward, back))
            }
        };
        Ok(Preview { when: to.when, invoice, at_s })
    }

    /// What a change of parts would be billed with at once.
    async fn invoice_of(
        &self,
        billing: &Billing,
        items: Vec<ItemChange>,
        at_s: i64,
    ) -> BillingResult<Invoice> {
        let request = PreviewRequest {
            subscription: self.known.stripe_id.clone(),
            subscription_details: Some(PreviewDetails {
                items,
                proration_behavior: Some("always_invoice".to_owned()),
                proration_date: Some(at_s),
            }),
        };
        let key = new_id("pf", &**billing.store.world());
        Ok(billing.stripe.preview_invoice(&self.scope, &request, &key).await?)
    }

    /// Moves to another plan of the same site; with the moment of a preview, for what that said. A move that waits for its payment is
    /// given up for it.
    ///
    /// # Errors
    /// As [`Bought::preview`]; when the payment is refused while a smaller plan waits, which goes on waiting. Done again, it goes on.
    pub async fn move_to(
        &self,
        billing: &Billing,
        plan_id: &str,
        at_s: Option<i64>,
    ) -> BillingResult<Moved> {
        let to = self.plan_move(billing, plan_id).await?;
        if !matches!(to.way, Way::Done) {
            self.tell_before(billing, LEFT_BEHIND, "").await?;
        }
        if matches!(to.way, Way::Restored(_)) {
            let lease = self.alone(billing).await?;
            let done = self.move_from_paid(billing, plan_id, at_s, &lease).await;
            if done.is_err() {
                // What was begun is put back by whoever looks next.
                billing.settler.let_go(&lease).await;
            }
            return done;
        }
        let (what, price_id) = (format!("move/{plan_id}"), to.price.price_id.as_deref());
        self.replace_waiting(billing, &to.fetched, &what).await?;
        let billed = match to.way {
            Way::Done | Way::Restored(_) => Ok(()),
            Way::Invoiced => {
                self.bill(billing, &what, &to.fetched, to.items, price_id, at_s).await?
            }
            Way::Free(notes) => {
                // What its meter was told is billed by whoever looks next, which is done below: apart, or the rest would be prorated.
                let (items, notes) = match waiting::leaves_use(&to.fetched, &to.price) {
                    true => (
                        vec![licensed_part(&to.fetched, &to.price)],
                        notes.with_meter_of(price_id.unwrap_or_default()),
                    ),
                    false => (to.items, notes),
                };
                Ok(self.put(billing, &what, items, price_id, notes).await?)
            }
        };
        self.look(billing).await?;
        billed.map_err(|refused| refused.told(&self.row.id))?;
        self.outcome(billing, plan_id, &to.price, to.when).await
    }

    /// Moves up while a smaller plan waits, under the subscription's lease: whoever found what was paid in its place meanwhile would put
    /// the smaller one back. Where the move is not paid, looking does that.
    async fn move_from_paid(
        &self,
        billing: &Billing,
        plan_id: &str,
        at_s: Option<i64>,
        lease: &Lease,
    ) -> BillingResult<Moved> {
        let to = self.plan_move(billing, plan_id).await?;
        let Way::Restored(paid) = to.way else { return Err(meanwhile()) };
        let (what, price_id) = (format!("move/{plan_id}"), to.price.price_id.as_deref());
        self.replace_waiting(billing, &to.fetched, &what).await?;
        let restore = format!("restore/{plan_id}");
        // Whatever became of the same calls before, it is not there now; Stripe would only say again what it said then.
        self.forget(billing, &restore).await?;
        self.forget(billing, &what).await?;
        self.put(billing, &restore, paid.items, Some(&paid.price_id), paid.notes).await?;
        let fetched = self.fetch(billing).await?;
        let is_held = billing.store.extend(lease, billing.settler.lease_ms()).await?;
        // From anything else than what was paid it would be billed wrongly.
        if !is_held || !has(&fetched, Some(&paid.price_id)) {
            return Err(meanwhile());
        }
        let items = parts(&fetched, &to.price);
        let billed = self.bill(billing, &what, &fetched, items, price_id, at_s).await?;
        // What waited is put back by it, however the payment went.
        self.look_under(billing, lease).await?;
        billed.map_err(|refused| refused.told(&self.row.id))?;
        self.outcome(billing, plan_id, &to.price, to.when).await
    }

    /// Gives up a move that waits for its payment, since the newest wish counts; where it is the same one, it is another call.
    async fn replace_waiting(
        &self,
        billing: &Billing,
        fetched: &Fetched,
        what: &str,
    ) -> BillingResult<()> {
        if fetched.pending_update.is_none() {
            return Ok(());
        }
        if self.give_up(billing, fetched).await? {
            return self.forget(billing, what).await;
        }
        let text = "the move that waited for its payment was paid just now; look at the subscription, and ask again if it is to move still";
        Err(BillingError::Conflict(text.to_owned()))
    }

    /// What came of a move, by what was written down of it since.
    async fn outcome(
        &self,
        billing: &Billing,
        plan_id: &str,
        price: &PlanPrice,
        when: When,
    ) -> BillingResult<Moved> {
        let tenant = billing.store.tenant(&self.account_id);
        let known = tenant.one::<StripeSubscription>(|query| {
            query.filter(column::StripeSubscription::SubscriptionId.eq(self.row.id.as_str()))
        });
        let known = known.await?.ok_or(BillingError::NotFound("subscription"))?;
        if known.price_id == price.price_id {
            return Ok(Moved::Done(when));
        }
        if known.upgrade_plan_id.as_deref() == Some(plan_id) {
            return Ok(Moved::Unpaid);
        }
        if known.pending_plan_id.is_some() {
            let text = "the payment was refused, or wants a word with the card's holder, so nothing was changed or charged: the plan \
                        stays, and the smaller plan that waits for the period's end goes on waiting; have the customer change their \
                        card (POST /v1/subscriptions/{id}/portal) and ask again, or take the smaller plan back first (a change to \
                        the plan in force), after which a move up can wait a day for its payment";
            return Err(BillingError::PaymentRefused(text.replace("{id}", &self.row.id)));
        }
        // It was asked for before, and Stripe said again what it had said then.
        self.forget(billing, &format!("move/{plan_id}")).await?;
        Err(meanwhile())
    }

    /// Has a call get another key the next time.
    async fn forget(&self, billing: &Billing, what: &str) -> BillingResult<()> {
        Ok(calls::forget(&billing.store, &self.account_id, &self.purpose(what)).await?)
    }

    /// Changes parts at Stripe and bills what is left of the period at once; the inner error where that was not paid and may not wait.
    async fn bill(
        &self,
        billing: &Billing,
        what: &str,
        fetched: &Fetched,
        items: Vec<ItemChange>,
        price_id: Option<&str>,
        at_s: Option<i64>,
    ) -> BillingResult<Result<(), Refused>> {
        let may_wait = !self.owes_overage(billing, fetched).await?;
        // A plan that is not paid for is not given.
        let behavior = if may_wait { "pending_if_incomplete" } else { "error_if_incomplete" };
        let request = SubscriptionUpdate {
            items,
            proration_behavior: Some("always_invoice".to_owned()),
            proration_date: at_s,
            payment_behavior: Some(behavior.to_owned()),
            ..SubscriptionUpdate::default()
        };
        let is_there =
            |fetched: &Fetched| has(fetched, price_id) || fetched.pending_update.is_some();
        match self.update(billing, what, &request, is_there).await {
            Err(BillingError::Stripe(StripeError::Refused(refusal)))
                if !may_wait && refusal.status == 402 =>
            {
                tracing::debug!(error = refusal.message, "a move up was not paid");
                Ok(Err(Refused))
            }
            outcome => outcome.map(Ok),
        }
    }

    /// Whether overage of the running period was told that no invoice has yet. An invoice that waits takes it along, and Stripe bills it
    /// never again where that one is given up.
    async fn owes_overage(&self, billing: &Billing, fetched: &Fetched) -> BillingResult<bool> {
        let Some(metered) = fetched.metered() else { return Ok(false) };
        let since_s = metered.current_period_start.unwrap_or_default();
        let teller = OverageTeller::new(billing.store.clone(), billing.stripe.clone());
        Ok(teller.has_told(&self.account_id, &self.row.id, since_s).await?)
    }

    /// Changes parts at Stripe without billing anything, and what is noted of them.
    async fn put(
        &self,
        billing: &Billing,
        what: &str,
        items: Vec<ItemChange>,
        price_id: Option<&str>,
        notes: Notes,
    ) -> BillingResult<()> {
        let request = SubscriptionUpdate {
            items,
            proration_behavior: Some("none".to_owned()),
            metadata: notes.metadata(),
            ..SubscriptionUpdate::default()
        };
        self.update(billing, what, &request, |fetched| has(fetched, price_id)).await
    }

    async fn plan_move(&self, billing: &Billing, plan_id: &str) -> BillingResult<Move> {
        let tenant = billing.store.tenant(&self.account_id);
        let to = tenant.get::<Plan>(plan_id).await?;
        let to = to.filter(|to| to.site_id == self.row.site_id && to.archived_at_ms.is_none());
        let to = to.ok_or(BillingError::NotFound("plan of this site"))?;
        let offer = catalogue::offer_of(&to)?.filter(|offer| !offer.price.is_free());
        let offer = offer.ok_or_else(|| {
            let text =
                "the plan has no price to move to; cancel instead, and take the free plan then";
            BillingError::Conflict(text.to_owned())
        })?;
        let price = catalogue::ensure(billing, &self.account_id, &offer, self.scope.mode).await?;
        let fetched = self.fetch(billing).await?;
        if is_over(&fetched) {
            return Err(BillingError::Conflict("the subscription is over".to_owned()));
        }
        let licensed = fetched.licensed();
        let licensed = licensed.ok_or_else(|| {
            BillingError::Broken("a subscription without a plan's price".to_owned())
        })?;
        let in_force = choose_plan(&tenant, &self.row, &self.known, &fetched).await?.plan_id;
        let from = tenant.get::<Plan>(&in_force).await?;
        let when = counts(&to, &from.ok_or(BillingError::NotFound("plan"))?)?;
        refuse_other_interval(when, licensed, &offer)?;
        let is_done = Some(&licensed.price.id) == price.price_id.as_ref();
        if !is_done {
            self.refuse_shared_meter(&tenant, &fetched, &price).await?;
        }
        let way = match is_done {
            true if !waiting::is_begun(&fetched) => Way::Done,
            _ => self.way(&tenant, &fetched, licensed, (when, &price)).await?,
        };
        let items = parts(&fetched, &price);
        Ok(Move { when, price, items, way, fetched })
    }

    async fn way(
        &self,
        tenant: &Tenant<'_>,
        fetched: &Fetched,
        licensed: &SubscriptionItem,
        (when, price): (When, &PlanPrice),
    ) -> BillingResult<Way> {
        let new = price.price_id.as_deref().unwrap_or_default();
        let there = licensed.price.id.as_str();
        // What a move up that broke off left: what was paid is there, and what waited is to be there again.
        let waits = waiting_price(fetched);
        let paid = paid_price(fetched).or_else(|| waits.map(|_| there));
        let end_s = licensed.current_period_end.unwrap_or_default();
        if when == When::PeriodEnd {
            return Ok(Way::Free(Notes::paid(paid.unwrap_or(there), new, end_s)));
        }
        if Some(new) == paid || new == there {
            return Ok(Way::Free(Notes::default()));
        }
        // Of a trial nothing is paid.
        let Some(paid) = paid.filter(|_| fetched.status != "trialing") else {
            return Ok(Way::Invoiced);
        };
        let waits = waits.unwrap_or(there);
        let text = "the price that this period was paid at is no longer sold, so what is left of it cannot be credited; move when the \
                    period is over";
        let row = self.sold(tenant, paid, text).await?;
        let text = "the price of the smaller plan that waits is no longer sold, so it could not be put back if the payment were refused; \
                    take it back first, with a change to the plan in force, and move up then";
        self.sold(tenant, waits, text).await?;
        Ok(Way::Restored(Restored {
            // The meter that is there stays: what it was told is billed when another takes its place.
            items: vec![licensed_part(fetched, &row)],
            price_id: paid.to_owned(),
            notes: Notes::waits(waits, paid, end_s),
        }))
    }

    /// What a price is of, while it is sold: Stripe puts no other one into a subscription.
    async fn sold(
        &self,
        tenant: &Tenant<'_>,
        price_id: &str,
        otherwise: &str,
    ) -> BillingResult<PlanPrice> {
        let row = catalogue::plan_of_price(tenant, price_id, self.scope.mode).await?;
        let row = row.filter(|row| row.retired_at_ms.is_none());
        row.ok_or_else(|| BillingError::Conflict(otherwise.to_owned()))
    }

    async fn refuse_shared_meter(
        &self,
        tenant: &Tenant<'_>,
        fetched: &Fetched,
        price: &PlanPrice,
    ) -> BillingResult<()> {
        let (Some(stripe_id), Some(_)) = (&fetched.customer, &price.metered_price_id) else {
            return Ok(());
        };
        let (mode, customer_id) = (self.scope.mode, self.row.customer_id.as_str());
        let payer = Payer { mode, customer_id, stripe_id, plan_id: &price.plan_id };
        if payer.has_another(tenant, Some(&self.row.id)).await? {
            let text = "another subscription of the same customer at Stripe has the plan, and Stripe would bill the overage of both to \
                        each; buy the plan with a new checkout, and cancel this one";
            return Err(BillingError::Conflict(text.to_owned()));
        }
        Ok(())
    }
}

fn counts(to: &Plan, from: &Plan) -> BillingResult<When> {
    let draft = |plan: &Plan| -> BillingResult<PlanDraft> {
        serde_json::from_str(&plan.settings).map_err(BillingError::damaged)
    };
    Ok(match allows_as_much(&draft(to)?, &draft(from)?) {
        true => When::Now,
        false => When::PeriodEnd,
    })
}

fn refuse_other_interval(
    when: When,
    licensed: &SubscriptionItem,
    offer: &Offer,
) -> BillingResult<()> {
    let interval = licensed.price.recurring.as_ref().map(|recurring| &*recurring.interval);
    if when == When::Now || interval == Some(offer.price.interval.as_str()) {
        return Ok(());
    }
    let text = "a plan that allows less and is paid at other intervals would count at once; cancel at the period's end and buy it then";
    Err(BillingError::Conflict(text.to_owned()))
}

fn has(fetched: &Fetched, price_id: Option<&str>) -> bool {
    fetched.licensed().map(|item| item.price.id.as_str()) == price_id
}

fn meanwhile() -> BillingError {
    let text = "the subscription was changed at Stripe meanwhile; look at it, and send the request again if it is to move still";
    BillingError::Conflict(text.to_owned())
}

/// What would be paid from what was paid to what is wanted: Stripe reckons from the price that is there, which is neither, so the way
/// back to what was paid is taken off. What waits for any next invoice is in both, and paid once; so is what was used.
fn reckoned_from(toward: Invoice, back: Invoice) -> Invoice {
    let item =
        |line: &InvoiceLine| Some(line.parent.as_ref()?.pointer("/invoice_item_details")?.clone());
    let is_use = |line: &InvoiceLine| {
        let details = line.parent.as_ref().map(|of| &of["subscription_item_details"]);
        details.is_some_and(|details| details["proration"] == false)
    };
    let waits = |line: &InvoiceLine| {
        let own = item(line).filter(|own| !own.is_null());
        is_use(line) || own.is_some() && toward.lines.data.iter().any(|other| item(other) == own)
    };
    let waiting: i64 =
        back.lines.data.iter().filter(|line| waits(line)).map(|line| line.amount).sum();
    let undone: Vec<_> = back.lines.data.iter().filter(|line| !waits(line)).cloned().collect();
    let mut invoice = toward.clone();
    invoice.total -= back.total - waiting;
    invoice.subtotal -= back.subtotal - waiting;
    invoice.amount_due = (invoice.total + invoice.starting_balance).max(0);
    let lines = &mut invoice.lines.data;
    for line in undone {
        let same =
            |it: &InvoiceLine| it.amount == line.amount && it.description == line.description;
        match lines.iter().position(same) {
            Some(place) => drop(lines.remove(place)),
            None => lines.push(InvoiceLine { amount: -line.amount, ..line }),
        }
    }
    invoice
}
