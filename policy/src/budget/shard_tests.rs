//! Requests one after another over several shards, held against the reference to the letter; and single cases.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use proptest::prelude::*;

use super::super::reference::{Expected, Reference};
use super::super::*;
use super::*;

const ID: EntitlementId = EntitlementId(0x1234_5678_9abc_def0_1111_2222_3333_4444);
const MONDAY_S: i64 = 1_800_057_600;

/// A node whose messages all arrive before the next request.
struct Node {
    shards: Vec<ShardBudgets>,
    ledger: Ledger,
    now: Now,
    messages: usize,
    /// The ledger that it shares with other nodes, instead of its own.
    shared: Option<Account>,
    is_shared: bool,
    /// Nothing reaches the ledger.
    is_away: bool,
}

impl Node {
    fn new(shards: u16) -> Self {
        let shards =
            (0..shards).map(|shard| ShardBudgets::new(ShardId(shard), shards, Config::default()));
        let now = Now { mono_us: 5_000_000, unix_s: MONDAY_S };
        Self {
            shards: shards.collect(),
            ledger: Ledger::new(),
            now,
            messages: 0,
            shared: None,
            is_shared: false,
            is_away: false,
        }
    }

    /// A node that goes on from what was used before.
    fn after(shards: u16, past: Past) -> Self {
        let mut carried = Carried::default();
        carried.add(ID, past);
        let carried = Arc::new(carried);
        let mut node = Self::new(shards);
        let shards = node.shards.into_iter();
        node.shards = shards.map(|shard| shard.carrying(Arc::clone(&carried))).collect();
        node
    }

    fn pump(&mut self) {
        loop {
            let mut mail = Vec::new();
            for (index, shard) in self.shards.iter_mut().enumerate() {
                mail.extend(shard.drain_outbox().map(|(to, message)| (index, to, message)));
            }
            if mail.is_empty() {
                return;
            }
            self.messages += mail.len();
            for (from, to, message) in mail {
                let from = ShardId(from as u16);
                match to {
                    Destination::Shard(to) => {
                        let from = Destination::Shard(from);
                        self.shards[usize::from(to.0)].on_message(self.now, from, message);
                    }
                    Destination::Ledger if self.is_away => {}
                    Destination::Ledger if self.is_shared => self.ask_shared(&message),
                    Destination::Ledger => self.ledger.on_message(1, from, &message),
                }
            }
            let replies: Vec<_> = self.ledger.drain_outbox().collect();
            for (_, to, message) in replies {
                let shard = &mut self.shards[usize::from(to.0)];
                shard.on_message(self.now, Destination::Ledger, message);
            }
        }
    }

    fn ask_shared(&mut self, message: &Message) {
        let Message::LeaseRequest(request) = message else { return };
        let now = LedgerNow { unix_ms: self.now.unix_s * 1_000, authority: Authority::Ledger };
        let account = self.shared.get_or_insert_with(|| Account::open(request, now));
        let from = ledger::Borrower { node: 1, start: 1, shard: ShardId(0) };
        let shards = self.shards.len() as u16;
        for posted in account.take(from, request, now) {
            let owner = owner_of(posted.reply.id, shards);
            let reply = Message::LeaseReply(Box::new(posted.reply));
            self.shards[usize::from(owner.0)].on_message(self.now, Destination::Ledger, reply);
        }
    }

    fn pass(&mut self, us: u64) {
        let before = self.now.mono_us;
        self.now.mono_us += us;
        self.now.unix_s += (self.now.mono_us / 1_000_000) as i64 - (before / 1_000_000) as i64;
        for shard in &mut self.shards {
            shard.tick(self.now);
        }
        self.pump();
    }

    fn admit(&mut self, shard: usize, terms: &Terms, cost: u64) -> Decided {
        let admission = self.shards[shard].admit(self.now, ID, terms, cost);
        self.pump();
        match admission {
            Admission::Decided(decided) => decided,
            Admission::Pending(wait) => match self.shards[shard].poll_resolved() {
                Some((resolved, Outcome::Decided(decided))) if resolved == wait => decided,
                other => panic!("not resolved: {other:?}"),
            },
        }
    }

