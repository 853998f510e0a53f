//! The client against a Stripe that answers as it was told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::bucket::Target;
use super::scripted::{Scripted, Step};
use super::{
    Addresses, BucketLimit, EventQuery, Mode, ProductRequest, RetryRules, Scope, SecretKey,
    SecretKeys, Stripe, StripeError, StripeSettings, VERSION,
};
use crate::world::System;

pub(super) const KEY: &str = "sk_test_0123456789abcdef";

pub(super) fn client(base: &str) -> Stripe {
    let settings = StripeSettings {
        keys: SecretKeys { test: SecretKey::parse(KEY, Mode::Test).ok(), live: None },
        addresses: Addresses::at(base),
        retry: RetryRules {
            tries_max: 3,
            wait_first: Duration::from_millis(2),
            wait_max: Duration::from_millis(4),
        },
        timeout: Duration::from_millis(200),
        limit: BucketLimit {
            test_per_second: 10_000,
            live_per_second: 10_000,
            endpoint_per_second: 10_000,
        },
    };
    Stripe::new(settings, Arc::new(System)).unwrap()
}

pub(super) fn product() -> ProductRequest {
    ProductRequest { id: "plan_1".to_owned(), name: "Pro".to_owned(), ..ProductRequest::default() }
}

pub(super) fn good() -> Step {
    Step::json(200, json!({ "id": "plan_1", "name": "Pro", "active": true, "object": "product" }))
}

pub(super) fn error(status: u16, error: Json) -> Step {
    Step::json(status, json!({ "error": error })).with("request-id", "req_1")
}

#[tokio::test]
async fn a_call_carries_key_version_account_and_idempotency_key() {
    let (server, base) = Scripted::start([good(), Step::json(200, json!({ "data": [] }))]).await;
    let scope = Scope::connected(Mode::Test, "acct_1");
    let made = client(&base).create_product(&scope, &product(), "pf_key").await.unwrap();
    assert_eq!((made.id.as_str(), made.active), ("plan_1", true));
    let query =
        EventQuery { types: vec!["a.b".to_owned()], limit: Some(100), ..EventQuery::default() };
    client(&base).events(&Scope::platform(Mode::Test), &query).await.unwrap();
    let [post, get] = server.came().try_into().unwrap();
    for (name, value) in [
        ("authorization", format!("Bearer {KEY}").as_str()),
        ("stripe-version", VERSION),
        ("stripe-account", "acct_1"),
        ("idempotency-key", "pf_key"),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        assert_eq!(post.header(name), value, "{name}");
    }
    assert_eq!((post.method.as_str(), post.path.as_str()), ("POST", "/v1/products"));
    assert_eq!(post.body, "id=plan_1&name=Pro");
    assert_eq!(get.path, "/v1/events?limit=100&types%5B0%5D=a.b");
    assert_eq!((get.header("stripe-account"), get.header("idempotency-key")), ("", ""));
}

#[tokio::test]
async fn tries_follow_the_rules_with_the_same_key() {
    let temporary = || error(500, json!({ "type": "api_error", "message": "later" }));
    let limited = |code: &str| error(429, json!({ "code": code, "message": "slow down" }));
    for (name, steps, tries, is_good) in [
        ("a 500, then well", vec![temporary(), good()], 2, true),
        ("a 409, then well", vec![error(409, json!({ "message": "locked" })), good()], 2, true),
        ("broken off, then well", vec![Step::Broken, good()], 2, true),
        ("silent, then well", vec![Step::Silent, good()], 2, true),
        (
            "not JSON, then well",
            vec![Step::Answer(502, vec![], "<html>".to_owned()), good()],
            2,
            true,
        ),
        ("500 to the end", vec![temporary(), temporary(), temporary(), good()], 3, false),
        ("told not to", vec![temporary().with("stripe-should-retry", "false"), good()], 1, false),
        ("replayed", vec![temporary().with("idempotent-replayed", "true"), good()], 1, false),
        ("a 429", vec![limited("rate_limit"), good()], 1, false),
        ("a lock", vec![limited("lock_timeout"), good()], 2, true),
        ("told to", vec![limited("x").with("stripe-should-retry", "true"), good()], 2, true),
        ("a refusal", vec![error(400, json!({ "message": "no" })), good()], 1, false),
    ] {
        let (server, base) = Scripted::start(steps).await;
        let scope = Scope::platform(Mode::Test);
        let made = client(&base).create_product(&scope, &product(), "pf_key").await;
        assert_eq!(made.is_ok(), is_good, "{name}: {made:?}");
        let came = server.came();
        assert_eq!(came.len(), tries, "{name}");
        assert!(came.iter().all(|one| one.header("idempotency-key") == "pf_key"), "{name}");
    }
}

