//! Requests that are refused and sent again, byte for byte, on one connection: each is decided on as if it were the first.

use std::collections::HashSet;

use super::client::{Answer, get, request};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription, token};
use super::wait::{unix_s, wait_for};

fn quota(requests: u64) -> String {
    plan("small", &format!("quota = {{ requests = {requests}, per = \"month\" }}"))
}

fn replace(gateway: &Gateway, text: &str) {
    let new = gateway.policy_file.with_extension("new");
    std::fs::write(&new, text).expect("writable");
    std::fs::rename(new, &gateway.policy_file).expect("the same folder");
}

fn why(answer: &Answer) -> String {
    if answer.status == 200 { "ok".to_owned() } else { answer.reason() }
}

#[test]
fn what_changes_between_two_is_seen_by_the_second() {
    let origin = Origin::ok();
    let policy = |requests, is_paused: bool| {
        let status = if is_paused { "status = \"paused\"" } else { "" };
        let tables = quota(requests) + &subscription("small", "small", status);
        site(origin.address, "", &tables)
    };
    let flags = ["--shards", "1"];
    let Some(gateway) = Gateway::start_with(&policy(2, false), &flags) else { return };
    let mut client = gateway.connect();
    let mut other = gateway.connect();
    let again = get("/paid/1", &[("Authorization", &bearer("small"))]);
    let unknown = get("/paid/1", &[("Authorization", &bearer("nobody"))]);
    assert_eq!(client.ask(&again).status, 200);
    assert_eq!(client.ask(&again).status, 200);
    let mut ids = HashSet::new();
    for _ in 0..5 {
        let answer = client.ask(&again);
        assert_eq!(why(&answer), "quota_exhausted");
        assert_eq!(answer.json()["request_id"].as_str(), answer.header("PayFence-Request-Id"));
        assert!(ids.insert(answer.header("PayFence-Request-Id").expect("an id").to_owned()));
        // Another request on the same connection, the same request on another, and several at once.
        assert_eq!(why(&client.ask(&unknown)), "token_unknown");
        assert_eq!(client.ask(get("/free", &[])).status, 200);
        assert_eq!(why(&other.ask(&again)), "quota_exhausted");
    }
    client.send(again.repeat(3) + &get("/free", &[]));
    for expected in ["quota_exhausted", "quota_exhausted", "quota_exhausted", "ok"] {
        assert_eq!(why(&client.answer()), expected);
    }
    assert_eq!(
        gateway.metric("payfence_decisions_total", &["reason=\"quota_exhausted\""]),
        13.0,
        "each is counted"
    );

    replace(&gateway, &policy(4, false));
    wait_for("the larger quota", || (client.ask(&again).status == 200).then_some(()));
    assert_eq!(client.ask(&again).status, 200);
    assert_eq!(why(&client.ask(&again)), "quota_exhausted");
    replace(&gateway, &policy(4, true));
    wait_for("the paused subscription", || {
        let reason = why(&client.ask(&again));
        assert!(
            ["quota_exhausted", "subscription_inactive"].contains(&reason.as_str()),
            "{reason}"
        );
        (reason == "subscription_inactive").then_some(())
    });
    assert_eq!(origin.requests().iter().filter(|request| request.target == "/paid/1").count(), 4);
}

#[test]
fn a_token_that_expires_meanwhile_is_refused_for_that() {
    let origin = Origin::ok();
    let expires_at = jiff::Timestamp::from_second(unix_s() + 3).expect("a time");
    let tokens = format!(
        "tokens = [ {{ id = \"tok_brief\", value = \"{}\", expires_at = {expires_at} }} ]",
        token("brief")
    );
    let tables = quota(1) + &subscription("brief", "small", &tokens);
    let policy = site(origin.address, "", &tables);
    let Some(gateway) = Gateway::start(&policy) else { return };
    let mut client = gateway.connect();
    let again = get("/paid/1", &[("Authorization", &bearer("brief"))]);
    let first = client.ask(&again);
    assert_eq!(why(&first), "ok", "{}", first.text());
    wait_for("the end of the token", || {
        let reason = why(&client.ask(&again));
        assert!(["quota_exhausted", "token_expired"].contains(&reason.as_str()), "{reason}");
        (reason == "token_expired").then_some(())
    });
    let late_s = unix_s() - expires_at.as_second();
    assert!(late_s <= 1, "told {late_s} s after the token had expired");
}

#[test]
fn a_body_behind_the_same_head_is_skipped_each_time() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    let post = request("POST", "/paid/1", &[("Content-Length", "5")]);
    for body in ["first", "other", "GET /"] {
        assert_eq!(why(&client.ask(post.clone() + body)), "token_missing");
    }
    assert_eq!(client.ask(get("/free", &[])).status, 200);
    assert_eq!(origin.requests().len(), 1);
}
