//! Stripe by its API alone: what a story needs done there that no page is needed for, by whoever has a key of the test mode.
//!
//! In: variables ([`Access::read`]). Out: customers, subscriptions and time of their own (test clocks), in one connected account.
//! Always holds: no key but one of the test mode is used, and none is printed; what is made is taken away again; what only a page
//! can do is said to be left out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use controlplane::billing::stripe::{Mode, SecretKey};
use jiff::Timestamp;
use link::control::client::{body_of, chain, client};
use reqwest::Method;
use serde_json::{Value, json};
use stripe_sandbox::{API_VERSION, Card, Config, Exhausted, Sandbox};

use super::bank::{Bank, KEY_FILE, NODE, plan};
use super::buyer::{Buyer, check_out};
use super::gateway::{Gateway, say};
use super::plane::Plane;
use super::wait::{own_address, unix_s, wait_within};

const KEY: &str = "PAYFENCE_STRIPE_TEST_KEY";
const ACCOUNT: &str = "PAYFENCE_STRIPE_TEST_ACCOUNT";
const URL: &str = "PAYFENCE_STRIPE_TEST_URL";
const STRIPE: &str = "https://api.stripe.com";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Sweeps begin within ten seconds, and Stripe moves time while one waits.
const PATIENCE: Duration = Duration::from_secs(180);

/// How Stripe is reached, and as whom.
pub struct Access {
    key: String,
    /// The connected account that everything is done in.
    account: String,
    /// Where a stand-in is, instead of Stripe.
    url: Option<String>,
}

impl Access {
    /// What variables say; none where there is no key.
    ///
    /// # Errors
    /// Text for a person, without what a variable holds.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let Some(key) = variable(KEY) else { return Ok(None) };
        SecretKey::parse(&key, Mode::Test).map_err(|error| format!("{KEY}: {error}"))?;
        let account = variable(ACCOUNT).filter(|account| account.starts_with("acct_"));
        let account = account.ok_or_else(|| {
            format!(
                "{ACCOUNT}: name an account of Stripe's test mode (acct_…) that is connected to the key's platform and can take cards"
            )
        })?;
        Ok(Some(Self { key: key.trim().to_owned(), account, url: variable(URL) }))
    }

    /// The same of this process's environment.
    #[track_caller]
    pub fn from_environment() -> Option<Self> {
        let read = Self::read(|name| std::env::var(name).ok());
        read.unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// A stand-in at an address, as if it were Stripe.
    pub fn to(url: String, key: &str, account: String) -> Self {
        Self { key: key.to_owned(), account, url: Some(url) }
    }
}

/// A stand-in that nobody here has a hand in, with the machine's time.
pub struct HostedStandIn {
    pub sandbox: Sandbox,
    // It is served by it.
    _runtime: tokio::runtime::Runtime,
}

impl HostedStandIn {
    #[track_caller]
    pub fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // As an account's Billing settings say.
        let config = Config { exhausted: Exhausted::Unpaid, ..Config::default() };
        let sandbox = runtime.block_on(Sandbox::start(config)).expect("a sandbox");
        Self { sandbox, _runtime: runtime }
    }
}

/// A connected account of Stripe's, and a buyer in it.
pub struct StripeApi {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    access: Access,
    clock: String,
    customer: String,
    subscription: String,
    /// Products that are taken out of the shop in the end.
    products: Vec<String>,
}

/// A control plane that sells a basic plan of `origin`, with an account at Stripe in which time begins at `now_s`.
#[track_caller]
pub fn open(access: Access, origin: SocketAddr, now_s: i64) -> Option<(Plane, StripeApi)> {
    let folder = tempfile::tempdir().expect("a working folder");
    std::fs::write(folder.path().join(KEY_FILE), &access.key).expect("writable");
    let mut api = StripeApi::new(access);
    let own = ["--public-url", "https://pay.example"].map(str::to_owned).to_vec();
    let flags = [api.flags(folder.path()), own].concat();
    let plane = Plane::start_with(own_address(), folder, &flags, origin, plan("basic", 5, 1_000))?;
    api.connect(&plane);
    let time = api.post("/v1/test_helpers/test_clocks", &[("frozen_time", &now_s.to_string())]);
    api.clock = id_of(&time);
    Some((plane, api))
}

