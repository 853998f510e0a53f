use super::text;
use crate::storage::InboxState;

#[test]
fn lag_is_the_age_of_the_oldest_event_that_waits() {
    let inbox = InboxState { waiting: 3, oldest_ms: Some(1_000), dead: 2 };
    let shown = text(inbox, [("kept", 7), ("forged", 1)].into_iter(), 4_500);
    for line in [
        "payfence_stripe_webhooks_total{outcome=\"kept\"} 7",
        "payfence_stripe_webhooks_total{outcome=\"forged\"} 1",
        "payfence_stripe_events_waiting 3",
        "payfence_stripe_lag_milliseconds 3500",
        "payfence_stripe_events_dead 2",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    let none = text(InboxState::default(), std::iter::empty(), 4_500);
    assert!(none.contains("payfence_stripe_lag_milliseconds 0\n"));
}
