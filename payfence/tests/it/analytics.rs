//! Decisions and use at a control plane: exactly what nodes answered, whatever was killed meanwhile.
//!
//! In: requests at nodes, crashes of either side. Out: what `GET /v1/decisions` and `GET /v1/usage` say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::plane::Plane;
use super::wait::wait_for;

/// What clients saw: verdict and reason by the request's id.
#[derive(Default)]
struct Seen(BTreeMap<String, (String, String)>);

impl Seen {
    /// Sends one request; its status.
    fn ask(&mut self, node: &Gateway, path: &str, token: Option<&str>) -> u16 {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let answer = node.ask(get(path, &headers));
        let id = answer.header("PayFence-Request-Id").expect("an id").to_owned();
        let verdict = if answer.status == 200 { "allow" } else { "deny" };
        let reason = match (answer.status, path.starts_with("/paid")) {
            (200, true) => "ok".to_owned(),
            (200, false) => "unprotected".to_owned(),
            _ => answer.reason(),
        };
        assert!(self.0.insert(id, (verdict.to_owned(), reason)).is_none(), "an id came twice");
        answer.status
    }

    fn wait(&mut self, node: &Gateway, token: &str) {
        wait_for("the token", || (self.ask(node, "/paid/x", Some(token)) == 200).then_some(()));
    }

    fn count(&self, reason: &str) -> u64 {
        self.0.values().filter(|(_, known)| known == reason).count() as u64
    }
}

/// All decisions that the control plane has.
fn decisions(plane: &Plane) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = plane.get(&format!("/v1/decisions?limit=100{after}"));
        rows.extend(page["data"].as_array().expect("a list").iter().cloned());
        if page["has_more"] == false {
            return rows;
        }
        after =
            format!("&starting_after={}", rows.last().expect("one")["id"].as_str().expect("an id"));
    }
}

/// Waits until the control plane has as many decisions as clients saw, and compares them.
#[track_caller]
fn compare(plane: &Plane, seen: &Seen) {
    let rows = wait_for("all decisions", || {
        let rows = decisions(plane);
        assert!(rows.len() <= seen.0.len(), "{} decisions of {}", rows.len(), seen.0.len());
        (rows.len() == seen.0.len()).then_some(rows)
    });
    let word = |row: &Value, name: &str| row[name].as_str().expect("a word").to_owned();
    let known: BTreeMap<String, (String, String)> = rows
        .iter()
        .map(|row| (word(row, "request_id"), (word(row, "verdict"), word(row, "reason"))))
        .collect();
    assert_eq!(known, seen.0);
    let used = plane.get("/v1/usage?group_by=reason&interval=total");
    let sums: BTreeMap<String, u64> = used["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (word(row, "group"), row["requests"].as_u64().expect("a number")))
        .collect();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (_, reason) in seen.0.values() {
        *expected.entry(reason.clone()).or_default() += 1;
    }
    assert_eq!(sums, expected);
}

#[test]
fn decisions_and_use_are_exactly_what_nodes_answered() {
    const LIMIT: u64 = 40;
    let origin = Origin::ok();
    let plan = json!({ "reference": "exact", "quota": { "requests": LIMIT, "per": "year" } });
    let Some(mut plane) = Plane::start(origin.address, plan) else { return };
    let subscriber = plane.subscribe();
    let mut nodes = [plane.node("n1"), plane.node("n2")];
    let mut seen = Seen::default();
    for node in &nodes {
        seen.wait(node, &subscriber.token);
        for _ in 0..10 {
            seen.ask(node, "/free", None);
            assert_eq!(seen.ask(node, "/paid/x", None), 401);
            assert_eq!(seen.ask(node, "/paid/y", Some(&subscriber.token)), 200);
        }
    }
    compare(&plane, &seen);

    // Decided while the control plane is away, and shipped by a node that was killed since.
    plane.crash();
    for node in &nodes {
        for _ in 0..5 {
            seen.ask(node, "/free", None);
        }
    }
    let flags = ["--allow-private-origins", "--node-name", "n1"];
    nodes[0].crash_and_restart(&flags);
    seen.ask(&nodes[0], "/free", None);
    plane.restart();
    compare(&plane, &seen);

    // To the end of the quota: the ledger's figure and that of the log are one.
    for node in &nodes {
        wait_for("the end of the quota", || {
            let status = seen.ask(node, "/paid/z", Some(&subscriber.token));
            (status == 429).then_some(())
        });
    }
    compare(&plane, &seen);
    let used = plane.get(&format!("/v1/usage?subscription_id={}", subscriber.subscription_id));
    let sum = &used["data"][0];
    assert_eq!(seen.count("ok"), LIMIT);
    assert_eq!(sum["charge"], LIMIT, "{used}");
    assert_eq!(sum["denied_by_reason"]["quota_exhausted"], seen.count("quota_exhausted"), "{used}");
    let periods = wait_for("the ledger's figure", || {
        let used = plane.get(&format!("/v1/usage?subscription_id={}", subscriber.subscription_id));
        (used["periods"][0]["used"] == LIMIT).then(|| used["periods"].clone())
    });
    assert_eq!(periods[0]["charge"], LIMIT, "{periods}");
    assert_eq!(periods.as_array().map(Vec::len), Some(1), "{periods}");
    let by_node = decisions(&plane).iter().filter(|row| row["node"] == "n1").count();
    assert!(by_node > 0 && by_node < seen.0.len());
}

#[test]
fn a_node_that_is_told_not_to_ships_nothing() {
    let origin = Origin::ok();
    let Some(plane) = Plane::start(origin.address, json!({ "reference": "pro" })) else { return };
    let shipping = plane.node("n1");
    let mut silent =
        plane.launch_node_with("n2", &["--allow-private-origins", "--control-decisions", "off"]);
    silent.wait_ready();
    let (mut seen, mut unseen) = (Seen::default(), Seen::default());
    for _ in 0..5 {
        unseen.ask(&silent, "/free", None);
        seen.ask(&shipping, "/free", None);
    }
    compare(&plane, &seen);
    let exports = |node: &Gateway| node.status()["exports"].clone();
    assert_eq!(exports(&silent), json!([]));
    assert_eq!(exports(&shipping)[0]["sink"], "control", "{}", exports(&shipping));
}
