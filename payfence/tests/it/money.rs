//! Money, from nothing to a key and on to the end of what was bought: a control plane, a node, and a stand-in for Stripe.
//!
//! Stripe's time is moved by the test, the node's cannot be: so what is bought is bought a month ago, and the month ends a moment
//! after the test begins.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jiff::tz::Offset;
use jiff::{Span, Timestamp, ToSpan as _};
use serde_json::{Value, json};
use stripe_sandbox::{Card, Config, Exhausted, Outcome, Sandbox, SignatureClock, WebhookEndpoint};

use super::client::{Answer, ask, get};
use super::gateway::Gateway;
use super::origin::Origin;
use super::plane::Plane;
use super::wait::{DEADLINE, own_address, time_left, timed, unix_s, wait_for};

/// Until the month ends that something is bought for: time for all that comes before.
const MONTH_LEFT_S: i64 = 40;
/// A renewal's invoice is a draft for an hour.
const DRAFT_S: i64 = 3_600 + 60;
const DAY_S: i64 = 86_400;

fn months_after(second: i64, months: Span) -> i64 {
    let time = Offset::UTC.to_datetime(Timestamp::from_second(second).expect("a time"));
    let time = time.checked_add(months).expect("a date");
    Offset::UTC.to_timestamp(time).expect("a time").as_second()
}

/// When something must have been bought for a month of it to end at `end_s`: some day of a month that has it.
fn bought_s(end_s: i64) -> i64 {
    let starts = (1..=3).map(|months| (months_after(end_s, (-months).months()), months));
    let fits = |(start_s, months): &(i64, i32)| months_after(*start_s, months.months()) == end_s;
    starts.filter(fits).map(|(start_s, _)| start_s).next().expect("a month with that day")
}

/// Stripe, and what only it knows.
struct Bank {
    runtime: tokio::runtime::Runtime,
    sandbox: Sandbox,
    account: String,
}

impl Bank {
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

    /// Moves time there and waits until everybody was told.
    #[track_caller]
    fn advance_to(&self, second: i64) {
        self.sandbox.advance_to(second);
        self.settle();
    }

    #[track_caller]
    fn settle(&self) {
        assert!(self.runtime.block_on(self.sandbox.settle(DEADLINE)), "webhooks were not taken");
    }

    fn objects(&self, kind: &str) -> Vec<Value> {
        self.sandbox.objects(&self.account, kind)
    }

    #[track_caller]
    fn set_card(&self, card: Card) {
        let customer = self.objects("customer")[0]["id"].as_str().expect("an id").to_owned();
        self.sandbox.set_card(&self.account, &customer, card).expect("a card");
    }

    /// Pays the invoice that is open, as the buyer does on its page.
    #[track_caller]
    fn pay_open_invoice(&self) {
        let open = |invoice: &Value| invoice["status"] == "open";
        let invoice = self.objects("invoice").into_iter().find(open).expect("an open invoice");
        let (id, host) = (invoice["id"].as_str().expect("an id"), self.sandbox.address());
        let (key, account) = (self.sandbox.secret_key(), &self.account);
        let answer = ask(
            host,
            format!(
                "POST /v1/invoices/{id}/pay HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
                 Stripe-Version: 2026-10-28.endive\r\nStripe-Account: {account}\r\nIdempotency-Key: again\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.settle();
    }
}

fn see(plane: &Plane, path: &str) -> Answer {
    ask(
        plane.address,
        format!("GET {path} HTTP/1.1\r\nHost: pay.example\r\nConnection: close\r\n\r\n"),
    )
}

fn submit(plane: &Plane, path: &str, form: &str) -> Answer {
    let length = form.len();
    ask(
        plane.address,
        format!(
            "POST {path} HTTP/1.1\r\nHost: pay.example\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        ),
    )
}

/// What stands in `text` from `start` to the first character that no id has.
fn word(text: &str, start: &str) -> String {
    let at = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    let is_id = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text[at..].chars().take_while(is_id).collect()
}

/// A buyer with a key.
struct Buyer<'a> {
    node: &'a Gateway,
    key: String,
}

impl Buyer<'_> {
    /// Why a request is answered as it is: `ok` where the origin answered.
    fn ask(&self) -> String {
        let answer =
            self.node.ask(get("/paid/1", &[("Authorization", &format!("Bearer {}", self.key))]));
        if answer.status == 200 { "ok".to_owned() } else { answer.reason() }
    }

    #[track_caller]
    fn expect(&self, times: usize, reason: &str) {
        for time in 0..times {
            assert_eq!(self.ask(), reason, "request {time} of {times}");
        }
    }

    #[track_caller]
    fn wait(&self, reason: &str) {
        wait_for(reason, || (self.ask() == reason).then_some(()));
    }
}

/// Buys the plan and redeems the key.
#[track_caller]
fn buy<'a>(plane: &Plane, bank: &Bank, node: &'a Gateway) -> Buyer<'a> {
    let prices = see(plane, "/pay/shop");
    assert!(prices.text().contains(&plane.plan_id), "{}", prices.text());
    let page = submit(plane, "/pay/shop/checkout", &format!("plan={}", plane.plan_id));
    assert_eq!(page.status, 200, "{}", page.text());
    let session = word(&page.text(), "cs_test_");
    bank.sandbox.pay(&session, Outcome::Paid).expect("a payment");
    let (buyer, took) = timed(|| {
        let success = format!("/pay/shop/success?session_id={session}");
        wait_for("the page after the payment", || {
            see(plane, &success).text().contains("Show my key").then_some(())
        });
        let shown = submit(plane, "/claim", &format!("session_id={session}"));
        let key = word(&shown.text(), "pf_test_");
        let buyer = Buyer { node, key };
        buyer.expect(1, "ok");
        buyer
    });
    assert!(took < DEADLINE, "from the payment to the first answer: {took:?}");
    let again = submit(plane, "/claim", &format!("session_id={session}"));
    assert_eq!(again.status, 404, "a claim is redeemed once");
    bank.settle();
    buyer
}

