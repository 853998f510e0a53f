//! Each flow that asks Stripe, so that it can be begun, troubled and begun again.
//!
//! In: a shop, a flow. Out: a [`Case`] with what the flow needs; whether it is done; what there is afterwards.
//! Always holds: to go on is to do the same again, as a client, a buyer's browser or a job does; nobody repairs anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use stripe_sandbox::Outcome;

use crate::billing::settle::Settler;
use crate::billing::sweep::Sweeper;
use crate::billing::worker::Worker;
use crate::billing::{Billing, catalogue};
use crate::overage::OverageTeller;
use crate::storage::Store;

use super::client::{Answer, Client};
use super::money::dashboard;
use super::oauth::{Browser, choose};
use super::place::Place;
use super::shop::{Shop, price};
use super::stripe_inbox::Endpoint;
use super::webhooks::Moved;

/// The flows, in the order in which they are tried.
macro_rules! flows {
    ($($flow:ident),* $(,)?) => {
        /// A flow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Flow {
            $($flow),*
        }
        use Flow::{$($flow),*};

        /// All of them.
        pub const FLOWS: &[Flow] = &[$($flow),*];
    };
}

flows! {
    BringsPlans,
    BringsPlansBySweep,
    Reprices,
    Retires,
    ChecksOut,
    TakesKey,
    Settles,
    SettlesRefund,
    SettlesDispute,
    Upgrades,
    Downgrades,
    Previews,
    CancelsLater,
    CancelsNow,
    Resumes,
    OpensPortal,
    TellsOverage,
    Sweeps,
    Connects,
    ConnectsByVersion1,
    ConnectsExisting,
    Disconnects,
}

/// How often a worker looks.
const LOOKS: usize = 3;
/// Units past the quota.
const OVER: i64 = 41;

/// A process that serves: its own connections to the database, the one Stripe.
#[derive(Clone)]
pub struct Hands {
    billing: Billing,
    router: Router,
    owner: Client,
    /// Looks at the database whatever becomes of the process.
    eyes: Store,
    /// Whether it may take what is shown once.
    is_lasting: bool,
}

impl Hands {
    pub fn of(shop: &Shop) -> Self {
        let (billing, router) = (shop.billing.clone(), shop.router.clone());
        let eyes = shop.place.store.clone();
        Self { billing, router, owner: shop.owner.clone(), eyes, is_lasting: true }
    }

    /// One that will be killed.
    pub fn mortal(shop: &Shop) -> Self {
        let store = shop.place.another_store();
        let settler = Settler::new(store.clone(), shop.billing.stripe.clone());
        let billing = Billing { store, settler, ..shop.billing.clone() };
        let router = Shop::router_of(&shop.place, &billing);
        let owner = Client::new(router.clone(), shop.owner.key.clone());
        Self { billing, router, owner, eyes: shop.place.store.clone(), is_lasting: false }
    }

    /// Its connections to the database, which may be taken away.
    pub fn store(&self) -> &Store {
        &self.billing.store
    }
}

/// A shop and its clock, which goes on by itself and can be moved.
pub struct Street {
    pub shop: Shop,
    clock: Arc<Moved>,
}

impl Street {
    pub async fn open(place: &Place) -> Self {
        let clock = Arc::new(Moved::default());
        let shop = Shop::open(place.in_time_of(clock.clone())).await;
        shop.connect().await;
        Self { shop, clock }
    }

    /// Time goes by, at Stripe and here.
    pub fn pass(&self, time: Duration) {
        self.shop.sandbox.advance(time);
        self.clock.0.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
    }
}

/// What a flow is about.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The key of an account of its own, and what it had at Stripe before.
    stranger: String,
    stripe_account: String,
    /// What its owner's browser has: a cookie, and the address that Stripe sent it back to.
    browser: Arc<Mutex<(String, String)>>,
    site: String,
    small: String,
    large: String,
    session: String,
    /// Our subscription, and Stripe's.
    subscription: String,
    stripe_id: String,
    key: String,
}

