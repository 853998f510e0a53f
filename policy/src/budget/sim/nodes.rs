//! Several nodes of several shards and their ledger, run by a seed through everything that may happen to them.
//!
//! In: a seed, and a way through storage and back. Out: how much was done, or the first broken promise.
//! Always holds: the same seed runs the same steps. Delays, losses, duplicates, reordering, partitions, crashes with
//! and without a journal, nodes declared dead, clocks that are wrong, new plans: all come from the seed. The ledger is
//! nothing but rows: each request may find them stored and read back, and either of two that serve them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::{
    Account, Admission, Authority, Borrower, Calendar, Decided, Destination, EntitlementId,
    LedgerNow, Message, Now, Outcome, Overage, Posted, Settle, ShardBudgets, ShardId, Terms,
    Ticket, Unit, WaitId,
};
use super::{Failure, Random, Stats, any_terms};

mod end;
mod node;
mod truth;

use node::Node;
use truth::Truth;

/// Writes an account down and reads it back.
pub type Storage = fn(&Account) -> Account;

/// Runs one seed.
///
/// # Errors
/// The first invariant that does not hold, or decision that is wrong.
pub fn run(seed: u64, storage: Storage) -> Result<Stats, Failure> {
    let mut world = World::new(seed, storage);
    let outcome = world.play();
    outcome.map(|()| world.stats).map_err(|what| Failure {
        seed,
        mono_us: world.mono_us,
        what: format!("{:?} {what}", world.had),
    })
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug)]
struct Mishaps {
    new_terms: bool,
    corrections: bool,
    refunds: bool,
    clock_steps: bool,
    partitions: bool,
    crashes: bool,
    journal_losses: bool,
    deaths: bool,
    unmetered: bool,
    /// One message in so many is lost, or comes twice; 0 for none.
    lossy: u64,
    reordering: bool,
    delay_us_max: u64,
}

const QUIET: Mishaps = Mishaps {
    new_terms: false,
    corrections: false,
    refunds: false,
    clock_steps: false,
    partitions: false,
    crashes: false,
    journal_losses: false,
    deaths: false,
    unmetered: false,
    lossy: 0,
    reordering: false,
    delay_us_max: 1_000,
};

impl Mishaps {
    fn any(random: &mut Random) -> Self {
        Self {
            new_terms: random.one_in(4),
            corrections: random.one_in(4),
            refunds: random.one_in(3),
            clock_steps: random.one_in(3),
            partitions: random.one_in(3),
            crashes: random.one_in(3),
            journal_losses: random.one_in(3),
            deaths: random.one_in(4),
            unmetered: random.one_in(5),
            lossy: random.pick(&[0, 0, 0, 30, 6], 0),
            reordering: random.one_in(3),
            delay_us_max: random.pick(&[100, 3_000, 60_000], 3_000),
        }
    }
}

#[derive(Debug)]
enum Event {
    Arrive,
    /// Between shards of one start of a node.
    Inside {
        node: usize,
        start: u64,
        from: Destination,
        to: ShardId,
        message: Message,
    },
    ToLedger {
        from: Borrower,
        message: Message,
    },
    FromLedger {
        posted: Posted,
        unix_ms: i64,
    },
    Tick {
        node: usize,
        start: u64,
        shard: ShardId,
    },
    Finish {
        node: usize,
        start: u64,
        shard: ShardId,
        ticket: Ticket,
    },
    Mishap,
}

/// A request that waits: entitlement, cost, arrival.
type Waiting = (usize, u64, u64);
/// Where a request waits: node, its start, shard, number.
type Place = (usize, u64, ShardId, WaitId);

#[derive(Debug)]
struct World {
    random: Random,
    mishaps: Mishaps,
    had: Mishaps,
    storage: Storage,
    nodes: Vec<Node>,
    /// The rows.
    accounts: BTreeMap<u128, Account>,
    mono_us: u64,
    /// The ledger's clock less the monotonic one, in milliseconds.
    offset_ms: i64,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    last_event: u64,
    /// The last delivery of each link, for order.
    links: BTreeMap<(usize, u16, bool), u64>,
    /// What nodes said and the ledger did not hear; their links say it again when all is well.
    unheard: Vec<(Borrower, Message)>,
    truths: Vec<Truth>,
    waiting: BTreeMap<Place, Waiting>,
    arrivals: u64,
    open: u64,
    stats: Stats,
}

