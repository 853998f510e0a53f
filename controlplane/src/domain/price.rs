//! What a plan costs, in Stripe's terms.
//!
//! In: JSON. Out: a checked price; its terms as one text by which a change is known.
//! Always holds: amounts are whole numbers of the currency's smallest unit, but for the price of a unit of overage, which may
//! be less than one and is kept as the text that was sent.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::object;
use super::policy_text::Fault;
use super::site::OverageRule;
use crate::billing::money;

/// What Stripe takes at most: eight digits.
const AMOUNT_MAX: i64 = 99_999_999;
/// What nodes count at most.
const UNITS_MAX: u64 = 999_999_999_999_999;
/// What Stripe takes at most.
const TRIAL_DAYS_MAX: u32 = 730;

/// How often a price is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Stripe's words")]
pub enum Interval {
    Month,
    Year,
}

impl Interval {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// Whether taxes are in an amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxBehavior {
    /// They come on top.
    Exclusive,
    /// They are in it.
    Inclusive,
    /// As the Stripe account's settings have it.
    #[default]
    Unspecified,
}

impl TaxBehavior {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Inclusive => "inclusive",
            Self::Unspecified => "unspecified",
        }
    }
}

/// What units past the quota cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OveragePrice {
    /// In the currency's smallest unit, with up to twelve digits after the point.
    #[schema(max_length = 25, pattern = "^[0-9]{1,12}(\\.[0-9]{1,12})?$", example = "0.05")]
    pub unit_amount_decimal: String,
    /// For so many units; a part of them counts whole.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1_000_000_000, default = 1)]
    pub per: u64,
    /// What overage of one period costs at most, in the currency's smallest unit; left out: no such bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 99_999_999)]
    pub cap_amount: Option<i64>,
}

fn one() -> u64 {
    1
}

/// A unit of money in the smallest that a price can be said in: twelve digits after the point.
const UNIT: i128 = 1_000_000_000_000;

impl OveragePrice {
    /// Units that an amount of the currency's smallest unit pays for, of which `spent` (in its 10¹²th parts) went elsewhere; none
    /// where they cost nothing.
    #[must_use]
    pub fn units_for(&self, amount: i64, spent: i128) -> Option<i64> {
        let price = decimal(&self.unit_amount_decimal).filter(|price| *price > 0)?;
        let left = i128::from(amount.max(0)).saturating_mul(UNIT).saturating_sub(spent).max(0);
        let units = (left / price).saturating_mul(i128::from(self.per.max(1)));
        Some(i64::try_from(units).unwrap_or(i64::MAX))
    }

    /// What units cost, in 10¹²th parts of the currency's smallest unit: a part of [`OveragePrice::per`] counts whole.
    #[must_use]
    pub fn cost(&self, units: i64) -> i128 {
        let per = i128::from(self.per.max(1));
        let blocks = (i128::from(units.max(0)) + per - 1) / per;
        blocks.saturating_mul(decimal(&self.unit_amount_decimal).unwrap_or_default())
    }

    /// Units past the limit that the cap pays for; none where there is no cap, or nothing to pay.
    #[must_use]
    pub fn cap_units(&self) -> Option<u64> {
        let units = self.units_for(self.cap_amount?, 0)?;
        Some(u64::try_from(units).unwrap_or_default().min(UNITS_MAX))
    }

    /// From a price's terms ([`PriceDraft::terms`]); none where it has no overage.
    #[must_use]
    pub fn of_terms(terms: &str) -> Option<Self> {
        let terms: serde_json::Value = serde_json::from_str(terms).ok()?;
        let overage = terms.get("overage")?;
        Some(Self {
            unit_amount_decimal: overage.get("amount")?.as_str()?.to_owned(),
            per: overage.get("per")?.as_u64()?,
            cap_amount: None,
        })
    }
}

/// An amount such as `0.05`, in 10¹²th parts.
fn decimal(text: &str) -> Option<i128> {
    if !money::is_decimal(text) {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<12}").parse().ok()
}

/// What a plan costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceDraft {
    /// In the currency's smallest unit; 0 without overage is a free plan, which needs no Stripe.
    #[schema(minimum = 0, maximum = 99_999_999, example = 1900)]
    pub amount: i64,
    /// Three letters, lower case.
    #[schema(pattern = "^[a-z]{3}$", example = "eur")]
    pub currency: String,
    /// How often it is paid.
    pub interval: Interval,
    /// Days before the first payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 730)]
    pub trial_days: Option<u32>,
    /// What units past the quota cost; for plans with `overage = "allow"`.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub overage: Option<OveragePrice>,
    /// Whether taxes are in the amount.
    #[serde(default)]
    pub tax_behavior: TaxBehavior,
}

impl PriceDraft {
    /// Whether nothing is ever to be paid.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.amount == 0 && self.overage.is_none()
    }

    /// What a price of Stripe's is made of: two drafts with the same terms are one price. A trial is of the checkout.
    #[must_use]
    pub fn terms(&self) -> String {
        serde_json::json!({
            "amount": self.amount,
            "currency": self.currency,
            "interval": self.interval.as_str(),
            "tax_behavior": self.tax_behavior.as_str(),
            "overage": self.overage.as_ref().map(|overage| {
                serde_json::json!({ "amount": overage.unit_amount_decimal, "per": overage.per })
            }),
        })
        .to_string()
    }

    /// What a month of it costs, for comparing plans; a year is twelve months.
    #[must_use]
    pub fn monthly(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "compared, not charged")]
        let amount = self.amount as f64;
        match self.interval {
            Interval::Month => amount,
            Interval::Year => amount / 12.0,
        }
    }

    /// Finds what Stripe would not take.
    pub fn check(&self, rule: Option<OverageRule>, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, message: &str| {
            faults.push(Fault::new(format!("price.{field}"), message));
        };
        if !money::is_currency(&self.currency) {
            fault("currency", "expected three letters in lower case, as in eur");
        }
        if !(0..=AMOUNT_MAX).contains(&self.amount) {
            fault("amount", "expected 0 to 99999999 of the currency's smallest unit");
        } else if !money::is_chargeable(self.amount, &self.currency) {
            fault(
                "amount",
                "Stripe takes this currency only in whole tens of the smallest unit (hundreds of isk and ugx)",
            );
        }
        if self.trial_days.is_some_and(|days| !(1..=TRIAL_DAYS_MAX).contains(&days)) {
            fault("trial_days", "expected 1 to 730");
        }
        let Some(overage) = &self.overage else { return };
        if rule != Some(OverageRule::Allow) {
            fault(
                "overage",
                "the plan denies overage, so none is ever paid; set `overage` to allow",
            );
        }
        if !money::is_decimal(&overage.unit_amount_decimal) {
            fault(
                "overage.unit_amount_decimal",
                "expected digits with at most twelve after the point, as in 0.05",
            );
        }
        if !(1..=1_000_000_000).contains(&overage.per) {
            fault("overage.per", "expected 1 to 1000000000");
        }
        if overage.cap_amount.is_some_and(|cap| !(0..=AMOUNT_MAX).contains(&cap)) {
            fault("overage.cap_amount", "expected 0 to 99999999 of the currency's smallest unit");
        }
    }
}

#[cfg(test)]
#[path = "price_tests.rs"]
mod tests;
