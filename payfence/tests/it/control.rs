//! Nodes of a control plane: what an administrator changes is live on all of them, and a quota is one over all of them.
//!
//! In: changes by REST, requests at nodes, crashes of either side. Out: what clients saw.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::client::get;
use super::gateway::Gateway;
use super::journal::rows;
use super::origin::{Origin, reply};
use super::plane::Plane;
use super::wait::{time_left, wait_for};

/// How long a token goes on that was rotated, seconds.
const OVERLAP_S: u64 = 5;

fn ask(gateway: &Gateway, token: &str) -> (u16, String) {
    let authorization = format!("Bearer {token}");
    let request = get("/paid/x", &[("Authorization", authorization.as_str())]);
    let answer = gateway.ask(request);
    (answer.status, answer.reason())
}

#[track_caller]
fn wait_answer(gateway: &Gateway, token: &str, expected: (u16, &str)) {
    wait_for(&format!("{expected:?}"), || {
        let (status, reason) = ask(gateway, token);
        (status == expected.0 && reason == expected.1).then_some(())
    });
}

#[test]
fn changes_are_live_on_every_node() {
    let origin = Origin::ok();
    let plan = json!({ "reference": "pro", "quota": { "requests": 1_000_000, "per": "month" } });
    let Some(plane) = Plane::start(origin.address, plan) else { return };
    let nodes = [plane.node("n1"), plane.node("n2")];
    let subscriber = plane.subscribe();
    for node in &nodes {
        wait_answer(node, &subscriber.token, (200, ""));
    }
    let (second_id, second) = plane.issue(&subscriber.subscription_id);
    for node in &nodes {
        wait_answer(node, &second, (200, ""));
    }
    plane.delete(&format!("/v1/tokens/{second_id}"));
    for node in &nodes {
        wait_answer(node, &second, (401, "token_revoked"));
        wait_answer(node, &subscriber.token, (200, ""));
    }
    let subscription = format!("/v1/subscriptions/{}", subscriber.subscription_id);
    plane.patch(&subscription, json!({ "status": "canceled" }));
    for node in &nodes {
        wait_answer(node, &subscriber.token, (402, "subscription_inactive"));
    }
    plane.patch(&subscription, json!({ "status": "active" }));
    let plan = format!("/v1/sites/{}/plans/{}", plane.site_id, plane.plan_id);
    plane.patch(&plan, json!({ "quota": { "requests": 1, "per": "month" } }));
    for node in &nodes {
        wait_answer(node, &subscriber.token, (429, "quota_exhausted"));
    }
    let shown = plane.get("/v1/nodes");
    assert_eq!(shown["data"].as_array().map(Vec::len), Some(2), "{shown}");
}

#[test]
fn what_a_token_is_given_counts_at_nodes() {
    let origin = Origin::ok();
    let plan = json!({ "reference": "pro", "quota": { "requests": 1_000_000, "per": "month" } });
    let Some(plane) = Plane::start(origin.address, plan) else { return };
    let node = plane.node("n1");
    let subscriber = plane.subscribe();
    let (old_id, old) = plane.issue(&subscriber.subscription_id);
    let (short_id, short) = plane.issue(&subscriber.subscription_id);
    let path = |id: &str| format!("/v1/tokens/{id}");
    for (networks, expected) in [
        (json!(["203.0.113.0/24"]), (403, "address_forbidden")),
        (json!(["203.0.113.0/24", "127.0.0.0/8"]), (200, "")),
        (json!(["203.0.113.0/24", "::1/128"]), (403, "address_forbidden")),
        (json!(null), (200, "")),
    ] {
        plane.patch(&path(&old_id), json!({ "allow_from": networks }));
        wait_answer(&node, &old, expected);
        wait_answer(&node, &short, (200, ""));
    }
    // Rotated, both work; the old one ends with the overlap, and what ends then, too, with it.
    let rotated = json!({ "overlap_seconds": OVERLAP_S });
    let rotated = plane.post(&format!("{}/rotate", path(&old_id)), rotated);
    let new = rotated["secret"].as_str().expect("a secret");
    let end = plane.get(&path(&old_id))["expires_at"].clone();
    plane.patch(&path(&short_id), json!({ "expires_at": end }));
    let left = time_left(Duration::from_secs(OVERLAP_S - 1));
    wait_answer(&node, new, (200, ""));
    assert!(left(), "the machine is too slow to see both work");
    assert_eq!(ask(&node, &old), (200, String::new()));
    for token in [&old, &short] {
        wait_answer(&node, token, (401, "token_expired"));
    }
    assert!(!left(), "it ended too early");
    assert_eq!(ask(&node, new), (200, String::new()));
}

