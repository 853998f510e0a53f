//! Shares of a rate over time: what runs out.

use super::super::super::message::ShareClaim;
use super::super::super::{Calendar, EntitlementId, Overage, Period, ShardId, Terms};
use super::*;

const ID: EntitlementId = EntitlementId(7);
const START_S: i64 = 1_800_000_000;

fn terms() -> Terms {
    Terms {
        version: 1,
        limit: None,
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Second, anchor_s: None },
        rate: Some(RateTerms { requests: 60, unit: Unit::Minute, burst: 60 }),
        concurrency: None,
    }
}

fn ledger_at(ms: i64) -> LedgerNow {
    LedgerNow { unix_ms: START_S * 1_000 + ms, authority: Authority::Ledger }
}

#[test]
fn what_a_node_may_still_use_does_not_flow_into_the_pool_as_well() {
    let claim = |node: u64, ms: i64, serial: u64, demand: u64| {
        let claim = ShareClaim { serial, demand, ..ShareClaim::default() };
        let terms = terms();
        let stamp_us = ms as u64 * 1_000 + 1;
        let period = Period::first(&terms.calendar, START_S);
        let from = Borrower { node, start: 1, shard: ShardId(0) };
        let request = LeaseRequest {
            id: ID,
            period,
            terms,
            totals: Default::default(),
            returned: 0,
            granted: 0,
            need: 0,
            demand: 0,
            closed: false,
            carried: Default::default(),
            stamp_us,
            share: Some(claim),
        };
        (from, request, ledger_at(ms))
    };
    let (from, request, at) = claim(1, 0, 0, 1_000);
    let mut account = Account::open(&request, at);
    account.take(from, &request, at);
    for (ms, node, demand) in [(1, 2, 0), (2, 1, 1_000), (3, 2, 0), (4, 1, 1_000), (5, 2, 0)] {
        let serial = account.members.iter().find(|member| member.node == node);
        let serial = serial.map_or(0, |member| member.serial);
        let (from, request, at) = claim(node, ms, serial, demand);
        account.take(from, &request, at);
    }
    let [busy, quiet] = account.members[..] else { panic!("{account:?}") };
    assert!(busy.out.requests > busy.out_floor.requests, "{account:?}");
    let had = quiet.tokens + account.pool.level_milli / 1_000;
    // The share of the busy one ran out a moment ago: until then it was its own.
    let (from, request, at) = claim(2, SHARE_VALID_MS + DRIFT_MS + 500, quiet.serial, 0);
    account.take(from, &request, at);
    let [busy, quiet] = account.members[..] else { panic!("{account:?}") };
    assert!(busy.is_over && busy.out == busy.floor, "{account:?}");
    let has = quiet.tokens + account.pool.level_milli / 1_000;
    assert!(has <= had + 1, "{had} and then {has}: {account:?}");
}
