//! A shop with its public pages, Stripe's own page to pay on, and a gateway in front of what is sold.
//!
//! In: a place, what the small plan costs, how the sandbox behaves. Out: what a browser sees, what Stripe says, what a node decides.
//! Always holds: a buyer goes through pages alone; a node decides by the policy that the control plane would send it, at the
//! sandbox's time.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use policy::decide::decide;
use policy::facts::{Facts, RequestLine};
use policy::matcher::Scratch;
use policy::snapshot::Snapshot;
use policy::token::TokenHash;
use serde_json::{Value as Json, json};
use stripe_sandbox::Config;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::api::{self, ApiSettings, App};
use crate::billing::pages;
use crate::sync::base;

use super::client::Client;
use super::money::Shop;
use super::place::Place;
use super::shop::Seen;
use super::sync_node::until;

/// The shop.
pub struct Front {
    pub shop: Shop,
    /// The owner, whose API knows Stripe.
    pub owner: Client,
    router: Router,
    browser: reqwest::Client,
    publisher: JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// What somebody bought.
#[derive(Clone, Debug)]
pub struct Sold {
    /// Stripe's session.
    pub session: String,
    /// Stripe's subscription.
    pub subscription: String,
    /// The text of the key.
    pub key: String,
}

/// A time as Unix seconds.
pub fn second(at: &str) -> i64 {
    at.parse::<jiff::Timestamp>().unwrap().as_second()
}

impl Front {
    pub async fn open(place: &Place) -> Self {
        Self::with(place, |_| {}, json!({})).await
    }

    pub async fn with(place: &Place, configure: impl FnOnce(&mut Config), price: Json) -> Self {
        // A month of 31 days lies before the first renewal, whatever the date.
        let fixed = |config: &mut Config| {
            *config = Config::fixed(second("2027-03-01T12:00:00Z"), 7);
            configure(config);
        };
        let shop = Shop::with(place, fixed, price).await;
        let app = App::new(place.store.clone(), place.keyring.clone(), ApiSettings::default());
        let router = api::router(app.with_billing(Some(shop.billing.clone())))
            .merge(pages::router(shop.billing.clone()));
        let owner = Client::new(router.clone(), shop.owner.key.clone());
        let resources = format!("/v1/sites/{}/resources", shop.site);
        owner.post(&resources, json!({ "pattern": "/paid/*" })).await.expect(201);
        let browser = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let publisher = tokio::spawn(place.store.outbox().clone().publish());
        Self { shop, owner, router, browser, publisher }
    }

    /// Another client of the same control plane.
    pub fn client(&self, key: String) -> Client {
        Client::new(self.router.clone(), key)
    }

    /// A call of the dashboard of whoever owns this connected account.
    pub async fn dashboard_of(&self, account: &str, path: &str, form: &str) -> Json {
        let request = self
            .browser
            .post(format!("{}{path}", self.shop.sandbox.url()))
            .header("authorization", "Bearer sk_test_sandbox")
            .header("stripe-version", stripe_sandbox::API_VERSION)
            .header("stripe-account", account)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path} {form}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn see(&self, path: &str) -> Seen {
        self.browse(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn submit(&self, path: &str, form: &str) -> Seen {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.browse(request.unwrap()).await
    }

    async fn browse(&self, request: Request<Body>) -> Seen {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Seen { status: parts.status, headers: parts.headers, text }
    }

    /// Presses the small plan's button on the pricing page; the session and where it is paid.
    pub async fn begin(&self) -> (String, String) {
        let form = format!("plan={}", self.shop.small);
        self.submit("/pay/shop/checkout", &form).await.expect(200);
        let newest = self.owner.get("/v1/checkouts?limit=1").await.expect(200);
        let text = |name: &str| newest.json["data"][0][name].as_str().unwrap().to_owned();
        (text("session_id"), text("url"))
    }

    /// A form of Stripe's own pages: the status, and where the browser is sent.
    pub async fn at_stripe(&self, url: &str, form: &str) -> (u16, String) {
        let answer = self
            .browser
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let answer = answer.send().await.unwrap();
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        (status, location.unwrap_or_default())
    }

    /// Where Stripe sends a buyer back to, as a path of ours.
    pub async fn success(&self, session: &str) -> Seen {
        self.see(&format!("/pay/shop/success?session_id={session}")).await
    }

    /// Shows the key of a session that was paid.
    pub async fn claim(&self, session: &str) -> String {
        assert!(self.success(session).await.expect(200).text.contains("Show my key"));
        let shown = self.submit("/claim", &format!("session_id={session}")).await.expect(200);
        shown.key().unwrap().to_owned()
    }

    /// From the pricing page to a key, by one of the buttons of Stripe's page.
    pub async fn buy(&self, form: &str) -> Sold {
        let (session, url) = self.begin().await;
        let (status, back) = self.at_stripe(&url, form).await;
        assert_eq!(status, 303, "{form}");
        assert!(back.ends_with(&format!("?session_id={session}")), "{back}");
        let key = self.claim(&session).await;
        let subscription = self.session(&session)["subscription"].as_str().unwrap().to_owned();
        Sold { session, subscription, key }
    }

    /// A session as Stripe has it.
    pub fn session(&self, id: &str) -> Json {
        self.object("checkout.session", id)
    }

    /// An object of the connected account.
    pub fn object(&self, kind: &str, id: &str) -> Json {
        self.shop.sandbox.object(&self.shop.stripe_account, kind, id).unwrap()
    }

    /// All objects of a kind in the connected account, oldest first.
    pub fn objects(&self, kind: &str) -> Vec<Json> {
        self.shop.sandbox.objects(&self.shop.stripe_account, kind)
    }

    /// What nodes would be sent now.
    pub async fn policy(&self) -> Snapshot {
        let folder = tempfile::tempdir().unwrap();
        let mut found = None;
        let place = &self.shop.place;
        let compiled = until(async || {
            found = base::compile(&place.store, &place.keyring, 1, folder.path()).await.unwrap();
            found.is_some()
        });
        assert!(compiled.await, "the outbox is not published");
        Snapshot::from_file(&found.unwrap().file).unwrap()
    }

    /// How a node decides on a request with a key at a moment, as far as policy alone says.
    pub async fn verdict_at(&self, key: &str, now_s: i64) -> &'static str {
        let snapshot = self.policy().await;
        let site = snapshot.site_by_slug("shop").unwrap();
        let value = format!("Bearer {key}");
        let line = RequestLine { method: b"GET", path: b"/paid/x", query: None };
        let headers = [(&b"authorization"[..], value.as_bytes())];
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let places = site.token_places();
        let facts = Facts::extract(line, headers.into_iter(), places, false, client);
        decide(&snapshot, &site, &facts, now_s, &mut Scratch::default()).reason.as_str()
    }

    /// The same at the sandbox's time.
    pub async fn verdict(&self, key: &str) -> &'static str {
        self.verdict_at(key, self.shop.sandbox.now()).await
    }

    /// The limit of a key's period at a moment, and when that began and ends.
    pub async fn period_at(&self, key: &str, now_s: i64) -> (Option<u64>, (i64, i64)) {
        let snapshot = self.policy().await;
        let (_, subscription) = snapshot.find_token(&TokenHash::of(key.as_bytes())).unwrap();
        let terms = snapshot.terms(subscription, now_s).unwrap();
        (terms.limit, terms.calendar.span(now_s))
    }
}