/// Each of three nodes is asked by four connections in turn, until all refuse; how many were admitted.
fn use_up(nodes: &[Gateway], token: &str, rounds: usize) -> u64 {
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let admitted = &admitted;
            scope.spawn(move || {
                let authorization = format!("Bearer {token}");
                let headers = [("Authorization", authorization.as_str())];
                let mut clients: Vec<_> = nodes.iter().map(Gateway::connect).collect();
                for round in 0..rounds {
                    // Traffic moves from node to node, a hundred requests each.
                    let at = (thread + round / 100) % clients.len();
                    clients[at].send(get("/paid/x", &headers));
                    let answer = clients[at].answer();
                    match answer.status {
                        200 => admitted.fetch_add(1, Ordering::Relaxed),
                        429 => 0,
                        // A node that waits for units of others in vain says so, never that all is used.
                        503 => {
                            assert_eq!(answer.reason(), "ledger_unreachable", "{answer:?}");
                            0
                        }
                        other => panic!("answer {other}: {answer:?}"),
                    };
                }
            });
        }
    });
    admitted.load(Ordering::Relaxed)
}

#[test]
fn a_quota_is_one_over_all_nodes() {
    const LIMIT: u64 = 10_000;
    let origin = Origin::ok();
    let plan = json!({ "reference": "exact", "quota": { "requests": LIMIT, "per": "year" } });
    let Some(plane) = Plane::start(origin.address, plan) else { return };
    let subscriber = plane.subscribe();
    let nodes = ["n1", "n2", "n3"].map(|name| plane.node(name));
    let admitted = use_up(&nodes, &subscriber.token, 4_000);
    assert_eq!(admitted, LIMIT);
    for node in &nodes {
        wait_answer(node, &subscriber.token, (429, "quota_exhausted"));
    }
    assert_eq!(origin.requests().len() as u64, LIMIT);
    // The ledger has it all, once nodes have reported.
    let entitlement = format!("/v1/entitlements/{}", subscriber.subscription_id);
    wait_for("the use of all nodes in one figure", || {
        let shown = plane.get(&entitlement);
        assert!(shown["used"].as_u64()? <= LIMIT, "{shown}");
        (shown["used"] == LIMIT && shown["remaining"] == 0).then_some(())
    });
}

#[test]
fn a_node_that_was_killed_gives_nothing_twice() {
    const LIMIT: u64 = 3_000;
    let origin = Origin::ok();
    let plan = json!({ "reference": "exact", "quota": { "requests": LIMIT, "per": "year" } });
    let Some(plane) = Plane::start(origin.address, plan) else { return };
    let subscriber = plane.subscribe();
    let mut nodes = ["n1", "n2", "n3"].map(|name| plane.node(name));
    let mut admitted = use_up(&nodes, &subscriber.token, 300);
    nodes[0].crash();
    admitted += use_up(&nodes[1..], &subscriber.token, 200);
    let flags = ["--allow-private-origins", "--node-name", "n1"];
    nodes[0].restart(&flags);
    nodes[1].crash_and_restart(&flags[..1]);
    admitted += use_up(&nodes, &subscriber.token, 600);
    // Nothing was in flight at the kills, so all of it can be had, once what the killed ones held has come back.
    wait_for("the last unit", || {
        admitted += use_up(&nodes, &subscriber.token, 20);
        (admitted >= LIMIT).then_some(())
    });
    admitted += use_up(&nodes, &subscriber.token, 100);
    assert_eq!(admitted, LIMIT);
}

