//! A subscription: fetched, and ours made the same.
//!
//! In: its id at Stripe, under its lease. Out: our row and what is known of Stripe's, in one change; nodes are told by it.
//! Always holds: one that nobody bought here is left alone; what does not differ is not written, so that repeats leave no
//! audit entries.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::json;

use super::checkout::CHECKOUT_KEY;
use super::disputes::{self, is_held};
use super::owed::{self, Owed};
use super::state::{self, Known, Terms};
use super::{Owner, SettleError, Settled, Settler, Under, is_missing, notices};
use crate::billing::stripe::{Mode, Subscription as Fetched};
use crate::domain::site::{PlanDraft, SiteDraft};
use crate::notify::{self, Event};
use crate::overage::{self, OverageTeller};
use crate::storage::{
    Change, Job, Plan, PlanPrice, Site, StorageError, StripeSubscription, Subscription, Tenant,
    column,
};

/// An invoice is about to be made, or is a draft.
const INVOICED: &[&str] = &["invoice.upcoming", "invoice.created"];

impl Settler {
    pub(super) async fn subscription(
        &self,
        owner: &Owner,
        id: &str,
        fetched: Option<Fetched>,
        under: Under<'_>,
    ) -> Result<Settled, SettleError> {
        let known = known(&self.store.tenant(&owner.account_id), owner.mode, id).await?;
        let fetched = match fetched {
            Some(fetched) => Ok(fetched),
            None => self.stripe.subscription(&owner.scope(), id).await,
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if is_missing(&error) => match known {
                // Test data can be deleted as a whole.
                Some(_) => Fetched {
                    id: id.to_owned(),
                    status: "canceled".to_owned(),
                    ..Fetched::default()
                },
                None => return Ok(Settled::Nothing("Stripe has no such subscription")),
            },
            Err(error) => return Err(error.into()),
        };
        let Some(facts) = known else {
            return match fetched.metadata.get(CHECKOUT_KEY) {
                Some(checkout) => self.bought(owner, checkout, fetched.clone(), under).await,
                None => Ok(Settled::Nothing("it was not bought here")),
            };
        };
        let fetched = self.finish(owner, &facts, fetched).await?;
        let owed = self.owed(owner, &fetched, Some(&facts)).await?;
        let price = fetched.licensed().map(|item| item.price.id.as_str());
        if facts.price_id.as_deref() != price {
            // What was used under the old plan is its meter's, whoever made the move.
            let teller = OverageTeller::new(self.store.clone(), self.stripe.clone());
            teller.store_left(&owner.account_id, &facts.subscription_id).await?;
        }
        let is_invoiced =
            |job: &Job| job.events.iter().any(|it| INVOICED.contains(&it.kind.as_str()));
        if under.job.is_some_and(is_invoiced) {
            // The draft takes what is told of its period for about an hour.
            overage::flush(&self.store, &owner.account_id, &facts.subscription_id).await?;
        }
        let notices = self.notices(owner, under.job).await?;
        let repaid = self.repaid(owner, &facts.subscription_id, &fetched).await?;
        let mut change = self.change(owner).await?;
        disputes::end(&mut change, &repaid).await?;
        let written = overwrite(&mut change, owner, &fetched, &owed).await?;
        notices::tell(&mut change, owner, &written, &fetched, &notices).await?;
        under.commit(change).await?;
        Ok(Settled::Written)
    }
}

/// What is known of a subscription of Stripe's.
pub(super) async fn known(
    tenant: &Tenant<'_>,
    mode: Mode,
    id: &str,
) -> Result<Option<StripeSubscription>, StorageError> {
    tenant
        .one::<StripeSubscription>(|query| {
            query
                .filter(column::StripeSubscription::StripeId.eq(id))
                .filter(column::StripeSubscription::Mode.eq(mode.as_str()))
        })
        .await
}

/// Makes our rows what was fetched; our row as it then is.
pub(super) async fn overwrite(
    change: &mut Change,
    owner: &Owner,
    fetched: &Fetched,
    owed: &Owed,
) -> Result<Subscription, SettleError> {
    let missing = || SettleError::Permanent("our row of the subscription is gone".to_owned());
    let facts = known(&change.tenant(), owner.mode, &fetched.id).await?.ok_or_else(missing)?;
    let row = change.lock::<Subscription>(&facts.subscription_id).await?.ok_or_else(missing)?;
    let is_held = is_held(&change.tenant(), &row).await?;
    let status = state::status(fetched, is_held).ok_or_else(|| {
        SettleError::Permanent(format!("the status `{}` is not known", fetched.status))
    })?;
    let choice = choose_plan(&change.tenant(), &row, &facts, fetched).await?;
    let was_past_due = facts.stripe_status == "past_due";
    let known_ms = row.past_due_since_ms.filter(|_| was_past_due && !owed.is_another);
    let mut after = row.clone();
    after.status = status.word();
    after.plan_id = choice.plan_id;
    after.past_due_since_ms = state::past_due_since_ms(fetched, known_ms, owed.at_s);
    // One that Stripe says nothing more of keeps its periods.
    after.period_anchor_ms = state::anchor_ms(fetched).or(row.period_anchor_ms);
    let mut now = facts.clone();
    fill(&mut now, fetched);
    now.pending_plan_id = choice.pending_plan_id;
    now.upgrade_plan_id = upgrade(&change.tenant(), &row, owner.mode, fetched).await?;
    owed::keep(&mut now, owed);
    if now != facts {
        now.fetched_at_ms = change.now_ms();
        change.update(&facts, now).await?;
    }
    if after == row {
        return Ok(row);
    }
    if after.plan_id != row.plan_id {
        serve(change, &after.plan_id).await?;
    }
    let after = change.update(&row, after).await?;
    if let Some(event) = Event::of_subscription(Some(&row), &after) {
        notify::enqueue(change, event).await?;
    }
    Ok(after)
}

