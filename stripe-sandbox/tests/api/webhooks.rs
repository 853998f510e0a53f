//! Deliveries: signed, in order, doubled, lost, withheld, tried again.

use crate::world::{START, World};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stripe_sandbox::{Config, WebhookEndpoint, WebhookFaults, signature};
use tokio::net::TcpListener;

const SECRET: &str = "whsec_test";
const SOON: Duration = Duration::from_secs(20);

/// What an endpoint got, and what it answers.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<(String, Bytes)>>>,
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("bound"));
        let (got, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(200)));
        let (kept, answers) = (got.clone(), status.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answers) = (kept.clone(), answers.clone());
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let (kept, answers) = (kept.clone(), answers.clone());
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.expect("a body").to_bytes();
                        let header =
                            parts.headers["stripe-signature"].to_str().expect("text").to_owned();
                        kept.lock().push((header, body));
                        let status = *answers.lock();
                        let answer =
                            hyper::Response::builder().status(status).body(Full::new(Bytes::new()));
                        Ok::<_, Infallible>(answer.expect("a response"))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, got, status }
    }

    fn types(&self) -> Vec<String> {
        let got = self.got.lock();
        let kind = |body: &Bytes| {
            serde_json::from_slice::<Value>(body).expect("JSON")["type"].as_str().map(str::to_owned)
        };
        got.iter().filter_map(|(_, body)| kind(body)).collect()
    }
}

async fn world(receiver: &Receiver, connect: bool) -> World {
    let mut config = Config::fixed(START, 7);
    config.webhook_endpoints.push(WebhookEndpoint::new(&receiver.url, SECRET, connect));
    World::with(config).await
}

async fn pay(world: &World) {
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    world.subscribed(&price, "").await;
    assert!(world.sandbox.settle(SOON).await, "deliveries take no time");
}

#[tokio::test]
async fn all_events_come_in_order_and_signed() {
    let receiver = Receiver::new().await;
    let world = world(&receiver, false).await;
    pay(&world).await;
    assert_eq!(receiver.types(), world.told());
    for (header, body) in receiver.got.lock().iter() {
        assert!(signature::verify(SECRET, header, body, START, 0), "{header}");
        let event: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(
            (event["api_version"].as_str(), event.get("account")),
            (Some("2026-10-28.endive"), None)
        );
    }
    let events = world.get("/v1/events", "delivery_success=false").await;
    assert_eq!(events["data"].as_array().map(Vec::len), Some(0), "all were taken");
}