#[tokio::test]
async fn no_wait_is_shorter_than_stripe_says() {
    let asked = |status: u16, code: &str, wait: &'static str| {
        error(status, json!({ "code": code, "message": "slow down" })).with("retry-after", wait)
    };
    for (name, first, tries, waited_ms) in [
        ("a 503", asked(503, "", "1"), 2, 1_000),
        ("a lock", asked(429, "lock_timeout", "1"), 2, 1_000),
        ("told to", asked(429, "", "1").with("stripe-should-retry", "true"), 2, 1_000),
        ("a 500, which it is not for", asked(500, "", "1"), 2, 0),
        ("longer than a call may wait", asked(503, "", "21"), 1, 0),
        ("a 429 that is not to be tried again", asked(429, "rate_limit", "1"), 1, 0),
    ] {
        let (server, base) = Scripted::start([first, good()]).await;
        let begun = tokio::time::Instant::now();
        let scope = Scope::platform(Mode::Test);
        let made = client(&base).create_product(&scope, &product(), "pf_key").await;
        assert_eq!((made.is_ok(), server.came().len()), (tries == 2, tries), "{name}: {made:?}");
        assert!(begun.elapsed() >= Duration::from_millis(waited_ms), "{name}");
    }
}

#[tokio::test]
async fn an_account_that_is_to_wait_is_sent_nothing_else_meanwhile() {
    let limited = error(429, json!({ "code": "rate_limit", "message": "slow down" }));
    let steps = [limited.with("retry-after", "50"), good(), good()];
    let (server, base) = Scripted::start(steps).await;
    let stripe = client(&base);
    let [one, other] = ["acct_1", "acct_2"].map(|account| Scope::connected(Mode::Test, account));
    let refused = stripe.product(&one, "plan_1").await.unwrap_err();
    assert_eq!((refused.is_temporary(), refused.retry_after_s()), (true, Some(50)));
    assert_eq!(stripe.product(&one, "plan_1").await, Err(StripeError::Busy));
    stripe.product(&other, "plan_1").await.unwrap();
    stripe.product(&Scope::platform(Mode::Test), "plan_1").await.unwrap();
    assert_eq!(server.came().len(), 3);
}

/// What is not known of a call that was sent is not forgotten because there is no room for another try.
#[tokio::test]
async fn a_call_that_finds_no_room_for_another_try_says_what_it_met() {
    let away = error(503, json!({ "type": "api_error", "message": "later" }));
    let (_server, base) = Scripted::start([away]).await;
    let stripe = client(&base);
    let scope = Scope::platform(Mode::Test);
    // The account is told to wait while this one is under way.
    let (request, wait) = (product(), Some(Duration::from_secs(60)));
    let made = stripe.create_product(&scope, &request, "pf_key");
    let target = Target { mode: Mode::Test, account: None, method: "POST", path: "/v1/products" };
    let held = async { stripe.hold_back(target, None, wait) };
    let (made, ()) = tokio::join!(made, held);
    let error = made.unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
}

