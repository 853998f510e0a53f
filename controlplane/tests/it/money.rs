//! A shop whose Stripe is the sandbox: an account that is ready to sell, a site with two plans, buyers.
//!
//! In: a place. Out: what a buyer, Stripe and a worker do, one step at a time.
//! Always holds: Stripe's time stands still until it is moved; its events are delivered by the test alone, in whatever order.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value as Json, json};
use stripe_sandbox::{Config, Outcome, Sandbox};

use crate::billing::settle::Settler;
use crate::billing::stripe::{
    Addresses, BucketLimit, ItemChange, Mode, RetryRules, Scope, SecretKey, SecretKeys,
    StripeSettings, SubscriptionUpdate,
};
use crate::billing::sweep::Sweeper;
use crate::billing::worker::Worker;
use crate::billing::{Billing, BillingSettings, catalogue, checkout, connect};
use crate::storage::{
    Checkout, Customer, EventRecord, KeyClaim, Store, StripeAccount, StripeReversal,
    StripeSubscription, Subscription,
};
use crate::world::System;

use super::client::Client;
use super::place::{Place, actor};
use super::stripe_inbox::Endpoint;

pub const DAY: Duration = Duration::from_secs(86_400);
/// A month and the hour that an invoice stays a draft.
pub const MONTH: Duration = Duration::from_secs(31 * 86_400 + 2 * 3_600);

/// The shop.
pub struct Shop {
    pub place: Place,
    pub owner: Client,
    pub sandbox: Sandbox,
    pub billing: Billing,
    pub endpoint: Endpoint,
    pub account: String,
    pub stripe_account: String,
    pub site: String,
    pub small: String,
    pub large: String,
}

impl Shop {
    pub async fn open(place: &Place) -> Self {
        Self::with(place, |_| {}, json!({})).await
    }