#[tokio::test]
async fn events_of_an_account_go_to_connect_endpoints_and_bear_its_name() {
    let (own, connect) = (Receiver::new().await, Receiver::new().await);
    let mut world = world(&own, false).await;
    let form = format!(
        "url={}&enabled_events[0]=invoice.*&enabled_events[1]=account.updated&connect=true",
        connect.url
    );
    let endpoint = world.post("/v1/webhook_endpoints", &form).await;
    let secret = endpoint["secret"].as_str().expect("told once").to_owned();
    let account = world.send("POST", "/v2/core/accounts", "{}", &[]).await.body["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    world.sandbox.onboard(&account).expect("an account");
    world.account = account.clone();
    pay(&world).await;
    assert_eq!(own.types(), [] as [&str; 0], "nothing of an account's");
    let types = connect.types();
    assert_eq!(types.first().map(String::as_str), Some("account.updated"));
    assert!(
        types.iter().skip(1).all(|kind| kind.starts_with("invoice.")),
        "only what it wants: {types:?}"
    );
    for (header, body) in connect.got.lock().iter() {
        let event: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(event["account"], account.as_str());
        assert!(signature::verify(&secret, header, body, START, 0), "{header}");
    }
}

#[tokio::test]
async fn thin_events_go_to_those_who_name_them() {
    let (all, thin) = (Receiver::new().await, Receiver::new().await);
    let world = world(&all, true).await;
    let form = format!("url={}&enabled_events[0]=v2.core.account*&connect=true", thin.url);
    world.post("/v1/webhook_endpoints", &form).await;
    let account =
        world.post("/v2/core/accounts", "{}").await["id"].as_str().expect("an id").to_owned();
    world.sandbox.onboard(&account).expect("an account");
    assert!(world.sandbox.settle(SOON).await);
    assert_eq!(all.types(), ["account.updated"]);
    let status = "v2.core.account[configuration.merchant].capability_status_updated";
    assert_eq!(thin.types(), ["v2.core.account.updated", status]);
    let body: Value = serde_json::from_slice(&thin.got.lock()[1].1).expect("JSON");
    assert_eq!(
        (body["related_object"]["id"].as_str(), body.get("data")),
        (Some(account.as_str()), None)
    );
}

#[tokio::test]
async fn faults_of_deliveries_befall_them_as_asked() {
    let all =
        |faults: WebhookFaults| WebhookFaults { types: vec!["invoice.paid".into()], ..faults };
    for (faults, at_once, a_day_later) in [
        (WebhookFaults::default(), 1, 1),
        (all(WebhookFaults { doubled: 1000, ..Default::default() }), 2, 2),
        (all(WebhookFaults { lost: 1000, ..Default::default() }), 0, 0),
        (all(WebhookFaults { withheld: 1000, withheld_s: 86_400, ..Default::default() }), 0, 1),
    ] {
        let receiver = Receiver::new().await;
        let world = world(&receiver, false).await;
        world.sandbox.set_webhook_faults(faults.clone());
        pay(&world).await;
        let count = || receiver.types().iter().filter(|kind| *kind == "invoice.paid").count();
        assert_eq!(count(), at_once, "{faults:?}");
        world.pass(86_400);
        assert!(world.sandbox.settle(SOON).await);
        assert_eq!(count(), a_day_later, "{faults:?}, a day later");
        assert_eq!(
            world.told().iter().filter(|kind| *kind == "invoice.paid").count(),
            1,
            "the list has it"
        );
    }
}

#[tokio::test]
async fn held_events_go_in_another_order_when_they_are_shuffled() {
    let receiver = Receiver::new().await;
    let world = world(&receiver, false).await;
    world.sandbox.hold_webhooks();
    world.sandbox.set_webhook_faults(WebhookFaults { shuffled: true, ..Default::default() });
    pay(&world).await;
    assert_eq!(receiver.types().len(), 0, "held");
    world.sandbox.release_webhooks();
    assert!(world.sandbox.settle(SOON).await);
    let (mut got, mut told) = (receiver.types(), world.told());
    assert_ne!(got, told, "seed 7 shuffles them");
    got.sort();
    told.sort();
    assert_eq!(got, told, "but they are the same");
}

#[tokio::test]
async fn what_is_refused_comes_again_for_three_days_at_most() {
    let receiver = Receiver::new().await;
    let world = world(&receiver, false).await;
    *receiver.status.lock() = 500;
    world.post("/v1/products", "name=a").await;
    for (wait, attempts) in [(0, 1), (9, 1), (1, 2), (60, 3), (300, 4)] {
        world.pass(wait);
        assert!(world.sandbox.settle(SOON).await);
        assert_eq!(receiver.got.lock().len(), attempts, "after {wait} s more");
    }
    let (mut last, mut rounds) = (0, 0);
    while receiver.got.lock().len() > last && rounds < 20 {
        (last, rounds) = (receiver.got.lock().len(), rounds + 1);
        world.pass(86_400);
        assert!(world.sandbox.settle(SOON).await);
    }
    assert_eq!(receiver.got.lock().len(), 12, "then it is given up");
    let bodies: Vec<Bytes> = receiver.got.lock().iter().map(|(_, body)| body.clone()).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "the same bytes each time");
    let (accepted, refused) = world.sandbox.deliveries_made();
    assert_eq!((accepted, refused), (0, 12));
}

#[tokio::test]
async fn what_waits_can_be_sent_now() {
    let receiver = Receiver::new().await;
    let world = world(&receiver, false).await;
    *receiver.status.lock() = 503;
    world.post("/v1/products", "name=a").await;
    assert!(world.sandbox.settle(SOON).await);
    assert_eq!(world.sandbox.deliveries_waiting(), (0, 1));
    *receiver.status.lock() = 200;
    world.sandbox.redeliver();
    assert!(world.sandbox.settle(SOON).await);
    assert_eq!((world.sandbox.deliveries_waiting(), receiver.got.lock().len()), ((0, 0), 2));
}
