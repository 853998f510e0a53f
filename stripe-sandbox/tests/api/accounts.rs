//! Connected accounts: made, onboarded, connected by OAuth, lost.

use crate::world::{World, id};
use serde_json::Value;
use stripe_sandbox::API_VERSION;

const ALL: &str = "include[0]=configuration.merchant&include[1]=defaults&include[2]=requirements";

fn card_status(account: &Value) -> &str {
    account["configuration"]["merchant"]["capabilities"]["card_payments"]["status"]
        .as_str()
        .unwrap_or("")
}

#[tokio::test]
async fn an_account_sells_once_its_page_is_filled_in_and_the_link_works_once() {
    let world = World::new().await;
    let form = r#"{"contact_email":"o@example.com","dashboard":"full","identity":{"country":"de"},
        "defaults":{"responsibilities":{"fees_collector":"stripe","losses_collector":"stripe"}},
        "configuration":{"merchant":{"capabilities":{"card_payments":{"requested":true}}}},
        "include":["defaults","configuration.merchant","requirements"]}"#;
    let account = world.post("/v2/core/accounts", form).await;
    assert_eq!(
        (card_status(&account), account["identity"].is_null()),
        ("restricted", true),
        "{account}"
    );
    let account = id(&account);
    let link = format!(
        r#"{{"account":"{account}","use_case":{{"type":"account_onboarding","account_onboarding":
            {{"refresh_url":"http://x/again","return_url":"http://x/back"}}}}}}"#
    );
    let removed = link.replace("refresh_url", "configurations\":[\"merchant\"],\"refresh_url");
    assert_eq!(
        world.send("POST", "/v2/core/account_links", &removed, &[]).await.body["error"]["code"],
        "parameter_unknown"
    );
    let link = world.post("/v2/core/account_links", &link).await;
    let url = link["url"].as_str().expect("a page");
    let page = world.client.get(url).send().await.expect("the page");
    assert_eq!(page.status().as_u16(), 200);
    let spent = world.client.get(url).send().await.expect("an answer");
    assert_eq!(spent.headers()["location"], "http://x/again", "it works once");
    let done = world.client.post(url).body("choice=complete").send().await.expect("an answer");
    assert_eq!(
        (done.status().as_u16(), done.headers()["location"].to_str().ok()),
        (303, Some("http://x/back"))
    );
    let found = world.get(&format!("/v2/core/accounts/{account}"), ALL).await;
    assert_eq!(card_status(&found), "active");
    let plain = world.get(&format!("/v2/core/accounts/{account}"), "").await;
    assert_eq!(plain["configuration"], Value::Null, "not asked for");
    let view = world.get(&format!("/v1/accounts/{account}"), "").await;
    assert_eq!(
        (view["charges_enabled"].as_bool(), view["object"].as_str()),
        (Some(true), Some("account"))
    );
}