/// A site that would rather give away than refuse: what is let through is counted, and settled once the ledger is back.
#[test]
fn what_is_let_through_without_a_control_plane_is_settled() {
    const LIMIT: u64 = 80;
    // Past what can be leased ahead, a quarter of what is left, and within what the node itself knows to be left.
    const WITHOUT: u64 = 30;
    // A shard that never knew where to count does so with its next request: enough for every shard to have one.
    const AFTER: u64 = 16;
    const ALL: u64 = 1 + WITHOUT + AFTER;
    let origin = Origin::ok();
    let plan = json!({ "reference": "small", "quota": { "requests": LIMIT, "per": "year" } });
    let Some(mut plane) = Plane::start(origin.address, plan) else { return };
    plane.patch(&format!("/v1/sites/{}", plane.site_id), json!({ "on_ledger_loss": "open" }));
    let subscriber = plane.subscribe();
    let node = plane.node("n1");
    wait_answer(&node, &subscriber.token, (200, ""));
    plane.crash();
    for number in 0..WITHOUT {
        assert_eq!(ask(&node, &subscriber.token), (200, String::new()), "request {number}");
    }
    // Those that nobody could know of are marked.
    let labels = ["site=\"shop\"", "reason=\"unmetered\""];
    let marked = || node.metric("payfence_decisions_total", &labels);
    wait_for("marks", || (marked() > 0.0).then_some(()));
    assert!(marked() <= WITHOUT as f64, "{} marked", marked());
    let in_rows = || rows(&node).iter().filter(|row| row["reason"] == "unmetered").count();
    wait_for("a row for each mark", || (in_rows() as f64 == marked()).then_some(()));
    plane.restart();
    for number in 0..AFTER {
        assert_eq!(ask(&node, &subscriber.token), (200, String::new()), "request {number} after");
    }
    let entitlement = format!("/v1/entitlements/{}", subscriber.subscription_id);
    wait_for("all that was let through", || {
        let shown = plane.get(&entitlement);
        assert!(shown["used"].as_u64()? <= ALL, "{shown}");
        (shown["used"] == ALL && shown["remaining"] == LIMIT - ALL).then_some(())
    });
    assert_eq!(origin.requests().len() as u64, ALL);
}

#[test]
fn a_node_waits_for_its_first_policy_and_can_be_stopped_meanwhile() {
    let origin = Origin::ok();
    let plan = json!({ "reference": "pro" });
    let Some(mut plane) = Plane::start(origin.address, plan) else { return };
    let subscriber = plane.subscribe();
    let waiting = plane.launch_node("n1");
    plane.crash();
    let mut stopped = Gateway::launch_node(
        &format!("http://{}", plane.address),
        link::wire::NodeToken::make(getrandom::fill).expect("random bytes").reveal(),
        &[],
    );
    wait_for("the admin listener", || {
        std::net::TcpStream::connect(stopped.admin).ok()?;
        (stopped.admin("/readyz").status == 503).then_some(())
    });
    stopped.signal("TERM");
    assert!(stopped.wait_end().success());
    plane.restart();
    wait_answer_once_up(&waiting, &subscriber.token);
}

#[track_caller]
fn wait_answer_once_up(gateway: &Gateway, token: &str) {
    wait_for("the first policy", || {
        std::net::TcpStream::connect(gateway.address).ok()?;
        (ask(gateway, token).0 == 200).then_some(())
    });
}

/// The control plane lets origins be here; a node that was not told so looks at each address itself, as it is written and as a name leads to.
#[test]
fn a_node_reaches_no_private_origin_unless_it_is_told() {
    let origin = Origin::ok();
    let Some(plane) = Plane::start(origin.address, json!({ "reference": "pro" })) else { return };
    // Where `localhost` leads to.
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    let local = Origin::start_at(here, |_| reply("200 OK", &[], "ok"));
    let by_name = format!("http://localhost:{}", local.address.port());
    plane.post("/v1/sites", json!({ "slug": "named", "origin": by_name, "hosts": ["named.test"] }));
    let mut node = plane.launch_node_with("n1", &[]);
    node.wait_ready();
    let named = "GET /free HTTP/1.1\r\nHost: named.test\r\nConnection: close\r\n\r\n";
    for request in [get("/free", &[]), named.to_owned()] {
        let answer = node.ask(&request);
        let got = (answer.status, answer.reason());
        assert_eq!((got.0, got.1.as_str()), (502, "origin_unreachable"), "{request}");
    }
    assert!(origin.requests().is_empty() && local.requests().is_empty());
    // The same policy, on a node that may.
    let node = plane.node("n2");
    for request in [get("/free", &[]), named.to_owned()] {
        wait_for("its address", || (node.ask(&request).status == 200).then_some(()));
    }
}