    /// One with another sandbox, or another price of the small plan.
    pub async fn with(place: &Place, configure: impl FnOnce(&mut Config), price: Json) -> Self {
        // The sandbox's own client takes the process's provider; a second one changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::fixed(place.store.world().now_ms() / 1_000, 7);
        configure(&mut config);
        let sandbox = Sandbox::start(config).await.unwrap();
        let billing = billing(place, &sandbox, Duration::from_secs(30));
        let owner = place.owner().await;
        let account = owner.get("/v1/account").await.expect(200).id();
        let made = connect::begin(&billing, &account, actor(), Mode::Test, "o@example.com", None);
        let (row, _) = made.await.unwrap();
        sandbox.onboard(&row.stripe_id).unwrap();
        let site = json!({ "slug": "shop", "origin": "https://api.example.com",
            "on_dispute": "suspend", "on_full_refund": "cancel" });
        let site = owner.post("/v1/sites", site).await.expect(201).id();
        let mut small = json!({ "amount": 500, "currency": "usd", "interval": "month" });
        for (name, value) in price.as_object().unwrap() {
            small[name] = value.clone();
        }
        let overage = if small["overage"].is_null() { "deny" } else { "allow" };
        let mut plans = Vec::new();
        for (name, requests, price) in [
            ("small", 100, small),
            ("large", 1_000, json!({ "amount": 2_000, "currency": "usd", "interval": "month" })),
        ] {
            let plan = json!({ "reference": name, "price": price, "overage": overage,
                "quota": { "requests": requests, "per": "month" } });
            let plan = owner.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201);
            plans.push(plan.id());
        }
        let (large, small) = (plans.pop().unwrap(), plans.pop().unwrap());
        let (endpoint, place) = (Endpoint::of(place), place.clone());
        let stripe_account = row.stripe_id;
        Self {
            place,
            owner,
            sandbox,
            billing,
            endpoint,
            account,
            stripe_account,
            site,
            small,
            large,
        }
    }

    pub fn scope(&self) -> Scope {
        Scope::connected(Mode::Test, &self.stripe_account)
    }

    pub fn worker(&self) -> Worker {
        Worker::new(self.billing.settler.clone(), std::sync::Arc::default())
    }

    /// One in a process of its own, whose connections end with it.
    pub fn mortal(&self) -> Worker {
        Worker::new(self.mortal_settler(), std::sync::Arc::default())
    }

    /// The same that settles.
    pub fn mortal_settler(&self) -> Settler {
        Settler::new(self.place.another_store(), self.billing.stripe.clone())
    }

    /// A checkout of the small plan that can be paid.
    pub async fn checkout(&self) -> Checkout {
        self.checkout_of(&self.small).await
    }

    /// The same of another plan.
    pub async fn checkout_of(&self, plan: &str) -> Checkout {
        let wanted = checkout::Wanted {
            site_id: self.site.clone(),
            plan_id: plan.to_owned(),
            mode: Mode::Test,
            ..checkout::Wanted::default()
        };
        checkout::create(&self.billing, &self.account, actor(), None, &wanted).await.unwrap()
    }

    /// A paid checkout, not told of yet: the subscription's id at Stripe.
    pub async fn sold(&self) -> String {
        let checkout = self.checkout().await;
        self.sandbox.pay(&checkout.session_id.unwrap(), Outcome::Paid).unwrap().subscription
    }

    /// A call of the owner's dashboard.
    pub async fn dashboard(&self, path: &str, form: &str) -> Json {
        dashboard(&self.sandbox, &self.stripe_account, path, form).await
    }

    /// Moves a subscription to a plan's price.
    pub async fn move_to(&self, subscription: &str, plan: &str) {
        let stripe = &self.billing.stripe;
        let row = self.tenant().get(plan).await.unwrap().unwrap();
        let offer = catalogue::offer_of(&row).unwrap().unwrap();
        let row = catalogue::ensure(&self.billing, &self.account, &offer, Mode::Test);
        let price = row.await.unwrap().price_id;
        let fetched = stripe.subscription(&self.scope(), subscription).await.unwrap();
        let item = fetched.licensed().unwrap().id.clone();
        let update = SubscriptionUpdate {
            items: vec![ItemChange { id: Some(item), price, ..ItemChange::default() }],
            proration_behavior: Some("create_prorations".to_owned()),
            ..SubscriptionUpdate::default()
        };
        let key = crate::ids::new_id("pf", &System);
        stripe.update_subscription(&self.scope(), subscription, &update, &key).await.unwrap();
    }

    pub fn tenant(&self) -> crate::storage::Tenant<'_> {
        self.place.store.tenant(&self.account)
    }

    /// All that Stripe would have told so far, oldest first.
    pub fn events(&self) -> Vec<Json> {
        let mut events = self.sandbox.objects(&self.stripe_account, "event");
        for event in &mut events {
            event["account"] = self.stripe_account.as_str().into();
        }
        events
    }

    pub async fn tell(&self, event: &Json) {
        let (status, outcome) = self.endpoint.tell(event).await;
        assert_eq!(status, StatusCode::OK, "{outcome}: {event}");
    }

    /// Everything is told and settled.
    pub async fn tell_all(&self) {
        for event in self.events() {
            self.tell(&event).await;
        }
        self.settle().await;
    }

    /// Settles what waits, however long it was to wait.
    pub async fn settle(&self) {
        self.place.store.raw("UPDATE stripe_leases SET until_ms = 0").await;
        self.place.store.raw("UPDATE stripe_events SET due_at_ms = 0").await;
        self.worker().work_once().await.unwrap();
    }

    /// Compares everything with Stripe, and settles what that finds.
    pub async fn sweep(&self) {
        self.hint().await;
        self.settle().await;
    }

    /// Compares everything with Stripe, and settles nothing.
    pub async fn hint(&self) {
        self.place.store.raw("UPDATE stripe_leases SET until_ms = 0 WHERE name = 'sweep'").await;
        self.place.store.raw("UPDATE stripe_sweeps SET finished_at_ms = 0").await;
        let sweeper = Sweeper::new(self.billing.settler.clone());
        while sweeper.pass().await.unwrap() {}
    }

    pub async fn subscriptions(&self) -> Vec<Subscription> {
        self.tenant().all(100, |query| query).await.unwrap()
    }

    pub async fn subscription(&self) -> Subscription {
        let mut rows = self.subscriptions().await;
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    pub async fn known(&self) -> StripeSubscription {
        self.tenant().one(|query| query).await.unwrap().unwrap()
    }

    pub async fn claims(&self) -> usize {
        self.tenant().all::<KeyClaim>(100, |query| query).await.unwrap().len()
    }

    /// How often owners or buyers are told of a kind.
    pub async fn told(&self, kind: &str) -> usize {
        let told = self.tenant().all::<EventRecord>(10_000, |query| query).await.unwrap();
        told.iter().filter(|event| event.kind == kind).count()
    }

    pub async fn connected(&self) -> StripeAccount {
        self.tenant().one(|query| query).await.unwrap().unwrap()
    }

    /// What there is in the end, without ids of ours and times of work.
    pub async fn outcome(&self) -> Json {
        let tenant = self.tenant();
        let mut sold = Vec::new();
        for row in self.subscriptions().await {
            let plan = if row.plan_id == self.small { "small" } else { "large" };
            sold.push(json!({ "status": row.status, "plan": plan, "anchor": row.period_anchor_ms,
                "past_due_since": row.past_due_since_ms }));
        }
        let known: Vec<StripeSubscription> = tenant.all(100, |query| query).await.unwrap();
        let known: Vec<Json> = known
            .iter()
            .map(|row| {
                json!({ "stripe": row.stripe_id,
            "status": row.stripe_status, "price": row.price_id, "start": row.period_start_ms,
            "end": row.period_end_ms, "cancel": row.cancel_at_ms,
            "pending": row.pending_plan_id.is_some() })
            })
            .collect();
        let reversals: Vec<StripeReversal> = tenant.all(100, |query| query).await.unwrap();
        let reversals: Vec<Json> = reversals
            .iter()
            .map(|row| {
                json!({ "id": row.stripe_id,
            "kind": row.kind, "status": row.status, "amount": row.amount })
            })
            .collect();
        let checkouts: Vec<Checkout> = tenant.all(100, |query| query).await.unwrap();
        let checkouts: Vec<&str> = checkouts.iter().map(|row| row.status.as_str()).collect();
        let customers: Vec<Customer> = tenant.all(100, |query| query).await.unwrap();
        json!({ "subscriptions": sold, "known": known, "reversals": reversals,
            "checkouts": checkouts, "customers": customers.len(), "claims": self.claims().await,
            "dead": self.place.store.inbox_state().await.unwrap().dead })
    }
}

