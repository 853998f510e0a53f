//! Spellings of paths: whatever an origin might read as paid or blocked is not forwarded unpaid, and what is forwarded
//! is forwarded byte for byte.

use super::client::{get, request};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, site, subscription};

const RESOURCES: &str = r#"
[[sites.resources]]
pattern = "/api/v1/*"

[[sites.resources]]
pattern = "/api/v1/status"
access = "free"

[[sites.resources]]
pattern = "/reports"

[[sites.resources]]
pattern = "/files/{name}/raw"

[[sites.resources]]
pattern = "/deep/**/secret"

[[sites.resources]]
pattern = "/café/*"

[[sites.resources]]
pattern = "/write"
methods = ["POST"]

[[sites.resources]]
pattern = "/admin/*"
access = "blocked"
"#;

/// Paths that must not pass without a token.
const PAID: &[&str] = &[
    // Honest.
    "/api/v1/x",
    "/api/v1/",
    "/api/v1/a/b",
    "/api/v1/x?q=1",
    "/reports",
    "/files/a/raw",
    "/deep/secret",
    "/deep/a/b/secret",
    "/caf%C3%A9/x",
    // Percent-encoded, once and twice, in any case.
    "/%61pi/v1/x",
    "/api%2Fv1%2Fx",
    "/api%2fv1/x",
    "/%2561pi/v1/x",
    "/api%252Fv1/x",
    "/%41PI/v1/x",
    "/caf%c3%a9/x",
    "/caf%25C3%25A9/x",
    // Dot-segments.
    "/open/../api/v1/x",
    "/api/v1/./x",
    "/api/./v1/x",
    "/./api/v1/x",
    "/open/%2e%2e/api/v1/x",
    "/open/%252e%252e/api/v1/x",
    "/open/.%2e/api/v1/x",
    "/open/..%2fapi/v1/x",
    "/api/v1/x/..",
    "/api/v2/../v1/x",
    // Slashes.
    "//api/v1/x",
    "/api//v1/x",
    "/api/v1//x",
    "/%2fapi/v1/x",
    "///api///v1///x",
    // Backslashes.
    "/api%5cv1%5cx",
    "/open%5c..%5capi/v1/x",
    "/api%255cv1/x",
    // Parameters.
    "/api;a=b/v1/x",
    "/api/v1;x/y",
    "/api/v1/x;jsessionid=1",
    "/open/..;/api/v1/x",
    "/reports;x",
    "/api%3ba/v1/x",
    // Trailing slashes.
    "/reports/",
    "/reports//",
    "/files/a/raw/",
    "/reports%2f",
    // Letter case.
    "/API/V1/x",
    "/Api/v1/x",
    "/REPORTS",
    "/CAF%C3%89/x",
    "/deep/a/SECRET",
    // Together.
    "/open/%2e%2e;x//API%2fv1;y/x",
    "/x/..%5c%41pi;a/./v1//y",
    "/open//..;x/%2561pi%5cv1/./x/",
    // Free by one rule, paid by another spelling.
    "/api/v1/status/../x",
    "/api/v1/status%2f..%2fx",
    "/api/v1/status;/../x",
];

/// Paths that are blocked whatever is sent along.
const BLOCKED: &[&str] = &[
    "/admin/x",
    "/ADMIN/x",
    "/admin/",
    "/%61dmin/x",
    "/open/../admin/x",
    "/api/v1/../../admin/x",
    "/admin%2fx",
    "/admin;a/x",
    "/admin%5cx",
    "//admin//x",
    "/api/v1/..%2f..%2fadmin/x",
    "/%2561dmin/x",
];

/// Paths that are nobody's, and pass as they are.
const FREE: &[&str] = &[
    "/",
    "/open",
    "/open/",
    "/api",
    "/api/v1",
    "/api/v1/status",
    "/api/v2/x",
    "/apiv1/x",
    "/reports/x",
    "/files/raw",
    "/files/a/b/raw",
    "/deep/secrets",
    "/cafe/x",
    "/a%20b",
    "/a+b",
    "/%7Euser",
    "/a;b=c",
    "/x?y=/api/v1/x",
    "/x?",
    "/x??a=b&&c",
    "/x?a=%00",
    "/a/./b",
    "/a//b",
    "/a/../b",
    "/a%2fb",
    "/A/b",
    "/%",
    "/%zz",
    "/a:b@c!$&'()*,=",
];

#[test]
fn no_spelling_of_a_paid_path_passes_unpaid() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", RESOURCES)) else { return };
    for path in PAID {
        let answer = gateway.ask(get(path, &[]));
        assert_eq!((answer.status, answer.reason().as_str()), (401, "token_missing"), "{path}");
    }
    for path in BLOCKED {
        let authorization = bearer("plenty");
        let answer = gateway.ask(get(path, &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.reason().as_str()), (403, "resource_blocked"), "{path}");
    }
    assert_eq!(origin.raw(), b"", "nothing was forwarded");
}

#[test]
fn what_passes_is_forwarded_byte_for_byte() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", RESOURCES)) else { return };
    let authorization = bearer("plenty");
    let mut expected = Vec::new();
    for path in FREE {
        let answer = gateway.ask(get(path, &[]));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        expected.push(*path);
    }
    for path in PAID {
        let answer = gateway.ask(get(path, &[("Authorization", &authorization)]));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        expected.push(path);
    }
    let seen: Vec<String> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, expected);
    assert_eq!(gateway.used("plenty"), PAID.len() as i64);
}