    fn usage(&mut self, shard: usize, terms: &Terms) -> Figures {
        let usage = self.shards[shard].usage(self.now, ID, terms);
        self.pump();
        match (usage, self.shards[shard].poll_resolved()) {
            (Usage::Ready(figures), None)
            | (Usage::Pending(_), Some((_, Outcome::Usage(figures)))) => figures,
            other => panic!("no figures: {other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Admit { shard: usize, cost: u64 },
    Settle { which: usize, cost: Option<u64> },
    Pass(u64),
    Usage { shard: usize },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..4_usize, 0..4_u64).prop_map(|(shard, cost)| Act::Admit { shard, cost }),
        3 => (any::<usize>(), proptest::option::of(0..7_u64))
            .prop_map(|(which, cost)| Act::Settle { which, cost }),
        3 => prop_oneof![1..2_000_u64, 1..300_000_u64, 1..40_000_000_u64].prop_map(Act::Pass),
        1 => (0..4_usize).prop_map(|shard| Act::Usage { shard }),
    ]
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let overage = prop_oneof![
        Just(Overage::Deny),
        Just(Overage::Allow { cap: None }),
        (0..9_u64).prop_map(|cap| Overage::Allow { cap: Some(cap) })
    ];
    let unit = prop_oneof![Just(Unit::Second), Just(Unit::Minute), Just(Unit::Month)];
    let rate = (1..50_u64, unit.clone(), 1..30_u64).prop_map(|(requests, unit, burst)| RateTerms {
        requests,
        unit,
        burst,
    });
    let limit = proptest::option::weighted(0.9, prop_oneof![0..40_u64, 0..2_000_u64]);
    let some = proptest::option::of::<_>;
    (limit, overage, unit, some(rate), proptest::option::of(1..5_u32)).prop_map(
        |(limit, overage, unit, rate, concurrency)| Terms {
            version: 1,
            limit,
            overage,
            calendar: Calendar { unit, anchor_s: None },
            rate,
            concurrency,
        },
    )
}

fn check_figures(figures: &Figures, reference: &mut Reference, now: Now, terms: &Terms) {
    let period = reference.period(now);
    assert_eq!(figures.period, period);
    assert_eq!(figures.used, reference.used(period.id), "use");
    assert_eq!(figures.remaining, terms.left(figures.used), "remaining");
    assert_eq!(figures.rate.map(|rate| rate.holds), reference.holds(now), "bucket");
}

proptest! {

    #[test]
    fn one_after_another_equals_the_reference(
        shards in 1..5_u16,
        terms in any_terms(),
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let mut node = Node::new(shards);
        let mut reference = Reference::new(node.now, &terms);
        let mut open: Vec<(usize, Ticket)> = Vec::new();
        for act in acts {
            match act {
                Act::Admit { shard, cost } => {
                    let shard = shard % usize::from(shards);
                    let expected = reference.admit(node.now, cost);
                    let (seen, figures) = match node.admit(shard, &terms, cost) {
                        Decided::Admitted(admitted) => {
                            open.push((shard, admitted.ticket));
                            let reason = match admitted.reason {
                                Reason::Ok => Expected::Ok,
                                Reason::Overage => Expected::Overage,
                            };
                            (reason, admitted.figures)
                        }
                        Decided::Refused(refusal) => {
                            (Expected::Refused(refusal.by), refusal.figures)
                        }
                        other => panic!("{other:?}"),
                    };
                    prop_assert_eq!(seen, expected);
                    check_figures(&figures, &mut reference, node.now, &terms);
                }
                Act::Settle { which, cost } if !open.is_empty() => {
                    let (shard, ticket) = open.swap_remove(which % open.len());
                    let (period, charge) = (ticket.period(), ticket.charge());
                    let how = cost.map_or(Settle::Keep, |cost| {
                        if cost == 0 { Settle::Refund } else { Settle::Correct(cost) }
                    });
                    let settled = node.shards[shard].settle(node.now, ticket, how);
                    node.pump();
                    prop_assert_eq!(settled.charge, cost.unwrap_or(charge));
                    reference.settle(period, charge, cost.unwrap_or(charge));
                }
                Act::Settle { .. } => {}
                Act::Pass(us) => node.pass(us),
                Act::Usage { shard } => {
                    let figures = node.usage(shard % usize::from(shards), &terms);
                    check_figures(&figures, &mut reference, node.now, &terms);
                }
            }
        }
    }
}

fn quota(limit: u64) -> Terms {
    Terms {
        version: 1,
        limit: Some(limit),
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Month, anchor_s: None },
        rate: None,
        concurrency: None,
    }
}