impl StripeApi {
    fn new(access: Access) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = client(None, Duration::from_secs(10)).expect("a client");
        let (clock, customer, subscription) = Default::default();
        let runtime = runtime.expect("a runtime");
        let products = Vec::new();
        Self { runtime, client, access, clock, customer, subscription, products }
    }

    /// An account of its own at a stand-in, which is asked to make one.
    #[track_caller]
    pub fn make_account(url: &str, key: &str) -> String {
        let api = Self::new(Access::to(url.to_owned(), key, String::new()));
        id_of(&api.post("/v1/accounts", &[("country", "DE"), ("email", "owner@example.com")]))
    }

    /// Makes the account the control plane's, as consent on a page of Stripe's does.
    #[track_caller]
    fn connect(&self, plane: &Plane) {
        left_out(
            "the pages of onboarding and of consent (OAuth): the account is connected by hand",
        );
        let account = &self.access.account;
        plane.change_row(&format!(
            "INSERT INTO stripe_accounts (id, account_id, version, created_at_ms, updated_at_ms, mode, stripe_id, status, settings) \
             SELECT 'sacct_story', account_id, 1, created_at_ms, created_at_ms, 'test', '{account}', 'pending', '{{}}' FROM sites"
        ));
        // Asked for, Stripe itself is asked.
        let connected = plane.get("/v1/stripe/account?mode=test");
        assert_eq!(connected["status"], "ready", "finish the onboarding of {account}: {connected}");
    }

    /// Makes what was bought by API what was bought on a page: the subscription here and the one there are the same.
    #[track_caller]
    fn join(&self, plane: &Plane, subscription_id: &str) {
        let (account, there) = (&self.access.account, &self.subscription);
        plane.change_row(&format!(
            "INSERT INTO stripe_subscriptions (id, account_id, version, created_at_ms, updated_at_ms, subscription_id, mode, \
             stripe_account, stripe_id, stripe_status, facts, fetched_at_ms) \
             SELECT 'ssub_story', account_id, 1, created_at_ms, created_at_ms, id, 'test', '{account}', '{there}', 'incomplete', \
             '{{}}', created_at_ms FROM subscriptions WHERE id = '{subscription_id}'"
        ));
        // What happened before was nobody's here.
        self.post(&format!("/v1/subscriptions/{there}"), &[("metadata[story]", "1")]);
    }

    /// A buyer with a card, in the account's own time.
    #[track_caller]
    fn make_customer(&mut self) {
        let clock = self.clock.clone();
        let fields = [("email", "buyer@example.com"), ("test_clock", &clock)];
        self.customer = id_of(&self.post("/v1/customers", &fields));
        self.set_card(Card::Good);
    }

    #[track_caller]
    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        self.call("POST", path, fields).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn call(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}{path}", self.access.url.as_deref().unwrap_or(STRIPE));
        let verb = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let encoded =
            fields.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value)));
        let mut request = self
            .client
            .request(verb, url)
            .timeout(ANSWER_TIMEOUT)
            .bearer_auth(&self.access.key)
            .header("Stripe-Version", API_VERSION)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(encoded.collect::<Vec<_>>().join("&"));
        if !self.access.account.is_empty() {
            request = request.header("Stripe-Account", &self.access.account);
        }
        let told = |reason: String| format!("{method} {path}: {reason}");
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|error| told(chain(&error.without_url())))?;
            let status = answer.status();
            let body = body_of(answer, ANSWER_BYTES_MAX).await.map_err(told)?;
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            match status.is_success() {
                true => Ok(body),
                // Stripe's sentence, which shows no key but its last letters.
                false => Err(told(format!("{status}: {}", body["error"]["message"]))),
            }
        })
    }

    /// Takes away what was made, as far as Stripe lets it be.
    fn clean_up(&self) {
        let mut calls = Vec::new();
        if !self.clock.is_empty() {
            // With its customers and what they bought.
            calls.push(("DELETE", format!("/v1/test_helpers/test_clocks/{}", self.clock), None));
        }
        for product in &self.products {
            // One that was sold can be archived only, with its prices.
            let prices = format!("/v1/prices?active=true&limit=100&product={product}");
            let prices = self.call("GET", &prices, &[]).unwrap_or_default();
            for price in prices["data"].as_array().into_iter().flatten() {
                let path = format!("/v1/prices/{}", price["id"].as_str().unwrap_or_default());
                calls.push(("POST", path, Some(("active", "false"))));
            }
            calls.push(("POST", format!("/v1/products/{product}"), Some(("active", "false"))));
        }
        for (method, path, field) in calls {
            if let Err(reason) = self.call(method, &path, &field.into_iter().collect::<Vec<_>>()) {
                say(&format!("left at Stripe: {reason}\n"));
            }
        }
    }
}

impl Drop for StripeApi {
    fn drop(&mut self) {
        self.clean_up();
    }
}