impl World {
    fn new(seed: u64, storage: Storage) -> Self {
        let mut random = Random(seed ^ 0x6e6f_6465_7321);
        let mishaps = Mishaps::any(&mut random);
        let offset_ms = 1_800_057_600_000 + random.below(100_000_000_000) as i64;
        let mono_us = 1_000_000;
        let count = random.between(1, 2);
        let truths = (0..count).map(|_| {
            let id = (u128::from(random.word()) << 64) | u128::from(random.word());
            Truth::new(EntitlementId(id), any_terms(&mut random, 1), mono_us, mishaps.unmetered)
        });
        let truths = truths.collect();
        let nodes = random.between(1, 4);
        let nodes = (0..nodes).map(|_| Node::new(&mut random, mishaps.clock_steps, offset_ms));
        let nodes = nodes.collect();
        Self {
            mishaps,
            had: mishaps,
            storage,
            nodes,
            accounts: BTreeMap::new(),
            mono_us,
            offset_ms,
            due: BinaryHeap::new(),
            events: BTreeMap::new(),
            last_event: 0,
            links: BTreeMap::new(),
            unheard: Vec::new(),
            truths,
            waiting: BTreeMap::new(),
            arrivals: random.between(20, 300),
            open: 0,
            stats: Stats::default(),
            random,
        }
    }

    fn unix_ms(&self) -> i64 {
        self.offset_ms.saturating_add(i64::try_from(self.mono_us / 1_000).unwrap_or(0))
    }

    fn ledger_now(&self) -> LedgerNow {
        LedgerNow { unix_ms: self.unix_ms(), authority: Authority::Ledger }
    }

    fn node_now(&self, node: usize) -> Now {
        match self.nodes.get(node) {
            Some(node) => node.now(self.mono_us),
            None => Now { mono_us: self.mono_us, unix_s: 0 },
        }
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

    /// The budgets of a shard, if this start of its node still runs.
    fn shard(&mut self, node: usize, start: u64, shard: ShardId) -> Option<&mut ShardBudgets> {
        let node = self.nodes.get_mut(node).filter(|node| node.start == start && node.is_up)?;
        node.shards.get_mut(usize::from(shard.0))
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
            Event::Inside { node, start, from, to, message } => {
                self.stats.messages += 1;
                let now = self.node_now(node);
                if let Some(budgets) = self.shard(node, start, to) {
                    budgets.on_message(now, from, message);
                }
            }
            Event::ToLedger { from, message } => self.serve(from, &message)?,
            Event::FromLedger { posted, unix_ms } => self.hear(&posted, unix_ms),
            Event::Tick { node, start, shard } => {
                let now = self.node_now(node);
                if let Some(node) = self.nodes.get_mut(node)
                    && node.start == start
                    && let Some(ticking) = node.ticking.get_mut(usize::from(shard.0))
                {
                    *ticking = None;
                }
                if let Some(budgets) = self.shard(node, start, shard) {
                    budgets.tick(now);
                }
            }
            Event::Finish { node, start, shard, ticket } => {
                self.finish(node, start, shard, ticket)?;
            }
            Event::Mishap => self.mishap(),
        }
        self.carry()?;
        self.check()
    }

    /// The ledger takes a request: rows read, changed, written.
    fn serve(&mut self, from: Borrower, message: &Message) -> Result<(), String> {
        let Message::LeaseRequest(request) = message else { return Ok(()) };
        self.stats.messages += 1;
        let now = self.ledger_now();
        let rows = self.accounts.remove(&request.id.0);
        let mut account = match rows {
            Some(account) if self.random.one_in(8) => (self.storage)(&account),
            Some(account) => account,
            // Nothing is known of what a node is asked about in vain.
            None if request.terms.version == 0 => return Ok(()),
            None => Account::open(request, now),
        };
        let before = account.current.id;
        let posted = account.take(from, request, now);
        if account.current.id < before {
            return Err("the period went back".into());
        }
        self.accounts.insert(request.id.0, account);
        self.post(posted);
        Ok(())
    }

