//! Against a server that answers what it is told to: what is tried again, with what, and what is said of what is not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::json;

use super::*;

/// Answers connections in turn; each request as it came.
fn serve(answers: Vec<String>) -> (ControlUrl, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let thread = std::thread::spawn(move || {
        let answer = |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            head + &String::from_utf8(body).unwrap()
        };
        answers.into_iter().map(answer).collect()
    });
    (url, thread)
}

fn answer(status: &str, headers: &str, body: &Json) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn run<T>(rest: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(rest)
}

fn field<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_default()
}

#[test]
fn a_busy_control_plane_is_asked_again_with_the_same_key() {
    let busy =
        answer("503 Service Unavailable", "Retry-After: 0\r\n", &json!({ "detail": "later" }));
    let (url, server) =
        serve(vec![busy.clone(), String::new(), answer("201 Created", "", &json!({ "id": "x" }))]);
    let rest = Rest::new(url, "pfa_k", None).unwrap();
    let row = run(rest.create("/v1/customers", &json!({ "reference": "acme" }))).unwrap();
    assert_eq!(row["id"], "x");
    let requests = server.join().unwrap();
    let key = field(&requests[0], "idempotency-key");
    assert_eq!(key.len(), 32);
    for request in &requests {
        assert!(
            request.starts_with("post /v1/customers http/1.1")
                && request.ends_with("{\"reference\":\"acme\"}")
        );
        assert_eq!(field(request, "idempotency-key"), key);
        assert_eq!(field(request, "authorization"), "bearer pfa_k");
    }

    let (url, server) = serve(vec![busy; TRIES_MAX as usize]);
    let rest = Rest::new(url, "pfa_k", None).unwrap();
    let error = run(rest.update("/v1/customers/x", &json!({}), 7)).unwrap_err();
    assert!(error.to_string().contains("later"), "{error}");
    for request in server.join().unwrap() {
        assert_eq!(field(&request, "if-match"), "\"v7\"");
    }
}

#[test]
fn what_is_not_done_is_said_and_not_tried_again() {
    let faults = json!({ "detail": "no", "errors": [{ "field": "slug", "message": "taken" }] });
    for (answer, expected) in [
        (answer("409 Conflict", "", &faults), "409 Conflict: no; slug: taken"),
        (answer("412 Precondition Failed", "", &json!({ "detail": "stale" })), "stale"),
        (answer("200 OK", "", &json!([])), "does not answer as a control plane does"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            "302 Found",
        ),
        (String::new(), "http://127.0.0.1"),
    ] {
        let (url, server) = serve(vec![answer]);
        let rest = Rest::new(url, "pfa_k", None).unwrap();
        let error = run(rest.end("/v1/tokens/x", 1)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("pfa_k"), "{error}");
        assert_eq!(server.join().unwrap().len(), 1);
    }
}

#[test]
fn a_list_is_read_to_its_end() {
    let page = |ids: &[&str], has_more: bool| {
        let data: Vec<Json> = ids.iter().map(|id| json!({ "id": id })).collect();
        answer("200 OK", "", &json!({ "data": data, "has_more": has_more }))
    };
    let (url, server) = serve(vec![page(&["a", "b"], true), page(&["c"], false)]);
    let rest = Rest::new(url, "pfa_k", None).unwrap();
    let rows = run(rest.list("/v1/tokens", &[("site_id", "s")])).unwrap();
    assert_eq!(rows.len(), 3);
    let requests = server.join().unwrap();
    assert!(requests[0].starts_with("get /v1/tokens?limit=100&site_id=s http"), "{}", requests[0]);
    assert!(requests[1].contains("?limit=100&site_id=s&starting_after=b "), "{}", requests[1]);

    let (url, server) = serve(vec![page(&[], true)]);
    let rest = Rest::new(url, "pfa_k", None).unwrap();
    assert!(run(rest.list("/v1/tokens", &[])).is_err(), "an empty page that goes on goes nowhere");
    server.join().unwrap();
}
