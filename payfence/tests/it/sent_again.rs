//! Requests that are sent again, byte for byte, on one connection: each is decided on, and forwarded, as if it were the first.

use std::collections::HashSet;

use super::client::{Answer, get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Received};
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
    for (quota_requests, until_then) in [(1, "quota_exhausted"), (1_000_000, "ok")] {
        let origin = Origin::ok();
        let expires_at = jiff::Timestamp::from_second(unix_s() + 3).expect("a time");
        let tokens = format!(
            "tokens = [ {{ id = \"tok_brief\", value = \"{}\", expires_at = {expires_at} }} ]",
            token("brief")
        );
        let tables = quota(quota_requests) + &subscription("brief", "small", &tokens);
        let policy = site(origin.address, "", &tables);
        let Some(gateway) = Gateway::start(&policy) else { return };
        let mut client = gateway.connect();
        let again = get("/paid/1", &[("Authorization", &bearer("brief"))]);
        let first = client.ask(&again);
        assert_eq!(why(&first), "ok", "{}", first.text());
        wait_for("the end of the token", || {
            let reason = why(&client.ask(&again));
            assert!([until_then, "token_expired"].contains(&reason.as_str()), "{reason}");
            (reason == "token_expired").then_some(())
        });
        let late_s = unix_s() - expires_at.as_second();
        assert!(late_s <= 1, "told {late_s} s after the token had expired");
    }
}

#[test]
fn the_origin_gets_the_same_each_time_with_an_id_of_its_own() {
    let origin = Origin::ok();
    let policy = |plan: &str| {
        let tables = plan_of(plan) + &subscription("one", plan, "");
        site(origin.address, "", &tables)
    };
    let Some(gateway) = Gateway::start_with(&policy("first"), &["--shards", "1"]) else { return };
    let (mut client, mut other) = (gateway.connect(), gateway.connect());
    let headers = [("Authorization", &*bearer("one")), ("X-Own", "kept"), ("PayFence-Plan", "no")];
    let (again, free) = (get("/paid/1?a=%20b", &headers), get("/free", &headers));
    let mut expected = Vec::new();
    let mut note = |answer: Answer| {
        assert_eq!(why(&answer), "ok");
        expected.push(answer.header("PayFence-Request-Id").expect("an id").to_owned());
    };
    for _ in 0..4 {
        note(client.ask(&again));
        note(client.ask(&again));
        note(other.ask(&again));
        note(other.ask(&free));
    }
    client.send(again.repeat(3));
    for _ in 0..3 {
        note(client.answer());
    }
    let received = origin.requests();
    let ids: Vec<_> = received.iter().filter_map(|one| one.header("PayFence-Request-Id")).collect();
    assert_eq!(ids, expected, "each answer has the id that its request had");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "no id came twice");
    let without_id = |received: &Received| {
        let own = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("PayFence-Request-Id");
        let headers: Vec<_> = received.headers.iter().filter(own).cloned().collect();
        (received.target.clone(), headers)
    };
    let (paid, unpaid): (Vec<_>, Vec<_>) =
        received.iter().map(without_id).partition(|(target, _)| target != "/free");
    assert_eq!((paid.len(), unpaid.len()), (15, 4));
    for same in [&paid, &unpaid] {
        assert!(same.iter().all(|one| *one == same[0]), "{same:?}");
    }
    assert_eq!(paid[0].0, "/paid/1?a=%20b");
    assert_eq!(received[0].header("X-Own"), Some("kept"));
    assert_eq!(received[0].header("PayFence-Plan"), Some("first"));
    assert_eq!(received[0].header("Authorization"), None);
    let counted = gateway.metric("payfence_decisions_total", &["reason=\"ok\""]);
    assert_eq!(counted, 15.0, "each is counted");

    replace(&gateway, &policy("second"));
    wait_for("the other plan", || {
        assert_eq!(why(&client.ask(&again)), "ok");
        let last = origin.requests().pop()?;
        (last.header("PayFence-Plan") == Some("second")).then_some(())
    });
}

fn plan_of(id: &str) -> String {
    plan(id, "quota = { requests = 1000, per = \"month\" }")
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

#[test]
fn a_body_behind_the_same_head_is_forwarded_each_time() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    let authorization = bearer("unlimited");
    let post = |framing| request("POST", "/paid/1", &[("Authorization", &authorization), framing]);
    let (sized, chunked) = (post(("Content-Length", "5")), post(("Transfer-Encoding", "chunked")));
    let bodies = ["first", "other", "GET /", "\r\n\r\n\0", "fifth"];
    for body in bodies {
        assert_eq!(why(&client.ask(sized.clone() + body)), "ok");
    }
    for body in bodies {
        // The body comes after the head was looked at.
        client.send(&chunked);
        client.send(format!("5\r\n{body}\r\n0\r\n\r\n"));
        assert_eq!(why(&client.answer()), "ok");
    }
    client.send(format!("{chunked}no chunk\r\n"));
    assert_eq!(client.answer().status, 400);
    let received = origin.requests();
    let received: Vec<_> = received.iter().map(|one| String::from_utf8_lossy(&one.body)).collect();
    assert_eq!(received, bodies.repeat(2));
}