#[test]
fn a_saturated_rate_is_used_to_the_full() {
    for (requests, burst) in [(100, 100), (100, 1), (7, 3), (5_000, 5_000), (20_000, 100)] {
        let rate = RateTerms { requests, unit: Unit::Second, burst };
        let terms = Terms { limit: None, rate: Some(rate), ..quota(0) };
        let mut node = Node::new(2);
        let (mut admitted, mut step) = (0_u64, 0_u64);
        let began_us = node.now.mono_us;
        // Both shards try far more often than the rate allows; messages take one step to arrive.
        while node.now.mono_us < began_us + 10_000_000 {
            node.pass(20 + step % 7);
            for shard in [step % 2, 1 - step % 2] {
                if let Decided::Admitted(one) = node.admit(shard as usize, &terms, 1) {
                    admitted += 1;
                    node.shards[shard as usize].settle(node.now, one.ticket, Settle::Keep);
                }
            }
            step += 1;
        }
        let most = burst + requests * 10;
        assert!(admitted <= most + 1, "{rate:?}: {admitted} of {most}");
        // The last request of the ten seconds may be due at their very end.
        assert!((admitted + 1) * 100 >= most * 99, "{rate:?}: {admitted} of {most}");
    }
}

#[test]
fn messages_are_few_where_units_are_many() {
    let rate = RateTerms { requests: 1_000_000, unit: Unit::Second, burst: 1_000_000 };
    let terms = Terms { rate: Some(rate), concurrency: Some(50), ..quota(1_000_000_000) };
    let mut node = Node::new(2);
    let requests = 100_000;
    for request in 0..requests {
        node.pass(15);
        let Decided::Admitted(one) = node.admit(request % 2, &terms, 1) else { panic!("refused") };
        node.shards[request % 2].settle(node.now, one.ticket, Settle::Keep);
    }
    assert!(node.messages < requests / 20, "{} messages", node.messages);
}

#[test]
fn a_plan_change_keeps_use_and_period() {
    let mut node = Node::new(3);
    let old = quota(100);
    for request in 0..60 {
        assert!(matches!(node.admit(request % 3, &old, 1), Decided::Admitted(_)));
    }
    let period = node.usage(0, &old).period;
    let calendar = Calendar { unit: Unit::Day, anchor_s: None };
    for (version, limit, left) in [(2, 61, 1), (3, 10, 0), (4, 70, 9), (5, 1_000, 930)] {
        let new = Terms { version, limit: Some(limit), calendar, ..old };
        let shard = version as usize % 3;
        assert_eq!(node.usage(shard, &new).remaining, Some(left), "limit {limit}");
        assert_eq!(node.usage(shard, &new).period.id, period.id);
        for _ in 0..left {
            assert!(matches!(node.admit(shard, &new, 1), Decided::Admitted(_)), "limit {limit}");
        }
        assert!(matches!(node.admit(shard, &new, 1), Decided::Refused(_)), "limit {limit}");
    }
}

