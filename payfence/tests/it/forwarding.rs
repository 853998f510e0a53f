//! What the origin sees of a request, and the client of a response: nothing hop-by-hop, nothing a client made up about
//! itself, everything else as it was.

use super::client::{Client, get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Received, reply};
use super::policy::{bearer, site};

/// Header sent, and what the origin receives under that name.
const HEADERS: &[(&str, &str, &[&str])] = &[
    // As they are.
    ("Accept", "text/html, */*;q=0.1", &["text/html, */*;q=0.1"]),
    ("Cookie", "a=b; c=d", &["a=b; c=d"]),
    ("X-Custom", "  padded\t", &["padded"]),
    ("X-Empty", "", &[""]),
    ("X-Utf8", "gr\u{fc}n", &["gr\u{fc}n"]),
    ("Authorization", "Basic abc", &["Basic abc"]),
    ("traceparent", "00-1-2-01", &["00-1-2-01"]),
    ("X_Custom", "underscored, but nothing of ours", &["underscored, but nothing of ours"]),
    // Hop-by-hop (RFC 9110 §7.6.1).
    ("Connection", "X-Named", &[]),
    ("X-Named", "named in Connection", &[]),
    ("Keep-Alive", "timeout=5", &[]),
    ("Proxy-Connection", "keep-alive", &[]),
    ("Upgrade", "h2c", &[]),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__", &[]),
    ("Proxy-Authorization", "Basic abc", &[]),
    // What only the gateway says.
    ("PayFence-Customer", "somebody", &[]),
    ("PayFence-Plan", "gold", &[]),
    ("PayFence-Anything", "x", &[]),
    ("payfence-token-id", "x", &[]),
    ("PayFence_Customer", "somebody", &[]),
    ("PAYFENCE_ANYTHING", "x", &[]),
    // Ways to mean another path or method.
    ("X-Original-URL", "/paid/x", &[]),
    ("X-Rewrite-URL", "/paid/x", &[]),
    ("X-HTTP-Method", "DELETE", &[]),
    ("X-HTTP-Method-Override", "DELETE", &[]),
    ("X-Method-Override", "DELETE", &[]),
    ("x_original_url", "/paid/x", &[]),
    ("X_HTTP_Method_Override", "DELETE", &[]),
    // An untrusted peer's word about itself.
    ("Forwarded", "for=1.2.3.4", &[]),
    ("X-Real-IP", "1.2.3.4", &[]),
    ("X_Forwarded_For", "1.2.3.4", &[]),
    ("X_Real_IP", "1.2.3.4", &[]),
    ("Transfer_Encoding", "chunked", &[]),
    ("Content_Length", "5", &[]),
];

#[test]
fn the_origin_sees_the_request_and_nothing_made_up() {
    let origin = Origin::ok();
    let more = "origin_headers = { X-Secret = \"hush\", X-Custom-Site = \"shop\" }";
    let Some(gateway) = Gateway::start(&site(origin.address, more, "")) else { return };
    let mut text = String::from("GET /open HTTP/1.1\r\nHost: shop.test\r\nX-Secret: guess\r\n");
    for (name, value, _) in HEADERS {
        text += &format!("{name}: {value}\r\n");
    }
    let answer = gateway.ask(text + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = origin.request();
    for (name, _, expected) in HEADERS {
        // The origin keeps bytes as Latin-1.
        let found = seen.all(name).into_iter().map(utf8).collect::<Vec<_>>();
        assert_eq!(found, *expected, "{name}");
    }
    assert_eq!(seen.header("Host"), Some(origin.address.to_string().as_str()));
    assert_eq!(seen.all("X-Secret"), ["hush"], "what the site adds replaces a client's guess");
    assert_eq!(seen.header("X-Custom-Site"), Some("shop"));
    let client_ip = "127.0.0.1";
    assert_eq!(seen.header("X-Forwarded-For"), Some(client_ip));
    assert_eq!(seen.header("X-Forwarded-Proto"), Some("http"));
    assert_eq!(seen.header("X-Forwarded-Host"), Some("shop.test"));
    assert_eq!(seen.header("PayFence-Request-Id"), answer.header("PayFence-Request-Id"));
    for identity in ["Customer", "Plan", "Subscription", "Token-Id"] {
        assert_eq!(seen.header(&format!("PayFence-{identity}")), None, "nobody on a free path");
    }
}

fn utf8(latin: &str) -> String {
    String::from_utf8(latin.chars().map(|byte| byte as u8).collect()).expect("UTF-8")
}

#[test]
fn a_paying_customer_is_named_whatever_connection_says() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    let connection =
        "PayFence-Customer, payfence-plan, X-Forwarded-For, Host, Content-Length, close";
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Connection", connection),
        ("PayFence-Customer", "somebody"),
    ];
    let answer = gateway.ask(get("/paid/x", &headers));
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = origin.request();
    assert_eq!(seen.header("PayFence-Customer"), Some("plenty"));
    assert_eq!(seen.header("PayFence-Plan"), Some("plenty"));
    assert_eq!(seen.header("PayFence-Subscription"), Some("sub_plenty"));
    assert_eq!(seen.header("PayFence-Token-Id"), Some("tok_plenty"));
    assert!(seen.header("X-Forwarded-For").is_some() && seen.header("Host").is_some());
    assert_eq!(seen.header("Authorization"), None);
}

