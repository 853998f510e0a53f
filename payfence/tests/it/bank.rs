//! What only Stripe, an owner and their buyers do in a story about money, and the stand-in that does it.
//!
//! In: an origin, the time at Stripe. Out: a control plane that sells, a bank.
//! Always holds: Stripe's time stands still until it is moved; whoever moves it waits until everybody was told.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stripe_sandbox::{
    API_VERSION, Card, Config, Exhausted, Outcome, Sandbox, SignatureClock, WebhookEndpoint,
};

use super::buyer::{Buyer, bought, check_out, see, submit, word};
use super::client::ask;
use super::gateway::Gateway;
use super::plane::Plane;
use super::wait::{DEADLINE, own_address, wait_for};

/// Where a control plane's folder has the key.
pub const KEY_FILE: &str = "stripe.key";

/// The node that stories are told at.
pub const NODE: &str = "n1";

/// Stripe, as a story needs it, whichever it is.
pub trait Bank {
    /// Flags by which `payfence` asks it; its key is in the folder.
    fn flags(&self, folder: &Path) -> Vec<String>;
    /// How long what follows from it may take.
    fn patience(&self) -> Duration;
    /// Hears of a plan that is sold there.
    fn sells(&mut self, plan_id: &str);
    /// Buys the plan of the site; who has the key, which worked once, and the subscription's id here.
    fn buy<'a>(&mut self, plane: &Plane, node: &'a Gateway) -> (Buyer<'a>, String);
    /// Waits until the control plane was told what happened so far.
    fn settle(&self, plane: &Plane);
    /// Moves time on.
    fn advance_to(&self, second: i64);
    /// Gives the buyer another card.
    fn set_card(&self, card: Card);
    /// What it answers its account's owner.
    fn get(&self, path: &str) -> Value;
    /// Who buys there.
    fn customer(&self) -> String;
    /// What it says of the subscription.
    fn status(&self) -> String;
    /// Pays the invoice that is open, as the buyer does on its page.
    fn pay_open_invoice(&self);
}

/// A stand-in for Stripe in this process, and what only it knows.
pub struct StandIn {
    runtime: tokio::runtime::Runtime,
    pub sandbox: Sandbox,
    pub account: String,
}

impl StandIn {
    fn open(now_s: i64, control_plane: SocketAddr, secret: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let url = format!("http://{control_plane}/stripe/webhooks/test");
        let config = Config {
            signature_clock: SignatureClock::Wall,
            webhook_endpoints: vec![WebhookEndpoint::new(url, secret, true)],
            exhausted: Exhausted::Unpaid,
            ..Config::fixed(now_s, 7)
        };
        let sandbox = runtime.block_on(Sandbox::start(config)).expect("a sandbox");
        Self { runtime, sandbox, account: String::new() }
    }

    /// Waits until all webhooks were taken.
    #[track_caller]
    pub fn tell(&self) {
        assert!(self.runtime.block_on(self.sandbox.settle(DEADLINE)), "webhooks were not taken");
    }

    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.sandbox.objects(&self.account, kind)
    }

    /// The first of a kind.
    #[track_caller]
    pub fn id_of(&self, kind: &str) -> String {
        self.objects(kind)[0]["id"].as_str().expect("an id").to_owned()
    }

    /// A call as the owner makes it, or their dashboard.
    #[track_caller]
    pub fn owner(&self, method: &str, path: &str, form: &str) -> Value {
        let host = self.sandbox.address();
        let (key, account, length) = (self.sandbox.secret_key(), &self.account, form.len());
        let answer = ask(
            host,
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
                 Stripe-Version: {API_VERSION}\r\nStripe-Account: {account}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{form}"
            ),
        );
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }
}

impl Bank for StandIn {
    fn flags(&self, folder: &Path) -> Vec<String> {
        let key = folder.join(KEY_FILE).display().to_string();
        let flags = ["--stripe-secret-key-file", &key, "--stripe-base-url", &self.sandbox.url()];
        flags.map(str::to_owned).to_vec()
    }

