use serde_json::{Value as Json, json};

use super::read;

fn event(kind: &str, object: Json) -> Vec<u8> {
    let event = json!({
        "id": "evt_1", "object": "event", "type": kind, "account": "acct_1", "livemode": false,
        "created": 1_795_000_000, "api_version": "2026-10-28.endive", "data": { "object": object },
        "request": null, "surprise": { "of": ["a", "later", "version"] },
    });
    event.to_string().into_bytes()
}

#[test]
fn the_subject_is_what_has_to_be_fetched() {
    let parent = json!({ "subscription_details": { "subscription": "sub_1" } });
    let expanded = json!({ "subscription_details": { "subscription": { "id": "sub_1" } } });
    let cases = [
        ("checkout.session.completed", json!({ "id": "cs_1" }), Some("session/cs_1")),
        ("checkout.session.async_payment_succeeded", json!({ "id": "cs_1" }), Some("session/cs_1")),
        ("customer.subscription.updated", json!({ "id": "sub_1" }), Some("subscription/sub_1")),
        (
            "customer.subscription.trial_will_end",
            json!({ "id": "sub_1" }),
            Some("subscription/sub_1"),
        ),
        ("invoice.paid", json!({ "id": "in_1", "parent": parent }), Some("subscription/sub_1")),
        (
            "invoice.payment_failed",
            json!({ "id": "in_1", "parent": expanded }),
            Some("subscription/sub_1"),
        ),
        (
            "invoice.paid",
            json!({ "id": "in_1", "subscription": "sub_2" }),
            Some("subscription/sub_2"),
        ),
        ("invoice.paid", json!({ "id": "in_1", "parent": null }), Some("invoice/in_1")),
        ("invoice.created", json!({ "id": "in_1", "parent": parent }), Some("subscription/sub_1")),
        // It has no id yet.
        ("invoice.upcoming", json!({ "parent": parent }), Some("subscription/sub_1")),
        ("invoice.finalized", json!({ "id": "in_1", "parent": parent }), None),
        ("charge.refunded", json!({ "id": "ch_1" }), Some("charge/ch_1")),
        ("refund.updated", json!({ "id": "re_1", "charge": "ch_1" }), Some("charge/ch_1")),
        ("refund.created", json!({ "id": "re_1", "charge": null }), Some("refund/re_1")),
        ("charge.dispute.closed", json!({ "id": "du_1", "charge": "ch_1" }), Some("dispute/du_1")),
        ("account.updated", json!({ "id": "acct_1" }), Some("account/acct_1")),
        ("account.application.deauthorized", json!({ "id": "ca_1" }), Some("account/acct_1")),
        ("price.updated", json!({ "id": "price_1" }), Some("price/price_1")),
        ("price.created", json!({ "id": "price_1", "product": "plan_1" }), Some("product/plan_1")),
        (
            "price.deleted",
            json!({ "id": "price_1", "product": { "id": "plan_1" } }),
            Some("product/plan_1"),
        ),
        ("product.deleted", json!({ "id": "plan_1" }), Some("product/plan_1")),
        ("customer.created", json!({ "id": "cus_1" }), None),
        ("something.new", json!({ "id": 7 }), None),
        ("customer.subscription.updated", json!({ "id": "not a name" }), None),
        ("customer.subscription.updated", Json::Null, None),
    ];
    for (kind, object, expected) in cases {
        let arrived = read(&event(kind, object.clone()), "test");
        let subject = arrived.unwrap_or_else(|| panic!("{kind} {object}")).subject;
        assert_eq!(subject.as_deref(), expected, "{kind} {object}");
    }
}

#[test]
fn thin_events_of_version_2_name_the_account_they_are_about() {
    let thin = json!({
        "id": "evt_2", "object": "v2.core.event", "type": "v2.core.account[requirements].updated",
        "livemode": false, "created": "2026-11-18T22:26:40.000Z",
        "related_object": { "id": "acct_9", "type": "v2.core.account", "url": "/v2/core/accounts/acct_9" },
    });
    let arrived = read(thin.to_string().as_bytes(), "test").unwrap();
    assert_eq!(arrived.stripe_account, "acct_9");
    assert_eq!(arrived.subject.as_deref(), Some("account/acct_9"));
    assert_eq!(arrived.object_kind.as_deref(), Some("v2.core.account"));
    assert_eq!(arrived.event_at_s, 1_795_040_800);
}

#[test]
fn what_is_no_event_is_none() {
    let long = "e".repeat(256);
    let cases = [
        b"".to_vec(),
        b"{}".to_vec(),
        b"[1]".to_vec(),
        b"\xff".to_vec(),
        br#"{"id":"evt_1","type":"invoice.paid"}"#.to_vec(),
        br#"{"id":"","type":"invoice.paid","livemode":false}"#.to_vec(),
        br#"{"id":"evt\u0000","type":"invoice.paid","livemode":false}"#.to_vec(),
        format!(r#"{{"id":"{long}","type":"invoice.paid","livemode":false}}"#).into_bytes(),
        br#"{"id":"evt_1","type":"invoice.paid","livemode":false,"account":"a b"}"#.to_vec(),
    ];
    for body in cases {
        assert_eq!(read(&body, "test"), None, "{}", String::from_utf8_lossy(&body));
    }
}