#[test]
fn use_outlives_a_long_rest_and_the_period_does_not() {
    let mut node = Node::new(2);
    let terms = quota(5);
    for request in 0..3 {
        let Decided::Admitted(one) = node.admit(request % 2, &terms, 1) else { panic!("refused") };
        node.shards[request % 2].settle(node.now, one.ticket, Settle::Keep);
    }
    for _ in 0..40 {
        node.pass(3_600_000_000);
    }
    assert_eq!(node.shards[0].counts().entries, 0, "idle entries of a shard are forgotten");
    assert_eq!(node.usage(1, &terms).used, 3);
    for _ in 0..60 {
        node.pass(24 * 3_600_000_000);
    }
    let owned: usize = node.shards.iter().map(|shard| shard.counts().owned).sum();
    assert_eq!(owned, 0, "what a past period used is forgotten");
    assert_eq!(node.usage(0, &terms).used, 0);
}

#[test]
fn refunds_go_to_their_own_period() {
    let mut node = Node::new(2);
    let calendar = Calendar { unit: Unit::Second, anchor_s: None };
    let terms = Terms { calendar, ..quota(2) };
    let mut tickets = Vec::new();
    for second in 0..6 {
        for shard in 0..2 {
            let Decided::Admitted(one) = node.admit(shard, &terms, 1) else { panic!("{second}") };
            tickets.push((shard, one.ticket));
        }
        assert!(matches!(node.admit(0, &terms, 1), Decided::Refused(_)), "{second}");
        node.pass(1_000_000);
    }
    assert!(matches!(node.admit(0, &terms, 1), Decided::Admitted(_)));
    for (shard, ticket) in tickets {
        let settled = node.shards[shard].settle(node.now, ticket, Settle::Refund);
        assert_eq!(settled.charge, 0);
    }
    node.pump();
    assert_eq!(node.usage(1, &terms).used, 1, "old refunds do not touch the new period");
    assert_eq!(node.shards.iter().map(|shard| shard.counts().settled_late).sum::<u64>(), 0);
}

#[test]
fn waiting_is_bounded_and_cancelled_waits_leave_nothing() {
    let config = Config { waiting_max: 4, wait_us_max: 1_000, shared: false };
    let now = Now { mono_us: 1, unix_s: MONDAY_S };
    // Shard 1 owns nothing of this id, and nobody carries its messages.
    let mut shard = ShardBudgets::new(ShardId(1), 2, config);
    let terms = Terms { concurrency: Some(1), ..quota(10) };
    let mut waits = Vec::new();
    for _ in 0..4 {
        let Admission::Pending(wait) = shard.admit(now, ID, &terms, 1) else { panic!("decided") };
        waits.push(wait);
    }
    let fifth = shard.admit(now, ID, &terms, 1);
    assert!(matches!(fifth, Admission::Decided(Decided::Unknown { .. })));
    shard.cancel(now, waits[0]);
    assert_eq!(shard.counts().waiting, 3);
    let later = Now { mono_us: 2_000, ..now };
    shard.tick(later);
    let ended: Vec<_> =
        std::iter::from_fn(|| shard.poll_resolved()).map(|(wait, _)| wait).collect();
    assert_eq!(ended, waits[1..]);
    assert_eq!(shard.counts(), Counts { entries: 1, unknown: 4, ..Counts::default() });
}

#[test]
fn loans_and_recalls_are_counted() {
    let mut node = Node::new(2);
    let terms = quota(1_000);
    let owner = (ID.0 as u64 % 2) as usize;
    let borrower = 1 - owner;
    for _ in 0..20 {
        let Decided::Admitted(one) = node.admit(borrower, &terms, 1) else { panic!("refused") };
        node.shards[borrower].settle(node.now, one.ticket, Settle::Keep);
        node.pass(1_000);
    }
    let counts = node.shards[borrower].counts();
    assert!(counts.loans > 0 && counts.loaned_units > 0, "{counts:?}");
    // More than is free while the other shard holds a loan: it is called back.
    let left = 1_000 - node.usage(owner, &terms).used;
    assert!(matches!(node.admit(owner, &terms, left), Decided::Admitted(_)));
    assert!(node.shards[owner].counts().recalls > 0);
    assert_eq!(node.shards[borrower].counts().recalls, 0);
    node.pass(2_000_000);
    assert_eq!(node.shards.iter().map(|shard| shard.counts().loaned_units).sum::<u64>(), 0);
}