    fn post(&mut self, posted: Vec<Posted>) {
        let unix_ms = self.unix_ms();
        for posted in posted {
            let node = usize::try_from(posted.node).unwrap_or(0);
            for in_us in self.ways(node, posted.shard, true) {
                self.at(in_us, Event::FromLedger { posted, unix_ms });
            }
        }
    }

    fn hear(&mut self, posted: &Posted, unix_ms: i64) {
        self.stats.messages += 1;
        let at = usize::try_from(posted.node).unwrap_or(0);
        let mono_us = self.node_now(at).mono_us;
        let Some(node) = self.nodes.get_mut(at).filter(|node| node.is_up) else { return };
        let start = node.start;
        let Some(reply) = posted.for_start(start) else { return };
        node.clock.observe(reply.stamp_us.min(mono_us), mono_us, unix_ms);
        let now = self.node_now(at);
        // The owner shard of this start may be another: the number of shards may have changed.
        let shards = self.nodes.get(at).map_or(1, |node| node.shards.len() as u64);
        let owner = ShardId(((reply.id.0 as u64) % shards.max(1)) as u16);
        if let Some(budgets) = self.shard(at, start, owner) {
            budgets.on_message(now, Destination::Ledger, Message::LeaseReply(Box::new(reply)));
        }
    }

    /// After how long each copy of a message between a node and the ledger arrives.
    fn ways(&mut self, node: usize, shard: ShardId, is_down: bool) -> Vec<u64> {
        let cut_until_us = self.nodes.get(node).map_or(u64::MAX, |node| node.cut_until_us);
        let is_cut = cut_until_us > self.mono_us;
        let lossy = self.mishaps.lossy;
        if (is_cut && is_down) || (lossy > 0 && self.random.one_in(lossy)) {
            return Vec::new();
        }
        let copies = if lossy > 0 && self.random.one_in(lossy) { 2 } else { 1 };
        let mut ways = Vec::new();
        for _ in 0..copies {
            // What a node has said and has no answer to is said again when its link is back.
            let mut at_us = self.mono_us.max(cut_until_us);
            at_us += self.random.below(self.mishaps.delay_us_max);
            if self.mishaps.lossy > 0 && self.random.one_in(40) {
                at_us += self.random.below(5_000_000);
            }
            if !self.mishaps.reordering {
                let last_us = self.links.entry((node, shard.0, is_down)).or_insert(0);
                at_us = at_us.max(*last_us);
                *last_us = at_us;
            }
            ways.push(at_us - self.mono_us);
        }
        ways
    }

    /// A request; now and then a burst, a pause, or a long one to the end of a period.
    fn arrive(&mut self) -> Result<(), String> {
        let index = self.random.below(self.truths.len() as u64) as usize;
        let cost = if self.random.one_in(4) { self.random.below(6) } else { 1 };
        let node = self.random.below(self.nodes.len() as u64) as usize;
        self.request(index, node, cost)?;
        self.arrivals = self.arrivals.saturating_sub(1);
        if self.arrivals > 0 {
            let pause_us = match self.random.below(40) {
                0 => self.random.below(3_000_000),
                1 if self.random.one_in(6) => self.random.below(90_000_000),
                2..8 => self.random.below(50_000),
                _ => self.random.below(300),
            };
            self.at(pause_us, Event::Arrive);
        }
        Ok(())
    }

