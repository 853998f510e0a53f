//! Cases of the lending arithmetic.

use super::*;

fn check(granted: u64, returned: u64, used: u64, committed: u64, unspent: u64, after_5: u64) {
    let loan = Loan { granted, returned, used };
    let seen = (loan.committed(), loan.unspent(), loan.granted_after(5));
    assert_eq!(seen, (committed, unspent, after_5), "{loan:?}");
}

#[test]
fn loans() {
    check(0, 0, 0, 0, 0, 5);
    check(10, 0, 4, 10, 6, 15);
    check(10, 3, 7, 7, 0, 15);
    check(10, 10, 0, 0, 0, 15);
    // In debt: used more than lent.
    check(10, 0, 14, 14, 0, 19);
    check(10, 10, 3, 3, 0, 18);
}

#[test]
fn a_grant_is_usable_in_full() {
    for granted in 0..6 {
        for returned in 0..=granted {
            for used in 0..12 {
                let loan = Loan { granted, returned, used };
                let after = Loan { granted: loan.granted_after(3), ..loan };
                let unspent = loan.unspent();
                assert_eq!(after.unspent(), unspent + 3, "{loan:?}");
                assert_eq!(after.committed(), loan.committed() + 3, "{loan:?}");
            }
        }
    }
}

#[test]
fn sizes() {
    // (limit, left, need, demand) -> size
    for (limit, left, need, demand, size) in [
        (Some(10_000), Some(10_000), 1, 0, 100),
        (Some(10_000), Some(10_000), 1, 700, 700),
        (Some(10_000), Some(10_000), 1, 9_000, 2_500),
        (Some(10_000), Some(40), 1, 0, 10),
        (Some(10_000), Some(3), 1, 0, 1),
        (Some(10_000), Some(3), 5, 0, 3),
        (Some(10_000), Some(0), 1, 0, 0),
        (Some(10), Some(10), 0, 0, 1),
        (Some(10), Some(2), 0, 0, 0),
        (Some(10), None, 7, 0, 7),
    ] {
        assert_eq!(
            lease_size(limit, left, need, demand),
            size,
            "{limit:?} {left:?} {need} {demand}"
        );
    }
}
