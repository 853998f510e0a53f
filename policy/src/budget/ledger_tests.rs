//! The ledger towards two nodes: limits, recalls, messages that come twice.

use proptest::prelude::*;

use super::super::message::{LeaseRequest, Totals};
use super::super::{Calendar, Overage, Terms, Unit};
use super::*;

const ID: EntitlementId = EntitlementId(7);

fn request(granted: u64, used: u64, returned: u64, need: u64, demand: u64) -> LeaseRequest {
    let calendar = Calendar { unit: Unit::Month, anchor_s: None };
    LeaseRequest {
        id: ID,
        period: Period::first(&calendar, 1_800_000_000),
        terms: Terms {
            version: 1,
            limit: Some(100),
            overage: Overage::Deny,
            calendar,
            rate: None,
            concurrency: None,
        },
        totals: Totals { charged: used, refunded: 0, corrected: 0 },
        returned,
        granted,
        need,
        demand,
        closed: false,
        carried: Default::default(),
        stamp_us: 0,
        share: None,
    }
}

/// Sends one request and lists the replies as (node, granted, elsewhere, recall).
fn send(ledger: &mut Ledger, node: u64, request: LeaseRequest) -> Vec<(u64, u64, u64, bool)> {
    ledger.on_message(node, ShardId(0), &Message::LeaseRequest(Box::new(request)));
    let replies = ledger.drain_outbox().map(|(node, _, message)| match message {
        Message::LeaseReply(reply) => (node, reply.granted, reply.elsewhere, reply.recall),
        other => panic!("{other:?}"),
    });
    replies.collect()
}

#[test]
fn leases_shrink_and_end() {
    let mut ledger = Ledger::new();
    assert_eq!(send(&mut ledger, 1, request(0, 0, 0, 1, 40)), [(1, 25, 0, false)]);
    // The same again: the reply was lost, nothing more is leased.
    assert_eq!(send(&mut ledger, 1, request(0, 0, 0, 1, 40)), [(1, 25, 0, false)]);
    assert_eq!(send(&mut ledger, 2, request(0, 0, 0, 70, 0)), [(2, 70, 0, false)]);
    assert_eq!(send(&mut ledger, 2, request(70, 70, 0, 1, 0)), [(2, 71, 0, false)]);
    let balance = ledger.balance(ID, request(0, 0, 0, 0, 0).period.id).unwrap();
    assert_eq!(balance, Balance { committed: 96, free: Some(4), used: 70 });
}

#[test]
fn units_of_another_node_are_called_in() {
    let mut ledger = Ledger::new();
    send(&mut ledger, 1, request(0, 0, 0, 90, 0));
    let replies = send(&mut ledger, 2, request(0, 0, 0, 15, 0));
    assert_eq!(replies, [(2, 10, 0, false), (1, 90, 0, true)]);
    // Node 1 has used 80 and gives the rest: node 2 gets the 5 it waits for.
    assert_eq!(send(&mut ledger, 1, request(90, 80, 10, 0, 0)), [(2, 15, 80, false)]);
    // An old report changes nothing.
    assert_eq!(send(&mut ledger, 1, request(90, 10, 0, 0, 0)), []);
    let balance = ledger.balance(ID, request(0, 0, 0, 0, 0).period.id).unwrap();
    assert_eq!(balance, Balance { committed: 95, free: Some(5), used: 80 });
}

#[test]
fn units_given_back_long_ago_are_not_given_back_again() {
    let mut ledger = Ledger::new();
    let said_at = |stamp_us, request| LeaseRequest { stamp_us, ..request };
    send(&mut ledger, 1, said_at(1, request(0, 0, 0, 13, 0)));
    // The owner gave them back, forgot the entitlement, and asked anew; the ledger heard the first of that last.
    send(&mut ledger, 1, said_at(3, request(0, 0, 0, 30, 0)));
    assert_eq!(send(&mut ledger, 1, said_at(4, request(30, 18, 0, 0, 1))).len(), 1);
    send(&mut ledger, 1, said_at(2, request(13, 0, 13, 0, 0)));
    let balance = ledger.balance(ID, request(0, 0, 0, 0, 0).period.id).unwrap();
    assert!(balance.committed >= 30 && balance.used == 18, "{balance:?}");
}

#[test]
fn a_lower_limit_leases_no_more() {
    let mut ledger = Ledger::new();
    send(&mut ledger, 1, request(0, 0, 0, 60, 0));
    let mut lower = request(60, 60, 0, 5, 5);
    lower.terms = Terms { version: 2, limit: Some(50), ..lower.terms };
    assert_eq!(send(&mut ledger, 1, lower), [(1, 60, 0, false)]);
    // Terms of an older snapshot do not raise it again.
    assert_eq!(send(&mut ledger, 1, request(60, 60, 0, 5, 5)), [(1, 60, 0, false)]);
}

#[test]
fn memory_is_bounded() {
    let mut ledger = Ledger::new();
    for id in 0..100 {
        let mut early = request(0, 0, 0, 1, 0);
        early.period =
            Period { id: super::super::PeriodId(id), start_s: id as i64, end_s: id as i64 + 1 };
        assert_eq!(send(&mut ledger, 1, early).len(), 1, "{id}");
    }
    let kept = ledger.accounts.values().map(|account| account.books.len());
    assert_eq!(kept.sum::<usize>(), PERIODS_MAX);
    ledger.tick(Now { mono_us: SWEEP_US, unix_s: 1_000_000 });
    assert!(ledger.accounts.is_empty());
}

proptest! {
    #[test]
    fn never_leases_more_than_the_limit(
        messages in proptest::collection::vec((1..4_u64, 0..40_u64, 0..40_u64, any::<bool>()), 1..100),
    ) {
        let mut ledger = Ledger::new();
        let mut nodes = [(0, 0, 0); 4];
        for (node, need, spend, again) in messages {
            let (granted, used, returned): &mut (u64, u64, u64) = &mut nodes[node as usize];
            *used += spend.min(*granted - *returned - *used);
            if spend % 3 == 0 {
                *returned = *granted - *used;
            }
            let message = request(*granted, *used, *returned, need, spend);
            let times = if again { 2 } else { 1 };
            for _ in 0..times {
                for (to, granted, ..) in send(&mut ledger, node, message) {
                    nodes[to as usize].0 = granted;
                }
            }
            let held: u64 = nodes.iter().map(|(granted, _, returned)| granted - returned).sum();
            prop_assert!(held <= 100, "{nodes:?}");
            let balance = ledger.balance(ID, message.period.id).unwrap();
            prop_assert_eq!(balance.committed + balance.free.unwrap(), 100);
        }
    }
}
