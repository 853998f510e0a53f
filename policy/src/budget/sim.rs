//! A node of several shards and its ledger, run by a seed through everything that may happen to them.
//!
//! In: a seed. Out: how much was done, or the first broken promise with the seed that replays it.
//! Always holds: the same seed runs the same steps. Time, delays, demand and mishaps all come from the seed: bursts,
//! starved shards, a slow ledger, new terms, clock steps, ends of periods, refunds, corrections, clients that leave.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::{
    Admission, Calendar, Config, Decided, Destination, EntitlementId, Ledger, Message, Now,
    Outcome, Overage, RateTerms, Settle, ShardBudgets, ShardId, Terms, Ticket, Unit, WaitId,
};

mod check;
pub mod nodes;

use check::Truth;

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests decided.
    pub decided: u64,
    /// Of them admitted.
    pub admitted: u64,
    /// Of them not known in time.
    pub unknown: u64,
    /// Messages delivered.
    pub messages: u64,
}

/// A broken promise.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "seed {seed}, at {mono_us} µs: {what}. Replay it with PAYFENCE_SIM_SEED={seed} cargo test -p policy sim"
)]
pub struct Failure {
    /// The seed that replays it.
    pub seed: u64,
    /// When, on the simulated monotonic clock.
    pub mono_us: u64,
    /// What was broken.
    pub what: String,
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that does not hold, or decision that is wrong.
pub fn run(seed: u64) -> Result<Stats, Failure> {
    let mut world = World::new(seed);
    let outcome = world.play();
    outcome.map(|()| world.stats).map_err(|what| Failure { seed, mono_us: world.mono_us, what })
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound.max(1)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        let index = self.below(of.len() as u64) as usize;
        of.get(index).copied().unwrap_or(otherwise)
    }
}

/// What goes wrong in a run, besides delays.
#[derive(Clone, Copy, Debug)]
struct Mishaps {
    new_terms: bool,
    corrections: bool,
    refunds: bool,
    clock_steps: bool,
    starving: bool,
    slow_ledger: bool,
    leaving: bool,
    delay_us_max: u64,
}

const QUIET: Mishaps = Mishaps {
    new_terms: false,
    corrections: false,
    refunds: false,
    clock_steps: false,
    starving: false,
    slow_ledger: false,
    leaving: false,
    delay_us_max: 1,
};

#[derive(Debug)]
enum Event {
    Arrive,
    Deliver { from: Destination, to: Destination, message: Message },
    Tick(ShardId),
    Finish { shard: ShardId, ticket: Ticket },
    Leave { shard: ShardId, wait: WaitId },
    Mishap,
}

/// A request that waits: entitlement, cost, arrival, and how many waited at its shard already.
type Waiting = (usize, u64, u64, u64);

/// The most messages that one request may need, one after the other: asked, recalled, returned, answered.
const HOPS: u64 = 4;