/// Makes what a flow needs, all without trouble.
pub async fn prepare(shop: &Shop, flow: Flow, number: usize) -> Case {
    let mut case = Case { key: format!("key-{number}"), ..Case::default() };
    shop.sandbox.set_accounts_v2(flow != ConnectsByVersion1);
    if matches!(flow, Connects | ConnectsByVersion1 | ConnectsExisting | Disconnects) {
        case.stranger = shop.place.stranger().await.key;
        case.stripe_account = shop.sandbox.own_account().unwrap();
        if flow == Disconnects {
            connect_existing(&Hands::of(shop), &case).await.unwrap();
        }
        return case;
    }
    let is_of_plans =
        matches!(flow, BringsPlans | BringsPlansBySweep | Reprices | Retires | ChecksOut);
    // Others share plans that were brought before.
    let of = if is_of_plans { number } else { 0 };
    let mut cost = price(1_900);
    cost["overage"] = json!({ "unit_amount_decimal": "0.5", "per": 10 });
    (case.site, case.small) = plan_once(shop, &format!("small{of}"), 1_000, cost).await;
    match flow {
        BringsPlans | BringsPlansBySweep | ChecksOut => return case,
        Reprices | Retires => {
            catalogue::sweep_once(&shop.billing).await.unwrap();
            let path = format!("/v1/sites/{}/plans/{}", case.site, case.small);
            let change = json!({ "price": { "amount": 2_500 } });
            match flow {
                Reprices => drop(shop.owner.patch(&path, None, change).await.expect(200)),
                _ => drop(shop.owner.delete(&path).await.expect(200)),
            }
            return case;
        }
        Upgrades | Previews | Downgrades => {
            case.large = plan_once(shop, "large0", 9_000, price(3_900)).await.1;
            catalogue::sweep_once(&shop.billing).await.unwrap();
        }
        _ => {}
    }
    let plan = if flow == Downgrades { &case.large } else { &case.small };
    let wanted = json!({ "site_id": case.site, "plan_id": plan, "mode": "test" });
    let session = shop.owner.post("/v1/checkouts", wanted).await.expect(201);
    case.session = session.json["session_id"].as_str().unwrap().to_owned();
    let told = shop.sandbox.count(&shop.account(), "event");
    case.stripe_id = shop.sandbox.pay(&case.session, Outcome::Paid).unwrap().subscription;
    if matches!(flow, TakesKey | Sweeps) {
        return case;
    }
    if flow == Settles {
        tell(shop, told).await;
        return case;
    }
    shop.see(&success(&case)).await.expect(200);
    case.subscription = shop.checkout().await["subscription_id"].as_str().unwrap().to_owned();
    befall(shop, flow, &case).await;
    case
}

/// The site, and the plan of this name.
async fn plan_once(shop: &Shop, name: &str, quota: u64, price: Json) -> (String, String) {
    let sites = shop.owner.get("/v1/sites").await.expect(200);
    if let Some(site) = sites.json["data"][0]["id"].as_str() {
        let plans = shop.owner.get(&format!("/v1/sites/{site}/plans?limit=100")).await.expect(200);
        let mut plans = plans.json["data"].as_array().unwrap().iter();
        if let Some(plan) = plans.find(|plan| plan["reference"] == name) {
            return (site.to_owned(), plan["id"].as_str().unwrap().to_owned());
        }
    }
    shop.plan(name, quota, price).await
}

/// What happens to a subscription before its flow begins.
async fn befall(shop: &Shop, flow: Flow, case: &Case) {
    let account = shop.account();
    let told = shop.sandbox.count(&shop.account(), "event");
    let charge = || {
        let charges = shop.at_stripe(&account, "charge");
        charges.last().unwrap()["id"].as_str().unwrap().to_owned()
    };
    match flow {
        SettlesRefund => {
            let path = format!("/v1/sites/{}", case.site);
            let rule = json!({ "on_full_refund": "cancel", "on_dispute": "suspend" });
            shop.owner.patch(&path, None, rule).await.expect(200);
            let form = format!("charge={}", charge());
            dashboard(&shop.sandbox, &account, "/v1/refunds", &form).await;
            tell(shop, told).await;
        }
        SettlesDispute => {
            shop.sandbox.dispute(&account, &charge(), "fraudulent").unwrap();
            tell(shop, told).await;
        }
        Resumes => {
            let path = format!("/v1/subscriptions/{}/cancel", case.subscription);
            shop.owner.post(&path, json!({})).await.expect(200);
        }
        TellsOverage => {
            let store = &shop.place.store;
            store.name_entitlements().await.unwrap();
            let now_s = shop.sandbox.now();
            let sql = format!(
                "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, \
                 over_units, told_units, told_at_ms, retry_at_ms) SELECT entitlement, 1, {}, {}, 1000, {}, {OVER}, 0, 0, 0 \
                 FROM entitlement_names WHERE subscription_id = '{}'",
                now_s - 86_400,
                now_s + 20 * 86_400,
                1_000 + OVER,
                case.subscription
            );
            store.raw(&sql).await;
        }
        _ => {}
    }
}

