//! Moves up that are not paid at once, and what of them is shown: through the API alone, as an owner's own program has it.
//!
//! In: a place. Out: answers, the plan that a node counts by, invoices at Stripe.
//! Always holds: both clocks, Stripe's and ours, move by the test alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use stripe_sandbox::{Card, Config};

use super::client::Answer;
use super::front::{Front, Sold};
use super::money::{DAY, MONTH};
use super::place::Place;
use super::story::{BEGAN_S, Stopped};

/// Longer than Stripe waits for the payment of a change.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3_600);
/// The cards that do not pay at once.
const CARDS: [Card; 2] = [Card::Declined, Card::NeedsAction];

/// A subscription to the small plan that runs since ten days, beside a large and a huge plan.
pub struct Upgrading {
    pub front: Front,
    clock: Arc<Stopped>,
    pub sold: Sold,
    pub path: String,
    huge: String,
}

impl Upgrading {
    pub async fn open(place: &Place) -> Self {
        let clock = Arc::new(Stopped(AtomicI64::new(BEGAN_S * 1_000)));
        let fixed = |config: &mut Config| *config = Config::fixed(BEGAN_S, 7);
        let front = Front::with(&place.in_time_of(clock.clone()), fixed, json!({})).await;
        let huge = json!({ "reference": "huge", "quota": { "requests": 9_000, "per": "month" },
            "price": { "amount": 6_000, "currency": "usd", "interval": "month" } });
        let plans = format!("/v1/sites/{}/plans", front.shop.site);
        let huge = front.owner.post(&plans, huge).await.expect(201).id();
        let sold = front.buy("choice=pay").await;
        let path = format!("/v1/subscriptions/{}", front.shop.subscription().await.id);
        let at = Self { front, clock, sold, path, huge };
        at.forward(DAY * 10).await;
        at
    }

    /// The same on another database, for one of several.
    async fn beside(place: &Place, number: usize) -> Self {
        let place = place.beside(number).await;
        place.prepare().await;
        Self::open(&place).await
    }

    /// Time goes on, at Stripe and here.
    fn pass(&self, by: Duration) {
        self.clock.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
        self.front.shop.sandbox.advance(by);
    }

    pub async fn forward(&self, by: Duration) {
        self.pass(by);
        self.front.shop.tell_all().await;
    }

    pub async fn post(&self, what: &str, body: Json) -> Answer {
        self.front.owner.post(&format!("{}/{what}", self.path), body).await
    }

    async fn change(&self, plan: &str) -> Answer {
        self.post("change", json!({ "plan_id": plan })).await
    }

    pub async fn shown(&self) -> Json {
        self.front.owner.get(&self.path).await.expect(200).json
    }

    pub fn card_is(&self, card: Card) {
        let subscription = self.front.object("subscription", &self.sold.subscription);
        let customer = subscription["customer"].as_str().unwrap();
        let account = &self.front.shop.stripe_account;
        self.front.shop.sandbox.set_card(account, customer, card).unwrap();
    }

    /// Pays an invoice on its page.
    pub async fn pay(&self, shown: &Json) {
        let page = shown["stripe"]["unpaid_invoice"]["hosted_invoice_url"].as_str().unwrap();
        assert_eq!(self.front.at_stripe(page, "choice=pay").await.0, 200);
        self.front.shop.tell_all().await;
    }

    fn invoice(&self, shown: &Json) -> Json {
        let id = shown["stripe"]["unpaid_invoice"]["id"].as_str().unwrap();
        self.front.object("invoice", id)
    }

    /// What was charged, in all.
    fn charged(&self) -> i64 {
        let charges = self.front.objects("charge");
        let paid = charges.iter().filter(|charge| charge["paid"] == true);
        paid.map(|charge| charge["amount"].as_i64().unwrap()).sum()
    }

