//! Messages of the ledger arrive as they were, and two about the same become one that says all.

use policy::budget::message::{Cut, Share, ShareClaim, Totals};
use policy::budget::{
    Calendar, CarriedUse, EntitlementId, Overage, Period, PeriodId, RateTerms, Terms, Unit,
};
use serde::{Deserialize, Serialize};

use super::*;

fn request(need: u64, demand: u64, closed: bool, share: Option<ShareClaim>) -> Request {
    Request {
        id: EntitlementId(u128::MAX - 5),
        period: Period { id: PeriodId(7), start_s: -1, end_s: i64::MAX },
        terms: Terms {
            version: u64::MAX,
            limit: Some(9),
            overage: Overage::Allow { cap: Some(3) },
            calendar: Calendar { unit: Unit::Month, anchor_s: Some(-7) },
            rate: Some(RateTerms { requests: 5, unit: Unit::Second, burst: 8 }),
            concurrency: Some(u32::MAX),
        },
        totals: Totals { charged: 1, refunded: 2, corrected: 3 },
        returned: 4,
        granted: 5,
        need,
        demand,
        closed,
        carried: CarriedUse { units: 6, whole: true, journal: 9 },
        stamp_us: 11,
        share,
    }
}

fn over_the_wire<T: Serialize + for<'a> Deserialize<'a>>(value: &T) -> T {
    postcard::from_bytes(&postcard::to_allocvec(value).expect("it is written")).expect("it is read")
}

#[test]
fn they_arrive_as_they_were() {
    let claim = ShareClaim {
        serial: 1,
        since_us: 9,
        demand: 2,
        given: 3,
        taken: 8,
        slots_held: 4,
        slots_want: 5,
        leaves: true,
    };
    for share in [None, Some(claim)] {
        let request = request(1, 2, true, share);
        assert_eq!(over_the_wire(&request), request);
    }
    let period = Period { id: PeriodId(7), start_s: -1, end_s: 5 };
    let cut = Cut { requests: 1, burst: 2 };
    let share = Share {
        serial: 1,
        unit: Unit::Day,
        rate: cut,
        floor: cut,
        tokens: 3,
        slots: 4,
        slots_may_grow: true,
        valid_us: 5,
    };
    for share in [None, Some(share)] {
        let reply = Reply {
            id: EntitlementId(1),
            period,
            granted: 1,
            returned: 2,
            elsewhere: 3,
            recall: true,
            coming: true,
            current: period,
            serial: 4,
            stamp_us: 5,
            lease_us: 6,
            share,
        };
        assert_eq!(over_the_wire(&reply), reply);
    }
}

#[test]
fn the_later_one_says_all() {
    let claim = ShareClaim { serial: 1, ..ShareClaim::default() };
    for (earlier, later, need, demand, has_claim) in [
        (request(5, 1, false, Some(claim)), request(0, 0, false, None), 5, 1, true),
        (request(5, 1, false, None), request(7, 0, false, Some(claim)), 7, 1, true),
        (request(5, 1, false, Some(claim)), request(0, 0, true, None), 0, 0, false),
        (request(0, 0, true, None), request(2, 3, false, None), 2, 3, false),
    ] {
        let later =
            Request { stamp_us: 12, totals: Totals { charged: 8, ..later.totals }, ..later };
        let both = merged(&earlier, &later);
        assert_eq!((both.need, both.demand, both.share.is_some()), (need, demand, has_claim));
        assert_eq!((both.stamp_us, both.totals, both.closed), (12, later.totals, later.closed));
    }
}
