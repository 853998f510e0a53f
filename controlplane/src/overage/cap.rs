//! What a spend cap leaves to be charged.
//!
//! In: the price of overage that a subscription pays, the cap, what was told already. Out: units that may be told still.
//! Always holds: reckoned in whole numbers; of units that are sold by the hundred, whole hundreds are paid for, since Stripe
//! rounds up to them; what was told at another price counts with what it costs there.

use crate::domain::price::OveragePrice;

/// Units told at one price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// At which price; none where it is not known any more, or costs nothing.
    pub price: Option<OveragePrice>,
    /// Whether it is the price that is paid now.
    pub is_own: bool,
    /// Units.
    pub units: i64,
}

/// Units that may still be told at a price, of a cap in the currency's smallest unit; none where there is no bound.
#[must_use]
pub fn room(price: &OveragePrice, cap_amount: Option<i64>, told: &[Told]) -> Option<i64> {
    let own: i64 = told.iter().filter(|each| each.is_own).map(|each| each.units).sum();
    let others = told.iter().filter(|each| !each.is_own);
    let spent = others.map(|each| {
        let price = each.price.as_ref();
        price.map_or(0, |price| price.cost(each.units))
    });
    let spent = spent.fold(0_i128, i128::saturating_add);
    let units = price.units_for(cap_amount?, spent)?;
    Some(units.saturating_sub(own).max(0))
}

#[cfg(test)]
#[path = "cap_tests.rs"]
mod tests;