    fn request(&mut self, index: usize, node: usize, cost: u64) -> Result<(), String> {
        let now = self.node_now(node);
        let Some(truth) = self.truths.get(index) else { return Ok(()) };
        let (id, terms) = (truth.id, truth.terms_at(node, self.mono_us));
        let Some(known) = self.nodes.get(node).filter(|node| node.is_up) else { return Ok(()) };
        let start = known.start;
        let shard = ShardId(self.random.below(known.shards.len() as u64) as u16);
        let of = (index, cost, self.mono_us);
        match self.shard(node, start, shard).map(|budgets| budgets.admit(now, id, &terms, cost)) {
            Some(Admission::Decided(decided)) => self.conclude((node, start, shard), of, decided),
            Some(Admission::Pending(wait)) => {
                self.waiting.insert((node, start, shard, wait), of);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A request is decided: hold it against the truth, and let it run for a while.
    fn conclude(
        &mut self,
        (node, start, shard): (usize, u64, ShardId),
        (index, cost, since_us): Waiting,
        decided: Decided,
    ) -> Result<(), String> {
        self.stats.decided += 1;
        let now = self.node_now(node);
        let Some(truth) = self.truths.get_mut(index) else { return Ok(()) };
        let mut admitted = None;
        match decided {
            Decided::Admitted(here) => {
                truth.admitted(self.mono_us, cost, &here)?;
                self.stats.admitted += 1;
                admitted = Some(here);
            }
            Decided::Refused(refusal) => truth.refused(since_us, cost, &refusal)?,
            Decided::Unknown { .. } => {
                self.stats.unknown += 1;
                let (id, terms) = (truth.id, truth.terms_at(node, self.mono_us));
                if self.mishaps.unmetered {
                    let budgets = self.shard(node, start, shard);
                    admitted = budgets.and_then(|here| here.admit_unmetered(now, id, &terms, cost));
                    if admitted.is_none()
                        && let Some(truth) = self.truths.get_mut(index)
                    {
                        truth.unplaced += cost;
                    }
                }
            }
        }
        if let Some(admitted) = admitted {
            self.open += 1;
            let ticket = admitted.ticket;
            if let Some(truth) = self.truths.get_mut(index) {
                truth.charged(node, &ticket, admitted.figures.period);
            }
            let slow = self.random.one_in(10);
            let in_us = self.random.below(if slow { 2_000_000 } else { 5_000 });
            self.at(in_us, Event::Finish { node, start, shard, ticket });
        }
        Ok(())
    }

    fn finish(
        &mut self,
        node: usize,
        start: u64,
        shard: ShardId,
        ticket: Ticket,
    ) -> Result<(), String> {
        let now = self.node_now(node);
        let how = match self.random.below(6) {
            0 if self.mishaps.refunds => Settle::Refund,
            1 if self.mishaps.corrections => Settle::Correct(self.random.below(12)),
            _ => Settle::Keep,
        };
        self.open -= 1;
        let (id, period, before, slot) = (ticket.id, ticket.period, ticket.charge, ticket.slot);
        let Some(budgets) = self.shard(node, start, shard) else {
            // It went down with its node: the charge stays.
            return Ok(());
        };
        let late = budgets.counts().settled_late;
        let settled = budgets.settle(now, ticket, how);
        let is_known = budgets.counts().settled_late == late;
        let Some(truth) = self.truths.iter_mut().find(|truth| truth.id == id) else {
            return Err("a ticket of nobody".into());
        };
        let after = if is_known { settled.charge } else { before };
        truth.settled(self.mono_us, node, period, (before, after), slot);
        Ok(())
    }

    /// Puts on their way the messages that came up, and takes the outcomes of waits.
    fn carry(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at).filter(|node| node.is_up) else { continue };
            let start = node.start;
            let mut mail = Vec::new();
            for (index, budgets) in (0..).zip(&mut node.shards) {
                let mine = budgets.drain_outbox();
                mail.extend(mine.map(|(to, message)| (ShardId(index), to, message)));
            }
            for (shard, to, message) in mail {
                self.send(at, start, shard, to, message);
            }
            self.take_outcomes(at, start)?;
        }
        Ok(())
    }

    fn send(&mut self, node: usize, start: u64, shard: ShardId, to: Destination, message: Message) {
        match to {
            Destination::Shard(to) => {
                // In order, as the queues between shards are.
                let from = Destination::Shard(shard);
                self.at(20, Event::Inside { node, start, from, to, message });
            }
            Destination::Ledger => {
                let from = Borrower { node: node as u64, start, shard };
                let ways = self.ways(node, shard, false);
                if ways.is_empty() {
                    self.unheard.push((from, message));
                    return;
                }
                for in_us in ways {
                    self.at(in_us, Event::ToLedger { from, message: message.clone() });
                }
            }
        }
    }

    fn take_outcomes(&mut self, node: usize, start: u64) -> Result<(), String> {
        let shards = self.nodes.get(node).map_or(0, |node| node.shards.len());
        for index in 0..shards {
            let shard = ShardId(index as u16);
            while let Some((wait, outcome)) =
                self.shard(node, start, shard).and_then(ShardBudgets::poll_resolved)
            {
                if let Some(of) = self.waiting.remove(&(node, start, shard, wait))
                    && let Outcome::Decided(decided) = outcome
                {
                    self.conclude((node, start, shard), of, decided)?;
                }
            }
            let next = self.shard(node, start, shard).and_then(|budgets| budgets.next_tick());
            let Some(known) = self.nodes.get_mut(node) else { continue };
            let base_us = known.base_us;
            if let (Some(next_us), Some(ticking)) = (next, known.ticking.get_mut(index))
                && ticking.is_none_or(|at_us| next_us < at_us)
            {
                *ticking = Some(next_us);
                self.at_time(next_us.saturating_sub(base_us), Event::Tick { node, start, shard });
            }
        }
        Ok(())
    }

    fn mishap(&mut self) {
        if self.arrivals > 0 {
            let in_us = self.random.between(1_000, 1_500_000);
            self.at(in_us, Event::Mishap);
        }
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.mishaps.partitions && self.random.one_in(3) {
            let until_us = self.mono_us + self.random.below(15_000_000);
            if let Some(node) = self.nodes.get_mut(at) {
                node.cut_until_us = until_us;
            }
        }
        if self.mishaps.crashes && self.random.one_in(4) {
            match self.nodes.get(at).is_some_and(|node| node.is_up) {
                true => self.crash(at),
                false => self.restart(at),
            }
        }
        if self.mishaps.clock_steps && self.random.one_in(4) {
            let step_s = self.random.below(600) as i64 - 300;
            if let Some(node) = self.nodes.get_mut(at) {
                node.wall_offset_ms += step_s * 1_000;
            }
        }
        if self.mishaps.deaths && self.random.one_in(6) {
            self.declare_dead(at);
        }
        if self.mishaps.new_terms && self.random.one_in(4) {
            let index = self.random.below(self.truths.len() as u64) as usize;
            if let Some(truth) = self.truths.get_mut(index) {
                let version = truth.newest().version + 1;
                let terms = match self.random.one_in(2) {
                    true => Terms { version, ..truth.newest() },
                    false => any_terms(&mut self.random, version),
                };
                // Each node has it some time within three seconds.
                truth.change(self.mono_us, 3_000_000, terms);
            }
        }
    }

    fn crash(&mut self, at: usize) {
        let loses = self.mishaps.journal_losses && self.random.one_in(2);
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.is_up = false;
        self.waiting.retain(|(node, ..), _| *node != at);
        for truth in &mut self.truths {
            truth.node_gone(self.mono_us, at, loses);
        }
        if loses {
            node.journal += 1;
        }
    }

    fn restart(&mut self, at: usize) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        node.restart(&mut self.random, &self.truths, at);
    }

    fn declare_dead(&mut self, at: usize) {
        let is_up = self.nodes.get(at).is_some_and(|node| node.is_up);
        let now = self.ledger_now();
        let mut mail = Vec::new();
        for account in self.accounts.values_mut() {
            mail.extend(account.declare_dead(at as u64, now));
        }
        for truth in &mut self.truths {
            truth.has_deaths = true;
            truth.is_split_loosely |= is_up;
        }
        self.post(mail);
    }
}
