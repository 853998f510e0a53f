//! Connections that have served a request already, on both sides: the next one is forwarded as it comes, and its answer passed on
//! as it comes. Whatever an origin or a client does then must come to the same as on the first request.

use super::client::get;
use super::gateway::Gateway;
use super::origin::{Origin, Received, Step, raw, reply};
use super::policy::{bearer, site};
use super::wait::wait_for;

/// More than is copied behind a head, and more than one buffer of a client's holds.
const LARGE: usize = 20_000;

/// Targets, which say what the origin sends, and what the client gets: status and body. Its connection stays.
const ANSWERS: &[(&str, u16, &str)] = &[
    ("/paid/whole", 200, "ok"),
    ("/paid/empty", 204, ""),
    ("/paid/error", 500, "no"),
    ("/paid/split-head", 200, "ok"),
    ("/paid/chunked", 200, "ok"),
    ("/paid/interim", 200, "ok"),
    ("/paid/goodbye", 200, "ok"),
    ("/paid/goodbye-unsaid", 200, "ok"),
    ("/paid/until-close", 200, "ok"),
    ("/paid/more-than-said", 200, "ok"),
    ("/paid/large", 200, ""),
];

fn answer(request: &Received) -> Vec<Step> {
    let then = |steps: Vec<Step>, step| steps.into_iter().chain([step]).collect();
    match request.target.as_str() {
        "/paid/empty" => raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/paid/error" => reply("500 Internal Server Error", &[], "no"),
        "/paid/split-head" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            Step::Await("split"),
            Step::Send(b"ngth: 2\r\n\r\nok".to_vec()),
        ],
        "/paid/chunked" => {
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        }
        "/paid/interim" => {
            raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        "/paid/goodbye" => then(
            raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
            Step::Close,
        ),
        "/paid/goodbye-unsaid" => then(reply("200 OK", &[], "ok"), Step::Close),
        "/paid/until-close" => then(raw("HTTP/1.1 200 OK\r\n\r\nok"), Step::Close),
        "/paid/more-than-said" => raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
             HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        "/paid/large" => reply("200 OK", &[], &"x".repeat(LARGE)),
        _ => reply("200 OK", &[], "ok"),
    }
}

#[test]
fn answers_of_every_kind_come_whole_and_in_order() {
    let origin = Origin::start(answer);
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    origin.release("split");
    let authorization = bearer("plenty");
    let headers = [("Authorization", authorization.as_str())];
    let mut client = gateway.connect();
    let mut asked = 0;
    for (path, status, body) in ANSWERS.iter().chain(ANSWERS).chain(ANSWERS) {
        for path in [*path, "/paid/whole"] {
            let is_it = path != "/paid/whole";
            let (status, body) = if is_it { (*status, *body) } else { (200, "ok") };
            let got = client.ask(get(path, &headers));
            asked += 1;
            assert_eq!(got.status, status, "{path}: {got:?}");
            assert_eq!(got.number("X-RateLimit-Remaining"), 1_000_000 - asked, "{path}");
            if path == "/paid/large" {
                assert_eq!(got.body.len(), LARGE);
            } else {
                assert_eq!(got.text(), body, "{path}");
            }
        }
    }
    gateway.wait_used("plenty", asked);
    gateway.wait_metric("payfence_decisions_total", &["reason=\"ok\""], asked as f64);
    assert!(gateway.metric("payfence_upstream_connections_reused_total", &[]) > 0.0);
}

/// A gateway of one shard, an origin that answers `/paid/wait` once `go` is released, and a client that was served once.
fn warmed() -> Option<(Origin, Gateway, super::client::Client)> {
    let origin = Origin::start(|request| {
        let waits = (request.target == "/paid/wait").then_some(Step::Await("go"));
        waits.into_iter().chain(reply("200 OK", &[], &request.target)).collect()
    });
    let policy = site(origin.address, "", "");
    let gateway = Gateway::start_with(&policy, &["--shards", "1"])?;
    let mut client = gateway.connect();
    assert_eq!(ask(&mut client, "/paid/first"), "/paid/first");
    Some((origin, gateway, client))
}

fn paid(path: &str) -> String {
    get(path, &[("Authorization", &bearer("plenty"))])
}

#[track_caller]
fn ask(client: &mut super::client::Client, path: &str) -> String {
    client.ask(paid(path)).text()
}

#[test]
fn a_request_behind_one_that_waits_is_answered_behind_it() {
    let Some((origin, gateway, mut client)) = warmed() else { return };
    client.send(paid("/paid/wait"));
    origin.wait_request(2);
    client.send(paid("/paid/behind") + &paid("/paid/last"));
    origin.release("go");
    for expected in ["/paid/wait", "/paid/behind", "/paid/last"] {
        assert_eq!(client.answer().text(), expected);
    }
    assert_eq!(ask(&mut client, "/paid/after"), "/paid/after");
    gateway.wait_used("plenty", 5);
}

#[test]
fn a_client_that_ends_its_sending_gets_its_answer_and_the_end() {
    let Some((origin, gateway, mut client)) = warmed() else { return };
    client.send(paid("/paid/wait"));
    origin.wait_request(2);
    client.end_sending();
    origin.release("go");
    assert_eq!(client.answer().text(), "/paid/wait");
    client.expect_end();
    gateway.wait_used("plenty", 2);
}

#[test]
fn a_client_that_goes_away_ends_the_wait_for_its_answer() {
    let Some((origin, gateway, mut client)) = warmed() else { return };
    client.send(paid("/paid/wait"));
    origin.wait_request(2);
    client.reset();
    // The gateway lets go of the origin's connection, although no answer has come.
    wait_for("the connection to go", || {
        (gateway.metric("payfence_upstream_connections", &[]) == 0.0).then_some(())
    });
    origin.release("go");
    gateway.wait_used("plenty", 2);
}

#[test]
fn an_answer_that_is_waited_for_comes_while_the_node_drains() {
    let Some((origin, mut gateway, mut client)) = warmed() else { return };
    client.send(paid("/paid/wait"));
    origin.wait_request(2);
    gateway.signal("TERM");
    wait_for("the drain", || (gateway.admin("/readyz").status == 503).then_some(()));
    origin.release("go");
    let answer = client.answer();
    assert_eq!(
        (answer.text().as_str(), answer.header("Connection")),
        ("/paid/wait", Some("close"))
    );
    client.expect_end();
    assert!(gateway.wait_end().success());
}
