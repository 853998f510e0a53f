//! The rate that buckets let through, held against the clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    BucketLimit, Buckets, HOLD_MAX, Limited, Mode, RECOVERY, Target, WAIT_MAX, Whose, endpoint_of,
};

fn buckets(per_second: u32) -> Buckets {
    Buckets::new(BucketLimit {
        test_per_second: per_second,
        live_per_second: per_second,
        endpoint_per_second: per_second,
    })
}

fn target(mode: Mode, account: Option<&str>) -> Target<'_> {
    Target { mode, account, method: "GET", path: "/v1/prices" }
}

/// Takes a turn of all that the account is sent.
fn take(buckets: &Buckets, target: Target<'_>, now: Instant) -> Option<Duration> {
    take_of(buckets, target.all(), now)
}

fn take_of(buckets: &Buckets, whose: Whose, now: Instant) -> Option<Duration> {
    buckets.take(whose, now, now + WAIT_MAX).map(|turn| turn.due.duration_since(now))
}

/// How many of these waits are over in a second.
fn in_second(waits: &[Duration], second: u64) -> usize {
    let window = Duration::from_secs(second)..Duration::from_secs(second + 1);
    waits.iter().filter(|wait| window.contains(*wait)).count()
}

#[tokio::test(start_paused = true)]
async fn an_account_is_sent_no_more_than_its_rate() {
    let now = Instant::now();
    for (mode, per_second) in [(Mode::Test, 20_u32), (Mode::Live, 80)] {
        let buckets = buckets(per_second);
        let target = target(mode, Some("acct_1"));
        let turns: Vec<_> =
            (0..per_second * 5).map_while(|_| take(&buckets, target, now)).collect();
        assert_eq!(turns.len() as u32, per_second * 5, "{mode}");
        for second in 0..5 {
            let sent = in_second(&turns, second);
            assert!(sent as u32 <= per_second + per_second / 4 + 1, "{mode}: {sent} in a second");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn processes_share_what_an_account_may_be_sent() {
    let now = Instant::now();
    for processes in [1_u32, 2, 3, 50] {
        let mut waits = Vec::new();
        for _ in 0..processes {
            let buckets = buckets(20);
            buckets.share_among(processes);
            let target = target(Mode::Test, Some("acct_1"));
            waits.extend((0..100).map_while(|_| take(&buckets, target, now)));
        }
        for second in 1..5 {
            let sent = in_second(&waits, second);
            assert!(sent <= 20 + processes as usize, "{processes}: {sent} in second {second}");
        }
        let sent = waits.iter().filter(|wait| **wait <= Duration::from_secs(4)).count();
        assert!(sent >= 75, "{processes}: {sent} in four seconds");
    }
}

/// When calls to these paths may be sent that are all wanted at once.
async fn sent_at(
    buckets: &Arc<Buckets>,
    paths: impl Iterator<Item = &'static str>,
) -> Vec<Duration> {
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for path in paths {
        let buckets = buckets.clone();
        calls.spawn(async move {
            let target = Target { path, ..target(Mode::Live, Some("acct_1")) };
            buckets.turn(target).await.map(|()| began.elapsed())
        });
    }
    calls.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn in_live_mode_each_endpoint_has_a_rate_of_its_own() {
    let limit = BucketLimit { test_per_second: 20, live_per_second: 80, endpoint_per_second: 20 };
    let buckets = Arc::new(Buckets::new(limit));
    // Another endpoint does not wait for those that wait for theirs.
    let one = sent_at(&buckets, std::iter::repeat_n("/v1/prices", 100));
    let other = async {
        tokio::task::yield_now().await;
        sent_at(&buckets, std::iter::once("/v1/invoices")).await
    };
    let (one, other) = tokio::join!(one, other);
    assert_eq!(one.len(), 100);
    assert!((1..4).all(|second| (19..=21).contains(&in_second(&one, second))), "{one:?}");
    assert!(other[0] < Duration::from_millis(250), "{other:?}");
    // All together have the account's rate.
    let paths = ["/v1/a", "/v1/b", "/v1/c", "/v1/d", "/v1/e", "/v1/f"];
    let buckets = Arc::new(Buckets::new(limit));
    let all = sent_at(&buckets, (0..300).map(|turn| paths[turn % 6])).await;
    assert_eq!(all.len(), 300);
    assert!((1..3).all(|second| (75..=85).contains(&in_second(&all, second))), "{all:?}");
    // Nobody waits longer than is said, for both turns together.
    let buckets = Arc::new(Buckets::new(limit));
    let many = sent_at(&buckets, std::iter::repeat_n("/v1/prices", 1_000)).await;
    assert!(many.len() < 410 && many.iter().all(|wait| *wait <= WAIT_MAX), "{}", many.len());
}

/// When all of these were sent that were wanted at once, where `meanwhile` happens after a second.
async fn sent_while(calls: usize, meanwhile: impl AsyncFnOnce(&Buckets)) -> Vec<Duration> {
    let buckets = Arc::new(buckets(20));
    let began = Instant::now();
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..calls {
        let buckets = buckets.clone();
        under_way.spawn(async move {
            buckets.turn(target(Mode::Test, None)).await.map(|()| began.elapsed())
        });
    }
    let mut sent = Vec::new();
    while began.elapsed() < Duration::from_secs(1) {
        sent.extend(under_way.join_next().await.unwrap().unwrap());
    }
    meanwhile(&buckets).await;
    sent.extend(under_way.join_all().await.into_iter().flatten());
    sent.sort_unstable();
    sent
}

#[tokio::test(start_paused = true)]
async fn what_became_due_while_nothing_ran_is_not_sent_at_once() {
    let stall = Duration::from_secs(3);
    let sent = sent_while(200, async |_| tokio::time::advance(stall).await).await;
    assert_eq!(sent.len(), 200);
    let most = sent.iter().map(|from| {
        sent.iter().filter(|at| (*from..*from + Duration::from_secs(1)).contains(*at)).count()
    });
    assert!(most.max() <= Some(25), "{sent:?}");
    // None is lost, and the pace is the usual one.
    let last = *sent.last().unwrap();
    assert!(last <= Duration::from_secs(10) + stall, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_already_waits_for_the_end_of_a_hold_too() {
    let hold = Duration::from_secs(5);
    let sent = sent_while(200, async |buckets| {
        buckets.hold(target(Mode::Test, None), Limited::Account, hold, Instant::now());
        // One that ends earlier says nothing more.
        buckets.hold(target(Mode::Test, None), Limited::Account, hold / 2, Instant::now());
    })
    .await;
    let (before, after): (Vec<Duration>, Vec<Duration>) =
        sent.iter().partition(|at| **at <= Duration::from_secs(1));
    assert_eq!(sent.len(), 200);
    assert!((20..=26).contains(&before.len()), "{before:?}");
    assert!(after[0] >= Duration::from_secs(1) + hold, "{after:?}");
    assert!((19..=21).contains(&in_second(&after, 6)), "{after:?}");
    assert!(*after.last().unwrap() <= Duration::from_secs(10) + hold, "{after:?}");
}

#[test]
fn an_endpoint_is_a_path_without_ids() {
    for (path, expected) in [
        ("/v1/prices", "GET /v1/prices"),
        ("/v1/products/plan_1aB", "GET /v1/products/{id}"),
        ("/v1/billing/meters/mtr_1/event_summaries", "GET /v1/billing/meters/{id}/event_summaries"),
        ("/v2/core/accounts/acct_X", "GET /v2/core/accounts/{id}"),
        ("/oauth/token", "GET /oauth/token"),
    ] {
        assert_eq!(endpoint_of("GET", path), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_do_not_wait_for_each_other() {
    let buckets = buckets(1);
    let now = Instant::now();
    let turn = |mode: Mode, account: Option<&str>| take(&buckets, target(mode, account), now);
    assert_eq!(turn(Mode::Test, Some("acct_1")), Some(Duration::ZERO));
    assert_ne!(turn(Mode::Test, Some("acct_1")), Some(Duration::ZERO));
    assert_eq!(turn(Mode::Test, Some("acct_2")), Some(Duration::ZERO));
    assert_eq!(turn(Mode::Live, Some("acct_1")), Some(Duration::ZERO));
    assert_eq!(turn(Mode::Test, None), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_turned_away_and_takes_nothing() {
    let buckets = buckets(1);
    let now = Instant::now();
    let target = target(Mode::Test, None);
    let turns = (0..1_000).map_while(|_| take(&buckets, target, now)).count() as u64;
    assert_eq!(turns, WAIT_MAX.as_secs() + 1);
    assert_eq!(take(&buckets, target, now), None);
    let later = now + Duration::from_secs(1);
    assert!(take(&buckets, target, later).is_some(), "a turn came free");
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_held_is_sent_nothing_and_then_its_rate() {
    let buckets = buckets(10);
    let now = Instant::now();
    let one = target(Mode::Test, Some("acct_1"));
    let other = target(Mode::Test, Some("acct_2"));
    let turn = |at: Instant| take(&buckets, one, at);
    assert_eq!(turn(now), Some(Duration::ZERO));
    assert_eq!(take(&buckets, other, now), Some(Duration::ZERO));
    let hold = Duration::from_secs(5);
    buckets.hold(one, Limited::Object, hold, now);
    assert_eq!(turn(now), Some(Duration::ZERO), "one object's wait is its own");
    buckets.hold(one, Limited::Account, hold, now);
    // Nobody goes before it is over, and not all at once then.
    let waits: Vec<_> = (0..20).filter_map(|_| turn(now)).collect();
    assert!(waits.iter().all(|wait| *wait >= hold), "{waits:?}");
    let early = waits.iter().filter(|wait| **wait < hold + Duration::from_secs(1)).count();
    assert!(early <= 10, "{early} in the first second");
    assert_eq!(take(&buckets, other, now), Some(Duration::ZERO));
    // A shorter one takes nothing off, and a longer one is bounded.
    buckets.hold(one, Limited::Account, Duration::from_secs(1), now);
    assert!(turn(now).is_some_and(|wait| wait >= hold));
    buckets.hold(one, Limited::Account, Duration::from_secs(3_600), now);
    assert_eq!(turn(now), None, "who would wait too long is turned away");
    assert!(turn(now + HOLD_MAX).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_as_too_much_is_sent_slower_for_a_while() {
    let now = Instant::now();
    // How many go within ten seconds.
    let sent = |buckets: &Buckets, at: Instant| {
        let waits: Vec<_> =
            (0..400).map_while(|_| take(buckets, target(Mode::Test, None), at)).collect();
        waits.iter().filter(|wait| **wait < Duration::from_secs(10)).count()
    };
    // Bursts of refusals, each a second after the other; calls in ten seconds afterwards.
    for (bursts, at_most) in [(0, 205), (1, 102), (2, 52), (4, 15), (9, 15)] {
        let buckets = buckets(20);
        let one = target(Mode::Test, None);
        take(&buckets, one, now).unwrap();
        let mut at = now;
        for _ in 0..bursts {
            for _ in 0..10 {
                buckets.slow(one, Limited::Account, at);
            }
            at += Duration::from_secs(1);
        }
        let count = sent(&buckets, at);
        assert!(count <= at_most && count >= at_most / 2, "{bursts}: {count}");
        // Once nothing was refused for long the usual pace is back.
        let later = at + RECOVERY * 5 + WAIT_MAX;
        assert!(sent(&buckets, later) >= 195, "{bursts}");
    }
    // What is refused for one endpoint's sake slows that one, in live mode.
    let buckets = buckets(20);
    let one = target(Mode::Live, None);
    let other = Target { path: "/v1/invoices", ..one };
    let turn = |of: Option<Whose>| take_of(&buckets, of.unwrap(), now);
    for of in [one.one(), other.one(), Some(one.all())] {
        turn(of).unwrap();
    }
    buckets.slow(one, Limited::Object, now);
    assert_eq!(turn(one.one()), Some(Duration::ZERO));
    buckets.slow(one, Limited::Endpoint, now);
    assert_ne!(turn(one.one()), Some(Duration::ZERO));
    assert_eq!(turn(other.one()), Some(Duration::ZERO));
    assert_eq!(turn(Some(one.all())), Some(Duration::ZERO));
}
