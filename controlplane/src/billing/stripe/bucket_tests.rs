//! The rate that buckets let through, held against the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{BucketLimit, Buckets, HOLD_MAX, Mode, WAIT_MAX};

#[tokio::test(start_paused = true)]
async fn an_account_is_sent_no_more_than_its_rate() {
    let buckets = Buckets::new(BucketLimit { test_per_second: 20, live_per_second: 80 });
    let now = Instant::now();
    for (mode, per_second) in [(Mode::Test, 20_u32), (Mode::Live, 80)] {
        let turns: Vec<_> =
            (0..per_second * 5).map_while(|_| buckets.take(mode, Some("acct_1"), now)).collect();
        assert_eq!(turns.len() as u32, per_second * 5, "{mode}");
        for second in 0..5 {
            let window = Duration::from_secs(second)..Duration::from_secs(second + 1);
            let sent = turns.iter().filter(|wait| window.contains(*wait)).count();
            assert!(sent as u32 <= per_second + per_second / 4 + 1, "{mode}: {sent} in a second");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_do_not_wait_for_each_other() {
    let buckets = Buckets::new(BucketLimit { test_per_second: 1, live_per_second: 1 });
    let now = Instant::now();
    assert_eq!(buckets.take(Mode::Test, Some("acct_1"), now), Some(Duration::ZERO));
    assert_ne!(buckets.take(Mode::Test, Some("acct_1"), now), Some(Duration::ZERO));
    assert_eq!(buckets.take(Mode::Test, Some("acct_2"), now), Some(Duration::ZERO));
    assert_eq!(buckets.take(Mode::Live, Some("acct_1"), now), Some(Duration::ZERO));
    assert_eq!(buckets.take(Mode::Test, None, now), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_turned_away_and_takes_nothing() {
    let buckets = Buckets::new(BucketLimit { test_per_second: 1, live_per_second: 1 });
    let now = Instant::now();
    let turns = (0..1_000).map_while(|_| buckets.take(Mode::Test, None, now)).count() as u64;
    assert_eq!(turns, WAIT_MAX.as_secs() + 1);
    assert_eq!(buckets.take(Mode::Test, None, now), None);
    let later = now + Duration::from_secs(1);
    assert!(buckets.take(Mode::Test, None, later).is_some(), "a turn came free");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_held_is_sent_nothing_and_then_its_rate() {
    let buckets = Buckets::new(BucketLimit { test_per_second: 10, live_per_second: 10 });
    let now = Instant::now();
    let take = |at: Instant| buckets.take(Mode::Test, Some("acct_1"), at);
    assert_eq!(take(now), Some(Duration::ZERO));
    assert_eq!(buckets.take(Mode::Test, Some("acct_2"), now), Some(Duration::ZERO));
    let hold = Duration::from_secs(5);
    buckets.hold(Mode::Test, Some("acct_1"), hold, now);
    // Nobody goes before it is over, and not all at once then.
    let waits: Vec<_> = (0..20).filter_map(|_| take(now)).collect();
    assert!(waits.iter().all(|wait| *wait >= hold), "{waits:?}");
    let early = waits.iter().filter(|wait| **wait < hold + Duration::from_secs(1)).count();
    assert!(early <= 10, "{early} in the first second");
    assert_eq!(buckets.take(Mode::Test, Some("acct_2"), now), Some(Duration::ZERO));
    // A shorter one takes nothing off, and a longer one is bounded.
    buckets.hold(Mode::Test, Some("acct_1"), Duration::from_secs(1), now);
    assert!(take(now).is_some_and(|wait| wait >= hold));
    buckets.hold(Mode::Test, Some("acct_1"), Duration::from_secs(3_600), now);
    assert_eq!(take(now), None, "who would wait too long is turned away");
    assert!(take(now + HOLD_MAX).is_some());
}