/// A call of an owner's dashboard.
pub async fn dashboard(sandbox: &Sandbox, account: &str, path: &str, form: &str) -> Json {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http
        .post(format!("{}{path}", sandbox.url()))
        .header("authorization", "Bearer sk_test_sandbox")
        .header("stripe-version", stripe_sandbox::API_VERSION)
        .header("stripe-account", account)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.to_owned());
    let answer = answer.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    assert_eq!(status, 200, "{path} {form}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// All that sells through a sandbox, and waits so long for each of its answers.
pub fn billing(place: &Place, sandbox: &Sandbox, timeout: Duration) -> Billing {
    let limit = BucketLimit { test_per_second: 10_000, ..BucketLimit::default() };
    billing_within(place.store.clone(), sandbox, timeout, limit)
}

/// The same over these connections, within a limit.
pub fn billing_within(
    store: Store,
    sandbox: &Sandbox,
    timeout: Duration,
    limit: BucketLimit,
) -> Billing {
    let key = SecretKey::parse(sandbox.secret_key(), Mode::Test).unwrap();
    let wait = Duration::from_millis(1);
    let stripe = StripeSettings {
        keys: SecretKeys { test: Some(key), live: None },
        addresses: Addresses::at(&sandbox.url()),
        retry: RetryRules { tries_max: 2, wait_first: wait, wait_max: wait },
        timeout,
        limit,
    };
    let settings = BillingSettings {
        stripe,
        public_url: Some("https://shop.example".to_owned()),
        ..BillingSettings::default()
    };
    Billing::new(settings, store).unwrap()
}

/// A worker that is killed after so many steps, with all its connections; whether it was done before.
pub async fn killed(worker: Worker, steps: usize) -> bool {
    broken_off(async move { worker.work_once().await }, steps).await.is_some()
}

/// What comes of work that is broken off after so many steps; `None` where it was not done.
pub async fn broken_off<F: Future>(work: F, steps: usize) -> Option<F::Output> {
    Killed { work: Box::pin(work), steps }.await
}

/// Work that is broken off after so many steps, as if the process were killed: `None` then.
struct Killed<F> {
    work: Pin<Box<F>>,
    steps: usize,
}

impl<F: Future> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.steps == 0 {
            return Poll::Ready(None);
        }
        self.steps -= 1;
        self.work.as_mut().poll(context).map(Some)
    }
}
