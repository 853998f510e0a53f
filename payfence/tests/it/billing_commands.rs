//! The commands about money and webhooks by the built binary, against a control plane whose Stripe is a stand-in.
//!
//! In: what an administrator types. Out: what is printed, what it ends with, and what is otherwise then here, at Stripe and at
//! owners' programs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use stripe_sandbox::WebhookFaults;

use super::bank::{StandIn, open, pay};
use super::buyer::bought;
use super::origin::{Origin, reply};
use super::plane::Plane;
use super::wait::{unix_s, wait_for, wait_within};

/// What sweeps may take to begin, and to end.
const SWEEP_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// What a command printed, where it ended with `code` and said `errors` to people.
#[track_caller]
fn check(plane: &Plane, line: &str, code: i32, errors: &str) -> String {
    let ended = plane.run(&line.split_whitespace().collect::<Vec<_>>());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let (out, err) = (text(&ended.stdout), text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(code), "{line}: {out}{err}");
    assert!(err.contains(errors), "{line}: {err}");
    assert!(!errors.is_empty() || err.is_empty(), "{line} says nothing but what it prints: {err}");
    out
}

/// A control plane that sells, without nodes.
fn shop(more: &[&str]) -> Option<(Plane, StandIn)> {
    // Nobody is served, so nothing is there.
    open(std::net::SocketAddr::from(([127, 0, 0, 1], 9)), unix_s(), more)
}

/// A subscription that was bought, here and at Stripe.
fn sold(plane: &Plane, bank: &StandIn) -> (String, String) {
    pay(plane, bank);
    bank.tell();
    let subscription = bought(plane);
    wait_for("all events of it", || {
        (plane.get("/v1/stripe/events?state=waiting")["data"] == json!([])).then_some(())
    });
    (subscription, bank.id_of("subscription"))
}

/// The ids of events that a list has, one a line, each with all of `words`.
#[track_caller]
fn ids(list: &str, words: &[&str]) -> Vec<String> {
    let line = |line: &str| {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        line.split(' ').nth(1).expect("an id").to_owned()
    };
    list.lines().map(line).collect()
}

#[test]
fn what_was_given_up_is_listed_and_settled_again() {
    let Some((plane, bank)) = shop(&[]) else { return };
    let (_, there) = sold(&plane, &bank);
    let dead = "billing events --state dead";
    assert_eq!(check(&plane, dead, 0, "no such event"), "");
    // What nobody can settle: the row of the plan cannot be read.
    let plan = format!("WHERE id = '{}'", plane.plan_id);
    plane.change_row(&format!("UPDATE plans SET settings = '?' || settings {plan}"));
    let touch = |round: &str| {
        let path = format!("/v1/subscriptions/{there}");
        bank.owner("POST", &path, &format!("metadata[round]={round}"));
        bank.tell();
        wait_for("an event that was given up", || {
            let list = plane.get("/v1/stripe/events?state=dead");
            (list["data"] != json!([])).then_some(())
        });
        check(&plane, dead, 0, "")
    };
    let words = ["dead", "customer.subscription.updated", &there, " 1 ", "cannot be read"];
    let first = ids(&touch("1"), &words);
    assert_eq!(first.len(), 1, "{first:?}");

    plane.change_row(&format!("UPDATE plans SET settings = SUBSTR(settings, 2) {plan}"));
    let replay = format!("billing replay {}", first[0]);
    assert_eq!(check(&plane, &replay, 0, ""), "1 events are settled again\n");
    let is_done = |id: &str| {
        wait_for("an event that is settled again", || {
            let list = check(&plane, "billing events --state done", 0, "");
            list.lines().any(|line| line.contains(id)).then_some(())
        });
    };
    is_done(&first[0]);
    assert_eq!(check(&plane, dead, 0, "no such event"), "");

    plane.change_row(&format!("UPDATE plans SET settings = '?' || settings {plan}"));
    let second = ids(&touch("2"), &words);
    plane.change_row(&format!("UPDATE plans SET settings = SUBSTR(settings, 2) {plan}"));
    assert_eq!(check(&plane, "billing replay --dead", 0, ""), "1 events are settled again\n");
    is_done(&second[0]);
    assert_eq!(check(&plane, "billing replay --dead", 0, ""), "0 events are settled again\n");
    let all = check(&plane, "billing events", 0, "");
    assert!(first.iter().chain(&second).all(|id| all.contains(id.as_str())), "{all}");
}

