//! A period that was closed and is gone on with, after a wrong guess of which one it is.

use super::super::ShardId;
use super::*;

const PERIOD: Period = Period { id: super::super::PeriodId(60), start_s: 60, end_s: 120 };

fn at(mono_us: u64) -> Now {
    Now { mono_us, unix_s: 61 }
}

fn cover(stamp_us: u64) -> Cover {
    Cover { id: EntitlementId(1), terms: Terms::UNKNOWN, stamp_us, share: None }
}

fn reply(stamp_us: u64, granted: u64) -> LeaseReply {
    LeaseReply {
        id: EntitlementId(1),
        period: PERIOD,
        granted,
        returned: 0,
        elsewhere: 0,
        recall: false,
        coming: false,
        current: PERIOD,
        serial: stamp_us,
        stamp_us,
        lease_us: stamp_us,
        share: None,
    }
}

#[test]
fn what_a_close_gave_back_is_held_no_more() {
    let mut lease = Lease::new(PERIOD, 1, at(0), CarriedUse::default());
    lease.take(&reply(10, 5));
    lease.used.cell(ShardId(0)).charge(2);
    lease.left_with = [5].into();
    assert_eq!(lease.held(), 5);
    let last = lease.close(&cover(20));
    assert_eq!((last.granted, last.totals.charged, last.closed), (2, 2, true));
    lease.reopen(PERIOD);
    assert_eq!((lease.held(), lease.left_with.len()), (2, 0), "nothing of it is lent either");
    // On its way since before the close: its units may be another node's by now.
    lease.take(&reply(19, 7));
    assert_eq!(lease.held(), 2);
    // Or of what was said since, about another period, and came before the close.
    lease.take(&LeaseReply { stamp_us: 25, ..reply(19, 7) });
    assert_eq!(lease.held(), 2);
    let next = lease.tell(&cover(30));
    assert_eq!((next.granted, next.closed), (2, false), "or the ledger would count them again");
    lease.take(&reply(30, 4));
    assert_eq!(lease.held(), 4);
}

#[test]
fn what_is_refunded_after_a_close_is_held_no_more_either() {
    let mut lease = Lease::new(PERIOD, 1, at(0), CarriedUse::default());
    lease.take(&reply(10, 5));
    lease.used.cell(ShardId(0)).charge(3);
    assert_eq!(lease.close(&cover(20)).granted, 3);
    lease.used.cell(ShardId(0)).refund(1);
    let late = lease.report(at(30), &cover(30)).unwrap();
    assert_eq!((late.granted, late.totals.refunded, late.closed), (2, 1, true));
}

#[test]
fn a_period_that_was_left_and_not_closed_keeps_what_it_has() {
    let mut lease = Lease::new(PERIOD, 1, at(0), CarriedUse::default());
    lease.take(&reply(10, 5));
    lease.left_with = [5].into();
    assert_eq!(lease.tell(&cover(20)).granted, 5);
    lease.reopen(PERIOD);
    lease.take(&reply(19, 7));
    assert_eq!((lease.held(), lease.left_with.len()), (7, 1));
}