#[tokio::test]
async fn a_code_of_oauth_is_sent_again_with_its_key_alone() {
    let token = json!({ "stripe_user_id": "acct_1", "livemode": false, "scope": "read_write" });
    for (key, times) in [(None, 1), (Some("pf_oauth_1"), 2)] {
        let (server, base) = Scripted::start([Step::Broken, Step::json(200, token.clone())]).await;
        let outcome = client(&base).oauth_token(Mode::Test, "ac_1", key).await;
        match key {
            None => assert!(matches!(outcome, Err(StripeError::Unreachable(_))), "{outcome:?}"),
            Some(_) => assert_eq!(outcome.unwrap().stripe_user_id, "acct_1"),
        }
        let came = server.came();
        assert_eq!(came.len(), times);
        for one in came {
            assert_eq!(one.body, "code=ac_1&grant_type=authorization_code");
            assert_eq!(one.header("idempotency-key"), key.unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn errors_say_what_can_be_done() {
    let mismatch = json!({ "type": "idempotency_error", "message": "other parameters" });
    let missing = json!({ "code": "resource_missing", "message": "no such" });
    let there = json!({ "code": "resource_already_exists", "message": "is there" });
    for (step, is_temporary, is_missing, is_there) in [
        (error(400, mismatch), false, false, false),
        (error(404, missing), false, true, false),
        (error(400, there), false, false, true),
        (error(429, json!({ "message": "slow down" })), true, false, false),
        (Step::Answer(200, vec![], "{}".to_owned()), false, false, false),
        (error(500, json!({})).with("stripe-should-retry", "false"), true, false, false),
        (
            Step::json(400, json!({ "error": "invalid_grant", "error_description": "x" })),
            false,
            false,
            false,
        ),
    ] {
        let text = format!("{step:?}");
        let (_server, base) = Scripted::start([step]).await;
        let outcome = client(&base).product(&Scope::platform(Mode::Test), "plan_1").await;
        let error = outcome.expect_err(&text);
        let is = (error.is_temporary(), error.is_missing(), error.is_there_already());
        assert_eq!(is, (is_temporary, is_missing, is_there), "{text}");
    }
    let nowhere =
        client("http://127.0.0.1:1").product(&Scope::platform(Mode::Test), "plan_1").await;
    assert!(nowhere.is_err_and(|error| error.is_temporary() && error.is_uncertain()));
    let live = client("http://127.0.0.1:1").product(&Scope::platform(Mode::Live), "plan_1").await;
    assert_eq!(live, Err(StripeError::NotSetUp(Mode::Live)));
    let strange = client("http://127.0.0.1:1").product(&Scope::platform(Mode::Test), "../x").await;
    assert!(matches!(strange, Err(StripeError::Malformed(_))));
}

#[tokio::test]
async fn a_key_is_never_shown() {
    let refused =
        error(401, json!({ "message": "Invalid API Key", "type": "invalid_request_error" }));
    let (_server, base) = Scripted::start([refused]).await;
    let stripe = client(&base);
    let outcome = stripe.product(&Scope::platform(Mode::Test), "plan_1").await;
    for shown in [
        format!("{stripe:?}"),
        format!("{outcome:?}"),
        outcome.unwrap_err().to_string(),
        format!("{:?}", SecretKey::parse("sk_live_0123456789abcdef", Mode::Test)),
        SecretKey::parse("sk_live_0123456789abcdef", Mode::Test).unwrap_err().to_string(),
        format!(
            "{:?}",
            client("http://127.0.0.1:1").product(&Scope::platform(Mode::Test), "x").await
        ),
    ] {
        assert!(!shown.contains("0123456789"), "{shown}");
    }
}

#[test]
fn keys_are_of_their_mode() {
    for (text, mode, is_good) in [
        ("sk_test_a1", Mode::Test, true),
        ("rk_test_a1\n", Mode::Test, true),
        ("sk_live_a1", Mode::Live, true),
        ("sk_live_a1", Mode::Test, false),
        ("sk_test_a1", Mode::Live, false),
        ("pk_test_a1", Mode::Test, false),
        ("sk_test_", Mode::Test, false),
        ("sk_test_a b", Mode::Test, false),
        ("sk_test_a\nsk_test_b", Mode::Test, false),
        ("", Mode::Test, false),
    ] {
        assert_eq!(SecretKey::parse(text, mode).is_ok(), is_good, "{text} as {mode}");
    }
}
