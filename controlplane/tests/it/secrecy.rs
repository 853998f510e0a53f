//! No secret stands where it could be read: in the database, the audit log, an answer, an error or what is logged.
//!
//! In: a control plane that sells and was told one secret of each kind, every operation. Out: where a secret was found.
//! Always holds: what is looked for was given in an answer or a request of this very case, so it exists.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use parking_lot::Mutex;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::contract::Walk;
use super::place::Place;

static IS_KEPT: AtomicBool = AtomicBool::new(false);
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Keeps everything that is logged, at every level, while it is told to.
struct Log;

/// Writes fields down.
struct Fields;

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(LOGGED.lock(), "{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        IS_KEPT.load(Ordering::Relaxed)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Fields);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields);
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// All that the database holds, as text.
async fn stored(place: &Place) -> String {
    if place.store.is_shared() {
        let sql = "SELECT string_agg(query_to_xml('SELECT * FROM ' || quote_ident(tablename), true, false, '')::text, '') \
                   AS n FROM pg_tables WHERE schemaname = 'public'";
        return place.store.raw_text(sql).await;
    }
    let file = place.url.trim_start_matches("sqlite://");
    let read = |name: String| std::fs::read(name).unwrap_or_default();
    let bytes = [read(file.to_owned()), read(format!("{file}-wal"))].concat();
    assert!(bytes.len() > 4_096, "{file} is empty");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Requests that are refused, with a secret in each.
async fn refusals(walk: &Walk, secret: &str) -> Vec<String> {
    let owner = &walk.shop.owner;
    let headers = json!({ "X-Origin-Key": secret });
    let sites = "/v1/sites";
    let origin = "https://refused.example.com";
    let bodies = [
        (sites, json!({ "slug": "A B", "origin": origin, "origin_headers": headers })),
        (sites, json!({ "slug": "refused", "origin": origin, "origin_headers": secret })),
        (sites, json!({ "slug": "refused", "origin": origin, "origin_headers": [secret] })),
        (
            sites,
            json!({ "slug": "refused", "origin": origin, "origin_headers": { "X": [secret] } }),
        ),
        (
            sites,
            json!({ "slug": "refused", "origin": origin, "origin_headers": { "X": format!("{secret}\n") } }),
        ),
        (
            sites,
            json!({ "slug": "refused", "origin": format!("https://user:{secret}@refused.example.com") }),
        ),
        (
            "/v1/tokens/import",
            json!({ "subscription_id": walk.ids["subscription_id"], "sha256": secret }),
        ),
    ];
    let mut texts = Vec::new();
    for (path, body) in bodies {
        let answer = owner.post(path, body).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text);
        texts.push(answer.text);
    }
    for key in [format!("pfa_{secret}"), format!("{} {secret}", owner.key), secret.to_owned()] {
        let nobody = owner.with_key(key);
        texts.push(nobody.get("/v1/account").await.expect(401).text);
    }
    texts
}

pub async fn no_secret_stands_anywhere(place: Place) {
    // Once for both databases.
    let _ = tracing::subscriber::set_global_default(Log);
    IS_KEPT.store(true, Ordering::Relaxed);
    LOGGED.lock().clear();
    let walk = Walk::of(place.clone()).await;
    let seeded = "seededOriginSecret0123456789";
    let mut secrets = vec![
        ("an origin header", seeded.to_owned()),
        ("Stripe's key", walk.shop.sandbox.secret_key().to_owned()),
        ("the owner's key", walk.shop.owner.key.clone()),
        ("the keyring", place.text.split_whitespace().last().unwrap().to_owned()),
    ];
    let site = format!("/v1/sites/{}", walk.ids["site_id"]);
    let headers = json!({ "origin_headers": { "X-Origin-Key": seeded } });
    walk.shop.owner.patch(&site, None, headers).await.expect(200);
    let mut answers = refusals(&walk, seeded).await;
    let operations = walk.operations();
    let mut given = Vec::new();
    // What ends something comes last.
    let removals = operations.iter().filter(|one| one.method == Method::DELETE);
    let changes = operations.iter().filter(|one| one.method != Method::DELETE);
    for operation in changes.chain(removals).filter(|one| one.method != Method::GET) {
        let body =
            if operation.body.is_null() { String::new() } else { operation.body.to_string() };
        let is_patch = operation.method == Method::PATCH;
        let body = if is_patch { "{}".to_owned() } else { body };
        let (method, path) = (operation.method.clone(), &operation.path);
        // What is refused is looked at as well.
        let answer = walk.shop.owner.send(method, path, &[], body.into_bytes()).await;
        match answer.json["secret"].as_str() {
            Some(secret) => given.push((operation.id.clone(), secret.to_owned())),
            None => answers.push(answer.text),
        }
    }
    for operation in operations.iter().filter(|one| one.method == Method::GET) {
        answers.push(walk.shop.owner.get(&operation.path).await.text);
    }
    let audit = walk.shop.owner.get("/v1/audit?limit=100").await.expect(200).text;
    let stored = stored(&place).await;
    IS_KEPT.store(false, Ordering::Relaxed);
    let logged = std::mem::take(&mut *LOGGED.lock());
    assert!(logged.len() > 1_000 && stored.contains("walked"), "nothing was looked through");
    assert!(given.len() >= 5, "{given:?}");
    secrets.extend(given.iter().map(|(id, secret)| (id.as_str(), secret.clone())));
    for (what, secret) in &secrets {
        // The part that is random, less the four last characters, which may be shown.
        let random = secret.rsplit('_').next().filter(|part| part.len() >= 20).unwrap_or(secret);
        let secret = &random[..random.len() - 4];
        assert!(secret.len() >= 10, "{what} is short");
        for (place, text) in [("audit log", &audit), ("database", &stored), ("log", &logged)] {
            assert!(!text.contains(secret), "{what} stands in the {place}");
        }
        for answer in &answers {
            assert!(!answer.contains(secret), "{what} stands in {answer}");
        }
    }
}
