//! Making a plan's product, prices and meter.
//!
//! In: an offer. Out: its row in force.
//! Always holds: each step is found again rather than done again: a product by its id, a meter by its event name, a price by
//! its plan, generation and terms in its metadata. A step whose outcome is not known is looked for before it gives up, and its
//! key is forgotten only where there is nothing.

use std::collections::BTreeMap;

use super::{Offer, hash_of, in_force, rows, rows_of, system};
use crate::billing::stripe::{
    Aggregation, Meter, MeterRequest, Mode, Price, PriceQuery, PriceRecurring, PriceRequest,
    PriceUpdate, Product, ProductRequest, ProductUpdate, Scope, StripeError,
};
use crate::billing::{Billing, BillingError, BillingResult, calls};
use crate::storage::{Plan, PlanPrice};

/// Pages of a hundred that are looked through for a meter or a price.
const PAGES_MAX: usize = 100;

/// What one plan's calls have in common.
struct Maker<'a> {
    billing: &'a Billing,
    account_id: &'a str,
    scope: Scope,
    offer: &'a Offer,
    /// How many rows the plan had before: what was made for an earlier one of the same terms is not taken for this one's.
    generation: usize,
}

/// What plays the part of a price's metadata.
const PLAN_ID: &str = "plan_id";
const TERMS: &str = "terms";

/// The plan's row in force, made where what Stripe has is not what the plan says.
///
/// # Errors
/// When the account is not connected, or Stripe or the database cannot be asked; done again, it goes on.
pub async fn ensure(
    billing: &Billing,
    account_id: &str,
    offer: &Offer,
    mode: Mode,
) -> BillingResult<PlanPrice> {
    let known = rows(&billing.store.tenant(account_id), &offer.plan.id, mode).await?;
    match in_force(&known) {
        Some(row) if row.terms == offer.price.terms() => {
            billing.scope(account_id, mode).await?;
            Ok(row.clone())
        }
        _ => anew(billing, account_id, offer, mode).await,
    }
}

/// Another row for the plan, whatever there is: the one before it can no longer be bought.
///
/// # Errors
/// As [`ensure`].
pub async fn anew(
    billing: &Billing,
    account_id: &str,
    offer: &Offer,
    mode: Mode,
) -> BillingResult<PlanPrice> {
    let scope = billing.scope(account_id, mode).await?;
    let known = rows_of(&billing.store.tenant(account_id), &offer.plan.id, &scope).await?;
    let terms = offer.price.terms();
    let generation = known.len();
    let maker = Maker { billing, account_id, scope, offer, generation };
    let product = maker.product().await?;
    let price = maker.price(&product.id, None).await?;
    let mut row = PlanPrice {
        site_id: offer.plan.site_id.clone(),
        plan_id: offer.plan.id.clone(),
        mode: mode.as_str().to_owned(),
        stripe_account: maker.scope.stripe_account.clone().unwrap_or_default(),
        product_id: product.id.clone(),
        price_id: Some(price.id),
        terms,
        ..PlanPrice::default()
    };
    if offer.price.overage.is_some() {
        let meter = maker.meter().await?;
        row.metered_price_id = Some(maker.price(&product.id, Some(&meter.id)).await?.id);
        row.meter_event_name = Some(meter.event_name);
        row.meter_id = Some(meter.id);
    }
    for old in known.iter().filter(|old| old.retired_at_ms.is_none()) {
        maker.withdraw(old).await?;
    }
    record(billing, account_id, row).await
}