fn success(case: &Case) -> String {
    format!("/pay/weather/success?session_id={}", case.session)
}

/// Tells of what happened after so many events.
async fn tell(shop: &Shop, told: usize) {
    let endpoint = Endpoint::of(&shop.place);
    for mut event in shop.at_stripe(&shop.account(), "event").into_iter().skip(told) {
        event["account"] = shop.account().into();
        let (status, outcome) = endpoint.tell(&event).await;
        assert_eq!(status, 200, "{outcome}");
    }
}

/// Does it, or goes on with it. The error says why it is not done, and is one that says what to do.
pub async fn go_on(street: &Street, hands: &Hands, flow: Flow, case: &Case) -> Result<(), String> {
    let owner = &hands.owner;
    let path = |what: &str| format!("/v1/subscriptions/{}/{what}", case.subscription);
    match flow {
        Connects | ConnectsByVersion1 => connect(&street.shop, hands, case).await,
        ConnectsExisting => connect_existing(hands, case).await,
        Disconnects => disconnect(hands, case).await,
        BringsPlans | Reprices | Retires => {
            let view = owner.post("/v1/billing/sync", json!({ "mode": "test" })).await;
            said(view, 200).and_then(|view| all_brought(&view))
        }
        BringsPlansBySweep => {
            catalogue::sweep_once(&hands.billing).await.map_err(|error| error.to_string())?;
            let sql =
                format!("SELECT COUNT(*) AS n FROM plan_prices WHERE plan_id = '{}'", case.small);
            until(hands.eyes.raw_number(&sql).await == 1)
        }
        ChecksOut => {
            let wanted = json!({ "site_id": case.site, "plan_id": case.small, "mode": "test" });
            said(owner.post_once("/v1/checkouts", &case.key, wanted).await, 201).map(drop)
        }
        TakesKey => take_key(hands, case).await,
        Settles | SettlesRefund | SettlesDispute => settle(street, hands).await,
        Upgrades => {
            said(owner.post(&path("change"), json!({ "plan_id": case.large })).await, 200).map(drop)
        }
        Downgrades => {
            said(owner.post(&path("change"), json!({ "plan_id": case.small })).await, 200).map(drop)
        }
        Previews => {
            let view = owner.post(&path("preview"), json!({ "plan_id": case.large })).await;
            let view = said(view, 200)?;
            until(view["amount_due"].as_i64().is_some_and(|amount| amount > 0))
        }
        CancelsLater => said(owner.post(&path("cancel"), json!({})).await, 200).map(drop),
        CancelsNow => {
            said(owner.post(&path("cancel"), json!({ "when": "now" })).await, 200).map(drop)
        }
        Resumes => said(owner.post(&path("resume"), json!({})).await, 200).map(drop),
        OpensPortal => said(owner.post(&path("portal"), json!({})).await, 200).map(drop),
        TellsOverage => {
            let (store, eyes) = (hands.store().clone(), &hands.eyes);
            let teller = OverageTeller::new(store, hands.billing.stripe.clone());
            teller.tell_all().await.map_err(|error| error.to_string())?;
            let open = "SELECT COUNT(*) AS n FROM overage_books WHERE over_units > told_units";
            let pending = "SELECT COUNT(*) AS n FROM overage_events WHERE status <> 'sent'";
            until(eyes.raw_number(open).await + eyes.raw_number(pending).await == 0)
        }
        Sweeps => {
            let sweeper = Sweeper::new(hands.billing.settler.clone());
            while sweeper.pass().await.map_err(|error| error.to_string())? {}
            settle(street, hands).await?;
            let sql = format!(
                "SELECT COUNT(*) AS n FROM stripe_subscriptions WHERE stripe_id = '{}'",
                case.stripe_id
            );
            until(hands.eyes.raw_number(&sql).await == 1)
        }
    }
}