/// When each sweep was done last.
fn finished(plane: &Plane) -> Vec<Value> {
    let sweeps = plane.get("/v1/stripe/sweeps");
    let rows = sweeps["data"].as_array().expect("rows").iter();
    rows.map(|sweep| sweep["finished_at"].clone()).collect()
}

#[test]
fn what_stripe_never_told_is_swept() {
    let Some((plane, bank)) = shop(&[]) else { return };
    let (subscription, there) = sold(&plane, &bank);
    // The sweeps of a start must not do what is asked for below.
    let before = wait_within(SWEEP_DEADLINE, "the first sweeps", || {
        let all = finished(&plane);
        (all.len() == 3 && all.iter().all(Value::is_string)).then_some(all)
    });
    bank.sandbox.set_webhook_faults(WebhookFaults { lost: 1_000, ..WebhookFaults::default() });
    bank.owner("DELETE", &format!("/v1/subscriptions/{there}"), "");
    bank.tell();
    let status = || plane.get(&format!("/v1/subscriptions/{subscription}"))["status"].clone();
    assert_eq!(status(), "active", "nobody was told");
    assert_eq!(finished(&plane), before, "nobody swept");
    let asked = check(&plane, "billing sweep", 0, "");
    assert_eq!(asked, "3 sweeps were asked for; GET /v1/stripe/sweeps shows them\n");
    wait_within(SWEEP_DEADLINE, "what was swept", || (status() == "canceled").then_some(()));
    let sweeps = plane.get("/v1/stripe/sweeps");
    let repaired = |sweep: &Value| sweep["repaired"].as_i64().expect("a number");
    let rows = sweeps["data"].as_array().expect("rows");
    assert!(rows.iter().map(repaired).sum::<i64>() > 0, "{sweeps}");
}

#[test]
fn drift_is_shown_left_alone_and_mended() {
    let Some((plane, bank)) = shop(&[]) else { return };
    let (dry, sync) = ("billing sync --test --dry-run", "billing sync --test");
    let plan = format!("basic ({})", plane.plan_id);
    let makes = format!("+ {plan}: becomes a product and a price\n");
    assert_eq!(check(&plane, dry, 3, ""), makes);
    assert_eq!(bank.objects("product"), Vec::<Value>::new(), "looking makes nothing");
    assert_eq!(check(&plane, sync, 0, ""), makes);
    let clean = "Stripe's test mode is as the plans say";
    assert_eq!(check(&plane, dry, 0, clean), "");

    let product = || bank.objects("product")[0].clone();
    let id = bank.id_of("product");
    bank.owner("POST", &format!("/v1/products/{id}"), "name=Renamed");
    bank.tell();
    let shown = format!(
        "! {plan}: was changed at Stripe\n    product.name: basic here, Renamed at Stripe\n"
    );
    assert_eq!(check(&plane, dry, 3, ""), shown);
    assert_eq!(check(&plane, sync, 0, ""), shown);
    assert_eq!(product()["name"], "Renamed", "what the owner did is not fought");
    let prices = format!("/v1/sites/{}/plans/{}/prices", plane.site_id, plane.plan_id);
    let drift = || plane.get(&prices)["data"][0]["drift"].clone();
    assert_eq!(drift(), json!({ "product.name": "basic here, Renamed at Stripe" }));
    let mended = format!(
        "~ {plan}: was changed at Stripe, and is as the plan says again\n    product.name: basic here, Renamed at Stripe\n"
    );
    assert_eq!(check(&plane, "billing sync --test --mend", 0, ""), mended);
    assert_eq!((product()["name"].clone(), drift()), (json!("basic"), json!({})));
    assert_eq!(check(&plane, dry, 0, clean), "");
    check(&plane, "billing sync", 1, "live");
}