#[tokio::test]
async fn accounts_are_listed_page_by_page() {
    let world = World::new().await;
    for _ in 0..5 {
        world.post("/v2/core/accounts", "{}").await;
    }
    let (mut next, mut seen) = ("/v2/core/accounts?limit=2".to_owned(), 0);
    while !next.is_empty() {
        let (path, query) = next.split_once('?').expect("a query");
        let page = world.get(path, query).await;
        seen += page["data"].as_array().expect("rows").len();
        next = page["next_page_url"].as_str().unwrap_or("").to_owned();
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn an_account_there_is_connects_by_oauth_and_its_code_works_once() {
    let world = World::new().await;
    let base = format!("{}/oauth/authorize", world.sandbox.url());
    let form = "client_id=ca_sandbox&redirect_uri=http%3A%2F%2Fx%2Fcb&state=s1&choice=connect";
    let page = world.client.get(format!("{base}?{form}")).send().await.expect("the page");
    assert_eq!(page.status().as_u16(), 200);
    let denied = world
        .client
        .post(&base)
        .body(form.replace("=connect", "=deny"))
        .send()
        .await
        .expect("an answer");
    assert!(denied.headers()["location"].to_str().expect("text").contains("error=access_denied"));
    let done = world.client.post(&base).body(form).send().await.expect("an answer");
    let to = done.headers()["location"].to_str().expect("text").to_owned();
    assert!(to.starts_with("http://x/cb?code=ac_") && to.ends_with("&state=s1"), "{to}");
    let code = to.split("code=").nth(1).and_then(|rest| rest.split('&').next()).expect("a code");
    let redeem = format!("grant_type=authorization_code&code={code}");
    let token = world.post("/oauth/token", &redeem).await;
    let account = token["stripe_user_id"].as_str().expect("an account").to_owned();
    let again = world.send("POST", "/oauth/token", &redeem, &[]).await;
    assert_eq!((again.status, again.body["error"].as_str()), (400, Some("invalid_grant")), "once");
    let acts = async |account: &str| {
        let headers = [("stripe-account", account), ("stripe-version", API_VERSION)];
        world.send("GET", "/v1/products", "", &headers).await.status
    };
    assert_eq!(acts(&account).await, 200);
    world
        .post("/oauth/deauthorize", &format!("client_id=ca_sandbox&stripe_user_id={account}"))
        .await;
    assert_eq!(acts(&account).await, 403, "access is gone");
    let events = world.sandbox.objects(&account, "event");
    let last = events.last().expect("an event");
    assert_eq!(last["type"], "account.application.deauthorized");
    assert_eq!(
        (last["account"].as_str(), last["data"]["object"]["object"].as_str()),
        (Some(account.as_str()), Some("application"))
    );
    assert!(world.sandbox.deauthorize(&account).is_err(), "once");
}

#[tokio::test]
async fn access_can_end_without_a_word() {
    let world = World::new().await;
    let account = id(&world.post("/v2/core/accounts", "{}").await);
    let acts = async || {
        let headers = [("stripe-account", account.as_str()), ("stripe-version", API_VERSION)];
        let own = world.send("GET", "/v1/account", "", &headers).await;
        (own.status, own.body["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(acts().await, (200, None));
    let told = world.sandbox.objects(&account, "event").len();
    world.sandbox.revoke(&account).expect("it was connected");
    assert_eq!(acts().await, (403, Some("account_invalid".to_owned())));
    assert_eq!(world.sandbox.objects(&account, "event").len(), told);
    world.sandbox.restore(&account).expect("it is there");
    assert_eq!(acts().await, (200, None));
}

#[tokio::test]
async fn accounts_see_nothing_of_one_another() {
    let mut world = World::new().await;
    let accounts = [
        id(&world.post("/v2/core/accounts", "{}").await),
        id(&world.post("/v2/core/accounts", "{}").await),
    ];
    world.account = accounts[0].clone();
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    for (account, status) in [(accounts[0].as_str(), 200), (accounts[1].as_str(), 404), ("", 404)] {
        let answered = world
            .send("GET", &format!("/v1/prices/{price}"), "", &[("stripe-account", account)])
            .await;
        assert_eq!(answered.status, status, "{account}");
    }
}

#[tokio::test]
async fn the_portals_page_cancels_resumes_and_takes_another_card() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let subscription = world.subscribed(&price, "").await;
    let other = world.subscribed(&price, "").await;
    let customer = world.subscription(&subscription).await["customer"]
        .as_str()
        .expect("a customer")
        .to_owned();
    let form =
        format!("customer={customer}&return_url=http://x/back&flow_data[type]=subscription_cancel");
    let cancel = format!("{form}&flow_data[subscription_cancel][subscription]=");
    assert_eq!(
        world.send("POST", "/v1/billing_portal/sessions", &form, &[]).await.status,
        400,
        "which one?"
    );
    let foreign = format!("{cancel}{other}");
    assert_eq!(
        world.send("POST", "/v1/billing_portal/sessions", &foreign, &[]).await.status,
        400,
        "another's"
    );
    let session =
        world.post("/v1/billing_portal/sessions", &format!("{cancel}{subscription}")).await;
    let url = session["url"].as_str().expect("a page");
    let before = world.subscription(&subscription).await["default_payment_method"].clone();
    for (choice, which, canceled) in [
        ("cancel", &subscription, true),
        ("resume", &subscription, false),
        ("cancel", &other, false),
        ("bad_card", &subscription, false),
    ] {
        let form = format!("choice={choice}&subscription={which}");
        let page = world
            .client
            .post(url)
            .body(form)
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("HTML");
        assert!(page.contains("http://x/back"), "{page}");
        let found = world.subscription(&subscription).await;
        assert_eq!(found["cancel_at_period_end"], Value::Bool(canceled), "{choice} {which}");
        assert_eq!(
            world.subscription(&other).await["cancel_at_period_end"],
            Value::Bool(false),
            "another's"
        );
    }
    assert_ne!(world.subscription(&subscription).await["default_payment_method"], before);
}

#[tokio::test]
async fn without_accounts_v2_an_account_is_made_and_sells_by_v1() {
    let world = World::new().await;
    world.sandbox.set_accounts_v2(false);
    let refused = world.send("POST", "/v2/core/accounts", "{}", &[]).await;
    let code = refused.body["error"]["code"].as_str();
    assert_eq!((refused.status, code), (400, Some("accounts_v2_access_blocked")));
    let controller = "controller[fees][payer]=account&controller[losses][payments]=stripe\
        &controller[requirement_collection]=stripe&controller[stripe_dashboard][type]=full";
    for wrong in [
        format!("{controller}&type=standard"),
        controller.replace("[payer]=account", "[payer]=application"),
    ] {
        assert_eq!(world.send("POST", "/v1/accounts", &wrong, &[]).await.status, 400, "{wrong}");
    }
    let account = world.post("/v1/accounts", &format!("country=DE&{controller}")).await;
    let state = |account: &Value| {
        let card = account["capabilities"]["card_payments"].as_str().map(str::to_owned);
        (card, account["charges_enabled"].as_bool())
    };
    assert_eq!(state(&account), (Some("inactive".to_owned()), Some(false)));
    let account = id(&account);
    let link = format!(
        "account={account}&type=account_onboarding&refresh_url=http://x/a&return_url=http://x/b"
    );
    let link = world.post("/v1/account_links", &link).await;
    let url = link["url"].as_str().expect("a page");
    world.client.post(url).body("choice=complete").send().await.expect("an answer");
    let found = world.get(&format!("/v1/accounts/{account}"), "").await;
    assert_eq!(state(&found), (Some("active".to_owned()), Some(true)));
}

/// The owner of an account chooses it at each attempt.
#[tokio::test]
async fn an_owner_connects_the_account_that_they_have() {
    let world = World::new().await;
    let account = world.sandbox.own_account().expect("room");
    for _ in 0..2 {
        assert!(!world.sandbox.is_connected(&account));
        let base = format!("{}/oauth/authorize", world.sandbox.url());
        let form = format!(
            "client_id=ca_sandbox&redirect_uri=http%3A%2F%2Fx%2Fcb&choice=connect&account={account}"
        );
        let done = world.client.post(&base).body(form).send().await.expect("an answer");
        let to = done.headers()["location"].to_str().expect("text").to_owned();
        let code = to.split("code=").nth(1).and_then(|rest| rest.split('&').next());
        let redeem = format!("grant_type=authorization_code&code={}", code.expect("a code"));
        let token = world.post("/oauth/token", &redeem).await;
        assert_eq!(token["stripe_user_id"], Value::String(account.clone()));
        assert!(world.sandbox.is_connected(&account));
        world.sandbox.revoke(&account).expect("access");
    }
    assert_eq!(world.sandbox.count("", "v2.core.account"), 1);
}
