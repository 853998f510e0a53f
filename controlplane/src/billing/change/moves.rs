//! Moving to another plan: what it would cost, and the move.
//!
//! In: a plan of the same site. Out: Stripe's invoice as it would be; the same at Stripe, written down here.
//! Always holds: a plan that allows as much or more counts at once, one that allows less from the period's end, so nobody is blocked by
//! it in the middle; what is left of a period is paid once. A smaller price is put there without a credit, so while it waits, what was
//! paid is another price. Stripe keeps which ([`PAID`]), in the call that puts the smaller one there; moves up are reckoned from it.

use std::collections::BTreeMap;

use super::{Bought, When, is_over};
use crate::billing::catalogue::{self, Offer};
use crate::billing::payers::Payer;
use crate::billing::settle::choose_plan;
use crate::billing::settle::state::allows_as_much;
use crate::billing::stripe::{
    Invoice, InvoiceLine, ItemChange, PreviewDetails, PreviewRequest, Subscription as Fetched,
    SubscriptionItem, SubscriptionUpdate,
};
use crate::billing::{Billing, BillingError, BillingResult};
use crate::domain::site::PlanDraft;
use crate::ids::new_id;
use crate::storage::{Plan, PlanPrice, Tenant};

/// The metadata of a subscription that waits for a smaller price: the price that was paid, the one that took its place without a
/// credit, the second until which the first was paid; with spaces between. Of another price or period it says nothing.
const PAID: &str = "payfence_paid";

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

/// What is needed to move to a plan.
struct Move {
    when: When,
    price: PlanPrice,
    items: Vec<ItemChange>,
    way: Way,
}

/// How it is paid.
enum Way {
    /// It is there already.
    Done,
    /// What is left of the period is billed at once.
    Invoiced,
    /// What is left of the period is paid; [`PAID`] as it is to be, empty for none.
    Free(String),
    /// The same as invoiced, after the parts that were paid are put back, and their price.
    Restored(Vec<ItemChange>, String),
}

