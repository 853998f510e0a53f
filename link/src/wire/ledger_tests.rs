use proptest::prelude::*;

use super::*;

const UNITS: [PolicyUnit; 7] = [
    PolicyUnit::Second,
    PolicyUnit::Minute,
    PolicyUnit::Hour,
    PolicyUnit::Day,
    PolicyUnit::Week,
    PolicyUnit::Month,
    PolicyUnit::Year,
];

prop_compose! {
    fn terms()(
        version: u64, limit: Option<u64>, overage: Option<Option<u64>>, unit in 0..7_usize, anchor_s: Option<i64>,
        rate: Option<(u64, u64)>, rate_unit in 0..7_usize, concurrency: Option<u32>,
    ) -> Terms {
        Terms {
            version,
            limit,
            overage: overage.map_or(Overage::Deny, |cap| Overage::Allow { cap }),
            calendar: Calendar { unit: UNITS[unit], anchor_s },
            rate: rate.map(|(requests, burst)| RateTerms { requests, unit: UNITS[rate_unit], burst }),
            concurrency,
        }
    }
}

prop_compose! {
    fn request()(
        terms in terms(), id: u128, period: (u64, i64, i64), totals: (u64, u64, u64), returned: u64, granted: u64,
        need: u64, demand: u64, closed: bool,
    ) -> LeaseRequest {
        LeaseRequest {
            id: EntitlementId(id),
            period: Period { id: PeriodId(period.0), start_s: period.1, end_s: period.2 },
            terms,
            totals: Totals { charged: totals.0, refunded: totals.1, corrected: totals.2 },
            returned, granted, need, demand, closed,
        }
    }
}

fn over_the_wire<T: Serialize + for<'a> Deserialize<'a>>(value: &T) -> T {
    postcard::from_bytes(&postcard::to_allocvec(value).expect("it is written")).expect("it is read")
}

proptest! {
    #[test]
    fn a_request_arrives_as_it_was(request in request()) {
        let back = LeaseRequest::from(&over_the_wire(&Request::from(&request)));
        prop_assert_eq!(format!("{:?}", back), format!("{:?}", request));
    }

    #[test]
    fn a_reply_arrives_as_it_was(id: u128, period: u64, units: (u64, u64, u64), recall: bool) {
        let (granted, returned, elsewhere) = units;
        let reply = LeaseReply {
            id: EntitlementId(id), period: PeriodId(period), granted, returned, elsewhere, recall,
        };
        prop_assert_eq!(LeaseReply::from(&over_the_wire(&Reply::from(&reply))), reply);
    }

    #[test]
    fn a_period_once_closed_stays_so(earlier in request(), later in request()) {
        let merged = merged(&earlier, &later);
        prop_assert_eq!(merged.closed, earlier.closed || later.closed);
        prop_assert_eq!(merged.totals, later.totals);
        prop_assert_eq!(merged.need, later.need);
    }
}
