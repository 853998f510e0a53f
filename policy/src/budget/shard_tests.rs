//! Requests one after another over several shards, held against the reference to the letter; and single cases.

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
}

impl Node {
    fn new(shards: u16) -> Self {
        let shards =
            (0..shards).map(|shard| ShardBudgets::new(ShardId(shard), shards, Config::default()));
        let now = Now { mono_us: 5_000_000, unix_s: MONDAY_S };
        Self { shards: shards.collect(), ledger: Ledger::new(), now, messages: 0 }
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

fn terms(limit: Option<u64>) -> Terms {
    Terms {
        version: 1,
        limit,
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Month, anchor_s: None },
        rate: None,
        concurrency: None,
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
