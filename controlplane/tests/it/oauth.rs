//! Connecting a Stripe account that its owner has already, as browsers do it.
//!
//! In: an owner's wish, browsers that open addresses and keep cookies, what the owner chooses at Stripe. Out: whose account is connected.
//! Always holds: what a browser sends to Stripe it took from a page of ours, and comes back with what Stripe's page said.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use serde_json::json;
use stripe_sandbox::{Fault, Planned};

use crate::billing::oauth::STATE_MS;
use crate::billing::oauth::grants::give_back_due;
use crate::billing::sweep::Sweeper;

use super::client::Client;
use super::place::Place;
use super::shop::{Seen, Shop, price};
use super::webhooks::Moved;

/// A browser: its cookies, and the control plane.
pub struct Browser {
    router: Router,
    pub cookie: String,
}

impl Browser {
    pub fn new(router: &Router) -> Self {
        Self { router: router.clone(), cookie: String::new() }
    }

    /// One that kept its cookies.
    pub fn with_cookie(router: &Router, cookie: &str) -> Self {
        Self { router: router.clone(), cookie: cookie.to_owned() }
    }

    pub async fn get(&mut self, path: &str) -> Seen {
        self.send(Request::get(path), Body::empty()).await
    }

    pub async fn post(&mut self, path: &str, form: &str) -> Seen {
        let request = Request::post(path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request, Body::from(form.to_owned())).await
    }

    async fn send(&mut self, mut request: http::request::Builder, body: Body) -> Seen {
        if !self.cookie.is_empty() {
            request = request.header("cookie", format!("other=1; {}", self.cookie));
        }
        let seen = Shop::browse(&self.router, request.body(body).unwrap()).await;
        if let Some(set) = seen.headers.get("set-cookie") {
            self.cookie = set.to_str().unwrap().split_once(';').unwrap().0.to_owned();
        }
        seen
    }

    /// Opens the address that the API answered, and goes on: the page of Stripe's that it is led to.
    pub async fn go_on(&mut self, url: &str) -> String {
        let path = url.trim_start_matches("https://pay.example");
        self.get(path).await.expect(200);
        let (path, query) = path.split_once('?').unwrap();
        to_stripe(&self.post(path, query).await.expect(200))
    }
}