    /// It is on a plan, here and at the nodes, with nothing else waiting than this plan for the period's end.
    async fn is(&self, plan: &str, limit: u64, downgrade: Option<&str>, why: &str) {
        let shown = self.shown().await;
        assert_eq!(shown["plan_id"], plan, "{why}: {shown}");
        let stripe = &shown["stripe"];
        assert_eq!(stripe["pending_upgrade"], Json::Null, "{why}: {shown}");
        assert_eq!(stripe["unpaid_invoice"], Json::Null, "{why}: {shown}");
        assert_eq!(stripe["pending_downgrade"]["plan_id"], json!(downgrade), "{why}: {shown}");
        let now_s = self.front.shop.sandbox.now();
        assert_eq!(self.front.period_at(&self.sold.key, now_s).await.0, Some(limit), "{why}");
    }

    /// A plan that somebody waits for is not archived.
    async fn stays(&self, plan: &str) {
        let path = format!("/v1/sites/{}/plans/{plan}", self.front.shop.site);
        let refused = self.front.owner.delete(&path).await.expect(409);
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains("wait to be moved to this plan"), "{detail}");
    }
}

pub async fn one_that_is_not_paid_at_once_waits(place: Place) {
    for (number, card) in CARDS.into_iter().enumerate() {
        let at = Upgrading::beside(&place, number).await;
        let (small, large) = (at.front.shop.small.clone(), at.front.shop.large.clone());
        let preview = at.post("preview", json!({ "plan_id": large })).await.expect(200).json;
        let charged = at.charged();
        at.card_is(card);
        let body = json!({ "plan_id": large, "at": preview["at"] });
        let change = format!("{}/change", at.path);
        let waits = at.front.owner.post_once(&change, "once", body.clone()).await.expect(202);
        let again = at.front.owner.post_once(&change, "once", body).await.expect(202);
        assert_eq!(again.header("idempotent-replayed"), "true");
        for _ in 0..2 {
            let shown = at.shown().await;
            assert_eq!(shown["plan_id"], json!(small), "{card:?}");
            assert_eq!(shown["stripe"], waits.json["stripe"], "{card:?}");
            at.front.shop.tell_all().await;
        }
        let stripe = &waits.json["stripe"];
        assert_eq!(stripe["pending_upgrade"]["plan_id"], json!(large));
        let until = stripe["pending_upgrade"]["expires_at"].as_str().unwrap();
        assert_eq!(super::front::second(until), at.front.shop.sandbox.now() + 23 * 3_600);
        let unpaid = &stripe["unpaid_invoice"];
        assert_eq!(
            (&unpaid["amount_due"], &unpaid["currency"], &unpaid["amount_due_shown"]),
            (&preview["amount_due"], &preview["currency"], &preview["amount_due_shown"])
        );
        let now_s = at.front.shop.sandbox.now();
        let limit = at.front.period_at(&at.sold.key, now_s).await.0;
        assert_eq!((limit, at.charged()), (Some(100), charged), "the old plan is in force");
        assert_eq!(at.front.verdict(&at.sold.key).await, "ok");
        at.stays(&large).await;
        let told = at.front.shop.told("payment.failed").await;
        assert_eq!(told, 1, "the buyer is told where to pay");

        at.pay(&waits.json).await;
        at.is(&large, 1_000, None, "paid").await;
        assert_eq!(at.charged() - charged, preview["amount_due"].as_i64().unwrap());
        // It goes on as if it had been paid at once.
        at.card_is(Card::Good);
        at.forward(MONTH).await;
        at.is(&large, 1_000, None, "renewed").await;
    }
}

/// The old plan stays, whether Stripe tells of it or a sweep finds it.
pub async fn one_that_is_never_paid_is_given_up(place: Place) {
    for (number, is_swept) in [false, true].into_iter().enumerate() {
        let at = Upgrading::beside(&place, number).await;
        let (small, large) = (at.front.shop.small.clone(), at.front.shop.large.clone());
        let charged = at.charged();
        at.card_is(Card::NeedsAction);
        let waits = at.change(&large).await.expect(202).json;
        at.front.shop.tell_all().await;
        at.pass(GIVEN_UP);
        match is_swept {
            true => at.front.shop.sweep().await,
            false => at.front.shop.tell_all().await,
        }
        at.is(&small, 100, None, "given up").await;
        assert_eq!((at.invoice(&waits)["status"].clone(), at.charged()), (json!("void"), charged));
        at.card_is(Card::Good);
        at.change(&large).await.expect(200);
        at.is(&large, 1_000, None, "asked for again").await;
        assert!(at.charged() > charged);
    }
}

