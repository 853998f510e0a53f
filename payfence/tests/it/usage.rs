//! `/.payfence/usage`: what a token has used, asked by its holder, for nothing.

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription, token};

fn tables() -> String {
    [
        plan(
            "ten",
            "quota = { requests = 10, per = \"month\" }\n\
             rate_limit = { requests = 2, per = \"hour\", burst = 5 }",
        ),
        subscription("ten", "ten", ""),
        subscription("canceled", "ten", "status = \"canceled\""),
        subscription(
            "revoked",
            "ten",
            &format!(
                "tokens = [ {{ id = \"t1\", value = \"{}\", revoked = true }} ]",
                token("revoked")
            ),
        ),
        subscription(
            "elsewhere",
            "ten",
            &format!(
                "tokens = [ {{ id = \"t2\", value = \"{}\", allow_from = [\"10.0.0.0/8\"] }} ]",
                token("elsewhere")
            ),
        ),
    ]
    .concat()
}

#[test]
fn usage_tells_all_and_costs_nothing() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables())) else { return };
    let authorization = bearer("ten");
    let headers = [("Authorization", authorization.as_str())];
    for used in 0..3 {
        for _ in 0..5 {
            let answer = gateway.ask(get("/.payfence/usage", &headers));
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            let usage = answer.json();
            let text = |key: &str| usage[key].as_str().unwrap_or_default().to_owned();
            assert_eq!(text("site"), "shop");
            assert_eq!(text("plan"), "ten");
            assert_eq!(text("subscription"), "sub_ten");
            assert_eq!(text("status"), "active");
            assert_eq!(usage["limit"], 10);
            assert_eq!(usage["used"], used);
            assert_eq!(usage["remaining"], 10 - used);
            assert!(text("period_start").ends_with("-01T00:00:00Z"), "{usage}");
            assert!(text("reset").ends_with("-01T00:00:00Z"), "{usage}");
            assert!(usage["rate_limit"].is_object(), "{usage}");
            assert_eq!(answer.number("X-RateLimit-Remaining"), 10 - used);
            assert!(answer.header("RateLimit").is_some());
        }
        assert_eq!(gateway.ask(get("/paid/x", &headers)).status, 200);
    }
    assert_eq!(origin.requests().len(), 3, "usage is never forwarded");
    gateway.wait_metric("payfence_decisions_total", &["site=\"shop\"", "reason=\"ok\""], 3.0);
}

#[test]
fn usage_is_null_where_there_is_no_limit() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("unlimited");
    let headers = [("Authorization", authorization.as_str())];
    assert_eq!(gateway.ask(get("/paid/x", &headers)).status, 200);
    let answer = gateway.ask(get("/.payfence/usage", &headers));
    let usage = answer.json();
    assert!(usage["limit"].is_null() && usage["remaining"].is_null(), "{usage}");
    assert_eq!(usage["used"], 1);
    assert!(usage["rate_limit"].is_null(), "{usage}");
    assert_eq!(answer.header("X-RateLimit-Limit"), None);
}

#[test]
fn usage_knows_only_those_it_should() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables())) else { return };
    for (name, path, status, reason) in [
        ("", "/.payfence/usage", 401, "token_missing"),
        ("nobody", "/.payfence/usage", 401, "token_unknown"),
        ("revoked", "/.payfence/usage", 401, "token_revoked"),
        ("elsewhere", "/.payfence/usage", 403, "address_forbidden"),
        ("canceled", "/.payfence/usage", 200, ""),
        ("ten", "/.payfence/usage?x=y", 200, ""),
        ("ten", "/.payfence/", 404, "not_found"),
        ("ten", "/.payfence/other", 404, "not_found"),
        ("ten", "/.payfence/usage/x", 404, "not_found"),
        ("", "/.payfence/other", 404, "not_found"),
    ] {
        let authorization = bearer(name);
        let headers = [("Authorization", authorization.as_str())];
        let answer = gateway.ask(get(path, if name.is_empty() { &[] } else { &headers }));
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{name} {path}");
    }
    assert_eq!(origin.raw(), b"");
}