impl Bought {
    /// What moving to a plan of the same site would cost. Nothing is changed.
    ///
    /// # Errors
    /// When the plan is none that can be moved to, or Stripe or the database cannot be asked.
    pub async fn preview(&self, billing: &Billing, plan_id: &str) -> BillingResult<Preview> {
        let to = self.plan_move(billing, plan_id).await?;
        let at_s = billing.store.world().now_ms() / 1_000;
        let invoice = match to.way {
            Way::Done | Way::Free(_) => None,
            Way::Invoiced => Some(self.invoice_of(billing, to.items, at_s).await?),
            Way::Restored(paid, _) => {
                let toward = self.invoice_of(billing, to.items, at_s).await?;
                let back = self.invoice_of(billing, paid, at_s).await?;
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

    /// Moves to another plan of the same site; with the moment of a preview, for what that said.
    ///
    /// # Errors
    /// As [`Bought::preview`]; when the payment is refused. Done again, it goes on.
    pub async fn move_to(
        &self,
        billing: &Billing,
        plan_id: &str,
        at_s: Option<i64>,
    ) -> BillingResult<When> {
        let to = self.plan_move(billing, plan_id).await?;
        if !matches!(to.way, Way::Done) {
            self.tell_left(billing).await?;
        }
        let (what, price_id) = (format!("move/{plan_id}"), to.price.price_id.as_deref());
        let mut items = to.items;
        let is_invoiced = match to.way {
            Way::Done => false,
            Way::Invoiced => true,
            Way::Free(note) => {
                self.put(billing, &what, items.clone(), price_id, note).await?;
                false
            }
            Way::Restored(paid, paid_price) => {
                let (what, price_id) = (format!("restore/{plan_id}"), Some(paid_price.as_str()));
                self.put(billing, &what, paid, price_id, String::new()).await?;
                items = parts(&self.fetch(billing).await?, &to.price);
                true
            }
        };
        if is_invoiced {
            let request = SubscriptionUpdate {
                items,
                proration_behavior: Some("always_invoice".to_owned()),
                proration_date: at_s,
                // A plan that is not paid for is not given: the change waits at Stripe for its payment.
                payment_behavior: Some("pending_if_incomplete".to_owned()),
                ..SubscriptionUpdate::default()
            };
            self.update(billing, &what, &request, |fetched| has(fetched, price_id)).await?;
        }
        self.look(billing).await?;
        Ok(to.when)
    }

    /// Changes parts at Stripe without billing anything, and what is noted of them.
    async fn put(
        &self,
        billing: &Billing,
        what: &str,
        items: Vec<ItemChange>,
        price_id: Option<&str>,
        note: String,
    ) -> BillingResult<()> {
        let request = SubscriptionUpdate {
            items,
            proration_behavior: Some("none".to_owned()),
            metadata: BTreeMap::from([(PAID.to_owned(), note)]),
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
            true => Way::Done,
            false => self.way(&tenant, &fetched, licensed, (when, &price)).await?,
        };
        let items = parts(&fetched, &price);
        Ok(Move { when, price, items, way })
    }

    async fn way(
        &self,
        tenant: &Tenant<'_>,
        fetched: &Fetched,
        licensed: &SubscriptionItem,
        (when, price): (When, &PlanPrice),
    ) -> BillingResult<Way> {
        let new = price.price_id.as_deref().unwrap_or_default();
        let paid = paid_price(fetched, licensed);
        let end_s = licensed.current_period_end.unwrap_or_default();
        if when == When::PeriodEnd {
            let paid = paid.unwrap_or(&licensed.price.id);
            return Ok(Way::Free(format!("{paid} {new} {end_s}")));
        }
        // Of a trial nothing is paid.
        let Some(paid) = paid.filter(|_| fetched.status != "trialing") else {
            return Ok(Way::Invoiced);
        };
        if paid == new {
            return Ok(Way::Free(String::new()));
        }
        let row = catalogue::plan_of_price(tenant, paid, self.scope.mode).await?;
        match row.filter(|row| row.retired_at_ms.is_none()) {
            Some(row) => Ok(Way::Restored(parts(fetched, &row), paid.to_owned())),
            None => {
                let text = "the price that this period was paid at is no longer sold, so what is left of it cannot be credited; move when \
                            the period is over";
                Err(BillingError::Conflict(text.to_owned()))
            }
        }
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

/// The price that the running period was paid at, where a smaller one took its place without a credit.
fn paid_price<'a>(fetched: &'a Fetched, licensed: &SubscriptionItem) -> Option<&'a str> {
    let mut note = fetched.metadata.get(PAID)?.split(' ');
    let (paid, new, end_s) = (note.next()?, note.next()?, note.next()?);
    let is_now = new == licensed.price.id && end_s.parse().ok() == licensed.current_period_end;
    is_now.then_some(paid)
}

/// What would be paid from what was paid to what is wanted: Stripe reckons from the price that is there, which is neither, so the way
/// back to what was paid is taken off. What waits for any next invoice is in both, and paid once.
fn reckoned_from(toward: Invoice, back: Invoice) -> Invoice {
    let item =
        |line: &InvoiceLine| Some(line.parent.as_ref()?.pointer("/invoice_item_details")?.clone());
    let waits = |line: &InvoiceLine| {
        let own = item(line).filter(|own| !own.is_null());
        own.is_some() && toward.lines.data.iter().any(|other| item(other) == own)
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

/// The parts as they are to be; each names the part that it changes, or Stripe would add one.
fn parts(fetched: &Fetched, price: &PlanPrice) -> Vec<ItemChange> {
    let licensed = fetched.licensed().map(|item| item.id.clone());
    let mut items =
        vec![ItemChange { id: licensed, price: price.price_id.clone(), ..ItemChange::default() }];
    match (fetched.metered(), &price.metered_price_id) {
        (None, None) => {}
        (Some(item), None) => items.push(ItemChange {
            id: Some(item.id.clone()),
            deleted: Some(true),
            ..ItemChange::default()
        }),
        (item, Some(metered)) => items.push(ItemChange {
            id: item.map(|item| item.id.clone()),
            price: Some(metered.clone()),
            ..ItemChange::default()
        }),
    }
    items
}
