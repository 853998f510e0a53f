//! What is true in a simulated run, kept by plain counting, and what must follow from it.
//!
//! In: every decision and settlement. Out: an error in words for the first that breaks a promise.
//! Always holds: a refusal was right at some moment while the request was there, and so was the room for an
//! admission; the cells say what was really used.

use std::collections::BTreeMap;

use super::super::reference::SlowBucket;
use super::super::{
    Admitted, EntitlementId, Ledger, Now, PeriodId, Reason, Refusal, Refused, ShardBudgets,
    ShardId, Terms,
};

/// How a number went, with times.
#[derive(Clone, Debug, Default)]
struct History(Vec<(u64, u64)>);

impl History {
    fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, value)| *value)
    }

    fn set(&mut self, at_us: u64, value: u64) {
        self.0.push((at_us, value));
    }

    /// Least and most it was since then.
    fn range_since(&self, since_us: u64) -> (u64, u64) {
        let (mut least, mut most) = (self.last(), self.last());
        for (at_us, value) in self.0.iter().rev() {
            (least, most) = (least.min(*value), most.max(*value));
            if *at_us < since_us {
                return (least, most);
            }
        }
        (0, most)
    }
}

/// One entitlement as it really is.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) id: EntitlementId,
    /// Terms, and from when on they come with requests at each shard.
    terms: Vec<(u64, u64, Terms)>,
    used: BTreeMap<PeriodId, History>,
    slots: History,
    /// Requests that wait: they may hold a slot already.
    waiting: History,
    bucket: Option<SlowBucket>,
    /// A correction upwards has been made.
    corrected: bool,
}

impl Truth {
    pub(super) fn new(id: EntitlementId, terms: Terms, now: Now) -> Self {
        // Room for what was taken from the bucket when asked for and used when the answer came.
        let bucket = terms.rate.map(|rate| SlowBucket::full(&slack(&rate), now.mono_us));
        Self {
            id,
            terms: vec![(0, 0, terms)],
            used: BTreeMap::new(),
            slots: History::default(),
            waiting: History::default(),
            bucket,
            corrected: false,
        }
    }

