//! Cells read by one thread while another writes them.

use std::sync::Arc;

use super::*;

#[test]
fn a_level_is_never_torn() {
    let node = Arc::new(NodeUse::new(2));
    let writer = node.clone();
    let level = |n: u64| Level {
        bucket: Bucket { full_at: (u128::from(n) << 64) | u128::from(n) },
        terms: Some(RateTerms { requests: n, unit: Unit::Week, burst: n }),
    };
    let thread = std::thread::spawn(move || (1..=20_000).for_each(|n| writer.publish(&level(n))));
    let mut last = 0;
    while last < 20_000 {
        let seen = node.level();
        let Some(terms) = seen.terms else { continue };
        assert_eq!(seen, level(terms.requests));
        assert!(terms.requests >= last);
        last = terms.requests;
    }
    thread.join().unwrap();
}

#[test]
fn every_unit_of_a_rate_survives() {
    let node = NodeUse::new(1);
    for unit in
        [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year]
    {
        let terms = Some(RateTerms { requests: 3, unit, burst: 4 });
        let level = Level { bucket: Bucket { full_at: 5 }, terms };
        node.publish(&level);
        assert_eq!(node.level(), level);
    }
    node.publish(&Level::default());
    assert_eq!(node.level(), Level::default());
}

#[test]
fn sums_count_all_shards() {
    let used = PeriodUse::new(3);
    for shard in 0..5 {
        // Shards 3 and 4 do not exist: they share the spare cell.
        used.cell(ShardId(shard)).charge(10);
        used.cell(ShardId(shard)).refund(3);
        used.cell(ShardId(shard)).correct(1);
    }
    used.set_elsewhere(100);
    assert_eq!(used.totals(), Totals { charged: 50, refunded: 15, corrected: 5 });
    assert_eq!(used.used(), 140);
    let cell = used.cell(ShardId(0));
    cell.give_back(2);
    assert_eq!(cell.loan(30), Loan { granted: 30, returned: 2, used: 8 });
}
