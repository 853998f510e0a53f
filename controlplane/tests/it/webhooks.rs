//! Webhooks from a change by REST to a receiver behind a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use sha2::Sha256;

use super::client::Client;
use super::place::Place;
use super::samples::{self, Ids};
use crate::api::ApiSettings;
use crate::notify::webhooks::{TRIED_MS, WebhookClient, WebhookSender};
use crate::storage::{Mail, Store, WebhookDelivery};
use crate::world::{System, World};

/// The machine's clock, moved.
#[derive(Debug, Default)]
pub struct Moved(pub AtomicI64);

impl World for Moved {
    fn now_ms(&self) -> i64 {
        System.now_ms() + self.0.load(Ordering::Relaxed)
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }
}

/// A program of an owner's that keeps what it is sent.
#[derive(Clone, Default)]
struct Receiver {
    seen: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    /// Starts one; answers its URL.
    async fn start(&self) -> String {
        self.status.store(204, Ordering::Relaxed);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/hook")
    }

    fn drain(&self) -> Vec<(HeaderMap, String)> {
        std::mem::take(&mut self.seen.lock())
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.seen.lock().push((headers, String::from_utf8(body.to_vec()).unwrap()));
    let status = StatusCode::from_u16(receiver.status.load(Ordering::Relaxed)).unwrap();
    let location = [(header::LOCATION, "/elsewhere"), (header::RETRY_AFTER, "1")];
    (status, location).into_response()
}

/// An owner who allows private webhooks, a receiver, and a sender with a clock that can be moved.
struct Setting {
    owner: Client,
    ids: Ids,
    receiver: Receiver,
    url: String,
    clock: Arc<Moved>,
    store: Store,
    sender: WebhookSender,
}

async fn setting(place: &Place) -> Setting {
    let made = place.owner().await;
    let settings = ApiSettings { allow_private_webhooks: true, ..ApiSettings::default() };
    let owner = Client::new(place.router_with(settings), made.key);
    let ids = samples::make(&owner).await;
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let clock = Arc::new(Moved::default());
    let store = Store::open(&place.url, 4, clock.clone()).unwrap();
    let client = WebhookClient::new(true).unwrap();
    let sender = WebhookSender::new(store.clone(), place.keyring.clone(), client);
    // What was made so far is for the endpoint that the samples have.
    let archived = ids["webhook_endpoint_id"].clone();
    owner.delete(&format!("/v1/webhook-endpoints/{archived}")).await.expect(200);
    sender.send_due().await.unwrap();
    Setting { owner, ids, receiver, url, clock, store, sender }
}

impl Setting {
    /// An endpoint at the receiver; its path and its secret.
    async fn endpoint(&self, events: &[&str]) -> (String, String) {
        let body = json!({ "url": self.url, "events": events });
        let made = self.owner.post("/v1/webhook-endpoints", body).await.expect(201);
        let secret = made.json["secret"].as_str().unwrap().to_owned();
        (format!("/v1/webhook-endpoints/{}", made.id()), secret)
    }

    async fn issue_token(&self) -> String {
        let body = json!({ "subscription_id": self.ids["subscription_id"] });
        self.owner.post("/v1/tokens", body).await.expect(201).id()
    }

    async fn deliveries(&self, endpoint: &str) -> Vec<Json> {
        let answer = self.owner.get(&format!("{endpoint}/deliveries")).await.expect(200);
        answer.json["data"].as_array().unwrap().clone()
    }