#[derive(Debug)]
struct World {
    random: Random,
    mishaps: Mishaps,
    shards: Vec<ShardBudgets>,
    ledger: Ledger,
    mono_us: u64,
    /// The wall clock less the monotonic one, in seconds.
    offset_s: i64,
    /// When, and what, in the order it was put in.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    last_event: u64,
    /// The last delivery of each link, for order.
    links: BTreeMap<(Destination, Destination), u64>,
    ticking: Vec<Option<u64>>,
    /// Until when a shard takes no messages.
    starved: Vec<u64>,
    entitlements: Vec<Truth>,
    waiting: BTreeMap<(ShardId, WaitId), Waiting>,
    arrivals: u64,
    open: u64,
    stats: Stats,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let shards = random.between(1, 4) as u16;
        let mishaps = Mishaps {
            new_terms: random.one_in(3),
            corrections: random.one_in(3),
            refunds: random.one_in(2),
            clock_steps: random.one_in(4),
            starving: random.one_in(3),
            slow_ledger: random.one_in(4),
            leaving: random.one_in(3),
            delay_us_max: random.pick(&[1, 50, 2_000, 20_000], 50),
        };
        let offset_s = 1_800_057_600 + random.below(100_000_000) as i64;
        let now = Now { mono_us: 1_000_000, unix_s: offset_s + 1 };
        let count = random.between(1, 3);
        let entitlements = (0..count).map(|_| {
            let id = (u128::from(random.word()) << 64) | u128::from(random.word());
            Truth::new(EntitlementId(id), any_terms(&mut random, 1), now)
        });
        let entitlements = entitlements.collect();
        let config = Config::default();
        Self {
            shards: (0..shards)
                .map(|shard| ShardBudgets::new(ShardId(shard), shards, config))
                .collect(),
            ledger: Ledger::new(),
            mono_us: now.mono_us,
            offset_s,
            due: BinaryHeap::new(),
            events: BTreeMap::new(),
            last_event: 0,
            links: BTreeMap::new(),
            ticking: vec![None; usize::from(shards)],
            starved: vec![0; usize::from(shards)],
            entitlements,
            waiting: BTreeMap::new(),
            arrivals: random.between(20, 600),
            open: 0,
            stats: Stats::default(),
            mishaps,
            random,
        }
    }

    fn now(&self) -> Now {
        let seconds = i64::try_from(self.mono_us / 1_000_000).unwrap_or(0);
        Now { mono_us: self.mono_us, unix_s: self.offset_s + seconds }
    }

    fn play(&mut self) -> Result<(), String> {
        self.at(1, Event::Arrive);
        self.at(1_000, Event::Mishap);
        while self.arrivals > 0 || !self.waiting.is_empty() || self.open > 0 {
            self.step()?;
        }
        self.use_up()
    }

    fn at(&mut self, in_us: u64, event: Event) {
        self.at_time(self.mono_us + in_us, event);
    }

    fn at_time(&mut self, at_us: u64, event: Event) {
        self.last_event += 1;
        self.due.push(Reverse((at_us, self.last_event)));
        self.events.insert(self.last_event, event);
    }

    /// Runs the next event, carries what came of it, checks everything.
    fn step(&mut self) -> Result<(), String> {
        let Some(Reverse((at_us, number))) = self.due.pop() else {
            return Err(format!("nothing is due, but {} requests wait", self.waiting.len()));
        };
        self.mono_us = self.mono_us.max(at_us);
        let Some(event) = self.events.remove(&number) else { return Ok(()) };
        match event {
            Event::Arrive => self.arrive()?,
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Tick(shard) => self.tick(shard),
            Event::Finish { shard, ticket } => self.finish(shard, ticket)?,
            Event::Leave { shard, wait } => {
                if self.waiting.remove(&(shard, wait)).is_some() {
                    let now = self.now();
                    if let Some(budgets) = self.shard(shard) {
                        budgets.cancel(now, wait);
                    }
                }
            }
            Event::Mishap => self.mishap(),
        }
        self.carry()?;
        self.check()
    }

    fn shard(&mut self, shard: ShardId) -> Option<&mut ShardBudgets> {
        self.shards.get_mut(usize::from(shard.0))
    }

    fn any_shard(&mut self) -> ShardId {
        ShardId(self.random.below(self.shards.len() as u64) as u16)
    }

    /// A request; now and then a burst, a pause, or a long one to the end of a period.
    fn arrive(&mut self) -> Result<(), String> {
        let index = self.random.below(self.entitlements.len() as u64) as usize;
        let shard = self.any_shard();
        let cost = if self.random.one_in(4) { self.random.below(6) } else { 1 };
        self.request(index, shard, cost)?;
        self.arrivals = self.arrivals.saturating_sub(1);
        if self.arrivals > 0 {
            let pause_us = match self.random.below(40) {
                0 => self.random.below(3_000_000),
                1 if self.mishaps.clock_steps => self.random.below(90_000_000),
                2..8 => self.random.below(50_000),
                _ => self.random.below(200),
            };
            self.at(pause_us, Event::Arrive);
        }
        Ok(())
    }

    fn request(&mut self, index: usize, shard: ShardId, cost: u64) -> Result<(), String> {
        let now = self.now();
        let Some(truth) = self.entitlements.get(index) else { return Ok(()) };
        // Shards take up a new snapshot one after another.
        let (id, terms) = (truth.id, truth.terms_at(shard, now.mono_us));
        let Some(budgets) = self.shard(shard) else { return Ok(()) };
        match budgets.admit(now, id, &terms, cost) {
            Admission::Decided(decided) => {
                self.conclude(shard, (index, cost, now.mono_us, 0), decided)
            }
            Admission::Pending(wait) => {
                let before = self.waiting.keys().filter(|(at, _)| *at == shard).count() as u64;
                self.waiting.insert((shard, wait), (index, cost, now.mono_us, before));
                if self.mishaps.leaving && self.random.one_in(5) {
                    let in_us = self.random.below(2 * self.mishaps.delay_us_max);
                    self.at(in_us, Event::Leave { shard, wait });
                }
                Ok(())
            }
        }
    }

    /// A request is decided: hold it against the truth, and let it run for a while.
    fn conclude(&mut self, shard: ShardId, of: Waiting, decided: Decided) -> Result<(), String> {
        let now = self.now();
        let (index, cost, since_us, before) = of;
        self.stats.decided += 1;
        // Those before it in the queue may each need as many messages.
        let queued_us = (before + 1) * HOPS * self.mishaps.delay_us_max;
        let is_soon = queued_us < Config::default().wait_us_max;
        let strict = is_soon && !self.mishaps.slow_ledger && !self.mishaps.starving;
        let Some(truth) = self.entitlements.get_mut(index) else { return Ok(()) };
        match decided {
            Decided::Admitted(admitted) => {
                truth.admitted(now, since_us, cost, &admitted)?;
                self.stats.admitted += 1;
                self.open += 1;
                let in_us = if self.random.one_in(10) {
                    self.random.below(2_000_000)
                } else {
                    self.random.below(5_000)
                };
                self.at(in_us, Event::Finish { shard, ticket: admitted.ticket });
            }
            Decided::Refused(refusal) => truth.refused(since_us, cost, &refusal)?,
            Decided::Unknown { .. } if strict => {
                return Err("a request was not decided in time, with nothing amiss".into());
            }
            Decided::Unknown { .. } => self.stats.unknown += 1,
        }
        Ok(())
    }

    fn finish(&mut self, shard: ShardId, ticket: Ticket) -> Result<(), String> {
        let now = self.now();
        let how = match self.random.below(6) {
            0 if self.mishaps.refunds => Settle::Refund,
            1 if self.mishaps.corrections => Settle::Correct(self.random.below(12)),
            _ => Settle::Keep,
        };
        let (id, period, charge, slot) = (ticket.id, ticket.period, ticket.charge, ticket.slot);
        self.open -= 1;
        let Some(budgets) = self.shard(shard) else { return Ok(()) };
        let late = budgets.counts().settled_late;
        let settled = budgets.settle(now, ticket, how);
        let known = budgets.counts().settled_late == late;
        let truth = self.entitlements.iter_mut().find(|truth| truth.id == id);
        match truth {
            Some(truth) => truth.settled(now, period, (charge, settled.charge), slot, known),
            None => Err("a ticket of nobody".into()),
        }
    }

    fn tick(&mut self, shard: ShardId) {
        let (now, index) = (self.now(), usize::from(shard.0));
        if let Some(ticking) = self.ticking.get_mut(index) {
            *ticking = None;
        }
        if let Some(budgets) = self.shard(shard) {
            budgets.tick(now);
        }
    }

    fn deliver(&mut self, from: Destination, to: Destination, message: Message) {
        self.stats.messages += 1;
        let now = self.now();
        match (from, to) {
            (_, Destination::Shard(shard)) => {
                if let Some(budgets) = self.shard(shard) {
                    budgets.on_message(now, from, message);
                }
            }
            (Destination::Shard(from), Destination::Ledger) => {
                self.ledger.on_message(1, from, &message);
                self.ledger.tick(now);
            }
            (Destination::Ledger, Destination::Ledger) => {}
        }
    }

    /// Puts on their way the messages that came up, and takes the outcomes of waits.
    fn carry(&mut self) -> Result<(), String> {
        let mut mail = Vec::new();
        for (index, budgets) in (0..).zip(&mut self.shards) {
            let from = Destination::Shard(ShardId(index));
            mail.extend(budgets.drain_outbox().map(|(to, message)| (from, to, message)));
        }
        let replies = self.ledger.drain_outbox();
        mail.extend(
            replies.map(|(_, shard, message)| {
                (Destination::Ledger, Destination::Shard(shard), message)
            }),
        );
        for (from, to, message) in mail {
            let mut at_us = self.mono_us + self.random.below(self.mishaps.delay_us_max);
            if to == Destination::Ledger && self.mishaps.slow_ledger {
                at_us += self.random.below(1_500_000);
            }
            if let Destination::Shard(shard) = to {
                at_us = at_us.max(self.starved.get(usize::from(shard.0)).copied().unwrap_or(0));
            }
            let last_us = self.links.entry((from, to)).or_insert(0);
            at_us = at_us.max(*last_us);
            *last_us = at_us;
            self.at_time(at_us, Event::Deliver { from, to, message });
        }
        for index in 0..self.shards.len() {
            let shard = ShardId(index as u16);
            while let Some((wait, outcome)) =
                self.shard(shard).and_then(ShardBudgets::poll_resolved)
            {
                if let Some(of) = self.waiting.remove(&(shard, wait))
                    && let Outcome::Decided(decided) = outcome
                {
                    self.conclude(shard, of, decided)?;
                }
            }
            let next = self.shard(shard).and_then(|budgets| budgets.next_tick());
            let ticking = self.ticking.get_mut(index);
            if let (Some(next_us), Some(ticking)) = (next, ticking)
                && ticking.is_none_or(|at_us| next_us < at_us)
            {
                *ticking = Some(next_us);
                self.at_time(next_us, Event::Tick(shard));
            }
        }
        Ok(())
    }

    fn mishap(&mut self) {
        if self.arrivals > 0 {
            let in_us = self.random.between(1_000, 400_000);
            self.at(in_us, Event::Mishap);
        }
        if self.mishaps.starving && self.random.one_in(3) {
            let until_us = self.mono_us + self.random.below(1_200_000);
            let shard = usize::from(self.any_shard().0);
            if let Some(starved) = self.starved.get_mut(shard) {
                *starved = until_us;
            }
        }
        if self.mishaps.clock_steps && self.random.one_in(4) {
            self.offset_s += self.random.below(200) as i64 - 100;
        }
        if self.mishaps.new_terms && self.random.one_in(3) {
            let index = self.random.below(self.entitlements.len() as u64) as usize;
            let now = self.now();
            if let Some(truth) = self.entitlements.get_mut(index) {
                let version = truth.version() + 1;
                // A reload that changes nothing is the commonest.
                let terms = if self.random.one_in(2) {
                    Terms { version, ..truth.newest() }
                } else {
                    any_terms(&mut self.random, version)
                };
                truth.change(now.mono_us, self.mishaps.delay_us_max, terms);
            }
        }
    }

    fn check(&mut self) -> Result<(), String> {
        for (index, truth) in self.entitlements.iter_mut().enumerate() {
            let here = self.waiting.values().filter(|(of, ..)| *of == index);
            truth.waits(self.mono_us, here.count() as u64);
        }
        for truth in &self.entitlements {
            truth.check(self.now(), &self.shards, &self.ledger)?;
        }
        Ok(())
    }

    /// At the end: with nothing else going on, every slot and every unit can be had, from any shard.
    fn use_up(&mut self) -> Result<(), String> {
        self.mishaps = Mishaps { delay_us_max: 50, ..QUIET };
        // What is still on its way arrives.
        let quiet_us = self.mono_us + 3_000_000;
        while self.due.peek().is_some_and(|Reverse((at_us, _))| *at_us < quiet_us) {
            self.step()?;
        }
        self.mono_us = quiet_us;
        for index in 0..self.entitlements.len() {
            let now = self.now();
            let Some(truth) = self.entitlements.get_mut(index) else { break };
            let plain = Terms {
                version: truth.version() + 1,
                limit: Some(self.random.below(150)),
                overage: Overage::Deny,
                calendar: Calendar { unit: Unit::Year, anchor_s: Some(now.unix_s) },
                rate: None,
                concurrency: Some(self.random.between(1, 8) as u32),
            };
            truth.change(now.mono_us, 0, plain);
            let mut refused = 0;
            while refused < 3 * self.shards.len() {
                let shard = self.any_shard();
                let before = self.stats.admitted;
                self.request(index, shard, 1)?;
                self.carry()?;
                while !self.waiting.is_empty() {
                    self.step()?;
                }
                let admitted = self.stats.admitted > before;
                refused = if admitted { 0 } else { refused + 1 };
                let full = self.open >= u64::from(plain.concurrency.unwrap_or(0));
                while (full || !admitted) && self.open > 0 {
                    self.step()?;
                }
            }
            if let Some(truth) = self.entitlements.get(index) {
                truth.all_used(plain.limit.unwrap_or(0))?;
            }
        }
        Ok(())
    }
}

fn any_terms(random: &mut Random, version: u64) -> Terms {
    let unit = random.pick(&[Unit::Second, Unit::Minute, Unit::Day, Unit::Month], Unit::Month);
    let rate = random.one_in(3).then(|| RateTerms {
        requests: random.between(1, 500),
        unit: random.pick(&[Unit::Second, Unit::Minute], Unit::Second),
        burst: random.between(1, 200),
    });
    let overage = match random.below(4) {
        0 => Overage::Allow { cap: None },
        1 => Overage::Allow { cap: Some(random.below(20)) },
        _ => Overage::Deny,
    };
    Terms {
        version,
        limit: (!random.one_in(8)).then(|| random.below(400)),
        overage,
        calendar: Calendar {
            unit,
            anchor_s: random.one_in(3).then(|| 1_800_000_000 + random.below(9_999_999) as i64),
        },
        rate,
        concurrency: random.one_in(3).then(|| random.between(1, 12) as u32),
    }
}

#[cfg(test)]
#[path = "sim_tests.rs"]
mod tests;