#[test]
fn methods_match_without_case_and_get_covers_head() {
    let tables =
        format!("{RESOURCES}\n[[sites.resources]]\npattern = \"/read\"\nmethods = [\"GET\"]\n");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    for (method, path, status) in [
        ("POST", "/write", 401),
        ("post", "/write", 401),
        ("GET", "/write", 200),
        ("PUT", "/write", 200),
        ("GET", "/read", 401),
        ("HEAD", "/read", 401),
        ("head", "/read", 401),
        ("POST", "/read", 200),
    ] {
        let mut client = gateway.connect();
        client.send(request(method, path, &[]));
        assert_eq!(client.head().status, status, "{method} {path}");
        if status == 200 {
            let seen = origin.requests().pop().expect("one");
            assert_eq!(seen.method, method, "as sent");
        }
    }
}

#[test]
fn default_paid_pays_for_all_but_what_is_free_in_every_spelling() {
    let tables = format!(
        "[[sites.resources]]\npattern = \"/open/*\"\naccess = \"free\"\n\n\
         [[sites.plans]]\nid = \"narrow\"\nresources = [\"/paid/*\"]\n\n{}",
        subscription("narrow", "narrow", "")
    );
    let origin = Origin::ok();
    let policy = site(origin.address, "default = \"paid\"", &tables);
    let Some(gateway) = Gateway::start(&policy) else { return };
    for (path, status) in [
        ("/open/", 200),
        ("/open/x", 200),
        ("/open/a/b", 200),
        ("/", 401),
        ("/open", 401),
        ("/x", 401),
        ("/open/../x", 401),
        ("/open/..%2fx", 401),
        ("/open/x/../../y", 401),
        ("/open%2f..%2fx", 401),
        ("/open/..;/x", 401),
        ("/open%5c..%5cx", 401),
    ] {
        let answer = gateway.ask(get(path, &[]));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let (narrow, plenty) = (bearer("narrow"), bearer("plenty"));
    let named = gateway.ask(get("/paid/x", &[("Authorization", &narrow)]));
    assert_eq!(named.status, 200, "{named:?}");
    let unnamed = gateway.ask(get("/x", &[("Authorization", &narrow)]));
    assert_eq!((unnamed.status, unnamed.reason().as_str()), (403, "plan_excludes_resource"));
    assert_eq!(gateway.ask(get("/x", &[("Authorization", &plenty)])).status, 200);
}

#[test]
fn case_sensitive_sites_tell_letters_apart() {
    let origin = Origin::ok();
    let policy = site(origin.address, "case_sensitive = true", RESOURCES);
    let Some(gateway) = Gateway::start(&policy) else { return };
    for (path, status) in [("/api/v1/x", 401), ("/API/v1/x", 200), ("/%61pi/v1/x", 401)] {
        assert_eq!(gateway.ask(get(path, &[])).status, status, "{path}");
    }
}

#[test]
fn the_dearest_spelling_is_charged() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    let mut used = 0;
    for (path, cost) in [("/paid/x", 1), ("/dear/x", 5), ("/paid/..%2fdear/x", 5), ("/DEAR/x", 5)] {
        let answer = gateway.ask(get(path, &[("Authorization", &authorization)]));
        assert_eq!(answer.status, 200, "{path}");
        used += cost;
        assert_eq!(gateway.used("plenty"), used, "{path}");
    }
}

#[test]
fn addresses_find_their_site() {
    let origin = Origin::ok();
    let gateway =
        Gateway::start_with(&site(origin.address, "", ""), &["--gateway-domain", "gate.example"]);
    let Some(gateway) = gateway else { return };
    // Host, path, and what the origin is asked for; none where no site is meant.
    let rows: &[(&str, &str, Option<&str>)] = &[
        ("shop.test", "/x", Some("/x")),
        ("SHOP.Test", "/x", Some("/x")),
        ("shop.test:8080", "/x", Some("/x")),
        ("shop.test.", "/x", Some("/x")),
        ("shop.test.:80", "/x", Some("/x")),
        ("shop.gate.example", "/x", Some("/x")),
        ("Shop.Gate.Example:1", "/x", Some("/x")),
        ("gate.example", "/shop/x", Some("/x")),
        ("gate.example", "/shop", Some("/")),
        ("gate.example", "/shop?q", Some("/?q")),
        ("gate.example", "/shop/", Some("/")),
        ("127.0.0.1", "/shop/x", Some("/x")),
        ("127.0.0.1:80", "/shop/x", Some("/x")),
        ("[::1]", "/shop/x", Some("/x")),
        ("[::1]:8080", "/shop/x", Some("/x")),
        ("localhost", "/shop/x", Some("/x")),
        ("localhost:8080", "/shop//x", Some("//x")),
        ("shop.test", "/shop/x", Some("/shop/x")),
        ("other.test", "/x", None),
        ("other.gate.example", "/x", None),
        ("a.shop.gate.example", "/x", None),
        ("gate.example", "/", None),
        ("gate.example", "/other/x", None),
        ("gate.example", "/shopping/x", None),
        ("localhost", "/x", None),
        ("shop.test.evil.example", "/x", None),
    ];
    for (host, path, target) in rows {
        let before = origin.requests().len();
        let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let seen = origin.requests().get(before).map(|request| request.target.clone());
        assert_eq!(seen.as_deref(), *target, "{host} {path}: {answer:?}");
        let reason = if target.is_some() { "" } else { "site_unknown" };
        assert_eq!(answer.reason(), reason, "{host} {path}");
        assert_eq!(answer.status, if target.is_some() { 200 } else { 404 }, "{host} {path}");
    }
    let old = gateway.ask("GET /shop/old HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "HTTP/1.0 without Host: {old:?}");
    let absolute = gateway.ask("GET http://shop.test/abs?q HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    assert_eq!(absolute.status, 200, "{absolute:?}");
    assert_eq!(origin.requests().pop().expect("one").target, "/abs?q");
}
