//! Start and end: readiness, draining, ports that are taken.

use super::client::{get, request};
use super::gateway::Gateway;
use super::journal::rows as journal_rows;
use super::origin::{Origin, Step, reply};
use super::policy::{bearer, site};
use super::wait::wait_for;

fn held(origin_name: &'static str) -> Origin {
    Origin::start(move |request| {
        let mut steps = Vec::new();
        if request.target == "/held" {
            steps.push(Step::Await(origin_name));
        }
        steps.extend(reply("200 OK", &[], "ok"));
        steps
    })
}

#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    let origin = held("go");
    let Some(mut gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut idle = gateway.connect();
    assert_eq!(idle.ask(get("/x", &[])).status, 200);
    let mut running = gateway.connect();
    running.send(get("/held", &[]));
    origin.wait_request(2);
    gateway.signal("TERM");
    idle.expect_end();
    wait_for("no new connections", || {
        std::net::TcpStream::connect(gateway.address).is_err().then_some(())
    });
    assert!(gateway.is_running(), "a request still runs");
    origin.release("go");
    let answer = running.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("Connection"), Some("close"));
    running.expect_end();
    assert_eq!(gateway.wait_end().code(), Some(0), "{}", gateway.log());
}

/// What the drain's time was too short for: nothing of an answer went out, so nothing is charged; what has begun stays so.
#[test]
fn draining_ends_at_its_deadline() {
    let origin = Origin::start(|request| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec();
        let begun = Some(Step::Send(head)).filter(|_| request.target.ends_with("/begun"));
        begun.into_iter().chain([Step::Await("never")]).collect()
    });
    let policy = site(origin.address, "", "");
    let flags = ["--drain-seconds", "1"];
    let Some(mut gateway) = Gateway::start_with(&policy, &flags) else { return };
    let authorization = bearer("plenty");
    let authorized = [("Authorization", authorization.as_str())];
    let body = [authorized[0], ("Content-Length", "5")];
    let mut waiting: Vec<_> = [
        get("/paid/held", &authorized),
        request("POST", "/paid/held", &body) + "he",
        get("/free", &[]),
    ]
    .iter()
    .map(|text| {
        let mut client = gateway.connect();
        client.send(text);
        client
    })
    .collect();
    let mut begun = gateway.connect();
    begun.send(get("/paid/begun", &authorized));
    assert_eq!(begun.head().status, 200);
    assert_eq!(begun.exactly(5), b"hello");
    // The origin counts whole requests; of the POST it has a part.
    origin.wait_request(3);
    let has_post = || origin.raw().windows(5).any(|bytes| bytes == b"POST ");
    wait_for("the POST's head", || has_post().then_some(()));
    gateway.signal("TERM");
    for client in &mut waiting {
        let answer = client.answer();
        assert_eq!((answer.status, answer.reason().as_str()), (503, "draining"), "{answer:?}");
        assert!(answer.number("Retry-After") > 0, "{answer:?}");
        client.expect_end();
    }
    let (bytes, _) = begun.until_broken("draining");
    assert_eq!(bytes, b"", "nothing is put behind an answer that has begun");
    assert_eq!(gateway.wait_end().code(), Some(0), "{}", gateway.log());
    origin.release("never");
    let ended: Vec<_> = journal_rows(&gateway)
        .iter()
        .map(|row| (row["status"].as_u64(), row["charge"].as_u64(), row["reason"].to_string()))
        .collect();
    for expected in [(Some(503), Some(0), "\"draining\""), (Some(200), Some(1), "\"ok\"")] {
        let count = if expected.0 == Some(200) { 1 } else { 3 };
        let is_such = |row: &&(_, _, String)| (row.0, row.1, row.2.as_str()) == expected;
        assert_eq!(ended.iter().filter(is_such).count(), count, "{expected:?} in {ended:?}");
    }
    gateway.restart(&flags);
    assert_eq!(gateway.used("plenty"), 1, "charges were given back, but for the begun answer");
}

#[test]
fn an_unframed_answer_that_draining_cuts_off_does_not_look_whole() {
    let origin = Origin::start(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()), Step::Await("never")]
    });
    let policy = site(origin.address, "", "");
    let flags = ["--drain-seconds", "1"];
    let Some(mut gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut running = gateway.connect();
    running.send("GET /x HTTP/1.0\r\nHost: shop.test\r\n\r\n");
    assert_eq!(running.head().status, 200);
    assert_eq!(running.exactly(5), b"hello");
    gateway.signal("TERM");
    assert_eq!(gateway.wait_end().code(), Some(0), "{}", gateway.log());
    let (_, orderly) = running.until_broken("draining");
    assert!(!orderly, "only a reset shows where it broke");
    origin.release("never");
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let origin = Origin::ok();
    let Some(mut gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut clients: Vec<_> = (0..50).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/x", &[])).status, 200);
    }
    gateway.signal("INT");
    assert_eq!(gateway.wait_end().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_port_that_is_taken_is_said_with_its_remedy() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(first) = Gateway::start(&policy) else { return };
    let taken = first.admin.to_string();
    let mut second = Gateway::launch(&policy, &["--admin", &taken]);
    // The flag given last counts, or giving it twice is wrong use: both end it.
    let code = second.wait_end().code();
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {}", second.log());
}

#[test]
fn the_admin_listener_tells_how_the_node_is() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    assert_eq!(gateway.admin("/healthz").status, 200);
    let status = gateway.status();
    for key in [
        "version",
        "uptime_s",
        "snapshot",
        "shards",
        "connections",
        "budgets",
        "journal",
        "exports",
    ] {
        assert!(
            !status[key].is_null() || key == "exports" || key == "journal",
            "{key} in {status}"
        );
        assert!(
            status.as_object().is_some_and(|fields| fields.contains_key(key)),
            "{key}: {status}"
        );
    }
    for key in ["sequence", "loaded_at", "rejected", "last_error"] {
        let snapshot = status["snapshot"].as_object().expect("an object");
        assert!(snapshot.contains_key(key), "{key}: {status}");
    }
    assert_eq!(gateway.ask(get("/x", &[])).status, 200);
    let text = gateway.admin("/metrics").text();
    for name in [
        "payfence_decisions_total",
        "payfence_request_duration_seconds_count",
        "payfence_gateway_overhead_seconds_count",
        "payfence_connections",
        "payfence_snapshot_sequence",
        "payfence_snapshot_rejected_total",
        "payfence_decisions_exported_total",
        "payfence_decisions_lost_total",
        "payfence_export_lag_seconds",
        "payfence_ledger_lag_seconds",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
    let documented = include_str!("../../../docs/OPERATIONS.md");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        let is_told = ["`", "{"].iter().any(|end| documented.contains(&format!("`{name}{end}")));
        assert!(is_told, "{name} is not in docs/OPERATIONS.md");
    }
}