/// Writes the row and retires those before; where another process did, theirs is taken.
async fn record(billing: &Billing, account_id: &str, row: PlanPrice) -> BillingResult<PlanPrice> {
    let mut change = billing.store.change(account_id, system()).await?;
    change.lock::<Plan>(&row.plan_id).await?.ok_or(BillingError::NotFound("plan"))?;
    let mode = Mode::stored(&row.mode)?;
    let known = rows(&change.tenant(), &row.plan_id, mode).await?;
    let current = in_force(&known).filter(|known| known.price_id == row.price_id).cloned();
    let now_ms = change.now_ms();
    for old in known.iter().filter(|old| old.retired_at_ms.is_none()) {
        if current.as_ref().is_none_or(|current| current.id != old.id) {
            let after = PlanPrice { retired_at_ms: Some(now_ms), ..old.clone() };
            change.update(old, after).await?;
        }
    }
    let row = match current {
        Some(current) => current,
        None => change.insert(row).await?,
    };
    change.commit().await?;
    Ok(row)
}

/// Takes a plan out of the shop: what it was cannot be bought any more.
///
/// # Errors
/// As [`ensure`].
pub async fn retire(
    billing: &Billing,
    account_id: &str,
    plan: &Plan,
    mode: Mode,
) -> BillingResult<()> {
    let scope = billing.scope(account_id, mode).await?;
    let known = rows_of(&billing.store.tenant(account_id), &plan.id, &scope).await?;
    let Some(row) = in_force(&known) else { return Ok(()) };
    let (stripe, what) = (&billing.stripe, |part: &str| format!("{part}/{}/{mode}", row.id));
    for price in [&row.price_id, &row.metered_price_id].into_iter().flatten() {
        deactivate(billing, account_id, &scope, price).await?;
    }
    let request = ProductUpdate { active: Some(false), ..ProductUpdate::default() };
    let purpose = what("product_off");
    let call = calls::once(&billing.store, account_id, &purpose, &request).await?;
    match stripe.update_product(&scope, &row.product_id, &request, &call.key).await {
        Err(error) if error.is_missing() => {}
        outcome => settle(billing, account_id, &purpose, outcome).await.map(drop)?,
    }
    let mut change = billing.store.change(account_id, system()).await?;
    let after = PlanPrice { retired_at_ms: Some(change.now_ms()), ..row.clone() };
    change.update(row, after).await?;
    Ok(change.commit().await?)
}

/// Makes a price one that cannot be bought. Doing it twice is doing it once.
async fn deactivate(
    billing: &Billing,
    account_id: &str,
    scope: &Scope,
    price: &str,
) -> BillingResult<()> {
    let request = PriceUpdate { active: Some(false), ..PriceUpdate::default() };
    let purpose = off(price, scope.mode);
    let call = calls::once(&billing.store, account_id, &purpose, &request).await?;
    match billing.stripe.update_price(scope, price, &request, &call.key).await {
        // The owner removed it: it cannot be bought either.
        Err(error) if error.is_missing() => Ok(()),
        outcome => settle(billing, account_id, &purpose, outcome).await.map(drop),
    }
}

/// The purpose of taking a price out of the shop.
pub(super) fn off(price: &str, mode: Mode) -> String {
    format!("price_off/{price}/{mode}")
}

/// Keeps an answer; forgets the key of a call that may not be sent again with it, since Stripe gives a stored 500 for a day.
pub(in crate::billing) async fn settle<T>(
    billing: &Billing,
    account_id: &str,
    purpose: &str,
    outcome: Result<T, StripeError>,
) -> BillingResult<T> {
    match outcome {
        Ok(made) => {
            // What was made is found at Stripe; that it was answered is all that is kept.
            calls::done(&billing.store, account_id, purpose, "").await?;
            Ok(made)
        }
        Err(error) => {
            // One that may still be running, or was never looked at, goes on with its key.
            let goes_on = match &error {
                StripeError::Unreachable(_) | StripeError::Busy => true,
                StripeError::Refused(refusal) => matches!(refusal.status, 409 | 429),
                _ => false,
            };
            if !goes_on {
                calls::forget(&billing.store, account_id, purpose).await?;
            }
            Err(error.into())
        }
    }
}

