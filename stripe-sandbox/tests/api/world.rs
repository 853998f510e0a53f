//! A sandbox and a client for it.
//!
//! In: paths and forms. Out: status and JSON.
//! Always holds: each test has a sandbox of its own, whose time stands at [`START`] until it is moved.

use reqwest::Client;
use serde_json::Value;
use std::time::Duration;
use stripe_sandbox::{API_VERSION, Config, Outcome, Sandbox};

/// 2026-01-31 12:00:00 UTC: a day that February does not have.
pub const START: i64 = 1_769_860_800;
pub const DAY_S: i64 = 86_400;

pub struct World {
    pub sandbox: Sandbox,
    pub client: Client,
    /// `Stripe-Account` of all calls, if it is not empty.
    pub account: String,
}

/// A status and a body.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Config::fixed(START, 7)).await
    }

    pub async fn with(config: Config) -> Self {
        let sandbox = Sandbox::start(config).await.expect("a free port");
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client");
        Self { sandbox, client, account: String::new() }
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        form: &str,
        headers: &[(&str, &str)],
    ) -> Answered {
        let method: reqwest::Method = method.parse().expect(method);
        let query = if method == reqwest::Method::POST || form.is_empty() {
            String::new()
        } else {
            format!("?{form}")
        };
        let mut request =
            self.client.request(method.clone(), format!("{}{path}{query}", self.sandbox.url()));
        if method == reqwest::Method::POST {
            let json = path.starts_with("/v2/");
            let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
            request = request.header("content-type", kind).body(form.to_owned());
        }
        let defaults = [
            ("authorization", "Bearer sk_test_sandbox"),
            ("stripe-version", API_VERSION),
            ("stripe-account", &self.account),
        ];
        let given = |name: &str| headers.iter().any(|(given, _)| *given == name);
        for (name, value) in
            defaults.into_iter().filter(|(name, value)| !value.is_empty() && !given(name))
        {
            request = request.header(name, value);
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect(path);
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.expect("a body");
        Answered {
            status,
            headers,
            body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        }
    }

    /// A POST that is answered 200.
    pub async fn post(&self, path: &str, form: &str) -> Value {
        let answered = self.send("POST", path, form, &[]).await;
        assert_eq!(answered.status, 200, "POST {path} {form}: {}", answered.body);
        answered.body
    }

    /// A GET that is answered 200.
    pub async fn get(&self, path: &str, query: &str) -> Value {
        let answered = self.send("GET", path, query, &[]).await;
        assert_eq!(answered.status, 200, "GET {path}?{query}: {}", answered.body);
        answered.body
    }

    /// A price of a new product: id of the price.
    pub async fn price(&self, form: &str) -> String {
        let product = self.post("/v1/products", "name=Gold").await;
        let form =
            format!("product={}&currency=usd&{form}", product["id"].as_str().expect("an id"));
        id(&self.post("/v1/prices", &form).await)
    }

    /// A session for one unit of a price.
    pub async fn session(&self, price: &str, more: &str) -> Value {
        let form = format!(
            "mode=subscription&line_items[0][price]={price}&line_items[0][quantity]=1&success_url=http://x/ok?s=\
             {{CHECKOUT_SESSION_ID}}&{more}"
        );
        self.post("/v1/checkout/sessions", &form).await
    }

    /// A paid subscription to a price: id of the subscription.
    pub async fn subscribed(&self, price: &str, more: &str) -> String {
        let session = self.session(price, more).await;
        self.sandbox.pay(&id(&session), Outcome::Paid).expect("a card that pays").subscription
    }

    /// A subscription as the API shows it.
    pub async fn subscription(&self, id: &str) -> Value {
        self.get(&format!("/v1/subscriptions/{id}"), "").await
    }

    /// Moves time on by so many seconds.
    pub fn pass(&self, seconds: i64) {
        self.sandbox.advance(Duration::from_secs(u64::try_from(seconds).expect("forwards")));
    }

    /// Types of all events so far, oldest first.
    pub fn told(&self) -> Vec<String> {
        let events = self.sandbox.objects(&self.account, "event");
        events.iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    }
}

/// The `id` of an object.
pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

/// Start and end of a subscription's period.
pub fn period(subscription: &Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    let at = |name: &str| item[name].as_i64().expect(name);
    (at("current_period_start"), at("current_period_end"))
}

/// The second of a day at noon.
pub fn noon(day: &str) -> i64 {
    format!("{day}T12:00:00Z").parse::<jiff::Timestamp>().expect(day).as_second()
}
