//! What is written down of attempts, and when the next one is.

use super::*;
use crate::storage::{EventRecord, WebhookDelivery, WebhookEndpoint};

fn due(attempts: i64) -> DueDelivery {
    let delivery = WebhookDelivery { attempts, begun_at_ms: 1_000, ..WebhookDelivery::default() };
    DueDelivery { delivery, endpoint: WebhookEndpoint::default(), event: EventRecord::default() }
}

#[test]
fn attempts_are_judged() {
    let refused = |retry_after_s| Outcome::Refused { status: 503, retry_after_s };
    let away = || Outcome::Unreachable { why: "no".to_owned() };
    // Attempts so far, when, what came of it; what is written down.
    let cases = [
        (1, 1_000, Outcome::Taken { status: 204 }, "delivered", None),
        (1, 1_000, away(), PENDING, Some(6_000)),
        (2, 1_000, refused(0), PENDING, Some(31_000)),
        (1, 1_000, refused(60), PENDING, Some(61_000)),
        (1, 1_000, refused(-60), PENDING, Some(6_000)),
        (1, 1_000, refused(i64::MAX), PENDING, Some(3_601_000)),
        (50, 1_000, away(), PENDING, Some(28_801_000)),
        (12, TRIED_MS, away(), "failed", None),
        (1, 1_000, Outcome::Gone, "failed", None),
        (1, 1_000, Outcome::Closed, "failed", None),
    ];
    for (attempts, now_ms, outcome, status, next_at_ms) in cases {
        let told = format!("{attempts} {now_ms} {outcome:?}");
        let attempted = judge(&due(attempts), &outcome, now_ms, 1.0);
        assert_eq!((attempted.status, attempted.next_at_ms), (status, next_at_ms), "{told}");
        assert_eq!(attempted.error.is_none(), status == "delivered", "{told}");
    }
}

#[test]
fn a_delivery_is_tried_about_fifteen_times_in_three_days() {
    let (mut now_ms, mut attempts) = (1_000, 0);
    loop {
        attempts += 1;
        let outcome = Outcome::Unreachable { why: "no".to_owned() };
        match judge(&due(attempts), &outcome, now_ms, 1.0).next_at_ms {
            Some(next_at_ms) => now_ms = next_at_ms,
            None => break,
        }
    }
    assert!((12..=20).contains(&attempts), "{attempts} attempts");
    assert!(now_ms > TRIED_MS - 28_800_000, "given up at {now_ms}");
}
