//! A control plane that sells, with a stand-in for Stripe beside it.
//!
//! In: a place. Out: an owner's client, pages as a browser sees them, what the stand-in has.
//! Always holds: the client of Stripe tries each call once, so that every fault is seen by the flow and not mended by it.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use stripe_sandbox::{Config, Sandbox};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::api::{self, ApiSettings, App};
use crate::billing::stripe::{
    Addresses, BucketLimit, Mode, RetryRules, SecretKey, SecretKeys, StripeSettings, VERSION,
};
use crate::billing::{Billing, BillingSettings, ClientIds, pages};
use crate::init;

use super::client::Client;
use super::place::Place;

/// All that a case needs.
pub struct Shop {
    pub sandbox: Sandbox,
    pub billing: Billing,
    pub router: Router,
    pub owner: Client,
    pub place: Place,
    publisher: JoinHandle<()>,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// A page as a browser has it.
#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Seen {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// The key that is shown; none where there is none.
    pub fn key(&self) -> Option<&str> {
        let (_, rest) = self.text.split_once("<code id=\"key\">")?;
        rest.split_once('<').map(|(key, _)| key)
    }
}

impl Shop {
    pub async fn open(place: Place) -> Self {
        Self::with_timeout(place, Duration::from_secs(5)).await
    }

    /// One that waits so long for an answer of Stripe's.
    pub async fn with_timeout(place: Place, timeout: Duration) -> Self {
        let sandbox = Sandbox::start(Config { seed: Some(7), ..Config::default() }).await.unwrap();
        let keys = SecretKeys {
            test: SecretKey::parse(sandbox.secret_key(), Mode::Test).ok(),
            live: None,
        };
        let (wait_first, wait_max) = (Duration::from_millis(1), Duration::from_millis(1));
        let stripe = StripeSettings {
            keys,
            addresses: Addresses::at(&sandbox.url()),
            retry: RetryRules { tries_max: 1, wait_first, wait_max },
            timeout,
            limit: BucketLimit { test_per_second: 10_000, ..BucketLimit::default() },
        };
        let settings = BillingSettings {
            stripe,
            public_url: Some("https://pay.example".to_owned()),
            client_ids: ClientIds { test: Some("ca_sandbox".to_owned()), live: None },
            fee: "2.5".parse().unwrap(),
            has_mail: false,
        };
        let billing = Billing::new(settings, place.store.clone()).unwrap();
        let router = Self::router_of(&place, &billing);
        let made = init::init(&place.store, "First", "first@example.com").await.unwrap();
        let owner = Client::new(router.clone(), made.key);
        let publisher = tokio::spawn(place.store.outbox().clone().publish());
        Self { sandbox, billing, router, owner, place, publisher }
    }

    /// API and pages.
    pub fn router_of(place: &Place, billing: &Billing) -> Router {
        let store = billing.store.clone();
        let app = App::new(store, place.keyring.clone(), ApiSettings::default());
        api::router(app.with_billing(Some(billing.clone()))).merge(pages::router(billing.clone()))
    }

    /// The connected account, ready to sell.
    pub async fn connect(&self) -> String {
        let draft = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
        let view = self.owner.post("/v1/stripe/account", draft).await.expect(200);
        let account = view.json["stripe_id"].as_str().unwrap().to_owned();
        self.sandbox.onboard(&account).unwrap();
        account
    }

    /// A site and a plan of it with this price; their ids.
    pub async fn plan(&self, reference: &str, quota: u64, price: Json) -> (String, String) {
        let sites = self.owner.get("/v1/sites").await.expect(200);
        let site = match sites.json["data"].get(0) {
            Some(site) => site["id"].as_str().unwrap().to_owned(),
            None => {
                let site = json!({ "slug": "weather", "name": "Weather & <Sun>", "origin": "https://api.example.com" });
                self.owner.post("/v1/sites", site).await.expect(201).id()
            }
        };
        let mut plan = json!({ "reference": reference, "price": price });
        plan["quota"] = json!({ "requests": quota, "per": "month" });
        if !price["overage"].is_null() {
            plan["overage"] = "allow".into();
        }
        let plan = self.owner.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201).id();
        (site, plan)
    }

    pub async fn see(&self, path: &str) -> Seen {
        Self::see_by(&self.router, path).await
    }

    /// The same of another process.
    pub async fn see_by(router: &Router, path: &str) -> Seen {
        Self::browse(router, Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn submit(&self, path: &str, form: &str) -> Seen {
        Self::submit_by(&self.router, path, form).await
    }

    /// The same to another process.
    pub async fn submit_by(router: &Router, path: &str, form: &str) -> Seen {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        Self::browse(router, request.unwrap()).await
    }

    pub async fn browse(router: &Router, request: Request<Body>) -> Seen {
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Seen { status: parts.status, headers: parts.headers, text }
    }

    /// The newest checkout.
    pub async fn checkout(&self) -> Json {
        let list = self.owner.get("/v1/checkouts?limit=1").await.expect(200);
        list.json["data"][0].clone()
    }

    /// How many tokens there are.
    pub async fn tokens(&self) -> usize {
        let list = self.owner.get("/v1/tokens?limit=100").await.expect(200);
        list.json["data"].as_array().unwrap().len()
    }

    /// A call as the owner's dashboard makes it: a path and a form; what it answers.
    pub async fn call(&self, account: &str, path: &str, form: &str) -> Json {
        let http = link::control::client::client(None, Duration::from_secs(5)).unwrap();
        let request = http
            .post(format!("{}/v1/{path}", self.sandbox.url()))
            .bearer_auth(self.sandbox.secret_key())
            .header("stripe-version", VERSION)
            .header("stripe-account", account)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path} {form}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The account that was connected first.
    pub fn account(&self) -> String {
        self.at_stripe("", "v2.core.account")[0]["id"].as_str().unwrap().to_owned()
    }

    /// Objects of a kind in the connected account.
    pub fn at_stripe(&self, account: &str, kind: &str) -> Vec<Json> {
        self.sandbox.objects(account, kind)
    }
}

/// What a plan costs in most cases.
pub fn price(amount: i64) -> Json {
    json!({ "amount": amount, "currency": "eur", "interval": "month" })
}