    fn patience(&self) -> Duration {
        DEADLINE
    }

    fn sells(&mut self, _: &str) {}

    /// As a buyer's browser does.
    fn buy<'a>(&mut self, plane: &Plane, node: &'a Gateway) -> (Buyer<'a>, String) {
        let session = pay(plane, self);
        let success = format!("/pay/shop/success?session_id={session}");
        wait_for("the page after the payment", || {
            see(plane, &success).text().contains("Show my key").then_some(())
        });
        let shown = submit(plane, "/claim", &format!("session_id={session}"));
        let buyer = Buyer::new(node, word(&shown.text(), "pf_test_"));
        buyer.expect(1, "ok");
        let again = submit(plane, "/claim", &format!("session_id={session}"));
        assert_eq!(again.status, 404, "a claim is redeemed once");
        self.tell();
        (buyer, bought(plane))
    }

    fn settle(&self, _: &Plane) {
        self.tell();
    }

    fn advance_to(&self, second: i64) {
        self.sandbox.advance_to(second);
    }

    fn set_card(&self, card: Card) {
        self.sandbox.set_card(&self.account, &self.customer(), card).expect("a card");
    }

    fn get(&self, path: &str) -> Value {
        self.owner("GET", path, "")
    }

    fn customer(&self) -> String {
        self.id_of("customer")
    }

    fn status(&self) -> String {
        self.objects("subscription")[0]["status"].as_str().expect("a status").to_owned()
    }

    fn pay_open_invoice(&self) {
        let open = |invoice: &Value| invoice["status"] == "open";
        let invoice = self.objects("invoice").into_iter().find(open).expect("an open invoice");
        let id = invoice["id"].as_str().expect("an id");
        self.owner("POST", &format!("/v1/invoices/{id}/pay"), "");
    }
}

/// Goes from the pricing page to the payment, and pays; the session's id.
#[track_caller]
pub fn pay(plane: &Plane, bank: &StandIn) -> String {
    let session = check_out(plane);
    bank.sandbox.pay(&session, Outcome::Paid).expect("a payment");
    session
}

/// A control plane with further flags that sells a basic plan of `origin`, with its owner's account at Stripe, where it is `now_s`.
#[track_caller]
pub fn open(origin: SocketAddr, now_s: i64, more: &[&str]) -> Option<(Plane, StandIn)> {
    const SECRET: &str = "whsec_scenario";
    let folder = tempfile::tempdir().expect("a working folder");
    let address = own_address();
    let mut bank = StandIn::open(now_s, address, SECRET);
    let secret_file = folder.path().join("webhooks.secret");
    std::fs::write(folder.path().join(KEY_FILE), bank.sandbox.secret_key()).expect("writable");
    std::fs::write(&secret_file, SECRET).expect("writable");
    let secret_file = secret_file.display().to_string();
    let own = ["--stripe-webhook-secret-file", &secret_file, "--public-url", "https://pay.example"];
    let own = own.iter().chain(more).map(|flag| (*flag).to_owned()).collect();
    let flags = [bank.flags(folder.path()), own].concat();
    let plane = Plane::start_with(address, folder, &flags, origin, plan("basic", 5, 1_000))?;
    let owner = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
    let owner = plane.post("/v1/stripe/account", owner);
    bank.account = owner["stripe_id"].as_str().expect("an id").to_owned();
    bank.sandbox.onboard(&bank.account).expect("onboarded");
    Some((plane, bank))
}

/// A plan with a price, as it is sent.
pub fn plan(reference: &str, requests: u64, amount: u64) -> Value {
    json!({
        "reference": reference, "grace_days": 3, "quota": { "requests": requests, "per": "month" },
        "price": { "amount": amount, "currency": "eur", "interval": "month" },
    })
}