/// The page of Stripe's that a page of ours leads to.
fn to_stripe(seen: &Seen) -> String {
    let (_, rest) = seen.text.split_once("class=\"button\" href=\"").unwrap();
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

/// Where Stripe's page sends an owner who chooses this; with an account that they have, or a new one.
pub async fn choose(url: &str, choice: &str, account: &str) -> String {
    let http = link::control::client::client(None, Duration::from_secs(5)).unwrap();
    let (page, query) = url.split_once('?').unwrap();
    let form = http.post(page).header("content-type", "application/x-www-form-urlencoded");
    let form = form.body(format!("{query}&choice={choice}&account={account}"));
    let answer = form.send().await.unwrap();
    let to = answer.headers()["location"].to_str().unwrap().to_owned();
    to.trim_start_matches("https://pay.example").to_owned()
}

/// The address that an owner gets.
async fn begun(owner: &Client) -> String {
    let begun = owner.post("/v1/stripe/oauth/authorize", json!({ "mode": "test" })).await;
    begun.expect(200).json["url"].as_str().unwrap().to_owned()
}

/// A browser that is sent back from Stripe, and where to.
async fn agreed(shop: &Shop, account: &str) -> (Browser, String) {
    let mut browser = Browser::new(&shop.router);
    let at_stripe = browser.go_on(&begun(&shop.owner).await).await;
    (browser, choose(&at_stripe, "connect", account).await)
}

async fn accounts(shop: &Shop) -> i64 {
    let sql = "SELECT COUNT(*) AS n FROM stripe_accounts WHERE lost_at_ms IS NULL";
    shop.place.store.raw_number(sql).await
}

pub async fn an_account_is_connected_in_the_browser_that_began(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.sandbox.own_account().unwrap();
    let url = begun(&shop.owner).await;
    let path = url.strip_prefix("https://pay.example").expect("a page of ours").to_owned();
    let mut browser = Browser::new(&shop.router);
    let page = browser.get(&path).await.expect(200);
    assert!(page.text.contains("First") && page.text.contains("test mode"), "{}", page.text);
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    let (name, rest) = cookie.split_once('=').unwrap();
    let (value, rest) = rest.split_once(';').unwrap();
    assert_eq!(name, "__Host-payfence_oauth");
    assert_eq!(rest, " Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax");
    assert!(value.len() > 22 && !page.text.contains(value));

    // Another site's form carries no cookie; what was made up is none.
    let state = path.split_once('?').unwrap().1;
    for cookie in ["", "__Host-payfence_oauth=", "__Host-payfence_oauth=x", "payfence_oauth=1"] {
        let mut forged = Browser::with_cookie(&shop.router, cookie);
        forged.post("/stripe/oauth/begin", state).await.expect(403);
    }
    let at_stripe = browser.go_on(&url).await;
    assert!(at_stripe.contains("/oauth/authorize?client_id=ca_sandbox"), "{at_stripe}");
    assert_eq!(browser.go_on(&url).await, at_stripe, "the page may be loaded again");

    // Somebody else opens the same address: it is the first one's.
    let mut other = Browser::new(&shop.router);
    other.get(&path).await.expect(200);
    other.post("/stripe/oauth/begin", state).await.expect(403);
    // Somebody else agrees to what the first browser began, with their own account.
    let back = choose(&at_stripe, "connect", &account).await;
    let calls = shop.sandbox.calls();
    for mut stranger in [other, Browser::new(&shop.router)] {
        let seen = stranger.get(&back).await.expect(403);
        assert!(seen.text.contains("another browser"), "{}", seen.text);
    }
    assert_eq!((accounts(&shop).await, shop.sandbox.calls()), (0, calls));
    assert!(!shop.sandbox.is_connected(&account));

    browser.get("/stripe/oauth/callback?state=oauth_guessed&code=ac_1").await.expect(404);
    browser.get(&back).await.expect(200);
    let view = shop.owner.get("/v1/stripe/account?mode=test").await.expect(200);
    assert_eq!((&view.json["stripe_id"], &view.json["status"]), (&json!(account), &json!("ready")));
    // Loaded again it says the same, and nobody is asked.
    let calls = shop.sandbox.calls();
    browser.get(&back).await.expect(200);
    Browser::new(&shop.router).get(&back).await.expect(403);
    assert_eq!((accounts(&shop).await, shop.sandbox.calls()), (1, calls));
    shop.owner.post("/v1/stripe/oauth/authorize", json!({ "mode": "test" })).await.expect(409);
}

pub async fn an_attempt_ends_with_its_time_its_key_or_a_no(place: Place) {
    let shop = Shop::open(place).await;
    // Who does not agree ends the attempt, in the browser that began it alone.
    let mut browser = Browser::new(&shop.router);
    let at_stripe = browser.go_on(&begun(&shop.owner).await).await;
    let denied = choose(&at_stripe, "deny", "").await;
    assert!(denied.contains("error=access_denied"), "{denied}");
    let agreed_to = choose(&at_stripe, "connect", "").await;
    for mut one in [Browser::new(&shop.router), browser] {
        let is_first = !one.cookie.is_empty();
        let seen = one.get(&denied).await.expect(200);
        assert!(seen.text.contains("Not connected"), "{}", seen.text);
        let after = one.get(&agreed_to).await;
        after.expect(if is_first { 404 } else { 403 });
    }
    assert_eq!(accounts(&shop).await, 0);

    // A state is good for a quarter of an hour, and only while its key is.
    for spoil in [
        "UPDATE stripe_oauth_states SET expires_at_ms = 1",
        "UPDATE admin_keys SET revoked_at_ms = 1",
    ] {
        let url = begun(&shop.owner).await;
        let mut browser = Browser::new(&shop.router);
        let at_stripe = browser.go_on(&url).await;
        let back = choose(&at_stripe, "connect", "").await;
        shop.place.store.raw(spoil).await;
        let path = url.trim_start_matches("https://pay.example");
        for path in [path, back.as_str()] {
            let seen = browser.get(path).await.expect(404);
            assert!(seen.text.contains("/v1/stripe/oauth/authorize"), "{}", seen.text);
        }
    }
    assert_eq!(accounts(&shop).await, 0);
}

pub async fn one_attempt_connects_one_account(place: Place) {
    let shop = Shop::open(place).await;
    // The owner goes back at Stripe, chooses another account, and both answers come.
    let mut browser = Browser::new(&shop.router);
    let at_stripe = browser.go_on(&begun(&shop.owner).await).await;
    let one = shop.sandbox.own_account().unwrap();
    let other = shop.sandbox.own_account().unwrap();
    let backs =
        [choose(&at_stripe, "connect", &one).await, choose(&at_stripe, "connect", &other).await];
    for back in &backs {
        browser.get(back).await.expect(200);
    }
    let view = shop.owner.get("/v1/stripe/account?mode=test").await.expect(200);
    assert_eq!(view.json["stripe_id"], json!(one));
    assert!(!shop.sandbox.is_connected(&other), "its code was not redeemed");

    // Two attempts of one owner, and one of another with the same account.
    shop.owner.delete("/v1/stripe/account?mode=test").await.expect(200);
    let (mut first, first_back) = agreed(&shop, &one).await;
    let (mut second, second_back) = agreed(&shop, &other).await;
    let stranger = shop.owner.with_key(shop.place.stranger().await.key);
    let mut third = Browser::new(&shop.router);
    let at_stripe = third.go_on(&begun(&stranger).await).await;
    let third_back = choose(&at_stripe, "connect", &one).await;
    first.get(&first_back).await.expect(200);
    let seen = second.get(&second_back).await.expect(409);
    assert!(seen.text.contains("connected already"), "{}", seen.text);
    third.get(&third_back).await.expect(409);
    assert_eq!(accounts(&shop).await, 1);
    assert!(shop.sandbox.is_connected(&one) && !shop.sandbox.is_connected(&other));
}

/// What an owner agreed to and nobody uses is given back, in time and by whoever lives then; what is connected never is.
pub async fn what_was_granted_for_nothing_is_given_back(place: Place) {
    let clock = Arc::new(Moved::default());
    let shop = Shop::open(place.in_time_of(clock.clone())).await;
    let give_back = async || give_back_due(&shop.billing).await.unwrap();
    let granted = async |account: &str| {
        // The code is redeemed, and Stripe goes away before it says what the account can do.
        let (mut browser, back) = agreed(&shop, account).await;
        shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/v2/core/accounts", 1));
        browser.get(&back).await.expect(503);
        assert!(shop.sandbox.is_connected(account));
        (browser, back)
    };
    let one = shop.sandbox.own_account().unwrap();
    let other = shop.sandbox.own_account().unwrap();
    let (mut second, second_back) = granted(&other).await;
    let (mut first, first_back) = agreed(&shop, &one).await;
    first.get(&first_back).await.expect(200);
    assert_eq!(give_back().await, 0, "the owner may come again");
    second.get(&second_back).await.expect(409);
    // While Stripe is away it is tried again later.
    shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/oauth/deauthorize", 1));
    assert_eq!(give_back().await, 0);
    assert!(shop.sandbox.is_connected(&other));
    assert_eq!(give_back().await, 0, "not at once");
    clock.0.fetch_add(300_000, Ordering::Relaxed);
    // The answer is lost; asked again, Stripe refuses what is done already.
    shop.sandbox.plan_fault(Planned::next(Fault::ResetAfter, "/oauth/deauthorize", 1));
    assert_eq!(give_back().await, 0);
    clock.0.fetch_add(300_000, Ordering::Relaxed);
    assert_eq!(give_back().await, 1);
    assert!(!shop.sandbox.is_connected(&other) && shop.sandbox.is_connected(&one));
    second.get(&second_back).await.expect(409);

    // Another owner agrees for the account that is connected: refused, and it stays.
    let stranger = shop.owner.with_key(shop.place.stranger().await.key);
    let mut third = Browser::new(&shop.router);
    let at_stripe = third.go_on(&begun(&stranger).await).await;
    let third_back = choose(&at_stripe, "connect", &one).await;
    third.get(&third_back).await.expect(409);
    assert_eq!(give_back().await, 1);
    assert!(shop.sandbox.is_connected(&one));

    // An attempt that nobody comes back to is over with its time; one that ended is not given back.
    shop.owner.delete("/v1/stripe/account?mode=test").await.expect(200);
    granted(&other).await;
    let (mut fourth, fourth_back) = granted(&one).await;
    fourth.get(&fourth_back).await.expect(200);
    clock.0.fetch_add(STATE_MS, Ordering::Relaxed);
    shop.place.store.prune(0).await.unwrap();
    assert_eq!(give_back().await, 1);
    assert!(!shop.sandbox.is_connected(&other) && shop.sandbox.is_connected(&one));
    shop.place.store.prune(0).await.unwrap();
    let left = "SELECT COUNT(*) AS n FROM stripe_oauth_states";
    assert_eq!(shop.place.store.raw_number(left).await, 0);
}

pub async fn stripe_may_be_away_while_an_account_is_connected(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.sandbox.own_account().unwrap();
    for path in ["/oauth/token", "/v2/core/accounts"] {
        for fault in [
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::ResetBefore,
            Fault::ResetAfter,
            Fault::Garbage,
            Fault::TooMany { should_retry: None, retry_after_s: Some(2) },
        ] {
            let (mut browser, back) = agreed(&shop, &account).await;
            shop.sandbox.plan_fault(Planned::next(fault.clone(), path, 1));
            let away = browser.get(&back).await.expect(503);
            assert_eq!(away.headers["retry-after"], "5", "{fault:?}");
            let refresh = "http-equiv=\"refresh\" content=\"5;url=/stripe/oauth/callback?";
            assert!(away.text.contains(refresh), "{}", away.text);
            assert_eq!(accounts(&shop).await, 0);
            shop.sandbox.clear_faults();
            let mut seen = browser.get(&back).await;
            if (&fault, path) == (&Fault::ErrorAfter, "/oauth/token") {
                // Stripe keeps that failure for the key, and the code was redeemed: the owner agrees once more.
                let (_, query) = back.split_once("state=").unwrap();
                let again = seen.expect(409);
                assert!(again.text.contains("once more"), "{}", again.text);
                let form = format!("state={}", query.split('&').next().unwrap());
                let at_stripe =
                    to_stripe(&browser.post("/stripe/oauth/begin", &form).await.expect(200));
                seen = browser.get(&choose(&at_stripe, "connect", &account).await).await;
            }
            seen.expect(200);
            assert_eq!(accounts(&shop).await, 1, "{fault:?} at {path}");
            shop.owner.delete("/v1/stripe/account?mode=test").await.expect(200);
        }
    }
    // The code has expired meanwhile, the state has not.
    let (mut browser, back) = agreed(&shop, &account).await;
    shop.sandbox.advance(Duration::from_secs(301));
    browser.get(&back).await.expect(409);
}

pub async fn an_account_is_given_back_at_stripe_first(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.sandbox.own_account().unwrap();
    let (mut browser, back) = agreed(&shop, &account).await;
    browser.get(&back).await.expect(200);
    let path = "/v1/stripe/account?mode=test";
    // While Stripe refuses, or is away, the account is ours and is not said to be given back.
    shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/oauth/deauthorize", 1));
    shop.owner.delete(path).await.expect(503);
    assert!(shop.sandbox.is_connected(&account));
    assert_eq!(accounts(&shop).await, 1);
    // The answer is lost; sent again, Stripe refuses what is done already.
    shop.sandbox.plan_fault(Planned::next(Fault::ResetAfter, "/oauth/deauthorize", 1));
    shop.owner.delete(path).await.expect(503);
    assert!(!shop.sandbox.is_connected(&account));
    let gone = shop.owner.delete(path).await.expect(200);
    assert_eq!(gone.json["status"], "lost");
    shop.owner.get(path).await.expect(404);

    // A refusal that is not about the account leaves it where it is.
    let (mut browser, back) = agreed(&shop, &account).await;
    browser.get(&back).await.expect(200);
    let mut billing = shop.billing.clone();
    let mut settings = (*billing.settings).clone();
    settings.client_ids.test = Some("ca_wrong".to_owned());
    billing.settings = settings.into();
    let owner = Client::new(Shop::router_of(&shop.place, &billing), shop.owner.key.clone());
    let refused = owner.delete(path).await.expect(409);
    assert_eq!(refused.json["type"], "urn:payfence:problem:stripe_refused");
    assert_eq!(accounts(&shop).await, 1);
}

/// No event tells that the owner took the access away in their dashboard.
pub async fn access_that_was_taken_away_is_noticed(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.sandbox.own_account().unwrap();
    let (mut browser, back) = agreed(&shop, &account).await;
    browser.get(&back).await.expect(200);
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    shop.owner.post("/v1/checkouts", wanted.clone()).await.expect(201);
    let sweeper = Sweeper::new(shop.billing.settler.clone());
    sweeper.pass().await.unwrap();
    shop.sandbox.revoke(&account).unwrap();
    let refused = shop.owner.post("/v1/checkouts", wanted.clone()).await.expect(409);
    assert_eq!(refused.json["type"], "urn:payfence:problem:stripe_refused");
    sweeper.pass().await.unwrap();
    let refused = shop.owner.post("/v1/checkouts", wanted).await.expect(409);
    assert_eq!(refused.json["type"], "urn:payfence:problem:stripe_not_connected");
    shop.owner.get("/v1/stripe/account?mode=test").await.expect(404);
    // It is connected again the same way.
    let (mut browser, back) = agreed(&shop, &account).await;
    browser.get(&back).await.expect(200);
    assert_eq!(accounts(&shop).await, 1);
}
