use super::{Fate, Fault, Faults, Planned, WebhookFaults};
use crate::ids::Ids;
use serde_json::json;

#[test]
fn a_planned_fault_befalls_as_many_requests_as_asked_and_no_others() {
    let mut faults = Faults::default();
    let mut ids = Ids::new(1);
    faults.plan(Planned {
        method: "POST".into(),
        ..Planned::next(Fault::ErrorAfter, "/v1/prices", 2)
    });
    for (method, path, expected) in [
        ("POST", "/v1/products", None),
        ("GET", "/v1/prices/price_1", None),
        ("POST", "/v1/prices", Some(Fault::ErrorAfter)),
        ("POST", "/v1/prices/price_1", Some(Fault::ErrorAfter)),
        ("POST", "/v1/prices", None),
    ] {
        assert_eq!(faults.take(method, path, &mut ids), expected, "{method} {path}");
    }
}

#[test]
fn an_outage_begins_when_it_is_said_and_ends_when_it_is_cleared() {
    let (mut faults, mut ids) = (Faults::default(), Ids::new(1));
    faults.plan(Planned { after: 1, ..Planned::next(Fault::ResetAfter, "", 1) });
    faults.plan(Planned::from_then_on(Fault::ResetBefore, 2));
    let expected = [None, Some(Fault::ResetAfter), None, Some(Fault::ResetBefore)];
    for (number, expected) in expected.into_iter().enumerate() {
        assert_eq!(faults.take("GET", "/v1/prices", &mut ids), expected, "request {number}");
    }
    for _ in 0..1_000 {
        assert_eq!(faults.take("GET", "/v1/prices", &mut ids), Some(Fault::ResetBefore));
    }
    assert_eq!(faults.made, 1_002);
    faults.clear();
    assert_eq!(faults.take("GET", "/v1/prices", &mut ids), None);
}

#[test]
fn deliveries_fare_as_the_faults_say() {
    let mut ids = Ids::new(1);
    let event = json!({"type": "invoice.paid"});
    for (webhooks, expected) in [
        (WebhookFaults::default(), Fate::Sent(1)),
        (WebhookFaults { lost: 1000, ..Default::default() }, Fate::Lost),
        (
            WebhookFaults { lost: 1000, types: vec!["charge.*".into()], ..Default::default() },
            Fate::Sent(1),
        ),
        (
            WebhookFaults { lost: 1000, types: vec!["invoice.*".into()], ..Default::default() },
            Fate::Lost,
        ),
        (WebhookFaults { doubled: 1000, ..Default::default() }, Fate::Sent(2)),
        (
            WebhookFaults { withheld: 1000, withheld_s: 86_400, ..Default::default() },
            Fate::Later(86_405),
        ),
    ] {
        let faults = Faults { webhooks: webhooks.clone(), ..Faults::default() };
        assert_eq!(faults.fate(&event, 5, &mut ids), expected, "{webhooks:?}");
    }
}

#[test]
fn a_second_has_its_limit() {
    let mut faults = Faults::default();
    let over: Vec<bool> = (0..4).map(|_| faults.over_limit(3, 7, "a", "/v1/x")).collect();
    assert_eq!(over, [false, false, false, true]);
    assert!(!faults.over_limit(3, 8, "a", "/v1/x"), "another second");
    assert!((0..100).all(|_| !faults.over_limit(0, 9, "a", "/v1/x")), "no limit");
}

#[test]
fn calls_are_counted_by_account_and_endpoint() {
    let mut faults = Faults::default();
    let calls = [
        (1, "a", "/v1/x", 2),
        (1, "b", "/v1/x", 5),
        (1, "b", "/v1/y", 1),
        (2, "a", "/v1/x", 4),
        (2, "a", "/v1/y", 3),
    ];
    for (second, account, endpoint, times) in calls {
        for _ in 0..times {
            faults.over_limit(0, second, account, endpoint);
        }
    }
    let load = faults.load;
    let most = [load.most_in_a_second, load.most_of_an_account, load.most_at_an_endpoint];
    assert_eq!((load.calls, most), (15, [8, 7, 5]));
}
