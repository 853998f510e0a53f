//! Books against a naive reference.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn account(entitlement: u8, period: u8) -> Account {
    Account {
        entitlement: EntitlementId(u128::from(entitlement) << 64),
        period: Period {
            id: PeriodId(u64::from(period)),
            start_s: 0,
            end_s: i64::from(period) * 10,
        },
    }
}

proptest! {
    #[test]
    fn sums_are_those_of_a_plain_map(
        charges in prop::collection::vec((0_u8..6, 0_u8..4, 0_u64..5), 0..200),
        ended_before_s in 0_i64..50,
    ) {
        let mut books = Books::new(1_000);
        let mut naive = BTreeMap::new();
        for (entitlement, period, units) in charges {
            prop_assert!(books.add(&account(entitlement, period), units));
            *naive.entry((entitlement, period)).or_insert(0) += units;
        }
        let copy = books.clone();
        let before = books.len();
        prop_assert_eq!(before, naive.len());
        let forgotten = books.forget(ended_before_s);
        naive.retain(|(_, period), _| i64::from(*period) * 10 >= ended_before_s);
        prop_assert_eq!((books.len(), before - forgotten), (naive.len(), naive.len()));
        for ((entitlement, period), units) in naive {
            let Account { entitlement, period } = account(entitlement, period);
            prop_assert_eq!(books.units(entitlement, period.id), units);
            prop_assert_eq!(copy.units(entitlement, period.id), units);
        }
        prop_assert_eq!(copy.len(), before);
    }
}

#[test]
fn full_books_refuse_new_entries_alone() {
    let mut books = Books::new(2);
    books.reserve(usize::MAX);
    assert!(books.add(&account(1, 1), 1) && books.add(&account(2, 1), u64::MAX));
    assert!(!books.add(&account(3, 1), 1));
    assert!(books.add(&account(2, 1), 5));
    assert_eq!(books.units(account(2, 1).entitlement, PeriodId(1)), u64::MAX);
    assert_eq!(books.iter().map(|(_, charged)| charged.units).min(), Some(1));
    assert!(!books.is_empty());
}