#[test]
fn connection_cannot_take_the_length_of_a_body() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let headers = [("Connection", "Content-Length, Transfer-Encoding"), ("Content-Length", "5")];
    let answer = gateway.ask(request("POST", "/x", &headers) + "hello");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(origin.request().body, b"hello");
}

#[test]
fn options_of_a_site_change_what_is_sent() {
    let origin = Origin::ok();
    let more = "preserve_host = true\nforward_token = true\nallow_override_headers = true";
    let Some(gateway) = Gateway::start(&site(origin.address, more, "")) else { return };
    let authorization = bearer("plenty");
    let headers = [("Authorization", authorization.as_str()), ("X-HTTP-Method-Override", "DELETE")];
    assert_eq!(gateway.ask(get("/paid/x", &headers)).status, 200);
    let seen = origin.request();
    assert_eq!(seen.header("Host"), Some("shop.test"));
    assert_eq!(seen.header("Authorization"), Some(authorization.as_str()));
    assert_eq!(seen.header("X-HTTP-Method-Override"), Some("DELETE"));
}

#[test]
fn an_origin_with_a_path_gets_it_before_every_target() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "").replace(
        &format!("origin = \"http://{}\"", origin.address),
        &format!("origin = \"http://{}/base\"", origin.address),
    );
    let Some(gateway) = Gateway::start(&policy) else { return };
    for path in ["/", "/x", "/x?y=z"] {
        assert_eq!(gateway.ask(get(path, &[])).status, 200, "{path}");
        let seen: Received = origin.requests().pop().expect("one");
        assert_eq!(seen.target, format!("/base{path}"));
    }
}

#[test]
fn behind_a_trusted_proxy_the_client_is_the_rightmost_untrusted() {
    let rows: &[(&str, &str)] = &[
        ("203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7", "203.0.113.7"),
        ("1.2.3.4, 203.0.113.7, 127.0.0.9", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.1, 127.0.0.9", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
    ];
    let tokens = format!(
        "tokens = [ {{ id = \"t\", value = \"{}\", allow_from = [\"203.0.113.0/24\"] }} ]",
        super::policy::token("fixed")
    );
    let tables = super::policy::subscription("fixed", "plenty", &tokens);
    let origin = Origin::ok();
    let policy = site(origin.address, "", &tables);
    let flags = ["--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8"];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let authorization = bearer("fixed");
    for (forwarded, client) in rows {
        let headers = [
            ("Authorization", authorization.as_str()),
            ("X-Forwarded-For", forwarded),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop.example"),
        ];
        let answer = gateway.ask(get("/paid/x", &headers));
        let inside = client.starts_with("203.0.113.");
        assert_eq!(answer.status, if inside { 200 } else { 403 }, "{forwarded}: {answer:?}");
        if inside {
            let seen = origin.requests().pop().expect("one");
            let list = seen.header("X-Forwarded-For").expect("a list");
            assert!(list.contains(client), "{forwarded}: {list}");
            assert_eq!(seen.header("X-Forwarded-Proto"), Some("https"));
            assert_eq!(seen.header("X-Forwarded-Host"), Some("shop.example"));
        }
    }
    let direct = gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
    assert_eq!((direct.status, direct.reason().as_str()), (403, "address_forbidden"));
}

#[test]
fn an_untrusted_peer_cannot_lend_itself_an_address() {
    let tokens = format!(
        "tokens = [ {{ id = \"t\", value = \"{}\", allow_from = [\"203.0.113.0/24\"] }} ]",
        super::policy::token("fixed")
    );
    let tables = super::policy::subscription("fixed", "plenty", &tokens);
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("fixed");
    for name in ["X-Forwarded-For", "X-Real-IP", "X_Forwarded_For"] {
        let headers = [("Authorization", authorization.as_str()), (name, "203.0.113.7")];
        let answer = gateway.ask(get("/paid/x", &headers));
        assert_eq!((answer.status, answer.reason().as_str()), (403, "address_forbidden"), "{name}");
    }
}

#[test]
fn the_client_sees_the_response_without_what_is_not_its_own() {
    let origin = Origin::start(|_| {
        reply(
            "203 Almost Fine",
            &[
                ("Content-Type", "text/plain"),
                ("Set-Cookie", "a=b"),
                ("Set-Cookie", "c=d"),
                ("Server", "origin/1"),
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("PayFence-Cost", "3"),
                ("PayFence-Request-Id", "made-up"),
                ("X_Kept", "yes"),
            ],
            "body",
        )
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = Client::connect(gateway.address);
    let answer = client.ask(get("/open", &[]));
    assert_eq!((answer.status, answer.text().as_str()), (203, "body"));
    let values = |name: &str| -> Vec<String> {
        let same = answer.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(values("Set-Cookie"), ["a=b", "c=d"]);
    assert_eq!(values("Server"), ["origin/1"]);
    assert_eq!(values("X_Kept"), ["yes"]);
    for gone in ["X-Hop", "Keep-Alive", "PayFence-Cost"] {
        assert_eq!(values(gone), Vec::<String>::new(), "{gone}");
    }
    assert_ne!(answer.header("PayFence-Request-Id"), Some("made-up"));
    assert_eq!(client.ask(get("/open", &[])).status, 203, "the connection goes on");
}