type Letter = (Destination, Message);

const SHARDS: u16 = 3;
const QUOTAS: u64 = 40;
const LIMIT: u64 = 37;

/// What the threads of a node share besides their mail.
struct Shared {
    clock_us: AtomicU64,
    finished: AtomicU64,
    admitted: Vec<AtomicU64>,
    mail: Vec<Sender<Letter>>,
}

impl Shared {
    fn now(&self) -> Now {
        Now { mono_us: self.clock_us.fetch_add(1, Ordering::Relaxed), unix_s: MONDAY_S }
    }

    fn all_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire) == u64::from(SHARDS)
    }

    fn run_ledger(&self, inbox: &Receiver<Letter>) {
        let mut ledger = Ledger::new();
        while !self.all_finished() {
            while let Ok((Destination::Shard(from), message)) = inbox.try_recv() {
                ledger.on_message(1, from, &message);
            }
            for (_, shard, message) in ledger.drain_outbox() {
                self.mail[usize::from(shard.0)].send((Destination::Ledger, message)).ok();
            }
            std::thread::yield_now();
        }
    }

    fn run_shard(&self, index: u16, inbox: &Receiver<Letter>) {
        let config = Config { wait_us_max: u64::MAX / 2, ..Config::default() };
        let mut budgets = ShardBudgets::new(ShardId(index), SHARDS, config);
        let (mut sent, mut refused, mut waiting) = (0, 0, HashMap::new());
        let mut done = false;
        while !self.all_finished() {
            let mut ended = Vec::new();
            if sent < QUOTAS * LIMIT && waiting.len() < 30 {
                let quota_index = (sent * 31 + u64::from(index) * 11) % QUOTAS;
                let id = EntitlementId(u128::from(quota_index) << 64 | u128::from(quota_index * 7));
                sent += 1;
                match budgets.admit(self.now(), id, &quota(LIMIT), 1) {
                    Admission::Decided(decided) => ended.push((quota_index, decided)),
                    Admission::Pending(wait) => drop(waiting.insert(wait, quota_index)),
                }
            }
            while let Ok((from, message)) = inbox.try_recv() {
                budgets.on_message(self.now(), from, message);
            }
            budgets.tick(self.now());
            while let Some((wait, Outcome::Decided(decided))) = budgets.poll_resolved() {
                ended.push((waiting.remove(&wait).unwrap(), decided));
            }
            for (quota_index, decided) in ended {
                match decided {
                    Decided::Admitted(one) => {
                        self.admitted[quota_index as usize].fetch_add(1, Ordering::Relaxed);
                        budgets.settle(self.now(), one.ticket, Settle::Keep);
                    }
                    Decided::Refused(_) => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
            for (to, message) in budgets.drain_outbox() {
                let to = match to {
                    Destination::Shard(to) => usize::from(to.0),
                    Destination::Ledger => usize::from(SHARDS),
                };
                self.mail[to].send((Destination::Shard(ShardId(index)), message)).ok();
            }
            if sent == QUOTAS * LIMIT && waiting.is_empty() && !done {
                done = true;
                self.finished.fetch_add(1, Ordering::Release);
            }
            std::thread::yield_now();
        }
        assert!(refused > 0);
    }
}

/// Real threads, real races: what simulated steps cannot show.
#[test]
fn threads_admit_exactly_the_quota() {
    let (mail, inboxes): (Vec<_>, Vec<_>) = (0..=SHARDS).map(|_| channel()).unzip();
    let shared = Shared {
        clock_us: AtomicU64::new(1_000_000),
        finished: AtomicU64::new(0),
        admitted: (0..QUOTAS).map(|_| AtomicU64::new(0)).collect(),
        mail,
    };
    std::thread::scope(|scope| {
        let shared = &shared;
        for (index, inbox) in (0..).zip(inboxes) {
            scope.spawn(move || match index {
                SHARDS => shared.run_ledger(&inbox),
                _ => shared.run_shard(index, &inbox),
            });
        }
    });
    for admitted in &shared.admitted {
        assert_eq!(admitted.load(Ordering::Relaxed), LIMIT);
    }
}

#[test]
fn what_was_used_before_a_start_counts() {
    let terms = quota(10);
    let period = Period::first(&terms.calendar, MONDAY_S);
    for shards in 1..4 {
        let mut node = Node::after(shards, Past { period, used: 7 });
        let figures = node.usage(0, &terms);
        assert_eq!((figures.used, figures.remaining, figures.period), (7, Some(3), period));
        let last = usize::from(shards) - 1;
        for _ in 0..3 {
            assert!(matches!(node.admit(last, &terms, 1), Decided::Admitted(_)));
        }
        assert!(matches!(node.admit(0, &terms, 1), Decided::Refused(_)));
        let leased = node.ledger.leased(1, ID, period.id).unwrap();
        assert_eq!(leased.granted - leased.returned, 10);
    }
    // Without a limit, and past the limit where that is allowed, use is told all the same.
    for (limit, overage, expected) in [
        (None, Overage::Deny, Reason::Ok),
        (Some(8), Overage::Allow { cap: None }, Reason::Overage),
    ] {
        let terms = Terms { limit, overage, ..terms };
        let mut node = Node::after(2, Past { period, used: 8 });
        let Decided::Admitted(admitted) = node.admit(1, &terms, 1) else { panic!("not admitted") };
        assert_eq!((admitted.reason, admitted.figures.used), (expected, 9));
    }
}

/// What is leased ahead is there when the period begins, however long ago it was leased and whether or not a ledger is there.
#[test]
fn a_period_begins_without_a_ledger() {
    let calendar = Calendar { unit: Unit::Hour, anchor_s: None };
    let terms = Terms { calendar, ..quota(100_000) };
    for rest_ms in [0, 300, 700, 900] {
        let mut node = Node::new(2);
        let shared = Config { shared: true, ..Config::default() };
        node.shards = (0..2).map(|shard| ShardBudgets::new(ShardId(shard), 2, shared)).collect();
        node.is_shared = true;
        // A minute before the hour's end.
        node.now.unix_s += 3_540;
        node.pass(rest_ms * 1_000);
        for turn in 0..900 {
            node.is_away = turn > 50;
            let decided = node.admit(turn % 2, &terms, 1);
            assert!(
                matches!(decided, Decided::Admitted(_)),
                "turn {turn}, {rest_ms} ms: {decided:?}"
            );
            node.pass(100_000);
        }
        let figures = node.usage(0, &terms);
        assert!(figures.used < 400, "no period began: {figures:?} at {:?}", node.now);
    }
}

#[test]
fn a_period_that_is_over_carries_its_name_only() {
    let terms = quota(10);
    let now = Period::first(&terms.calendar, MONDAY_S);
    let over = Period { id: PeriodId(now.id.0 + 50), start_s: now.start_s - 9, end_s: now.start_s };
    let mut node = Node::after(1, Past { period: over, used: 10 });
    let figures = node.usage(0, &terms);
    assert_eq!((figures.used, figures.period.id), (0, PeriodId(over.id.0 + 1)));
    // A clock that went back does not begin an earlier period anew.
    let ahead = Period { id: PeriodId(now.id.0 + 9), start_s: now.end_s, end_s: now.end_s + 9 };
    let mut node = Node::after(1, Past { period: ahead, used: 10 });
    assert!(matches!(node.admit(0, &terms, 1), Decided::Refused(_)));
}
