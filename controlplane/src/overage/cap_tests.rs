//! Caps in money as units, over prices and blocks.

use super::*;

fn price(amount: &str, per: u64) -> OveragePrice {
    OveragePrice { unit_amount_decimal: amount.to_owned(), per, cap_amount: None }
}

#[test]
fn what_is_left_of_a_cap() {
    let own = |units| Told { price: None, is_own: true, units };
    let other = |amount, per, units| Told { price: Some(price(amount, per)), is_own: false, units };
    let gone = Told { price: None, is_own: false, units: 1_000 };
    let cases = [
        (price("0.05", 1), Some(100), vec![], Some(2_000)),
        (price("0.05", 1), Some(100), vec![own(1_500)], Some(500)),
        (price("0.05", 1), Some(100), vec![own(1_500), own(600)], Some(0)),
        (price("3", 1), Some(100), vec![], Some(33)),
        (price("3", 1_000), Some(100), vec![own(1)], Some(32_999)),
        (price("0.000000000001", 1), Some(1), vec![], Some(1_000_000_000_000)),
        (price("5", 1), Some(0), vec![], Some(0)),
        (price("0", 1), Some(5), vec![], None),
        (price("0.05", 1), None, vec![own(7)], None),
        (price("-1", 1), Some(5), vec![], None),
        // Sixty were paid elsewhere, forty are left.
        (price("0.05", 1), Some(100), vec![other("0.1", 1, 600)], Some(800)),
        (price("0.05", 1), Some(100), vec![other("0.1", 1, 600), own(800)], Some(0)),
        (price("0.05", 1), Some(100), vec![other("0.1", 1, 6_000)], Some(0)),
        // A hundred and one are paid as two hundred.
        (price("1", 1), Some(100), vec![other("20", 100, 101)], Some(60)),
        (price("1", 1), Some(100), vec![gone], Some(100)),
        (price("99999999", 1_000_000_000), Some(i64::MAX), vec![], Some(i64::MAX)),
    ];
    for (price, cap, told, expected) in cases {
        assert_eq!(room(&price, cap, &told), expected, "{price:?} {cap:?} {told:?}");
    }
}
