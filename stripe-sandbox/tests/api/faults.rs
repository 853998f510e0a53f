//! Answers that go wrong on request.

use crate::world::World;
use std::time::Duration;
use stripe_sandbox::{Config, Fault, Planned};

#[tokio::test]
async fn each_fault_is_what_its_name_says() {
    let too_many = |should_retry, retry_after_s| Fault::TooMany { should_retry, retry_after_s };
    for (fault, status, code, should_retry, acted) in [
        (Fault::ErrorBefore, 500, "", None, 0),
        (Fault::ErrorAfter, 500, "", None, 1),
        (too_many(None, None), 429, "rate_limit", None, 0),
        (too_many(Some(true), None), 429, "rate_limit", Some("true"), 0),
        (too_many(Some(false), Some(7)), 429, "rate_limit", Some("false"), 0),
        (Fault::LockTimeout, 429, "lock_timeout", None, 0),
        (Fault::Forbidden, 403, "", None, 0),
        (Fault::Conflict, 409, "idempotency_key_in_use", None, 0),
        (Fault::Garbage, 502, "", None, 0),
    ] {
        let world = World::new().await;
        world.sandbox.plan_fault(Planned::next(fault.clone(), "/v1/products", 1));
        let answered = world.send("POST", "/v1/products", "name=a", &[]).await;
        let found = (answered.status, answered.body["error"]["code"].as_str().unwrap_or(""));
        assert_eq!(found, (status, code), "{fault:?}: {}", answered.body);
        let header =
            answered.headers.get("stripe-should-retry").and_then(|value| value.to_str().ok());
        assert_eq!(header, should_retry, "{fault:?}");
        let wait_s = answered.headers.get("retry-after").and_then(|value| value.to_str().ok());
        let is_told_how_long = fault == too_many(Some(false), Some(7));
        assert_eq!(wait_s, is_told_how_long.then_some("7"), "{fault:?}");
        assert_eq!(world.sandbox.objects("", "product").len(), acted, "{fault:?}");
        assert_eq!(
            world.send("POST", "/v1/products", "name=a", &[]).await.status,
            200,
            "once is once: {fault:?}"
        );
    }
}

#[tokio::test]
async fn answers_can_fail_to_come_whether_or_not_it_was_done() {
    for (fault, acted, timed_out) in [
        (Fault::HangBefore, 0, true),
        (Fault::HangAfter, 1, true),
        (Fault::ResetBefore, 0, false),
        (Fault::ResetAfter, 1, false),
    ] {
        let world = World::new().await;
        world.sandbox.plan_fault(Planned::next(fault.clone(), "", 1));
        let request = world
            .client
            .post(format!("{}/v1/products", world.sandbox.url()))
            .header("authorization", "Bearer sk_test_sandbox")
            .header("idempotency-key", "key-1")
            .timeout(Duration::from_millis(300))
            .body("name=a");
        let failed = request.send().await.expect_err("no answer");
        assert_eq!(failed.is_timeout(), timed_out, "{fault:?}: {failed:?}");
        assert_eq!(world.sandbox.objects("", "product").len(), acted, "{fault:?}");
        let again =
            world.send("POST", "/v1/products", "name=a", &[("idempotency-key", "key-1")]).await;
        assert_eq!(
            (again.status, world.sandbox.objects("", "product").len()),
            (200, 1),
            "{fault:?}"
        );
        let replayed = again.headers.contains_key("idempotent-replayed");
        assert_eq!(replayed, acted == 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_limit_holds_by_the_second() {
    let world = World::with(Config { rate_limit_per_s: 3, ..Config::default() }).await;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(world.send("GET", "/v1/products", "", &[]).await.status);
    }
    assert!(statuses.contains(&429) && statuses.contains(&200), "{statuses:?}");
}
