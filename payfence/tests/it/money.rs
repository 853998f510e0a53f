//! Money, from nothing to a key and on to the end of what was bought: a control plane, a node, and Stripe, or what stands for it.
//!
//! In: a bank. Out: what a buyer is answered, what the control plane says, what reconciling finds.
//! Always holds: the story is one, whoever the bank is: a stand-in in this process; one that is known by Stripe's API alone; Stripe, with a
//! key of its test mode in the environment ([`Access`]).
//!
//! Stripe's time is moved by the test, the node's cannot be: so what is bought is bought a month ago, and the month ends a moment
//! after the test begins.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{Span, Timestamp, ToSpan as _};
use serde_json::{Value, json};
use stripe_sandbox::Card;

use super::bank::{Bank, NODE, open, plan};
use super::buyer::Buyer;
use super::origin::Origin;
use super::plane::Plane;
use super::stripe_api::{self, Access, HostedStandIn, StripeApi};
use super::wait::{DEADLINE, time_left, unix_s, wait_for, wait_within};

/// Until the month ends that something is bought for: time for all that comes before.
const MONTH_LEFT_S: i64 = 40;
/// The same where sweeps bring what happens.
const API_MONTH_LEFT_S: i64 = 90;
/// A renewal's invoice is a draft for an hour.
const DRAFT_S: i64 = 3_600 + 60;
const DAY_S: i64 = 86_400;
/// Overage is told within half a minute of its report, and a refusal is tried again after up to a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(120);
/// Units past the larger plan's limit that are served, and what each costs.
const OVER: u64 = 2;
const OVER_AMOUNT: u64 = 50;

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

