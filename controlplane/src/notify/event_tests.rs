//! Which changes of a subscription are told, and as what.

use super::{Event, EventKind};
use crate::storage::Subscription;

fn row(status: &str, plan: &str, is_archived: bool) -> Subscription {
    Subscription {
        id: "sub_1".to_owned(),
        status: status.to_owned(),
        plan_id: plan.to_owned(),
        archived_at_ms: is_archived.then_some(1),
        ..Subscription::default()
    }
}

#[test]
fn changes_of_subscriptions_are_told_once_and_by_their_words() {
    use EventKind::{SubscriptionCreated, SubscriptionEnded, SubscriptionUpdated};
    let active = row("active", "a", false);
    let cases = [
        (None, active.clone(), Some(SubscriptionCreated)),
        (Some(active.clone()), active.clone(), None),
        (Some(active.clone()), row("past_due", "a", false), Some(SubscriptionUpdated)),
        (Some(active.clone()), row("active", "b", false), Some(SubscriptionUpdated)),
        (Some(active.clone()), row("canceled", "a", false), Some(SubscriptionEnded)),
        (Some(active.clone()), row("active", "a", true), Some(SubscriptionEnded)),
        (Some(row("canceled", "a", false)), row("canceled", "a", true), None),
        (Some(row("unpaid", "a", false)), active, Some(SubscriptionUpdated)),
    ];
    for (before, after, expected) in cases {
        let event = Event::of_subscription(before.as_ref(), &after);
        assert_eq!(event.as_ref().map(|event| event.kind), expected, "{before:?} {after:?}");
        if let Some(event) = event {
            assert_eq!(event.data["subscription"]["id"], "sub_1");
        }
    }
}

#[test]
fn words_are_read_back() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::of(kind.as_str()), Some(*kind));
    }
    assert_eq!(EventKind::of("subscription.*"), None);
}
