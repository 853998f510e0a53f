//! Clients that dawdle, flood or never read: bounded memory, closed by a deadline, others unharmed.

use super::client::{Client, get, request};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::site;

#[test]
fn clients_that_never_finish_a_head_are_closed_and_harm_nobody() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let before_kib = gateway.rss_kib();
    let mut slow: Vec<Client> = (0..500).map(|_| gateway.connect()).collect();
    for client in &mut slow {
        client.send("GET /x HTTP/1.1\r\nHost: shop.test\r\nA: ");
    }
    for _ in 0..100 {
        assert_eq!(gateway.ask(get("/x", &[])).text(), "ok");
    }
    let grown_kib = gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 500 * 64, "500 unfinished heads took {grown_kib} KiB");
    gateway.wait_metric("payfence_connections", &[], 500.0);
    slow.into_iter().for_each(Client::reset);
    gateway.wait_metric("payfence_connections", &[], 0.0);
    assert_eq!(origin.requests().len(), 100);
}

#[test]
fn a_client_that_pipelines_without_reading_is_held_back() {
    let body = "x".repeat(100_000);
    let origin = Origin::start(move |_| super::origin::reply("200 OK", &[], &body));
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let before_kib = gateway.rss_kib();
    let greedy = gateway.connect();
    let mut writer = greedy.stream.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        let ask = get("/x", &[]).repeat(1000);
        for _ in 0..1000 {
            if std::io::Write::write_all(&mut writer, ask.as_bytes()).is_err() {
                break;
            }
        }
    });
    for _ in 0..200 {
        assert_eq!(gateway.ask(get("/y", &[])).status, 200, "others are served");
    }
    let grown_kib = gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "the gateway grew by {grown_kib} KiB");
    let greedy_requests = origin.requests().iter().filter(|request| request.target == "/x").count();
    assert!(greedy_requests < 1000, "{greedy_requests} answers for a client that reads none");
    greedy.stream.shutdown(std::net::Shutdown::Both).expect("an open socket");
    sending.join().expect("no panic");
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let origin = Origin::start(|_| vec![super::origin::Step::Await("end")]);
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut clients: Vec<Client> = (0..50).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(get("/x", &[]));
    }
    origin.wait_request(50);
    gateway.wait_metric("payfence_connections", &[], 50.0);
    clients.into_iter().for_each(Client::reset);
    gateway.wait_metric("payfence_connections", &[], 0.0);
    origin.release("end");
    origin.wait_all_ended();
}

#[test]
fn a_body_broken_off_is_not_ended_at_the_origin() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for framing in [("Content-Length", "100"), ("Transfer-Encoding", "chunked")] {
        let mut client = gateway.connect();
        let start = if framing.1 == "chunked" { "5\r\nhello\r\n" } else { "hello" };
        client.send(request("POST", "/x", &[framing]) + start);
        super::wait::wait_for("the body's start at the origin", || {
            let raw = origin.raw();
            raw.windows(5).any(|five| five == b"hello").then_some(())
        });
        drop(client);
    }
    origin.wait_all_ended();
    assert_eq!(origin.requests().len(), 0, "{:?}", origin.requests());
}
