//! A token bucket in whole numbers, kept as the moment at which it will be full (the generic cell rate algorithm).
//!
//! In: the rate's terms and the monotonic clock. Out: whole requests it holds, how long until the next.
//! Always holds: level + outstanding loans ≤ burst, and no unit is lost or made by rounding: time is scaled by the
//! configured requests, so that one request is exactly one rate unit of time long.

use super::RateTerms;

/// The moment the bucket is full, in microseconds times `RateTerms::requests`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// On the scale above.
    pub full_at: u128,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(terms: &RateTerms, now_us: u64) -> Self {
        Self { full_at: scaled(terms, now_us) }
    }

    /// Whole requests it holds.
    #[must_use]
    pub fn level(&self, terms: &RateTerms, now_us: u64) -> u64 {
        let missing = div_ceil(self.missing(terms, now_us), terms.unit_us());
        terms.burst.saturating_sub(missing)
    }

    /// Takes requests out. The caller has looked at the level, or lets it fall below zero knowingly.
    pub fn take(&mut self, terms: &RateTerms, now_us: u64, requests: u64) {
        let from = self.full_at.max(scaled(terms, now_us));
        self.full_at = from + u128::from(requests) * u128::from(terms.unit_us());
    }

    /// Puts requests back that were taken and not used.
    pub fn put_back(&mut self, terms: &RateTerms, requests: u64) {
        let units = u128::from(requests) * u128::from(terms.unit_us());
        self.full_at = self.full_at.saturating_sub(units);
    }

    /// Lets no more flow in than there is room for beside the loans that were outstanding since the last call.
    pub fn cap(&mut self, terms: &RateTerms, now_us: u64, outstanding: u64) {
        let room = u128::from(outstanding.min(terms.burst)) * u128::from(terms.unit_us());
        self.full_at = self.full_at.max(scaled(terms, now_us) + room);
    }

    /// Microseconds until it holds one request; 0 where it does.
    #[must_use]
    pub fn next_in_us(&self, terms: &RateTerms, now_us: u64) -> u64 {
        let unit = u128::from(terms.unit_us());
        let room = u128::from(terms.burst.saturating_sub(1)) * unit;
        in_us(terms, self.missing(terms, now_us).saturating_sub(room))
    }

    /// Microseconds until it is full but for `outstanding` requests that are counted as in it.
    #[must_use]
    pub fn full_in_us(&self, terms: &RateTerms, now_us: u64, outstanding: u64) -> u64 {
        let lent = u128::from(outstanding) * u128::from(terms.unit_us());
        in_us(terms, self.missing(terms, now_us).saturating_sub(lent))
    }

    /// The same use under other terms: what is missing stays missing, up to the new burst.
    #[must_use]
    pub fn reshaped(&self, old: &RateTerms, new: &RateTerms, now_us: u64) -> Self {
        let missing = self.missing(old, now_us).div_ceil(u128::from(old.unit_us()));
        let missing = missing.min(u128::from(new.burst)) * u128::from(new.unit_us());
        Self { full_at: scaled(new, now_us) + missing }
    }

    /// The same bucket with another inflow and capacity in the same or another unit: what is in it stays in it as far
    /// as there is room beside `outstanding` loans. Second: whole requests there was no room for.
    #[must_use]
    pub fn refitted(
        &self,
        old: &RateTerms,
        new: &RateTerms,
        now_us: u64,
        outstanding: u64,
    ) -> (Self, u64) {
        let unit = u128::from(old.unit_us());
        let level = (u128::from(old.burst) * unit).saturating_sub(self.missing(old, now_us));
        let level = level * u128::from(new.unit_us()) / unit;
        let unit = u128::from(new.unit_us());
        let room = u128::from(new.burst.saturating_sub(outstanding)) * unit;
        let missing = u128::from(new.burst) * unit - level.min(room);
        let dropped = u64::try_from(level.saturating_sub(room) / unit).unwrap_or(u64::MAX);
        (Self { full_at: scaled(new, now_us) + missing }, dropped)
    }

    /// An empty one.
    #[must_use]
    pub fn empty(terms: &RateTerms, now_us: u64) -> Self {
        let missing = u128::from(terms.burst) * u128::from(terms.unit_us());
        Self { full_at: scaled(terms, now_us) + missing }
    }

    fn missing(&self, terms: &RateTerms, now_us: u64) -> u128 {
        self.full_at.saturating_sub(scaled(terms, now_us))
    }
}

fn scaled(terms: &RateTerms, now_us: u64) -> u128 {
    u128::from(now_us) * u128::from(terms.requests)
}

fn in_us(terms: &RateTerms, scaled: u128) -> u64 {
    div_ceil(scaled, terms.requests.max(1))
}

/// Rounded up. Most numbers fit one word, and dividing two costs ten times as much.
fn div_ceil(number: u128, by: u64) -> u64 {
    match u64::try_from(number) {
        Ok(number) => number.div_ceil(by),
        Err(_) => u64::try_from(number.div_ceil(u128::from(by))).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
