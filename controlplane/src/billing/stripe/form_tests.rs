//! How requests are written.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::{LineItem, SessionRequest, SubscriptionData};
use super::form;

#[test]
fn names_are_bracketed_and_indexed_and_nothing_is_bare() {
    for (request, expected) in [
        (json!({ "a": 1, "b": null }), "a=1"),
        (json!({ "a": "" }), "a="),
        (json!({ "a": { "b": null } }), ""),
        (json!({ "a": [] }), ""),
        (json!({ "a": true, "c": 2.5 }), "a=true&c=2.5"),
        (json!({ "metadata": { "plan_id": "plan_1" } }), "metadata%5Bplan_id%5D=plan_1"),
        (
            json!({ "items": [{ "price": "p1", "quantity": 1 }, { "price": "p2" }] }),
            "items%5B0%5D%5Bprice%5D=p1&items%5B0%5D%5Bquantity%5D=1&items%5B1%5D%5Bprice%5D=p2",
        ),
        (json!({ "expand": ["a.b"] }), "expand%5B0%5D=a.b"),
        (json!({ "name": "Größe & Co=1+1%" }), "name=Gr%C3%B6%C3%9Fe%20%26%20Co%3D1%2B1%25"),
    ] {
        assert_eq!(form(&request).unwrap(), expected, "{request}");
    }
}

#[test]
fn a_session_is_written_as_stripe_documents_it() {
    let request = SessionRequest {
        mode: "subscription".to_owned(),
        line_items: vec![
            LineItem { price: "price_1".to_owned(), quantity: Some(1) },
            LineItem { price: "price_metered".to_owned(), quantity: None },
        ],
        subscription_data: Some(SubscriptionData {
            application_fee_percent: Some(2.5),
            metadata: BTreeMap::from([("checkout_id".to_owned(), "chk_1".to_owned())]),
            ..SubscriptionData::default()
        }),
        success_url: "https://pay.example/ok?session_id={CHECKOUT_SESSION_ID}".to_owned(),
        ..SessionRequest::default()
    };
    let text = form(&request).unwrap();
    let plain = text.replace("%5B", "[").replace("%5D", "]");
    let mut names: Vec<&str> =
        plain.split('&').map(|pair| pair.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "line_items[0][price]",
            "line_items[0][quantity]",
            "line_items[1][price]",
            "mode",
            "subscription_data[application_fee_percent]",
            "subscription_data[metadata][checkout_id]",
            "success_url",
        ]
    );
    assert!(plain.contains("{CHECKOUT_SESSION_ID}") || plain.contains("%7BCHECKOUT_SESSION_ID%7D"));
}