#[test]
fn deliveries_that_were_given_up_are_sent_again() {
    let Some((plane, _bank)) = shop(&["--allow-private-webhooks"]) else { return };
    let is_gone = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&is_gone);
    let receiver = Origin::start(move |_| match says.load(Ordering::SeqCst) {
        true => reply("410 Gone", &[], ""),
        false => reply("204 No Content", &[], ""),
    });
    let url = format!("http://{}/hooks", receiver.address);
    let endpoint = plane.post("/v1/webhook-endpoints", json!({ "url": url }));
    let path = format!("/v1/webhook-endpoints/{}", endpoint["id"].as_str().expect("an id"));
    plane.subscribe();
    // Gone is for good: what it was sent is given up, and it is turned off.
    let count = |status: &str| {
        let list = plane.get(&format!("{path}/deliveries?status={status}"));
        list["data"].as_array().expect("rows").len()
    };
    let given_up = wait_for("deliveries that were given up", || {
        let is_off = plane.get(&path)["enabled"] == false;
        (is_off && count("pending") == 0).then(|| count("failed"))
    });
    assert!(given_up > 0 && count("delivered") == 0, "{given_up}");
    let told = |from: usize| -> Vec<String> {
        let requests = receiver.requests().into_iter().skip(from);
        requests.map(|it| it.header("webhook-id").expect("an id").to_owned()).collect()
    };
    let first = told(0);

    is_gone.store(false, Ordering::SeqCst);
    plane.patch(&path, json!({ "enabled": true }));
    let id = path.rsplit('/').next().expect("an id");
    let replay = format!("webhooks replay {id} --since 2020-01-01T00:00:00Z");
    let sent = format!("{given_up} deliveries are sent again\n");
    assert_eq!(check(&plane, &replay, 0, ""), sent);
    wait_for("what is delivered", || (count("delivered") == given_up).then_some(()));
    let again = told(first.len());
    assert_eq!(again.len(), given_up, "once each: {again:?}");
    assert!(first.iter().all(|id| again.contains(id)), "{first:?} are among {again:?}");
    assert_eq!(check(&plane, &replay, 0, ""), "0 deliveries are sent again\n");
    let since_then = format!("webhooks replay {id} --since 2100-01-01T00:00:00Z");
    check(&plane, &since_then, 0, "");
}

#[test]
fn what_cannot_be_done_is_said() {
    let Some((plane, _bank)) = shop(&[]) else { return };
    // A key that was good once.
    let key = plane.post("/v1/admin_keys", json!({ "label": "old", "role": "admin" }));
    let secret = key["secret"].as_str().expect("a secret");
    plane.write("old.key", secret);
    plane.write("broken.key", &secret[..secret.len() - 1]);
    plane.delete(&format!("/v1/admin_keys/{}", key["id"].as_str().expect("an id")));
    let lines = [
        "billing events",
        "billing replay sevt_x",
        "billing replay --dead",
        "billing sweep",
        "billing sync --test",
        "billing sync --test --dry-run",
        "webhooks replay whe_x --since 2026-01-01T00:00:00Z",
    ];
    for line in lines {
        let with = |flags: &str| format!("{line} {flags}");
        let refused = check(&plane, &with("--admin-key-file old.key"), 1, "401 Unauthorized: ");
        assert_eq!(refused, "", "{line}");
        check(&plane, &with("--admin-key-file broken.key"), 2, "broken.key: this is no admin key");
        check(&plane, &with("--admin-key-file none.key"), 2, "none.key");
        check(&plane, &with("--control-url http://127.0.0.1:9"), 1, "http://127.0.0.1:9");
    }
    let hooks = json!({ "url": "https://hooks.example.com/", "enabled": false });
    let hooks = plane.post("/v1/webhook-endpoints", hooks);
    let soon = format!("webhooks replay {} --since soon", hooks["id"].as_str().expect("an id"));
    let cases = [
        ("billing replay sevt_x", 1, "404 Not Found: "),
        ("webhooks replay whe_x --since 2026-01-01T00:00:00Z", 1, "404 Not Found: "),
        (soon.as_str(), 1, "422 Unprocessable Entity: "),
        ("billing events --state gone", 2, "--state"),
        ("billing replay", 2, "EVENT"),
        ("billing replay sevt_x --dead", 2, "--dead"),
        ("billing sync --dry-run --mend", 2, "--mend"),
    ];
    for (line, code, errors) in cases {
        assert_eq!(check(&plane, line, code, errors), "", "{line}");
    }
}
