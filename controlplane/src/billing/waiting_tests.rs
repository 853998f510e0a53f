use serde_json::json;

use super::{Notes, is_begun, is_unfinished, metered_by, paid_price, waiting_price};
use crate::billing::stripe::Subscription as Fetched;

/// A subscription at `price_there` until second 2,000, with metadata.
fn fetched(metadata: &[(&str, &str)], status: &str) -> Fetched {
    let metadata: std::collections::BTreeMap<_, _> = metadata.iter().copied().collect();
    serde_json::from_value(json!({ "id": "sub_1", "status": status, "metadata": metadata,
        "items": { "data": [{ "id": "si_1", "price": { "id": "price_there" }, "current_period_end": 2_000 }] } }))
    .unwrap()
}

#[test]
fn a_note_is_of_one_price_and_one_period() {
    for (note, expected) in [
        ("price_other price_there 2000", Some("price_other")),
        ("price_other price_third 2000", None),
        ("price_other price_there 1000", None),
        ("price_other price_there", None),
        ("price_other price_there soon", None),
        ("", None),
    ] {
        for status in ["active", "trialing", "past_due"] {
            let paid = fetched(&[("payfence_paid", note)], status);
            assert_eq!((paid_price(&paid), waiting_price(&paid)), (expected, None), "{note}");
            assert!(!is_begun(&paid), "{note}");
            let waits = fetched(&[("payfence_waits", note)], status);
            assert_eq!((paid_price(&waits), waiting_price(&waits)), (None, expected), "{note}");
            assert!(is_begun(&waits), "{note}: what says nothing any more is taken away, too");
        }
        assert!(!is_begun(&fetched(&[("payfence_waits", note)], "canceled")), "{note}");
    }
}

#[test]
fn notes_are_read_as_they_are_written() {
    for (notes, paid, waits) in [
        (Notes::default(), None, None),
        (Notes::paid("price_1", "price_there", 2_000), Some("price_1"), None),
        (Notes::waits("price_1", "price_there", 2_000), None, Some("price_1")),
    ] {
        let metadata = notes.clone().metadata();
        // Each call says all, since an empty one takes away what was noted before.
        assert_eq!(metadata.len(), 3);
        let mut there = fetched(&[], "active");
        there.metadata = metadata;
        assert_eq!((paid_price(&there), waiting_price(&there)), (paid, waits), "{notes:?}");
    }
}

#[test]
fn a_meter_is_of_the_price_that_is_there() {
    for (price, status, expected) in [
        ("price_there", "active", Some("price_there")),
        ("price_there", "past_due", Some("price_there")),
        ("price_there", "canceled", None),
        ("price_other", "active", None),
        ("", "active", None),
    ] {
        let mut there = fetched(&[], status);
        let notes = Notes::paid("price_1", "price_there", 2_000).with_meter_of(price);
        // Stripe keeps nothing that is empty.
        there.metadata = notes.metadata();
        there.metadata.retain(|_, note| !note.is_empty());
        assert_eq!((metered_by(&there), is_begun(&there)), (expected, false), "{price} {status}");
        assert_eq!(is_unfinished(&there), expected.is_some(), "{price} {status}");
        assert_eq!(paid_price(&there), Some("price_1"), "both are noted at once");
    }
}