    async fn mails(&self) -> Vec<Mail> {
        let account = self.owner.get("/v1/account").await.expect(200).id();
        self.store.tenant(&account).all::<Mail>(100, |query| query).await.unwrap()
    }
}

/// Whether a signature of this secret is among those of a request.
fn is_signed(headers: &HeaderMap, body: &str, secret: &str) -> bool {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp")).as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    text("webhook-signature").split(' ').any(|signature| signature == expected)
}

pub async fn changes_are_told_signed_and_once(place: Place) {
    let at = setting(&place).await;
    let (endpoint, secret) = at.endpoint(&["token.issued", "subscription.ended"]).await;
    let token = at.issue_token().await;
    at.owner.delete(&format!("/v1/tokens/{token}")).await.expect(200);
    // Two control planes at once.
    let client = WebhookClient::new(true).unwrap();
    let other = WebhookSender::new(place.another_store(), place.keyring.clone(), client);
    let (first, second) = tokio::join!(at.sender.send_due(), other.send_due());
    assert_eq!(first.unwrap() + second.unwrap(), 1);
    let seen = at.receiver.drain();
    assert_eq!(seen.len(), 1, "a revoked token was not asked for");
    let (headers, body) = &seen[0];
    assert!(is_signed(headers, body, &secret));
    let told: Json = serde_json::from_str(body).unwrap();
    assert_eq!(told["type"], "token.issued");
    assert_eq!(told["data"]["token"]["id"], token.as_str());
    assert!(!body.contains("sha256") && !body.contains("\"secret\""));
    let subscription = format!("/v1/subscriptions/{}", at.ids["subscription_id"]);
    // A change that concerns nobody, one that was not asked for, then the end.
    at.owner.patch(&subscription, None, json!({})).await.expect(200);
    at.owner.patch(&subscription, None, json!({ "status": "past_due" })).await.expect(200);
    at.owner.patch(&subscription, None, json!({ "status": "canceled" })).await.expect(200);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let told: Json = serde_json::from_str(&at.receiver.drain()[0].1).unwrap();
    assert_eq!(told["type"], "subscription.ended");
    assert_eq!(told["data"]["subscription"]["status"], "canceled");
    for delivery in at.deliveries(&endpoint).await {
        assert_eq!(delivery["status"], "delivered", "{delivery}");
        assert_eq!(delivery["answer_status"], 204);
    }
}

pub async fn a_secret_is_replaced_with_an_overlap(place: Place) {
    let at = setting(&place).await;
    let (endpoint, old) = at.endpoint(&["token.issued"]).await;
    let shown = at.owner.get(&endpoint).await.expect(200);
    assert!(!shown.text.contains("whsec_"));
    let body = json!({ "overlap_seconds": 3_600 });
    let rotated = at.owner.post(&format!("{endpoint}/rotate"), body).await.expect(201);
    let new = rotated.json["secret"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    for (hours, expected) in [(0, (true, true)), (2, (true, false))] {
        at.clock.0.store(hours * 3_600_000, Ordering::Relaxed);
        at.issue_token().await;
        assert_eq!(at.sender.send_due().await.unwrap(), 1);
        let (headers, body) = at.receiver.drain().remove(0);
        let found = (is_signed(&headers, &body, &new), is_signed(&headers, &body, &old));
        assert_eq!(found, expected, "after {hours} hours");
    }
}

pub async fn what_fails_is_tried_again_and_given_up(place: Place) {
    let at = setting(&place).await;
    let (endpoint, _) = at.endpoint(&["token.issued"]).await;
    at.issue_token().await;
    at.receiver.status.store(302, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let first = at.receiver.drain();
    assert_eq!(first.len(), 1, "a redirect was followed");
    let delivery = at.deliveries(&endpoint).await.remove(0);
    assert_eq!((&delivery["status"], &delivery["answer_status"]), (&json!("pending"), &json!(302)));
    assert_eq!(at.sender.send_due().await.unwrap(), 0, "it is not due yet");
    at.receiver.status.store(503, Ordering::Relaxed);
    at.clock.0.store(60_000, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    let second = at.receiver.drain();
    assert_eq!(second[0].0["webhook-id"], first[0].0["webhook-id"]);
    assert_eq!(second[0].1, first[0].1, "the body stays");
    at.sender.disable_failing().await;
    assert_eq!(at.owner.get(&endpoint).await.expect(200).json["enabled"], true);
    // Three days later it is given up, the endpoint turned off, and the owner told.
    at.clock.0.store(TRIED_MS + 120_000, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert_eq!(at.deliveries(&endpoint).await[0]["status"], "failed");
    at.sender.disable_failing().await;
    at.sender.disable_failing().await;
    let shown = at.owner.get(&endpoint).await.expect(200);
    assert_eq!(shown.json["enabled"], false);
    let mails = at.mails().await;
    let mails: Vec<_> = mails.iter().filter(|mail| mail.template == "endpoint_disabled").collect();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert_eq!(mails[0].recipient.as_deref(), Some("first@example.com"));
    at.issue_token().await;
    assert_eq!(at.deliveries(&endpoint).await.len(), 1, "nothing is put on its way to it");
    // Turned on again, what was given up is sent again by hand.
    let replay = format!("{endpoint}/deliveries/{}/replay", delivery["id"].as_str().unwrap());
    at.owner.post(&replay, json!({})).await.expect(409);
    at.owner.patch(&endpoint, None, json!({ "enabled": true })).await.expect(200);
    at.receiver.status.store(200, Ordering::Relaxed);
    at.receiver.drain();
    at.owner.post(&replay, json!({})).await.expect(200);
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert_eq!(at.receiver.drain()[0].0["webhook-id"], first[0].0["webhook-id"]);
    assert_eq!(at.deliveries(&endpoint).await[0]["status"], "delivered");
    assert_eq!(at.owner.get(&endpoint).await.json["failing_since"], Json::Null);
}

pub async fn what_was_given_up_is_replayed_at_once(place: Place) {
    let at = setting(&place).await;
    let (endpoint, _) = at.endpoint(&["token.issued"]).await;
    let (other, _) = at.endpoint(&["token.issued"]).await;
    at.receiver.status.store(500, Ordering::Relaxed);
    for _ in 0..3 {
        at.issue_token().await;
    }
    at.clock.0.store(TRIED_MS + 120_000, Ordering::Relaxed);
    assert_eq!(at.sender.send_due().await.unwrap(), 6);
    at.receiver.drain();
    at.receiver.status.store(200, Ordering::Relaxed);
    at.issue_token().await;
    assert_eq!(at.sender.send_due().await.unwrap(), 2);
    assert_eq!(at.receiver.drain().len(), 2);
    let replay = format!("{endpoint}/replay");
    let since = json!({ "since": "2026-01-01T00:00:00Z" });
    for (body, status) in [
        (json!({}), 422),
        (json!({ "since": "yesterday" }), 422),
        (json!({ "since": "2026-01-01T00:00:00Z", "more": 1 }), 422),
    ] {
        at.owner.post(&replay, body).await.expect(status);
    }
    let later = json!({ "since": "2999-01-01T00:00:00Z" });
    let none = at.owner.post(&replay, later).await.expect(200);
    assert_eq!(none.json, json!({ "replayed": 0, "has_more": false }));
    // Sent again with the same key it is the same request; with another, nothing is left to do.
    for (key, replayed) in [("one", 3), ("one", 3), ("two", 0)] {
        let answer = at.owner.post_once(&replay, key, since.clone()).await.expect(200);
        assert_eq!(answer.json, json!({ "replayed": replayed, "has_more": false }), "{key}");
    }
    assert_eq!(at.sender.send_due().await.unwrap(), 3);
    assert_eq!(at.receiver.drain().len(), 3);
    let statuses = |rows: Vec<Json>| {
        let all = rows.iter().map(|row| row["status"].as_str().unwrap().to_owned());
        all.collect::<Vec<_>>()
    };
    assert_eq!(statuses(at.deliveries(&endpoint).await), ["delivered"; 4]);
    assert_eq!(statuses(at.deliveries(&other).await), ["delivered", "failed", "failed", "failed"]);
    let id = endpoint.rsplit('/').next().unwrap();
    let audit = at.owner.get(&format!("/v1/audit?resource_id={id}&limit=100")).await.expect(200);
    let told: Vec<&Json> = audit.json["data"].as_array().unwrap().iter().collect();
    let told: Vec<_> = told.iter().filter(|entry| entry["after"]["replayed"].is_object()).collect();
    assert_eq!(told.len(), 1, "{}", audit.text);
    assert_eq!(told[0]["after"]["replayed"]["deliveries"], 3);
    // As many as are asked for, the oldest first.
    let account = at.owner.get("/v1/account").await.expect(200).id();
    let other_id = other.rsplit('/').next().unwrap();
    let mut change = at.store.change(&account, super::place::actor()).await.unwrap();
    assert_eq!(change.replay_deliveries(other_id, 0, 2).await.unwrap(), (2, true));
    assert_eq!(change.waiting_deliveries(other_id).await.unwrap(), 2);
    assert_eq!(change.replay_deliveries(other_id, 0, 2).await.unwrap(), (1, false));
    drop(change);
    at.owner.patch(&endpoint, None, json!({ "enabled": false })).await.expect(200);
    at.owner.post(&replay, since.clone()).await.expect(409);
    at.owner.delete(&endpoint).await.expect(200);
    at.owner.post(&replay, since).await.expect(409);
}

pub async fn an_endpoint_that_is_gone_is_left_alone(place: Place) {
    let at = setting(&place).await;
    let (endpoint, _) = at.endpoint(&["token.issued"]).await;
    at.receiver.status.store(410, Ordering::Relaxed);
    at.issue_token().await;
    assert_eq!(at.sender.send_due().await.unwrap(), 1);
    assert_eq!(at.owner.get(&endpoint).await.expect(200).json["enabled"], false);
    assert_eq!(at.deliveries(&endpoint).await[0]["status"], "failed");
}

pub async fn webhooks_never_reach_the_operators_network(place: Place) {
    let at = setting(&place).await;
    let careful = Client::new(place.router(), at.owner.key.clone());
    for url in [at.url.as_str(), "https://127.0.0.1/", "https://localhost/", "http://example.com/"]
    {
        let answer = careful.post("/v1/webhook-endpoints", json!({ "url": url })).await.expect(422);
        assert_eq!(answer.fields(), ["url"], "{url}");
    }
    // One that was allowed once, and a name that has come to stand for this machine.
    at.endpoint(&["token.issued"]).await;
    let name = at.url.replace("http://127.0.0.1", "https://localhost.localdomain.example");
    let body = json!({ "url": name, "events": ["token.issued"] });
    at.owner.post("/v1/webhook-endpoints", body).await.expect(201);
    at.issue_token().await;
    let client = WebhookClient::new(false).unwrap();
    let sender = WebhookSender::new(place.another_store(), place.keyring.clone(), client);
    assert_eq!(sender.send_due().await.unwrap(), 2);
    assert!(at.receiver.drain().is_empty());
    let account = at.owner.get("/v1/account").await.expect(200).id();
    let tenant = at.store.tenant(&account);
    let pending = tenant.all::<WebhookDelivery>(100, |query| query).await.unwrap();
    let errors: Vec<_> = pending.iter().filter(|row| row.next_at_ms.is_some()).collect();
    assert_eq!(errors.len(), 2, "{pending:?}");
    assert!(errors.iter().all(|row| row.answer_status.is_none() && row.error.is_some()));
}

pub async fn an_account_has_a_bounded_number_of_endpoints(place: Place) {
    let owner = place.owner().await;
    let draft = |word: &str| json!({ "url": "https://hooks.example.com/", "events": [word] });
    for word in ["key.ready", "nonsense", ""] {
        let answer = owner.post("/v1/webhook-endpoints", draft(word)).await.expect(422);
        assert_eq!(answer.fields(), ["events[0]"], "{word}");
    }
    for _ in 0..crate::notify::ENDPOINTS_MAX {
        owner.post("/v1/webhook-endpoints", draft("token.issued")).await.expect(201);
    }
    owner.post("/v1/webhook-endpoints", draft("token.issued")).await.expect(409);
}