/// Flags by which a control plane has this Stripe; its key is in the folder.
fn flags(folder: &Path, bank: &Bank) -> Vec<String> {
    let key = folder.join("stripe.key").display().to_string();
    let flags = ["--stripe-secret-key-file", &key, "--stripe-base-url", &bank.sandbox.url()];
    flags.map(str::to_owned).to_vec()
}

/// What `payfence reconcile` ended with and printed, all that is older than a moment included.
fn reconcile(plane: &Plane, bank: &Bank) -> (Option<i32>, String) {
    let data = plane.folder().display().to_string();
    let command = ["reconcile", "--data-dir", &data, "--settled", "0"].map(str::to_owned).to_vec();
    let command = [command, flags(plane.folder(), bank)].concat();
    let ended = plane.run(&command.iter().map(String::as_str).collect::<Vec<_>>());
    (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Waits until all agree, and so often was each compared.
#[track_caller]
fn agree(plane: &Plane, bank: &Bank, compared: &str) {
    let mut last = (None, String::new());
    let ended = time_left(DEADLINE);
    while ended() {
        last = reconcile(plane, bank);
        let (code, text) = &last;
        if *code == Some(0) && text.contains(compared) {
            assert!(text.ends_with("1 subscriptions compared, 0 differences\n"), "{text}");
            return;
        }
    }
    panic!("no agreement with {compared}: {last:?}");
}

/// Makes a row wrong and right again; what is wrong is found, once.
#[track_caller]
fn finds(plane: &Plane, bank: &Bank, wrong: &str, right: &str, found: &str) {
    plane.falsify(wrong);
    let (code, text) = reconcile(plane, bank);
    assert_eq!(code, Some(1), "{wrong}: {text}");
    assert!(text.contains(found) && text.ends_with(" 1 differences\n"), "{wrong}: {text}");
    plane.falsify(right);
}

/// A control plane that sells a basic plan of `origin`, with its owner's account at Stripe, where it is `now_s`.
#[track_caller]
fn open(origin: SocketAddr, now_s: i64) -> Option<(Plane, Bank)> {
    const SECRET: &str = "whsec_scenario";
    let folder = tempfile::tempdir().expect("a working folder");
    let address = own_address();
    let mut bank = Bank::open(now_s, address, SECRET);
    let secret_file = folder.path().join("webhooks.secret");
    std::fs::write(folder.path().join("stripe.key"), bank.sandbox.secret_key()).expect("writable");
    std::fs::write(&secret_file, SECRET).expect("writable");
    let more = ["--stripe-webhook-secret-file", &secret_file.display().to_string()];
    let pages = ["--public-url", "https://pay.example"];
    let more = [more, pages].concat().into_iter().map(str::to_owned).collect();
    let flags = [flags(folder.path(), &bank), more].concat();
    let plane = Plane::start_with(address, folder, &flags, origin, plan("basic", 5, 1_000))?;
    let owner = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
    let owner = plane.post("/v1/stripe/account", owner);
    bank.account = owner["stripe_id"].as_str().expect("an id").to_owned();
    bank.sandbox.onboard(&bank.account).expect("onboarded");
    Some((plane, bank))
}

fn plan(reference: &str, requests: u64, amount: u64) -> Value {
    json!({
        "reference": reference, "grace_days": 3, "quota": { "requests": requests, "per": "month" },
        "price": { "amount": amount, "currency": "eur", "interval": "month" },
    })
}

#[track_caller]
fn wait_status(plane: &Plane, subscription: &str, status: &str) {
    wait_for(status, || {
        let now = plane.get(&format!("/v1/subscriptions/{subscription}"));
        (now["status"] == status).then_some(())
    });
}

/// The policy as a file that names nobody who bought something.
fn without_subscriptions(plane: &Plane) -> String {
    let exported = plane.run(&["export"]);
    let text = String::from_utf8(exported.stdout).expect("text");
    let (kept, rest) = text.split_once("[[sites.subscriptions]]").expect("a subscription");
    assert!(!rest.contains("[[sites]]") && !rest.contains("[[sites.plans]]"), "{text}");
    kept.to_owned()
}

/// What a file that is applied changes and leaves.
fn applied(plane: &Plane, file: &str) -> String {
    let applied = plane.apply(file, &[]);
    assert!(applied.status.success(), "{applied:?}");
    String::from_utf8(applied.stdout).expect("text")
}

#[test]
fn from_nothing_to_a_key_and_on_to_the_end() {
    let origin = Origin::ok();
    let month_ends_s = unix_s() + MONTH_LEFT_S;
    let Some((plane, bank)) = open(origin.address, bought_s(month_ends_s)) else { return };
    let plans = format!("/v1/sites/{}/plans", plane.site_id);
    let pro = plane.post(&plans, plan("pro", 8, 3_000));
    let pro_id = pro["id"].as_str().expect("an id");
    let node = plane.node("n1");

    let buyer = buy(&plane, &bank, &node);
    buyer.expect(4, "ok");
    buyer.expect(2, "quota_exhausted");
    let checkouts = plane.get("/v1/checkouts?limit=1");
    let subscription = checkouts["data"][0]["subscription_id"].as_str().expect("an id").to_owned();
    let of_it = |what: &str| format!("/v1/subscriptions/{subscription}{what}");

    plane.post(&of_it("/change"), json!({ "plan_id": pro["id"] }));
    buyer.wait("ok");
    buyer.expect(2, "ok");
    buyer.expect(2, "quota_exhausted");

    assert!(
        unix_s() < month_ends_s,
        "the machine was too slow: the month ended before it was used up"
    );
    while unix_s() <= month_ends_s {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bank.advance_to(month_ends_s + DRAFT_S);
    buyer.wait("ok");
    buyer.expect(2, "ok");

    bank.set_card(Card::Declined);
    let second_s = months_after(month_ends_s, 1.month());
    bank.advance_to(second_s + DRAFT_S);
    wait_status(&plane, &subscription, "past_due");
    buyer.expect(1, "ok");
    bank.advance_to(second_s + 20 * DAY_S);
    wait_status(&plane, &subscription, "unpaid");
    buyer.wait("subscription_inactive");

    bank.set_card(Card::Good);
    bank.pay_open_invoice();
    wait_status(&plane, &subscription, "active");
    buyer.wait("ok");

    let all = "log/ledger 2, ledger/entitlement 1, ledger/stripe 0, entitlement/stripe 1\n";
    agree(&plane, &bank, all);
    let limit = |from: u64, to: u64| {
        let quota = |requests: u64| format!("'\"requests\":{requests}'");
        let (from, to) = (quota(from), quota(to));
        format!("UPDATE plans SET settings = REPLACE(settings, {from}, {to}) WHERE id = '{pro_id}'")
    };
    finds(&plane, &bank, &limit(8, 9), &limit(9, 8), "\tledger/entitlement\t8\t9\t");
    let status = |word: &str| {
        format!("UPDATE subscriptions SET status = '{word}' WHERE id = '{subscription}'")
    };
    let (wrong, right) = (status("past_due"), status("active"));
    finds(&plane, &bank, &wrong, &right, "\tentitlement/stripe\tpast_due\tactive\t");

    plane.post(&of_it("/cancel"), json!({}));
    bank.settle();
    buyer.expect(1, "ok");
    let file = without_subscriptions(&plane);
    let kept = applied(&plane, &file);
    assert!(kept.contains("1 that were bought stay") && !kept.contains("archived"), "{kept}");
    buyer.expect(1, "ok");
    bank.advance_to(months_after(month_ends_s, 2.months()) + DRAFT_S);
    wait_status(&plane, &subscription, "canceled");
    buyer.wait("subscription_inactive");
    // What is over may go.
    let gone = applied(&plane, &file);
    assert!(gone.contains(&format!("subscription {subscription}: archived")), "{gone}");

    // Both months' use; the limit of what is archived is nobody's any more.
    agree(
        &plane,
        &bank,
        "log/ledger 2, ledger/entitlement 0, ledger/stripe 0, entitlement/stripe 1\n",
    );
    // One decision is missing.
    let usage = |by: &str| {
        let one = "(SELECT MAX(rowid) FROM usage_days WHERE charge > 0)";
        format!("UPDATE usage_days SET charge = charge {by} WHERE rowid = {one}")
    };
    finds(&plane, &bank, &usage("- 1"), &usage("+ 1"), "\tlog/ledger\t");
}