/// Has a plan served that a subscription comes to be on: of one that was archived since it was offered nodes are told again. Archiving holds
/// the plan, too, so it finds the subscription, or this finds it archived.
pub(super) async fn serve(change: &mut Change, plan_id: &str) -> Result<(), SettleError> {
    let plan = change.lock::<Plan>(plan_id).await?;
    let plan = plan.ok_or_else(|| SettleError::Permanent(format!("the plan {plan_id} is gone")))?;
    if plan.archived_at_ms.is_some() {
        tracing::warn!(plan = plan.id, "an archived plan was bought before, and is served");
        let same = plan.clone();
        change.update(&plan, same).await?;
    }
    Ok(())
}

/// Puts what was fetched into a row.
pub(super) fn fill(row: &mut StripeSubscription, fetched: &Fetched) {
    let (start_ms, end_ms) = state::period(fetched);
    row.stripe_id.clone_from(&fetched.id);
    row.stripe_status.clone_from(&fetched.status);
    let licensed = fetched.licensed();
    row.item_id = licensed.map(|item| item.id.clone()).or_else(|| row.item_id.clone());
    row.price_id = licensed.map(|item| item.price.id.clone()).or_else(|| row.price_id.clone());
    if licensed.is_some() {
        // A part for overage that is not there any more was taken out.
        row.metered_item_id = fetched.metered().map(|item| item.id.clone());
    }
    row.period_start_ms = start_ms.or(row.period_start_ms);
    row.period_end_ms = end_ms.or(row.period_end_ms);
    row.cancel_at_ms = state::cancel_at_ms(fetched);
    row.upgrade_until_ms = state::upgrade_until_ms(fetched);
    row.facts = json!({
        "customer": fetched.customer,
        "created": fetched.created,
        "latest_invoice": fetched.latest_invoice,
        "trial_end": fetched.trial_end,
        "cancel_at_period_end": fetched.cancel_at_period_end,
        "ended_at": fetched.ended_at,
        "pause_collection": fetched.pause_collection,
    })
    .to_string();
}

/// Which plan is in force by what was fetched, and which waits for the period's end.
///
/// # Errors
/// When the database cannot be asked, or a plan is gone or cannot be read.
pub async fn choose_plan(
    tenant: &Tenant<'_>,
    row: &Subscription,
    facts: &StripeSubscription,
    fetched: &Fetched,
) -> Result<state::PlanChoice, SettleError> {
    let mode = Mode::stored(&facts.mode)?;
    let current = plan_of(tenant, &row.plan_id).await?;
    let target = match priced_plan(tenant, mode, fetched, &row.site_id).await? {
        Some(id) => Some((plan_of(tenant, &id).await?, id)),
        None => None,
    };
    let known = Known {
        plan: Terms { id: &row.plan_id, draft: &current },
        pending_plan_id: facts.pending_plan_id.as_deref(),
        price_id: facts.price_id.as_deref(),
        period_end_ms: facts.period_end_ms,
    };
    let target = target.as_ref().map(|(draft, id)| Terms { id, draft });
    Ok(state::plan(known, target, fetched))
}

async fn plan_of(tenant: &Tenant<'_>, id: &str) -> Result<PlanDraft, SettleError> {
    let plan = tenant.get::<Plan>(id).await?;
    let plan = plan.ok_or_else(|| SettleError::Permanent(format!("the plan {id} is gone")))?;
    serde_json::from_str(&plan.settings)
        .map_err(|error| SettleError::Permanent(format!("the plan {id} cannot be read: {error}")))
}

/// The plan of this site that has the price which is paid in advance, retired prices included.
pub(super) async fn priced_plan(
    tenant: &Tenant<'_>,
    mode: Mode,
    fetched: &Fetched,
    site_id: &str,
) -> Result<Option<String>, StorageError> {
    match fetched.licensed() {
        Some(item) => plan_with(tenant, mode, &[item.price.id.as_str()], site_id).await,
        None => Ok(None),
    }
}

/// The plan of this site that one of these prices is of.
async fn plan_with(
    tenant: &Tenant<'_>,
    mode: Mode,
    price_ids: &[&str],
    site_id: &str,
) -> Result<Option<String>, StorageError> {
    let price = tenant.one::<PlanPrice>(|query| {
        query
            .filter(column::PlanPrice::PriceId.is_in(price_ids.iter().copied()))
            .filter(column::PlanPrice::Mode.eq(mode.as_str()))
            .filter(column::PlanPrice::SiteId.eq(site_id))
    });
    Ok(price.await?.map(|row| row.plan_id))
}

/// The plan that waits for its payment; none where none does, or it is none of ours.
async fn upgrade(
    tenant: &Tenant<'_>,
    row: &Subscription,
    mode: Mode,
    fetched: &Fetched,
) -> Result<Option<String>, StorageError> {
    let Some(pending) = &fetched.pending_update else { return Ok(None) };
    let price_ids: Vec<&str> = pending.price_ids().collect();
    plan_with(tenant, mode, &price_ids, &row.site_id).await
}

/// The site's settings of money.
pub(super) async fn site_of(tenant: &Tenant<'_>, id: &str) -> Result<SiteDraft, SettleError> {
    let site = tenant.get::<Site>(id).await?;
    let site = site.ok_or_else(|| SettleError::Permanent(format!("the site {id} is gone")))?;
    serde_json::from_str(&site.settings)
        .map_err(|error| SettleError::Permanent(format!("the site {id} cannot be read: {error}")))
}
