//! What the log has of calls: the request's id where it helps, and nothing secret.
//!
//! In: calls that are answered well and badly, each with secrets in what is sent. Out: levels and fields of what was logged.
//! Always holds: every level is captured, so that what a release leaves out is looked at, too.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::client_tests::{KEY, client, error, good, product};
use super::scripted::{Scripted, Step};
use super::{Mode, Scope};

/// A code of OAuth, and a secret that Stripe's answers may have.
const CODE: &str = "ac_0123456789abcdef";
const WEBHOOK_SECRET: &str = "whsec_0123456789abcdef";

/// A line: its level, its fields.
type Line = (Level, String);

/// Keeps everything that is logged by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = String::new();
        span.record(&mut Fields(&mut text));
        self.0.lock().push((*span.metadata().level(), text));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = String::new();
        values.record(&mut Fields(&mut text));
        self.0.lock().push((Level::TRACE, text));
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        self.0.lock().push((*event.metadata().level(), text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What a call is logged with: its answer, and the level at which its request's id stands.
async fn check(is_read: bool, step: Step, expected: Level) {
    let log = Log::default();
    let shown = format!("{step:?}, read {is_read}");
    let _logging = tracing::subscriber::set_default(log.clone());
    let (_server, base) = Scripted::start([step.with("request-id", "req_2")]).await;
    let (stripe, scope) = (client(&base), Scope::connected(Mode::Test, "acct_1"));
    match is_read {
        true => drop(stripe.product(&scope, "plan_1").await),
        false => drop(stripe.create_product(&scope, &product(), "pf_key").await),
    }
    let lines = log.0.lock().clone();
    let told: Vec<&Line> =
        lines.iter().filter(|(_, text)| text.contains("request_id=\"req_")).collect();
    let is_ours = |(level, text): &&&Line| *level == expected && text.contains("/v1/products");
    assert_eq!(told.iter().filter(is_ours).count(), 1, "{shown}: {lines:?}");
}

#[tokio::test]
async fn what_changes_something_is_logged_with_its_request() {
    let refusal = || error(400, json!({ "message": "no" }));
    for (is_read, step, expected) in [
        (true, good(), Level::DEBUG),
        (false, good(), Level::INFO),
        (true, error(404, json!({ "code": "resource_missing" })), Level::DEBUG),
        (false, error(404, json!({ "code": "resource_missing" })), Level::WARN),
        (true, refusal(), Level::WARN),
        (false, refusal(), Level::WARN),
        (false, error(429, json!({ "code": "rate_limit" })), Level::WARN),
        (false, error(500, json!({})).with("stripe-should-retry", "false"), Level::WARN),
    ] {
        check(is_read, step, expected).await;
    }
}

#[tokio::test]
async fn nothing_that_was_sent_or_answered_is_logged() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let secret = json!({ "message": "wrong", "param": "x", "detail": WEBHOOK_SECRET });
    let token = json!({ "stripe_user_id": "acct_1", "livemode": false, "access_token": KEY,
        "refresh_token": "rt_0123456789abcdef" });
    let steps = [
        Step::json(200, json!({ "id": "plan_1", "active": true, "secret": WEBHOOK_SECRET })),
        error(401, secret.clone()),
        error(500, secret).with("stripe-should-retry", "false"),
        Step::Answer(502, vec![("stripe-should-retry", "false")], WEBHOOK_SECRET.to_owned()),
        Step::json(200, json!({ "id": [WEBHOOK_SECRET] })),
        Step::Broken,
        Step::json(200, token.clone()),
        Step::json(200, token),
        Step::json(400, json!({ "error": "invalid_grant", "error_description": "used" })),
    ];
    let count = steps.len();
    let (server, base) = Scripted::start(steps).await;
    let (stripe, scope) = (client(&base), Scope::connected(Mode::Test, "acct_1"));
    for _ in 0..5 {
        drop(stripe.create_product(&scope, &product(), "pf_key").await);
    }
    for key in [Some("pf_key"), None, None] {
        drop(stripe.oauth_token(Mode::Test, CODE, key).await);
    }
    drop(client("http://127.0.0.1:1").product(&scope, "plan_1").await);
    assert_eq!(server.came().len(), count, "all answers were given");
    let lines = log.0.lock().clone();
    let all: String = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert!(lines.len() > count, "{all}");
    for secret in ["0123456789abcdef", "sk_test_", "whsec_", "ac_", "Bearer"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}