    pub(super) fn waits(&mut self, now_us: u64, waiting: u64) {
        if waiting != self.waiting.last() {
            self.waiting.set(now_us, waiting);
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.newest().version
    }

    pub(super) fn newest(&self) -> Terms {
        let (_, _, terms) = self.terms.last().copied().unwrap_or((0, 0, NOTHING));
        terms
    }

    /// New terms: each shard has them some time within `spread_us`.
    pub(super) fn change(&mut self, now_us: u64, spread_us: u64, terms: Terms) {
        self.terms.push((now_us, spread_us, terms));
    }

    /// The terms a request comes under at a shard.
    pub(super) fn terms_at(&self, shard: ShardId, now_us: u64) -> Terms {
        let has = |(at_us, spread_us, _): &&(u64, u64, Terms)| {
            now_us >= at_us + spread_us * u64::from(shard.0) / 4
        };
        self.terms.iter().rev().find(has).map_or(NOTHING, |(_, _, terms)| *terms)
    }

    /// All terms that may have held since then; the ones before count for a second more.
    fn terms_since(&self, since_us: u64) -> impl Iterator<Item = &Terms> {
        let after = |(at_us, ..): &(u64, u64, Terms)| at_us + 2_000_000 >= since_us;
        let first = self.terms.iter().position(after).unwrap_or(self.terms.len());
        self.terms.iter().skip(first.saturating_sub(1)).map(|(_, _, terms)| terms)
    }

    /// Only one set of terms has ever been.
    fn is_steady(&self) -> bool {
        self.terms.windows(2).all(|pair| matches!(pair, [a, b] if a.2.same_as(&b.2)))
    }

    pub(super) fn admitted(
        &mut self,
        now: Now,
        since_us: u64,
        cost: u64,
        admitted: &Admitted,
    ) -> Result<(), String> {
        let period = admitted.ticket.period;
        let used = self.used.entry(period).or_default().clone();
        let (least, most) = used.range_since(since_us);
        let right = self.terms_since(since_us).any(|terms| match admitted.reason {
            Reason::Ok => !terms.exceeds(least, cost),
            Reason::Overage => terms.exceeds(most, cost) && !terms.refuses(least, cost),
        });
        if !right {
            let reason = admitted.reason;
            return Err(format!(
                "admitted as {reason:?}: cost {cost}, use {least} to {most}, {:?}",
                self.newest()
            ));
        }
        let rate = self.newest().rate.filter(|_| self.is_steady());
        if let (Some(rate), Some(bucket)) = (rate, &mut self.bucket)
            && !bucket.take(&slack(&rate), now.mono_us)
        {
            return Err(format!("more than burst + rate × time admitted, {rate:?}"));
        }
        if let Some(used) = self.used.get_mut(&period) {
            used.set(now.mono_us, used.last() + cost);
        }
        if admitted.ticket.slot {
            self.slots.set(now.mono_us, self.slots.last() + 1);
        }
        Ok(())
    }

    pub(super) fn refused(
        &self,
        since_us: u64,
        cost: u64,
        refusal: &Refusal,
    ) -> Result<(), String> {
        let used = self.used.get(&refusal.figures.period.id);
        let most = used.map_or(0, |used| used.range_since(since_us).1);
        let slots = self.slots.range_since(since_us).1 + self.waiting.range_since(since_us).1;
        let right = self.terms_since(since_us).any(|terms| match refusal.by {
            Refused::Quota => terms.refuses(most, cost),
            Refused::Concurrency => terms.concurrency.is_some_and(|max| slots >= u64::from(max)),
            Refused::Rate => terms.rate.is_some(),
        });
        if right {
            return Ok(());
        }
        let by = refusal.by;
        Err(format!(
            "refused by {by:?}: cost {cost}, use at most {most}, slots {slots}, {:?}",
            self.newest()
        ))
    }

    pub(super) fn settled(
        &mut self,
        now: Now,
        period: PeriodId,
        (before, after): (u64, u64),
        slot: bool,
        known: bool,
    ) -> Result<(), String> {
        if slot {
            self.slots.set(now.mono_us, self.slots.last().saturating_sub(1));
        }
        let Some(used) = self.used.get_mut(&period) else {
            return Err(format!("settled in {period:?}, which nothing was charged to"));
        };
        self.corrected |= after > before;
        if known {
            used.set(now.mono_us, used.last() + after - before);
        }
        Ok(())
    }

    /// used + lent + free = limit at each lender, and the cells tell the truth.
    pub(super) fn check(
        &self,
        now: Now,
        shards: &[ShardBudgets],
        ledger: &Ledger,
    ) -> Result<(), String> {
        let owner = (self.id.0 as u64) as usize % shards.len().max(1);
        let Some(owned) = shards.get(owner).and_then(|shard| shard.owned(self.id)) else {
            return Ok(());
        };
        let books = owned.books(now);
        let used = self.used.get(&books.period.id).map_or(0, History::last);
        let in_order = self.newest();
        let ensure = |holds: bool, what: &str| {
            let books = &books;
            if holds {
                Ok(())
            } else {
                Err(format!("{what}: {books:?}, used {used}, {in_order:?}"))
            }
        };
        ensure(books.used == used, "the cells do not say what was used")?;
        for (index, shard) in (0..).zip(shards) {
            if let Some((period, spendable)) = shard.spendable(self.id)
                && let Some(lent) = owned.lent_to(ShardId(index), period)
            {
                ensure(spendable <= lent, "a shard may use more than it was lent")?;
            }
        }
        let slots = self.slots.last()..=self.slots.last() + self.waiting.last();
        ensure(slots.contains(&books.slots_used), "slots in use are not those of open requests")?;
        let balance = ledger.balance(self.id, books.period.id);
        if let Some(rate) = in_order.rate
            && self.is_steady()
        {
            ensure(books.rate <= rate.burst, "level + rate loans exceed the burst")?;
        }
        if let Some(slots_max) = in_order.concurrency
            && self.is_steady()
        {
            ensure(books.slots_held <= u64::from(slots_max), "more slots are held than there are")?;
        }
        if in_order.ceiling().is_none() || !self.is_steady() {
            return Ok(());
        }
        // Corrections upwards may take use past the lease, and that alone.
        if self.corrected {
            return Ok(());
        }
        ensure(books.committed <= books.held, "more is lent than leased")?;
        if let Some(ceiling) = in_order.ceiling() {
            let leased = balance.map_or(0, |balance| balance.committed);
            ensure(leased <= ceiling, "more is leased than there is")?;
            ensure(books.held <= leased, "the node holds what it was not leased")?;
        }
        Ok(())
    }

    /// Every unit of the last limit was had.
    pub(super) fn all_used(&self, limit: u64) -> Result<(), String> {
        let Some((period, used)) = self.used.last_key_value() else {
            return if limit == 0 { Ok(()) } else { Err("nothing could be used".into()) };
        };
        let used = used.last();
        if used >= limit {
            return Ok(());
        }
        Err(format!("only {used} of {limit} units of {period:?} could be used"))
    }
}

/// The rate with room for what travels: taken from the bucket, not yet seen here.
pub(super) fn slack(rate: &super::super::RateTerms) -> super::super::RateTerms {
    let travelling = rate.requests * 2_500_000 / rate.unit_us() + 1;
    super::super::RateTerms { burst: rate.burst + travelling, ..*rate }
}

const NOTHING: Terms = Terms {
    version: 0,
    limit: Some(0),
    overage: super::super::Overage::Deny,
    calendar: super::super::Calendar { unit: super::super::Unit::Month, anchor_s: None },
    rate: None,
    concurrency: None,
};
