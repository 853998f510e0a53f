//! Tests of the clock: monotonic time grows and compares over threads, a turn's time stands still.

use super::*;

#[test]
fn monotonic_time_compares_between_copies_on_other_threads() {
    let clock = Clock::start();
    let before = clock.now();
    let elsewhere = std::thread::spawn(move || clock.now()).join().unwrap();
    let after = clock.now();
    assert!(before.mono_ns <= elsewhere.mono_ns && elsewhere.mono_ns <= after.mono_ns);
    assert!(after.unix_s() > 1_700_000_000);
}

#[test]
fn a_turn_sees_one_instant() {
    let turn = TurnClock::new(Clock::start());
    let first = turn.now();
    assert_eq!(first, turn.now());
    let next = turn.refresh();
    assert!(next.mono_ns >= first.mono_ns);
    assert_eq!(next, turn.now());
}

#[test]
fn seconds_round_down_before_1970_too() {
    let check = |unix_ns: i64, seconds: i64| {
        assert_eq!(Now { mono_ns: 0, unix_ns }.unix_s(), seconds);
    };
    check(0, 0);
    check(1_999_999_999, 1);
    check(-1, -1);
}
