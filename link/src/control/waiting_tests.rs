use policy::budget::message::Totals;
use policy::budget::{Calendar, CarriedUse, EntitlementId, Overage, Period, PeriodId, Terms, Unit};

use super::*;

pub(crate) fn request(id: u128, charged: u64) -> LeaseRequest {
    LeaseRequest {
        id: EntitlementId(id),
        period: Period { id: PeriodId(1), start_s: 0, end_s: 60 },
        terms: Terms {
            version: 1,
            limit: Some(100),
            overage: Overage::Deny,
            calendar: Calendar { unit: Unit::Minute, anchor_s: None },
            rate: None,
            concurrency: None,
        },
        totals: Totals { charged, ..Totals::default() },
        returned: 0,
        granted: 0,
        need: 0,
        demand: 0,
        closed: false,
        carried: CarriedUse::default(),
        stamp_us: 0,
        share: None,
    }
}

fn seen(requests: &[LeaseRequest]) -> Vec<(u128, u64)> {
    requests.iter().map(|request| (request.id.0, request.totals.charged)).collect()
}

#[test]
fn of_one_entitlement_the_latest_word_goes_out_in_the_order_of_the_first() {
    let mut waiting = Waiting::default();
    for (id, charged) in [(1, 1), (2, 1), (1, 5), (3, 1)] {
        waiting.put(request(id, charged));
    }
    assert_eq!(waiting.len(), 3);
    assert_eq!(seen(&waiting.take(2)), [(1, 5), (2, 1)]);
    assert_eq!(seen(&waiting.take(2)), [(3, 1)]);
    assert!(waiting.is_empty());
}

#[test]
fn what_was_not_delivered_comes_first_again_but_for_what_was_said_since() {
    let mut waiting = Waiting::default();
    (1..=3).for_each(|id| waiting.put(request(id, 1)));
    let taken = waiting.take(2);
    waiting.put(request(2, 9));
    waiting.put_back(taken);
    assert_eq!(seen(&waiting.take(10)), [(1, 1), (3, 1), (2, 9)]);
}

#[test]
fn what_was_asked_for_stays_so_through_a_failure() {
    let mut waiting = Waiting::default();
    waiting.put(LeaseRequest { need: 5, ..request(1, 1) });
    let taken = waiting.take(1);
    waiting.put(request(1, 2));
    waiting.put_back(taken);
    let sent = waiting.take(1);
    assert_eq!((sent[0].need, sent[0].totals.charged), (5, 2));
}