pub async fn the_newest_wish_counts(place: Place) {
    let at = Upgrading::open(&place).await;
    let (small, large) = (at.front.shop.small.clone(), at.front.shop.large.clone());
    let charged = at.charged();
    let waiting = async || {
        at.card_is(Card::Declined);
        at.change(&large).await.expect(202).json
    };
    // Back to the plan in force.
    let first = waiting().await;
    at.change(&small).await.expect(200);
    at.is(&small, 100, None, "taken back").await;
    assert_eq!((at.invoice(&first)["status"].clone(), at.charged()), (json!("void"), charged));
    // The same once more, and then another one, which is paid.
    let first = waiting().await;
    let second = waiting().await;
    assert_ne!(at.invoice(&first)["id"], at.invoice(&second)["id"]);
    at.change("plan_nobody").await.expect(404);
    assert_eq!(at.invoice(&second)["status"], "open", "what cannot be done gives nothing up");
    at.card_is(Card::Good);
    at.change(&at.huge).await.expect(200);
    at.is(&at.huge, 9_000, None, "another one").await;
    for one in [&first, &second] {
        assert_eq!(at.invoice(one)["status"], "void");
    }
    let newest = at.front.objects("invoice").pop().unwrap();
    assert_eq!(at.charged() - charged, newest["amount_paid"].as_i64().unwrap());
}

/// What nobody gets any more is not to be paid either.
pub async fn one_that_waits_ends_with_the_subscription(place: Place) {
    let at = Upgrading::open(&place).await;
    at.card_is(Card::NeedsAction);
    let waits = at.change(&at.front.shop.large).await.expect(202).json;
    let ended = at.post("cancel", json!({ "when": "now" })).await.expect(200).json;
    assert_eq!(ended["stripe"]["pending_upgrade"], Json::Null);
    assert_eq!(at.invoice(&waits)["status"], "void");
}

/// A smaller plan that waits for the period's end goes on waiting, and comes.
pub async fn one_that_is_refused_ends_no_downgrade(place: Place) {
    for (number, card) in CARDS.into_iter().enumerate() {
        let at = Upgrading::beside(&place, number).await;
        let (small, large) = (at.front.shop.small.clone(), at.front.shop.large.clone());
        at.change(&large).await.expect(200);
        at.change(&small).await.expect(200);
        at.is(&large, 1_000, Some(&small), "moved down").await;
        let shown = at.shown().await;
        assert_eq!(shown["stripe"]["pending_downgrade"]["at"], shown["stripe"]["period_end"]);
        at.stays(&small).await;
        let (charged, invoices) = (at.charged(), at.front.objects("invoice").len());
        at.card_is(card);
        for _ in 0..2 {
            let refused = at.change(&at.huge).await.expect(402);
            assert_eq!(refused.json["type"], "urn:payfence:problem:payment_refused");
            let detail = refused.json["detail"].as_str().unwrap();
            assert!(detail.contains("/portal") && detail.contains("goes on waiting"), "{detail}");
            at.front.shop.tell_all().await;
            at.is(&large, 1_000, Some(&small), "refused").await;
        }
        let all = at.front.objects("invoice");
        let open = all.iter().skip(invoices).filter(|invoice| invoice["status"] != "void").count();
        assert_eq!((open, at.charged()), (0, charged), "nothing is to be paid");
        match card {
            // With a card that pays it is moved, and pays no more than from what was paid.
            Card::Declined => {
                at.card_is(Card::Good);
                let preview = at.post("preview", json!({ "plan_id": at.huge })).await.expect(200);
                at.change(&at.huge).await.expect(200);
                at.is(&at.huge, 9_000, None, "paid").await;
                let due = preview.json["amount_due"].as_i64().unwrap();
                assert_eq!(at.charged() - charged, due);
            }
            _ => {
                at.card_is(Card::Good);
                at.forward(MONTH).await;
                at.is(&small, 100, None, "the next period").await;
                assert_eq!(at.charged() - charged, 500);
            }
        }
    }
}