fn until(is_done: bool) -> Result<(), String> {
    if is_done { Ok(()) } else { Err("it waits".to_owned()) }
}

/// What the API answered; an error that is not Stripe's absence, told as such, is a fault.
fn said(answer: Answer, status: u16) -> Result<Json, String> {
    if answer.status == status {
        return Ok(answer.json);
    }
    assert_eq!(answer.status, 503, "{}", answer.text);
    let kind = answer.json["type"].as_str().unwrap().rsplit(':').next().unwrap();
    assert!(matches!(kind, "stripe_unavailable" | "unavailable"), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    Err(answer.text)
}

fn all_brought(view: &Json) -> Result<(), String> {
    for entry in view["entries"].as_array().unwrap() {
        if entry["action"] == "failed" {
            let reason = entry["reason"].as_str().unwrap();
            assert!(reason.contains("Stripe"), "{entry}");
            return Err(reason.to_owned());
        }
    }
    Ok(())
}

async fn connect(shop: &Shop, hands: &Hands, case: &Case) -> Result<(), String> {
    let stranger = Client::new(hands.router.clone(), case.stranger.clone());
    let draft = json!({ "mode": "test", "email": "other@example.com", "country": "DE" });
    let view = said(stranger.post("/v1/stripe/account", draft).await, 200)?;
    shop.sandbox.onboard(view["stripe_id"].as_str().unwrap()).unwrap();
    // Stripe's absence leaves what was known.
    let view = said(stranger.get("/v1/stripe/account?mode=test").await, 200)?;
    until(view["status"] == "ready")
}

/// The owner's browser comes again as long as it is told to, and its owner begins again where it is not.
async fn connect_existing(hands: &Hands, case: &Case) -> Result<(), String> {
    let stranger = Client::new(hands.router.clone(), case.stranger.clone());
    let (cookie, mut back) = case.browser.lock().clone();
    let mut browser = Browser::with_cookie(&hands.router, &cookie);
    for _ in 0..2 {
        if back.is_empty() {
            let begun =
                stranger.post("/v1/stripe/oauth/authorize", json!({ "mode": "test" })).await;
            let begun = said(begun, 200)?;
            let at_stripe = browser.go_on(begun["url"].as_str().unwrap()).await;
            back = choose(&at_stripe, "connect", &case.stripe_account).await;
            *case.browser.lock() = (browser.cookie.clone(), back.clone());
        }
        let seen = browser.get(&back).await;
        match seen.status.as_u16() {
            200 => {
                let view = stranger.get("/v1/stripe/account?mode=test").await;
                return until(said(view, 200)?["status"] == "ready");
            }
            // Its time or its code's is over.
            404 | 409 => back.clear(),
            _ => {
                assert_eq!(seen.status, 503, "{}", seen.text);
                assert!(seen.text.contains("tries again by itself"), "{}", seen.text);
                return Err(seen.text);
            }
        }
    }
    Err("it cannot be connected".to_owned())
}

async fn disconnect(hands: &Hands, case: &Case) -> Result<(), String> {
    let stranger = Client::new(hands.router.clone(), case.stranger.clone());
    let answer = stranger.delete("/v1/stripe/account?mode=test").await;
    // It was done, and the answer was lost.
    if answer.status == 404 { Ok(()) } else { said(answer, 200).map(drop) }
}

async fn take_key(hands: &Hands, case: &Case) -> Result<(), String> {
    let seen = Shop::see_by(&hands.router, &success(case)).await;
    if seen.status != 200 {
        assert_eq!(seen.status, 503, "{}", seen.text);
        assert!(seen.text.contains("nothing is paid twice"), "{}", seen.text);
        return Err(seen.text);
    }
    if !seen.text.contains("Show my key") {
        return Err("the page waits".to_owned());
    }
    if hands.is_lasting {
        let form = format!("session_id={}", case.session);
        let shown = Shop::submit_by(&hands.router, "/claim", &form).await.expect(200);
        assert!(shown.key().is_some());
    }
    Ok(())
}

/// A worker looks several times, seconds apart.
async fn settle(street: &Street, hands: &Hands) -> Result<(), String> {
    let worker = Worker::new(hands.billing.settler.clone(), Arc::default());
    for _ in 0..LOOKS {
        worker.work_once().await.map_err(|error| error.to_string())?;
        let state = hands.eyes.inbox_state().await.unwrap();
        assert_eq!(state.dead, 0, "what waits is not given up");
        if state.waiting == 0 {
            return Ok(());
        }
        // Two jobs may want the same subscription, and one of them then waits for a second.
        street.pass(Duration::from_secs(1));
    }
    Err("it waits".to_owned())
}

/// How many of each there are, there and here.
pub async fn census(shop: &Shop) -> BTreeMap<&'static str, i64> {
    let account = shop.account();
    let mut count = BTreeMap::new();
    for kind in ["product", "price", "billing.meter"] {
        let all = shop.at_stripe(&account, kind);
        let is_active = |one: &&Json| one["active"] != json!(false);
        count.insert(kind, all.iter().filter(is_active).count() as i64);
    }
    for kind in ["customer", "subscription", "invoice", "invoiceitem", "charge", "refund"] {
        count.insert(kind, shop.sandbox.count(&account, kind) as i64);
    }
    let metered = shop.at_stripe(&account, "billing.meter_event");
    let value = |event: &Json| event["payload"]["value"].as_str().unwrap().parse::<i64>().unwrap();
    count.insert("metered", metered.iter().map(value).sum());
    let connected = shop.sandbox.count("", "v2.core.account");
    count.insert("connected at Stripe", connected as i64);
    for (name, from) in [
        ("our customers", "customers"),
        ("our subscriptions", "subscriptions"),
        ("our tokens", "tokens"),
        ("our claims", "claims"),
        ("our accounts at Stripe", "stripe_accounts"),
        ("those in force", "stripe_accounts WHERE lost_at_ms IS NULL"),
        ("our reversals", "stripe_reversals"),
        ("our prices in force", "plan_prices WHERE retired_at_ms IS NULL"),
        ("mails of keys", "events WHERE kind = 'key.ready'"),
    ] {
        let sql = format!("SELECT COUNT(*) AS n FROM {from}");
        count.insert(name, shop.place.store.raw_number(&sql).await);
    }
    count
}