impl Bank for StripeApi {
    fn flags(&self, folder: &Path) -> Vec<String> {
        let key = folder.join(KEY_FILE).display().to_string();
        let mut flags = vec!["--stripe-secret-key-file".to_owned(), key];
        if let Some(url) = &self.access.url {
            flags.extend(["--stripe-base-url".to_owned(), url.clone()]);
        }
        flags
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn buy<'a>(&mut self, plane: &Plane, node: &'a Gateway) -> (Buyer<'a>, String) {
        let session = check_out(plane);
        let shown = self.get(&format!("/v1/checkout/sessions/{session}"));
        let is = ["status", "mode", "amount_total", "currency"].map(|name| shown[name].clone());
        let expected = [json!("open"), json!("subscription"), json!(1_000), json!("eur")];
        assert_eq!(is, expected, "{shown}");
        self.post(&format!("/v1/checkout/sessions/{session}/expire"), &[]);
        left_out("the page of the payment: the same is bought by API");
        self.make_customer();
        let prices = format!("/v1/sites/{}/plans/{}/prices", plane.site_id, plane.plan_id);
        let price = plane.get(&prices)["data"][0]["price_id"].as_str().expect("a price").to_owned();
        let customer = self.customer.clone();
        let fields = [
            ("customer", customer.as_str()),
            ("items[0][price]", &price),
            ("payment_behavior", "error_if_incomplete"),
            ("off_session", "true"),
        ];
        self.subscription = id_of(&self.post("/v1/subscriptions", &fields));
        let begun = self.get(&format!("/v1/subscriptions/{}", self.subscription));
        let begun_s = begun["billing_cycle_anchor"].as_i64().expect("a time");
        left_out("the page that shows a key: one is made by REST");
        let subscriber = plane.subscribe();
        self.join(plane, &subscriber.subscription_id);
        let path = format!("/v1/subscriptions/{}", subscriber.subscription_id);
        wait_within(self.patience(), "what was bought, with the month that it began with", || {
            self.settle(plane);
            let anchor = plane.get(&path)["period_anchor"].as_str()?.parse::<Timestamp>().ok()?;
            (anchor.as_second() == begun_s).then_some(())
        });
        plane.wait_node(NODE);
        let buyer = Buyer::new(node, subscriber.token);
        buyer.wait("ok");
        (buyer, subscriber.subscription_id)
    }

    /// Webhooks would have to come from Stripe to this machine, so all is swept.
    fn settle(&self, plane: &Plane) {
        let asked_s = unix_s();
        plane.post("/v1/stripe/sweeps", json!({}));
        wait_within(self.patience(), "sweeps that were asked for", || {
            let sweeps = plane.get("/v1/stripe/sweeps");
            let is_done = |sweep: &Value| {
                let at = |name: &str| sweep[name].as_str()?.parse::<Timestamp>().ok();
                assert!(sweep["error"].is_null(), "{sweep}");
                sweep["began_at"].is_null()
                    && at("finished_at") > at("asked_at")
                    && at("asked_at").is_some_and(|asked| asked.as_second() >= asked_s)
            };
            sweeps["data"].as_array()?.iter().all(is_done).then_some(())
        });
        wait_within(self.patience(), "events that are settled", || {
            let waiting = plane.get("/v1/stripe/events?state=waiting");
            (waiting["data"] == json!([])).then_some(())
        });
    }

    fn advance_to(&self, second: i64) {
        let path = format!("/v1/test_helpers/test_clocks/{}", self.clock);
        self.post(&format!("{path}/advance"), &[("frozen_time", &second.to_string())]);
        wait_within(self.patience(), "time that was moved", || {
            (self.get(&path)["status"] == "ready").then_some(())
        });
    }

    fn set_card(&self, card: Card) {
        let name = match card {
            Card::Good => "pm_card_visa",
            Card::Declined => "pm_card_chargeCustomerFail",
            other => panic!("no name of Stripe's for {other:?}"),
        };
        let customer = self.customer.as_str();
        let attach = format!("/v1/payment_methods/{name}/attach");
        let method = id_of(&self.post(&attach, &[("customer", customer)]));
        let field = ("invoice_settings[default_payment_method]", method.as_str());
        self.post(&format!("/v1/customers/{customer}"), &[field]);
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.call("GET", path, &[]).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn customer(&self) -> String {
        self.customer.clone()
    }

    fn status(&self) -> String {
        let shown = self.get(&format!("/v1/subscriptions/{}", self.subscription));
        shown["status"].as_str().expect("a status").to_owned()
    }

    fn pay_open_invoice(&self) {
        let open = format!("/v1/invoices?status=open&subscription={}", self.subscription);
        let invoice = id_of(&self.get(&open)["data"][0]);
        self.post(&format!("/v1/invoices/{invoice}/pay"), &[]);
    }

    fn sells(&mut self, plan_id: &str) {
        self.products.push(plan_id.to_owned());
    }
}

fn left_out(what: &str) {
    say(&format!("left out, since Stripe's API has no way to it: {what}\n"));
}

#[track_caller]
fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}

/// A part of a form.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.[]".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[test]
fn keys_that_could_cost_money_are_refused() {
    let read = |key: Option<&str>, account: Option<&str>| {
        let read = Access::read(|name| match name {
            KEY => key.map(ToOwned::to_owned),
            ACCOUNT => account.map(ToOwned::to_owned),
            _ => None,
        });
        read.map(|access| access.is_some())
    };
    let good = Some("acct_1");
    assert_eq!(read(None, good), Ok(false));
    assert_eq!(read(Some("sk_test_123"), good), Ok(true));
    assert_eq!(read(Some("rk_test_123\n"), good), Ok(true));
    for key in ["sk_live_s3cret", "rk_live_s3cret", "pk_test_s3cret", "s3cret", "", "sk_test_"] {
        let reason = read(Some(key), good).expect_err(key);
        assert!(reason.starts_with(KEY) && !reason.contains("s3cret"), "{key}: {reason}");
    }
    for account in [None, Some(""), Some("cus_1")] {
        let reason = read(Some("sk_test_s3cret"), account).expect_err("no account");
        assert!(reason.starts_with(ACCOUNT) && !reason.contains("s3cret"), "{reason}");
    }
}
