//! CORS on the gateway's own answers: a browser must be able to read a refusal.

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::site;

const APP: &str = "https://app.example";

#[track_caller]
fn check(more: &str, from: Option<&str>, allowed: Option<&str>) {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, more, "")) else { return };
    let headers: Vec<(&str, &str)> = from.map(|from| ("Origin", from)).into_iter().collect();
    let refusal = gateway.ask(get("/paid/x", &headers));
    assert_eq!(refusal.status, 401);
    assert_eq!(refusal.header("Access-Control-Allow-Origin"), allowed, "{more} {from:?}");
    let exposed = refusal.header("Access-Control-Expose-Headers").unwrap_or_default();
    let exposed = exposed.to_ascii_lowercase();
    for name in [
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-remaining",
        "retry-after",
        "payfence-request-id",
    ] {
        let found = exposed.split(',').any(|other| other.trim() == name);
        assert_eq!(found, allowed.is_some(), "{name} in {exposed:?}");
    }
    if allowed.is_some_and(|allowed| allowed != "*") {
        let vary = refusal.header("Vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("origin"), "a cache must tell origins apart: {vary}");
    }
    // The origin speaks for itself.
    let forwarded = gateway.ask(get("/open", &headers));
    assert_eq!(forwarded.header("Access-Control-Allow-Origin"), None);
}

#[test]
fn a_listed_origin_may_read_refusals() {
    check(&format!("cors_origins = [\"https://other.example\", \"{APP}\"]"), Some(APP), Some(APP));
}

#[test]
fn others_may_not() {
    check(&format!("cors_origins = [\"{APP}\"]"), Some("https://evil.example"), None);
    check(&format!("cors_origins = [\"{APP}\"]"), Some("https://app.example.evil"), None);
    check(&format!("cors_origins = [\"{APP}\"]"), None, None);
    check("", Some(APP), None);
}

#[test]
fn any_origin_may_where_the_site_says_so() {
    check("cors_origins = [\"*\"]", Some(APP), Some("*"));
}