/// What became of what the flow was about.
pub async fn state(shop: &Shop, case: &Case) -> Json {
    let at_stripe = shop.sandbox.object(&shop.account(), "subscription", &case.stripe_id);
    let at_stripe = at_stripe.unwrap_or_default();
    let sql = format!(
        "SELECT COUNT(*) AS n FROM subscriptions s JOIN stripe_subscriptions t ON t.subscription_id = s.id \
         WHERE t.stripe_id = '{}' AND t.stripe_status",
        case.stripe_id
    );
    let status = at_stripe["status"].as_str().unwrap_or_default();
    let agrees = shop.place.store.raw_number(&format!("{sql} = '{status}'")).await;
    let large =
        shop.place.store.raw_number(&format!("{sql} <> '' AND s.plan_id = '{}'", case.large)).await;
    let price = at_stripe["items"]["data"][0]["price"]["product"].clone();
    json!({
        "status": status, "ends": at_stripe["cancel_at_period_end"], "agrees": agrees, "is_of_large": large,
        "parts": at_stripe["items"]["data"].as_array().map(Vec::len),
        "pays_for_large": price == json!(case.large),
        "may_be_called": shop.sandbox.is_connected(&case.stripe_account),
    })
}

/// Takes away what would be looked at by every later flow.
pub async fn tidy(shop: &Shop, flow: Flow, case: &Case) {
    if matches!(flow, BringsPlans | BringsPlansBySweep | Reprices) {
        let path = format!("/v1/sites/{}/plans/{}", case.site, case.small);
        shop.owner.delete(&path).await.expect(200);
        catalogue::sweep_once(&shop.billing).await.unwrap();
    }
}
