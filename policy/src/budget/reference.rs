//! The slow, obvious implementation: one counter, one bucket, one count of slots, no loans.
//!
//! In: the same requests as the real one, one after another. Out: what each must be told.
//! Always holds: the decision table's rows 11 to 15, word for word.

use std::collections::BTreeMap;

use super::{Now, Overage, Period, PeriodId, RateTerms, Refused, Terms};

/// The verdict on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Row 15.
    Ok,
    /// Row 14.
    Overage,
    /// Rows 11 to 13.
    Refused(Refused),
}

/// A token bucket that is filled whenever it is looked at. Amounts are in requests times the unit's microseconds.
#[derive(Clone, Copy, Debug)]
pub struct SlowBucket {
    level: u128,
    filled_us: u64,
}

impl SlowBucket {
    /// A full one.
    #[must_use]
    pub fn full(terms: &RateTerms, now_us: u64) -> Self {
        Self { level: u128::from(terms.burst) * u128::from(terms.unit_us()), filled_us: now_us }
    }

    /// Lets in what has flowed since the last look.
    pub fn fill(&mut self, terms: &RateTerms, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.filled_us);
        let capacity = u128::from(terms.burst) * u128::from(terms.unit_us());
        let inflow = u128::from(elapsed_us) * u128::from(terms.requests);
        self.level = (self.level + inflow).min(capacity);
        self.filled_us = self.filled_us.max(now_us);
    }

    /// Whole requests it holds.
    #[must_use]
    pub fn holds(&self, terms: &RateTerms) -> u64 {
        u64::try_from(self.level / u128::from(terms.unit_us())).unwrap_or(u64::MAX)
    }

    /// Takes one request out, if it is there.
    pub fn take(&mut self, terms: &RateTerms, now_us: u64) -> bool {
        self.fill(terms, now_us);
        let one = u128::from(terms.unit_us());
        let there = self.level >= one;
        if there {
            self.level -= one;
        }
        there
    }
}

/// One entitlement under terms that do not change.
#[derive(Clone, Debug)]
pub struct Reference {
    terms: Terms,
    period: Period,
    used: BTreeMap<PeriodId, u64>,
    bucket: Option<SlowBucket>,
    slots: u32,
}

impl Reference {
    /// Nothing used.
    #[must_use]
    pub fn new(now: Now, terms: &Terms) -> Self {
        Self {
            terms: *terms,
            period: Period::first(&terms.calendar, now.unix_s),
            used: BTreeMap::new(),
            bucket: terms.rate.map(|rate| SlowBucket::full(&rate, now.mono_us)),
            slots: 0,
        }
    }

    /// The period at this time.
    pub fn period(&mut self, now: Now) -> Period {
        self.period = self.period.at(&self.terms.calendar, now.unix_s);
        self.period
    }

    /// Units used in a period.
    #[must_use]
    pub fn used(&self, period: PeriodId) -> u64 {
        self.used.get(&period).copied().unwrap_or(0)
    }

    /// Whole requests the bucket holds.
    pub fn holds(&mut self, now: Now) -> Option<u64> {
        let rate = self.terms.rate?;
        let bucket = self.bucket.as_mut()?;
        bucket.fill(&rate, now.mono_us);
        Some(bucket.holds(&rate))
    }

    /// Decides one request, and takes what it takes.
    pub fn admit(&mut self, now: Now, cost: u64) -> Expected {
        if let (Some(rate), Some(bucket)) = (self.terms.rate, &mut self.bucket)
            && !bucket.take(&rate, now.mono_us)
        {
            return Expected::Refused(Refused::Rate);
        }
        if self.terms.concurrency.is_some_and(|max| self.slots >= max) {
            return Expected::Refused(Refused::Concurrency);
        }
        let period = self.period(now).id;
        let used = self.used(period);
        let mut verdict = Expected::Ok;
        if let Some(limit) = self.terms.limit {
            let left = limit.saturating_sub(used);
            if cost > left {
                let allowed = match self.terms.overage {
                    Overage::Deny => false,
                    Overage::Allow { cap: None } => true,
                    Overage::Allow { cap: Some(cap) } => used + cost <= limit + cap,
                };
                if !allowed {
                    return Expected::Refused(Refused::Quota);
                }
                verdict = Expected::Overage;
            }
        }
        self.used.insert(period, used + cost);
        self.slots += 1;
        verdict
    }

    /// Ends an admitted request, with what it cost in the end.
    pub fn settle(&mut self, period: PeriodId, charged: u64, cost: u64) {
        let used = self.used(period);
        self.used.insert(period, used - charged + cost);
        self.slots -= 1;
    }
}