/// What is shown of one that was bought, to whom, and never another's.
pub async fn what_stripe_has_is_shown(place: Place) {
    let at = Upgrading::open(&place).await;
    let stripe = async || at.shown().await["stripe"].clone();
    let is = stripe().await;
    assert_eq!(is["id"], at.sold.subscription.as_str());
    assert_eq!((&is["status"], &is["mode"]), (&json!("active"), &json!("test")));
    let item = at.front.object("subscription", &at.sold.subscription)["items"]["data"][0].clone();
    let end = super::front::second(is["period_end"].as_str().unwrap());
    assert_eq!(json!(end), item["current_period_end"]);
    assert_eq!((&is["cancel_at_period_end"], &is["cancel_at"]), (&json!(false), &Json::Null));
    at.post("cancel", json!({})).await.expect(200);
    let is = stripe().await;
    assert_eq!((&is["cancel_at_period_end"], &is["cancel_at"]), (&json!(true), &is["period_end"]));
    let resumed = at.post("resume", json!({})).await.expect(200).json;
    assert_eq!(resumed["stripe"]["cancel_at"], Json::Null);

    // A renewal that is not paid.
    at.card_is(Card::NeedsAction);
    at.forward(DAY * 22).await;
    let owing = at.shown().await;
    assert_eq!(owing["stripe"]["status"], "past_due");
    let unpaid = &owing["stripe"]["unpaid_invoice"];
    let page = at.invoice(&owing)["hosted_invoice_url"].clone();
    assert_eq!((&unpaid["hosted_invoice_url"], &unpaid["amount_due"]), (&page, &json!(500)));
    assert!(unpaid["next_attempt_at"].is_string(), "{owing}");
    let key = json!({ "label": "reads", "role": "viewer" });
    let key = at.front.owner.post("/v1/admin_keys", key).await.expect(201);
    let viewer = at.front.client(key.json["secret"].as_str().unwrap().to_owned());
    for path in [at.path.as_str(), "/v1/subscriptions", "/v1/audit?limit=100"] {
        let seen = viewer.get(path).await.expect(200);
        assert!(!seen.text.contains(page.as_str().unwrap()), "{path} shows the page");
    }
    let listed = at.front.owner.get("/v1/subscriptions").await.expect(200);
    assert_eq!(listed.json["data"][0], owing);
    let stranger = at.front.client(place.stranger().await.key);
    let listed = stranger.get("/v1/subscriptions").await.expect(200);
    assert_eq!(listed.json["data"], json!([]));
    stranger.get(&at.path).await.expect(404);
    at.pay(&owing).await;
    at.is(&at.front.shop.small, 100, None, "paid").await;

    // One that a dispute holds is what it is at Stripe, and one that nobody bought is nothing there.
    let charge = at.front.objects("charge").pop().unwrap();
    let (sandbox, account) = (&at.front.shop.sandbox, &at.front.shop.stripe_account);
    sandbox.dispute(account, charge["id"].as_str().unwrap(), "fraudulent").unwrap();
    at.front.shop.tell_all().await;
    let held = at.shown().await;
    assert_eq!((&held["status"], &held["stripe"]["status"]), (&json!("paused"), &json!("active")));
    let by_hand = json!({ "site_id": held["site_id"], "plan_id": held["plan_id"],
        "customer_id": held["customer_id"] });
    let made = at.front.owner.post("/v1/subscriptions", by_hand).await.expect(201);
    assert_eq!(made.json["stripe"], Json::Null);
}