/// What `payfence reconcile` ended with and printed, all that is older than a moment included.
fn reconcile(plane: &Plane, bank: &dyn Bank) -> (Option<i32>, String) {
    let data = plane.folder().display().to_string();
    let command = ["reconcile", "--data-dir", &data, "--settled", "0"].map(str::to_owned).to_vec();
    let command = [command, bank.flags(plane.folder())].concat();
    let ended = plane.run(&command.iter().map(String::as_str).collect::<Vec<_>>());
    (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Waits until all that was served is in the decision log, all agree, and so often was each compared.
#[track_caller]
fn agree(plane: &Plane, bank: &dyn Bank, served: u64, compared: &str) {
    wait_for("the decisions", || {
        let used = plane.get("/v1/usage?interval=total");
        (used["data"][0]["charge"] == served).then_some(())
    });
    let mut last = (None, String::new());
    // A meter is asked about whole minutes.
    let is_time_left = time_left(DEADLINE + Duration::from_secs(60));
    while is_time_left() {
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
fn finds(plane: &Plane, bank: &dyn Bank, wrong: &str, right: &str, found: &str) {
    plane.change_row(wrong);
    let (code, text) = reconcile(plane, bank);
    assert_eq!(code, Some(1), "{wrong}: {text}");
    assert!(text.contains(found) && text.ends_with(" 1 differences\n"), "{wrong}: {text}");
    plane.change_row(right);
}

/// Waits until Stripe's word has come here.
#[track_caller]
fn wait_status(plane: &Plane, bank: &dyn Bank, subscription: &str, status: &str) {
    assert_eq!(bank.status(), status, "Stripe's own word");
    wait_within(bank.patience(), status, || {
        bank.settle(plane);
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

/// What the plan's meter counted in the month that ends at a time.
#[track_caller]
fn metered(bank: &dyn Bank, plan_id: &str, month_ends_s: i64) -> u64 {
    let meters = bank.get("/v1/billing/meters?status=active&limit=100");
    let named = json!(format!("payfence_{plan_id}"));
    let mut meters = meters["data"].as_array().expect("meters").iter();
    let meter = meters.find(|meter| meter["event_name"] == named).expect("the plan's meter");
    let minute = |second: i64| second.div_euclid(60) * 60;
    let path = format!(
        "/v1/billing/meters/{}/event_summaries?customer={}&start_time={}&end_time={}",
        meter["id"].as_str().expect("an id"),
        bank.customer(),
        minute(month_ends_s - 31 * DAY_S),
        minute(month_ends_s) + 60
    );
    let summaries = bank.get(&path);
    let counted = summaries["data"].as_array().expect("summaries").iter();
    let counted: f64 = counted.filter_map(|of_it| of_it["aggregated_value"].as_f64()).sum();
    counted as u64
}

/// What invoices of renewals ask for overage.
#[track_caller]
fn renewed_overage(plane: &Plane, bank: &dyn Bank, plan_id: &str) -> Vec<u64> {
    let prices = plane.get(&format!("/v1/sites/{}/plans/{plan_id}/prices", plane.site_id));
    let metered = prices["data"][0]["metered_price_id"].clone();
    assert!(metered.is_string(), "{prices}");
    let invoices = bank.get(&format!("/v1/invoices?customer={}&limit=100", bank.customer()));
    let renewals = invoices["data"].as_array().expect("invoices").iter();
    let renewals = renewals.filter(|invoice| invoice["billing_reason"] == "subscription_cycle");
    let amount = |invoice: &Value| {
        let lines = invoice["lines"]["data"].as_array().expect("lines").iter();
        let of_it = lines.filter(|line| line["pricing"]["price_details"]["price"] == metered);
        of_it.filter_map(|line| line["amount"].as_u64()).sum()
    };
    renewals.map(amount).collect()
}

/// From a plan that is sold to the end of what was bought.
fn story(plane: &Plane, bank: &mut dyn Bank, month_ends_s: i64) {
    let mut pro = plan("pro", 8, 3_000);
    pro["overage"] = json!("allow");
    pro["overage_cap"] = json!(OVER);
    pro["price"]["overage"] = json!({ "unit_amount_decimal": OVER_AMOUNT.to_string() });
    let pro = plane.post(&format!("/v1/sites/{}/plans", plane.site_id), pro);
    let pro_id = pro["id"].as_str().expect("an id");
    bank.sells(&plane.plan_id);
    bank.sells(pro_id);
    let node = plane.node(NODE);

    let (buyer, subscription) = bank.buy(plane, &node);
    let of_it = |what: &str| format!("/v1/subscriptions/{subscription}{what}");
    buyer.expect(4, "ok");
    buyer.expect(2, "quota_exhausted");
    plane.post(&of_it("/change"), json!({ "plan_id": pro["id"] }));
    buyer.wait("ok");
    // Stripe takes no overage of what is ahead for it.
    bank.advance_to(unix_s());
    // Two up to the limit, and what may be used past it.
    buyer.expect(4, "ok");
    buyer.expect(2, "quota_exhausted");

    assert!(
        unix_s() < month_ends_s,
        "the machine was too slow: the month ended before it was used up"
    );
    while unix_s() <= month_ends_s {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    bank.advance_to(month_ends_s);
    bank.settle(plane);
    let told = || (metered(bank, pro_id, month_ends_s) == OVER).then_some(());
    wait_within(TOLD_WITHIN, "overage that was told", told);
    bank.advance_to(month_ends_s + DRAFT_S);
    assert_eq!(renewed_overage(plane, bank, pro_id), [OVER * OVER_AMOUNT]);
    bank.settle(plane);
    buyer.wait("ok");
    buyer.expect(2, "ok");
    nobody_pays(plane, bank, &buyer, &subscription, months_after(month_ends_s, 1.month()));
    all_agree(plane, bank, buyer.served(), &subscription, pro_id);

    plane.post(&of_it("/cancel"), json!({}));
    bank.settle(plane);
    buyer.expect(1, "ok");
    let file = without_subscriptions(plane);
    let kept = applied(plane, &file);
    assert!(kept.contains("1 that were bought stay") && !kept.contains("archived"), "{kept}");
    buyer.expect(1, "ok");
    bank.advance_to(months_after(month_ends_s, 2.months()) + DRAFT_S);
    wait_status(plane, bank, &subscription, "canceled");
    buyer.wait("subscription_inactive");
    // What is over may go.
    let gone = applied(plane, &file);
    assert!(gone.contains(&format!("subscription {subscription}: archived")), "{gone}");

    // Both months' use; the limit of what is archived is nobody's any more.
    agree(
        plane,
        bank,
        buyer.served(),
        "log/ledger 2, ledger/entitlement 0, ledger/stripe 2, entitlement/stripe 1\n",
    );
    // One decision is missing.
    let usage = |by: &str| {
        let one = "(SELECT MAX(rowid) FROM usage_days WHERE charge > 0)";
        format!("UPDATE usage_days SET charge = charge {by} WHERE rowid = {one}")
    };
    finds(plane, bank, &usage("- 1"), &usage("+ 1"), "\tlog/ledger\t");
}

/// A month that is not paid for: grace, the end of it, and money after all.
fn nobody_pays(
    plane: &Plane,
    bank: &dyn Bank,
    buyer: &Buyer<'_>,
    subscription: &str,
    month_s: i64,
) {
    bank.set_card(Card::Declined);
    bank.advance_to(month_s + DRAFT_S);
    wait_status(plane, bank, subscription, "past_due");
    buyer.expect(1, "ok");
    bank.advance_to(month_s + 20 * DAY_S);
    assert_eq!(
        bank.status(),
        "unpaid",
        "in its Billing settings the account marks what is not paid after all retries as unpaid"
    );
    wait_status(plane, bank, subscription, "unpaid");
    // What is asked before the node knows is still served, and used.
    plane.wait_node(NODE);
    buyer.wait("subscription_inactive");

    bank.set_card(Card::Good);
    bank.pay_open_invoice();
    wait_status(plane, bank, subscription, "active");
    buyer.wait("ok");
}

/// What is served is what is paid for; what is otherwise is found.
fn all_agree(plane: &Plane, bank: &dyn Bank, served: u64, subscription: &str, plan: &str) {
    // Of the month with overage, that all was told, and that the meter counted it.
    let all = "log/ledger 2, ledger/entitlement 1, ledger/stripe 2, entitlement/stripe 1\n";
    agree(plane, bank, served, all);
    let limit = |from: u64, to: u64| {
        let quota = |requests: u64| format!("'\"requests\":{requests}'");
        let (from, to) = (quota(from), quota(to));
        format!("UPDATE plans SET settings = REPLACE(settings, {from}, {to}) WHERE id = '{plan}'")
    };
    finds(plane, bank, &limit(8, 9), &limit(9, 8), "\tledger/entitlement\t8\t9\t");
    let told = |by: &str| format!("UPDATE overage_events SET to_units = to_units {by}");
    finds(plane, bank, &told("+ 1"), &told("- 1"), "\tledger/stripe\t3\t2\t");
    let status = |word: &str| {
        format!("UPDATE subscriptions SET status = '{word}' WHERE id = '{subscription}'")
    };
    let (wrong, right) = (status("past_due"), status("active"));
    finds(plane, bank, &wrong, &right, "\tentitlement/stripe\tpast_due\tactive\t");
}

/// The story at Stripe, or at what stands for it.
fn by_api(access: Access) {
    let origin = Origin::ok();
    let month_ends_s = unix_s() + API_MONTH_LEFT_S;
    let opened = stripe_api::open(access, origin.address, bought_s(month_ends_s));
    let Some((plane, mut bank)) = opened else { return };
    story(&plane, &mut bank, month_ends_s);
}

#[test]
fn from_nothing_to_a_key_and_on_to_the_end() {
    if let Some(access) = Access::from_environment() {
        return by_api(access);
    }
    let origin = Origin::ok();
    let month_ends_s = unix_s() + MONTH_LEFT_S;
    let opened = open(origin.address, bought_s(month_ends_s), &[]);
    let Some((plane, mut bank)) = opened else { return };
    story(&plane, &mut bank, month_ends_s);
}

#[test]
fn the_same_by_stripes_api_alone() {
    let stripe = HostedStandIn::start();
    let (url, key) = (stripe.sandbox.url(), stripe.sandbox.secret_key());
    let account = StripeApi::make_account(&url, key);
    stripe.sandbox.onboard(&account).expect("onboarded");
    by_api(Access::to(url, key, account.clone()));
    // What was made is gone, or can be bought no more.
    for kind in ["test_helpers.test_clock", "customer", "subscription"] {
        assert_eq!(stripe.sandbox.count(&account, kind), 0, "{kind}");
    }
    let sold = stripe.sandbox.objects(&account, "product");
    assert_eq!(sold.len(), 2, "{sold:?}");
    for object in sold.into_iter().chain(stripe.sandbox.objects(&account, "price")) {
        assert_eq!(object["active"], false, "{object}");
    }
}