impl Maker<'_> {
    fn metadata(&self, terms: Option<&str>) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            (PLAN_ID.to_owned(), self.offer.plan.id.clone()),
            ("site_id".to_owned(), self.offer.plan.site_id.clone()),
        ]);
        metadata.extend(terms.map(|terms| (TERMS.to_owned(), terms.to_owned())));
        metadata
    }

    fn purpose(&self, part: &str) -> String {
        // The connected account is part of it: one that takes another's place has nothing of it.
        let account = self.scope.stripe_account.as_deref().unwrap_or_default();
        format!("{part}/{}/{account}/{}", self.offer.plan.id, self.scope.mode)
    }

    async fn product(&self) -> BillingResult<Product> {
        let (stripe, id) = (&self.billing.stripe, self.offer.plan.id.as_str());
        let found = match stripe.product(&self.scope, id).await {
            Ok(product) => product,
            Err(error) if error.is_missing() => return self.new_product().await,
            Err(error) => return Err(error.into()),
        };
        if found.active && found.name == self.offer.name {
            return Ok(found);
        }
        let request = ProductUpdate { name: Some(self.offer.name.clone()), active: Some(true) };
        let purpose = self.purpose(&format!("product_on/{}", self.generation));
        // What is asked for is how it is to be: an earlier call with another name is no bar.
        calls::forget(&self.billing.store, self.account_id, &purpose).await?;
        let call = calls::once(&self.billing.store, self.account_id, &purpose, &request).await?;
        let outcome = stripe.update_product(&self.scope, id, &request, &call.key).await;
        settle(self.billing, self.account_id, &purpose, outcome).await
    }

    async fn new_product(&self) -> BillingResult<Product> {
        let (stripe, id) = (&self.billing.stripe, self.offer.plan.id.as_str());
        let request = ProductRequest {
            id: id.to_owned(),
            name: self.offer.name.clone(),
            description: None,
            metadata: self.metadata(None),
        };
        let purpose = self.purpose("product");
        // It is not there, so whatever was answered before holds no more.
        let key = self.key_for(&purpose, &request).await?;
        match stripe.create_product(&self.scope, &request, &key).await {
            Err(error) if error.is_there_already() || error.is_uncertain() => {
                match stripe.product(&self.scope, id).await {
                    Ok(product) => Ok(product),
                    Err(_) => settle(self.billing, self.account_id, &purpose, Err(error)).await,
                }
            }
            outcome => settle(self.billing, self.account_id, &purpose, outcome).await,
        }
    }

    /// A key for a call whose outcome was looked for and is not there.
    async fn key_for<R: serde::Serialize>(
        &self,
        purpose: &str,
        request: &R,
    ) -> BillingResult<String> {
        let store = &self.billing.store;
        Ok(calls::again_or_anew(store, self.account_id, purpose, request).await?)
    }

    /// The price of the plan, or of its overage where a meter is given.
    async fn price(&self, product: &str, meter: Option<&str>) -> BillingResult<Price> {
        let request = self.price_request(product, meter);
        let terms = request.metadata.get(TERMS).cloned().unwrap_or_default();
        if let Some(price) = self.find_price(product, &terms).await? {
            return Ok(price);
        }
        let purpose = self.purpose(&format!("price/{terms}"));
        let key = self.key_for(&purpose, &request).await?;
        match self.billing.stripe.create_price(&self.scope, &request, &key).await {
            Err(error) if error.is_uncertain() => match self.find_price(product, &terms).await {
                Ok(Some(price)) => Ok(price),
                _ => settle(self.billing, self.account_id, &purpose, Err(error)).await,
            },
            outcome => settle(self.billing, self.account_id, &purpose, outcome).await,
        }
    }

    fn price_request(&self, product: &str, meter: Option<&str>) -> PriceRequest {
        let (price, plan) = (&self.offer.price, &self.offer.plan.id);
        let part = if meter.is_some() { "overage" } else { "licence" };
        let terms = format!("{part}-{}-{}", self.generation, hash_of(&price.terms()));
        let overage = price.overage.as_ref().filter(|_| meter.is_some());
        let lookup_key = match meter {
            Some(_) => format!("payfence_{plan}_overage"),
            None => format!("payfence_{plan}"),
        };
        PriceRequest {
            product: product.to_owned(),
            currency: price.currency.clone(),
            unit_amount: meter.is_none().then_some(price.amount),
            unit_amount_decimal: overage.map(|overage| overage.unit_amount_decimal.clone()),
            recurring: PriceRecurring {
                interval: price.interval.as_str().to_owned(),
                usage_type: meter.map(|_| "metered".to_owned()),
                meter: meter.map(ToOwned::to_owned),
            },
            transform_quantity: overage.filter(|overage| overage.per > 1).map(|overage| {
                BTreeMap::from([
                    ("divide_by".to_owned(), overage.per.to_string()),
                    ("round".to_owned(), "up".to_owned()),
                ])
            }),
            lookup_key: Some(lookup_key),
            transfer_lookup_key: Some(true),
            tax_behavior: Some(price.tax_behavior.as_str().to_owned()),
            nickname: None,
            metadata: self.metadata(Some(&terms)),
        }
    }

    /// The price that an earlier try made.
    async fn find_price(&self, product: &str, terms: &str) -> BillingResult<Option<Price>> {
        let mut query = PriceQuery {
            product: Some(product.to_owned()),
            active: Some(true),
            limit: Some(100),
            ..PriceQuery::default()
        };
        for _ in 0..PAGES_MAX {
            let page = self.billing.stripe.prices(&self.scope, &query).await?;
            let last = page.data.last().map(|price| price.id.clone());
            let is_it = |price: &Price| price.metadata.get(TERMS).is_some_and(|is| is == terms);
            if let Some(found) = page.data.into_iter().find(is_it) {
                return Ok(Some(found));
            }
            if !page.has_more || last.is_none() {
                return Ok(None);
            }
            query.starting_after = last;
        }
        Err(BillingError::Broken(format!("product {product} has too many prices")))
    }

    async fn meter(&self) -> BillingResult<Meter> {
        let event_name = format!("payfence_{}", self.offer.plan.id);
        if let Some(meter) = self.find_meter(&event_name).await? {
            return Ok(meter);
        }
        let request = MeterRequest {
            display_name: format!("{} overage", self.offer.name),
            event_name: event_name.clone(),
            default_aggregation: Aggregation { formula: "sum".to_owned() },
        };
        let purpose = self.purpose("meter");
        let key = self.key_for(&purpose, &request).await?;
        match self.billing.stripe.create_meter(&self.scope, &request, &key).await {
            Err(error) if error.is_uncertain() => match self.find_meter(&event_name).await {
                Ok(Some(meter)) => Ok(meter),
                _ => settle(self.billing, self.account_id, &purpose, Err(error)).await,
            },
            outcome => settle(self.billing, self.account_id, &purpose, outcome).await,
        }
    }

    async fn find_meter(&self, event_name: &str) -> BillingResult<Option<Meter>> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = self.billing.stripe.meters(&self.scope, after.as_deref()).await?;
            let last = page.data.last().map(|meter| meter.id.clone());
            let is_it = |meter: &Meter| {
                meter.event_name == event_name && meter.status.as_deref() != Some("inactive")
            };
            if let Some(found) = page.data.into_iter().find(is_it) {
                return Ok(Some(found));
            }
            if !page.has_more || last.is_none() {
                return Ok(None);
            }
            after = last;
        }
        Err(BillingError::Broken("the account has too many meters".to_owned()))
    }

    /// Makes what an earlier row names something that cannot be bought; running subscriptions keep it.
    async fn withdraw(&self, old: &PlanPrice) -> BillingResult<()> {
        for price in [&old.price_id, &old.metered_price_id].into_iter().flatten() {
            deactivate(self.billing, self.account_id, &self.scope, price).await?;
        }
        Ok(())
    }
}
