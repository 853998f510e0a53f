//! Which ends of a try are tried again, and the waits' bounds.

use std::time::Duration;

use super::{Ended, Limited, RetryRules, is_worth_retrying, limited, retry_after};

#[test]
fn what_stripe_says_wins_and_the_rest_goes_by_status() {
    for (status, should_retry, code, expected) in [
        (400, None, None, false),
        (400, Some(true), None, true),
        (402, None, Some("card_declined"), false),
        (404, None, Some("resource_missing"), false),
        (409, None, None, true),
        (409, Some(false), None, false),
        (429, None, None, false),
        (429, None, Some("rate_limit"), false),
        (429, None, Some("lock_timeout"), true),
        (429, Some(true), None, true),
        (500, None, None, true),
        (500, Some(false), None, false),
        (503, None, None, true),
    ] {
        let ended = Ended::Answered { status, should_retry, code };
        assert_eq!(is_worth_retrying(ended), expected, "{ended:?}");
    }
    assert!(is_worth_retrying(Ended::Unanswered));
}

#[test]
fn waits_double_up_to_a_bound_and_are_spread() {
    let rules = RetryRules::default();
    for (tried, random, expected_ms) in [
        (1, 0, 250),
        (1, u16::MAX, 500),
        (2, u16::MAX, 1_000),
        (3, u16::MAX, 2_000),
        (4, u16::MAX, 4_000),
        (5, u16::MAX, 5_000),
        (5, 0, 2_500),
        (u32::MAX, u16::MAX, 5_000),
    ] {
        assert_eq!(rules.wait(tried, random), Duration::from_millis(expected_ms), "{tried}");
    }
}

#[test]
fn stripe_says_how_long_to_wait_with_two_statuses() {
    for (status, header, expected_s) in [
        (429, Some("7"), Some(7)),
        (503, Some(" 120 "), Some(120)),
        (503, None, None),
        (429, Some("0"), None),
        (429, Some("-1"), None),
        (429, Some("1.5"), None),
        (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (429, Some("99999999999999999999"), None),
        (500, Some("7"), None),
        (400, Some("7"), None),
    ] {
        let expected = expected_s.map(Duration::from_secs);
        assert_eq!(retry_after(status, header), expected, "{status} {header:?}");
    }
}

#[test]
fn too_many_calls_are_too_many_for_something() {
    for (status, code, reason, expected) in [
        (429, Some("rate_limit"), None, Some(Limited::Account)),
        (429, None, Some("global-rate"), Some(Limited::Account)),
        (429, None, Some("global-concurrency"), Some(Limited::Account)),
        (429, None, Some("endpoint-rate"), Some(Limited::Endpoint)),
        (429, None, Some("endpoint-concurrency"), Some(Limited::Endpoint)),
        (429, None, Some("resource-specific"), Some(Limited::Object)),
        (429, Some("lock_timeout"), None, Some(Limited::Object)),
        (429, None, Some("something new"), Some(Limited::Account)),
        (503, None, Some("global-rate"), None),
        (200, None, None, None),
    ] {
        assert_eq!(limited(status, code, reason), expected, "{status} {code:?} {reason:?}");
    }
}
