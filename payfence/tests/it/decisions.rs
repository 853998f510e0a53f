//! The decision table: each row's status, reason and what the client is told; and the places a token may stand in.

use super::client::{Answer, get, request};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription, token, with_checksum};
use super::wait::unix_s;

const TYPE_429: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// One subscription for each row of the table.
fn tables() -> String {
    let tok = |name: &str, keys: &str| {
        format!("tokens = [ {{ id = \"tok_{name}\", value = \"{}\", {keys} }} ]", token(name))
    };
    let past = |when: &str| format!("status = \"past_due\"\npast_due_since = {when}");
    [
        plan("few", "quota = { requests = 3, per = \"year\" }"),
        plan("slow", "rate_limit = { requests = 1, per = \"hour\", burst = 2 }"),
        plan(
            "over",
            "quota = { requests = 2, per = \"year\" }\noverage = \"allow\"\noverage_cap = 2",
        ),
        plan("narrow", "resources = [\"/dear/*\"]"),
        plan("patient", "quota = { requests = 9, per = \"year\" }\ngrace_days = 3"),
        subscription("few", "few", ""),
        subscription("slow", "slow", ""),
        subscription("over", "over", ""),
        subscription("narrow", "narrow", ""),
        subscription("revoked", "plenty", &tok("revoked", "revoked = true")),
        subscription("expired", "plenty", &tok("expired", "expires_at = 2020-01-01T00:00:00Z")),
        subscription("lasting", "plenty", &tok("lasting", "expires_at = 2999-01-01T00:00:00Z")),
        subscription("elsewhere", "plenty", &tok("elsewhere", "allow_from = [\"203.0.113.0/24\"]")),
        subscription("here", "plenty", &tok("here", "allow_from = [\"127.0.0.0/8\"]")),
        subscription("onlydear", "plenty", &tok("onlydear", "resources = [\"/dear/*\"]")),
        subscription("trialing", "plenty", "status = \"trialing\""),
        subscription("canceled", "plenty", "status = \"canceled\""),
        subscription("unpaid", "plenty", "status = \"unpaid\""),
        subscription("paused", "plenty", "status = \"paused\""),
        subscription("incomplete", "plenty", "status = \"incomplete\""),
        subscription("late", "patient", &past(&yesterday())),
        subscription("toolate", "plenty", &past("2020-01-01T00:00:00Z")),
        other_site(),
    ]
    .concat()
}

/// Within any grace.
fn yesterday() -> String {
    jiff::Timestamp::from_second(unix_s() - 86_400).expect("a time").to_string()
}

fn other_site() -> String {
    format!(
        "\n[[sites]]\nslug = \"other\"\nname = \"Other\"\norigin = \"http://127.0.0.1:9\"\n\
         upgrade_url = \"https://other.example/pricing\"\n\
         [[sites.resources]]\npattern = \"/paid/*\"\n{}{}",
        plan("basic", "quota = { requests = 1, per = \"day\" }"),
        subscription("stranger", "basic", "")
    )
}

/// Subscription whose token is sent (none: empty), path, status, reason (empty: forwarded).
const ROWS: &[(&str, &str, u16, &str)] = &[
    ("", "/open", 200, ""),
    ("few", "/open", 200, ""),
    ("", "/blocked/x", 403, "resource_blocked"),
    ("few", "/blocked/x", 403, "resource_blocked"),
    ("", "/paid/x", 401, "token_missing"),
    ("nobody", "/paid/x", 401, "token_unknown"),
    ("stranger", "/paid/x", 401, "token_unknown"),
    ("revoked", "/paid/x", 401, "token_revoked"),
    ("expired", "/paid/x", 401, "token_expired"),
    ("lasting", "/paid/x", 200, ""),
    ("elsewhere", "/paid/x", 403, "address_forbidden"),
    ("here", "/paid/x", 200, ""),
    ("trialing", "/paid/x", 200, ""),
    ("canceled", "/paid/x", 402, "subscription_inactive"),
    ("unpaid", "/paid/x", 402, "subscription_inactive"),
    ("paused", "/paid/x", 402, "subscription_inactive"),
    ("incomplete", "/paid/x", 402, "subscription_inactive"),
    ("toolate", "/paid/x", 402, "subscription_inactive"),
    ("late", "/paid/x", 200, ""),
    ("narrow", "/paid/x", 403, "plan_excludes_resource"),
    ("narrow", "/dear/x", 200, ""),
    ("onlydear", "/paid/x", 403, "plan_excludes_resource"),
    ("onlydear", "/dear/x", 200, ""),
    ("slow", "/paid/x", 200, ""),
    ("slow", "/paid/x", 200, ""),
    ("slow", "/paid/x", 429, "rate_limited"),
    ("few", "/paid/x", 200, ""),
    // A cost of 5 exceeds the two units left; they stay.
    ("few", "/dear/x", 429, "quota_exhausted"),
    ("few", "/paid/x", 200, ""),
    ("few", "/paid/x", 200, ""),
    ("few", "/paid/x", 429, "quota_exhausted"),
    ("over", "/paid/x", 200, ""),
    ("over", "/paid/x", 200, ""),
    ("over", "/paid/x", 200, ""),
    ("over", "/paid/x", 200, ""),
    ("over", "/paid/x", 429, "quota_exhausted"),
    ("plenty", "/paid/x", 200, ""),
    ("unlimited", "/paid/x", 200, ""),
];

#[test]
fn every_row_of_the_table() {
    let origin = Origin::ok();
    let policy = site(origin.address, "upgrade_url = \"https://shop.example/pricing\"", &tables());
    let Some(gateway) = Gateway::start(&policy) else { return };
    let mut forwarded = 0;
    for (name, path, status, reason) in ROWS {
        let authorization = bearer(name);
        let headers = [("Authorization", authorization.as_str())];
        let answer = gateway.ask(get(path, if name.is_empty() { &[] } else { &headers }));
        let row = format!("{name} {path}: {answer:?}");
        assert_eq!((answer.status, answer.reason().as_str()), (*status, *reason), "{row}");
        assert!(answer.header("PayFence-Request-Id").is_some_and(|id| id.len() >= 16), "{row}");
        if reason.is_empty() {
            forwarded += 1;
        } else {
            check_problem(&answer, reason, !name.is_empty(), &row);
        }
        assert_eq!(origin.requests().len(), forwarded, "{row}");
    }
    check_counted(&gateway);
}

fn check_problem(answer: &Answer, reason: &str, sent_token: bool, row: &str) {
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{row}");
    assert_eq!(problem["request_id"].as_str(), answer.header("PayFence-Request-Id"), "{row}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{row}");
    let expected = if answer.status == 429 {
        TYPE_429.to_owned()
    } else {
        format!("urn:payfence:problem:{reason}")
    };
    assert_eq!(problem["type"], expected.as_str(), "{row}");
    if answer.status == 401 {
        let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer realm=\"shop\""), "{row}");
        assert_eq!(challenge.contains("error=\"invalid_token\""), sent_token, "{row}");
    }
    if answer.status == 429 {
        let retry_after_s = answer.number("Retry-After");
        assert!(retry_after_s > 0, "{row}");
        assert_eq!(problem["upgrade_url"], "https://shop.example/pricing", "{row}");
        let policy = if reason == "rate_limited" { "rate" } else { "quota" };
        assert_eq!(problem["violated-policies"], serde_json::json!([policy]), "{row}");
        assert!(answer.header("RateLimit").is_some(), "{row}");
        assert!(answer.header("RateLimit-Policy").is_some(), "{row}");
    } else {
        assert_eq!(answer.header("RateLimit"), None, "rows before 11 know no limits: {row}");
        assert_eq!(answer.header("X-RateLimit-Limit"), None, "{row}");
    }
}

/// Every decision is counted under its own word.
fn check_counted(gateway: &Gateway) {
    let refused: Vec<&str> = ROWS.iter().map(|row| row.3).filter(|word| !word.is_empty()).collect();
    for reason in &refused {
        let count = refused.iter().filter(|other| *other == reason).count() as f64;
        let label = format!("reason=\"{reason}\"");
        gateway.wait_metric("payfence_decisions_total", &["site=\"shop\"", &label], count);
    }
    for (reason, count) in [("unprotected", 2.0), ("overage", 2.0), ("grace", 1.0)] {
        let label = format!("reason=\"{reason}\"");
        gateway.wait_metric("payfence_decisions_total", &["site=\"shop\"", &label], count);
    }
    let all = ROWS.len() as f64;
    gateway.wait_metric("payfence_decisions_total", &["site=\"shop\""], all);
}

/// Parameters of the item named so, as `q=3`.
fn item<'a>(field: &'a str, name: &str) -> Vec<&'a str> {
    let found = field.split(", ").find_map(|item| item.strip_prefix(&format!("\"{name}\";")));
    found.unwrap_or_else(|| panic!("no item {name} in {field}")).split(';').collect()
}

fn parameter(field: &str, item_name: &str, name: &str) -> i64 {
    let parameters = item(field, item_name);
    let found = parameters.iter().find_map(|parameter| parameter.strip_prefix(&format!("{name}=")));
    let text = found.unwrap_or_else(|| panic!("no {name} of {item_name} in {field}"));
    text.parse().unwrap_or_else(|_| panic!("{name} of {item_name} is no integer in {field}"))
}

#[test]
fn answers_tell_the_limits() {
    let tables = plan(
        "both",
        "quota = { requests = 3, per = \"day\" }\n\
         rate_limit = { requests = 60, per = \"hour\", burst = 90 }",
    ) + &subscription("both", "both", "");
    let origin = Origin::start(|_| {
        super::origin::reply(
            "200 OK",
            &[("X-RateLimit-Limit", "7"), ("RateLimit", "\"own\";r=1")],
            "ok",
        )
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("both");
    let ask = || gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
    for (status, remaining, rate_left) in [(200, 2, 89), (200, 1, 88), (200, 0, 87), (429, 0, 86)] {
        let answer = ask();
        assert_eq!(answer.status, status);
        assert_eq!(answer.number("X-RateLimit-Limit"), 3, "the origin's own is replaced");
        assert_eq!(answer.number("X-RateLimit-Remaining"), remaining);
        let left_s = answer.number("X-RateLimit-Reset") - unix_s();
        assert!((0..=86_400).contains(&left_s), "{left_s} s left of a day");
        let policy = answer.header("RateLimit-Policy").expect("a policy");
        assert_eq!(parameter(policy, "quota", "q"), 3);
        assert_eq!(parameter(policy, "quota", "w"), 86_400);
        assert_eq!(parameter(policy, "rate", "q"), 60);
        assert_eq!(parameter(policy, "rate", "w"), 3600);
        let limits = answer.header("RateLimit").expect("the limits");
        assert!(!limits.contains("own"), "{limits}");
        assert_eq!(parameter(limits, "quota", "r"), remaining);
        assert!((left_s - parameter(limits, "quota", "t")).abs() <= 2, "{limits}");
        // One unit comes back a minute: a slow machine may see one more.
        let rate = parameter(limits, "rate", "r");
        assert!((rate_left..=rate_left + 1).contains(&rate), "{limits}");
        assert!((0..=3600 * 90 / 60).contains(&parameter(limits, "rate", "t")), "{limits}");
        if status == 429 {
            assert!((answer.number("Retry-After") - left_s).abs() <= 2);
            let problem = answer.json();
            assert_eq!(
                (problem["limit"].as_i64(), problem["remaining"].as_i64()),
                (Some(3), Some(0))
            );
            assert!(
                problem["reset"].as_str().is_some_and(|reset| reset.ends_with('Z')),
                "{problem}"
            );
        }
    }
    let unlimited = bearer("unlimited");
    let answer = gateway.ask(get("/paid/x", &[("Authorization", &unlimited)]));
    assert_eq!(answer.header("X-RateLimit-Limit"), None, "{answer:?}");
    let free = gateway.ask(get("/open", &[]));
    assert_eq!(free.header("X-RateLimit-Limit"), Some("7"), "not the gateway's on a free path");
}

#[test]
fn a_concurrency_limit_refuses_while_its_slots_are_taken() {
    let tables = plan("single", "concurrency = 1") + &subscription("single", "single", "");
    let origin = Origin::start(|_| {
        let mut steps = vec![super::origin::Step::Await("go")];
        steps.extend(super::origin::reply("200 OK", &[], "ok"));
        steps
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("single");
    let ask = get("/paid/x", &[("Authorization", &authorization)]);
    let mut first = gateway.connect();
    first.send(&ask);
    origin.wait_request(1);
    let refused = gateway.ask(&ask);
    assert_eq!((refused.status, refused.reason().as_str()), (429, "concurrency_limited"));
    assert_eq!(refused.json()["violated-policies"], serde_json::json!(["concurrency"]));
    assert!(refused.number("Retry-After") > 0);
    origin.release("go");
    assert_eq!(first.answer().status, 200);
    super::wait::wait_for("the slot's return", || (gateway.ask(&ask).status == 200).then_some(()));
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn tokens_are_looked_for_in_order_and_never_reach_the_origin() {
    let origin = Origin::ok();
    let more = "token_header = \"X-Key\"\ntoken_query = \"key\"";
    let Some(gateway) = Gateway::start(&site(origin.address, more, "")) else { return };
    let (good, bad) = (token("plenty"), with_checksum("pf_live_00000000000000000000000000000000"));
    let label = with_checksum("pf_acme_live_00000000000000000000000000000000");
    let short = "pf_test_tooshort";
    let good_bearer = format!("Bearer {good}");
    let small = format!("bEARER {good}");
    let typo = format!("{}x", &good[..good.len() - 1]);
    // Headers, path, status, and what of the path the origin sees.
    type Row<'a> = (Vec<(&'a str, &'a str)>, String, u16, &'a str);
    let rows: Vec<Row> = vec![
        (vec![("Authorization", &good_bearer)], "/paid/x".into(), 200, "/paid/x"),
        (vec![("authorization", &small)], "/paid/x".into(), 200, "/paid/x"),
        (vec![("X-Key", &good)], "/paid/x".into(), 200, "/paid/x"),
        (vec![("x-key", &good)], "/paid/x".into(), 200, "/paid/x"),
        (vec![], format!("/paid/x?key={good}"), 200, "/paid/x"),
        (vec![], format!("/paid/x?a=b&key={good}&c"), 200, "/paid/x?a=b&c"),
        (vec![], format!("/open?key={good}"), 200, "/open"),
        (vec![("Authorization", "Basic abc"), ("X-Key", &good)], "/paid/x".into(), 200, "/paid/x"),
        (
            vec![("Authorization", "Bearer other"), ("X-Key", &good)],
            "/paid/x".into(),
            200,
            "/paid/x",
        ),
        (vec![("Authorization", &good_bearer), ("X-Key", &bad)], "/paid/x".into(), 200, "/paid/x"),
        (vec![("X-Key", &bad)], format!("/paid/x?key={good}"), 401, ""),
        (vec![("X-Key", &label)], "/paid/x".into(), 401, ""),
        (vec![("X-Key", short)], "/paid/x".into(), 401, ""),
        (vec![("X-Key", &typo)], "/paid/x".into(), 401, ""),
        (vec![("X-Key", "other")], "/paid/x".into(), 401, ""),
        (vec![("Authorization", "Bearer other")], "/paid/x".into(), 401, ""),
    ];
    for (headers, path, status, target) in rows {
        let before = origin.requests().len();
        let answer = gateway.ask(get(&path, &headers));
        assert_eq!(answer.status, status, "{headers:?} {path}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.reason(), "token_unknown", "{headers:?} {path}");
            continue;
        }
        let seen = origin.wait_request(before + 1);
        assert_eq!(seen.target, target, "{headers:?}");
        let others = headers.iter().filter(|(_, value)| !value.contains("pf_")).count();
        let kept = seen.all("Authorization").len() + seen.all("X-Key").len();
        assert_eq!(kept, others, "values that are no tokens stay: {seen:?}");
    }
    let raw = String::from_utf8_lossy(&origin.raw()).into_owned();
    assert!(!raw.contains("pf_"), "{raw}");
}

#[test]
fn foreign_tokens_work_where_they_are_allowed_and_are_not_told() {
    let key = "legacy-key-0123456789";
    let sha256 = sha256_hex(key);
    let tables = subscription(
        "legacy",
        "plenty",
        &format!("tokens = [ {{ id = \"tok_legacy\", sha256 = \"{sha256}\" }} ]"),
    );
    for (more, allowed, forwarded) in [
        ("foreign_tokens = true", true, false),
        ("foreign_tokens = true\nforward_token = true", true, true),
        ("", false, false),
    ] {
        let origin = Origin::ok();
        let Some(gateway) = Gateway::start(&site(origin.address, more, &tables)) else { return };
        let answer = gateway.ask(get("/paid/x", &[("X-API-Key", key)]));
        assert_eq!(answer.status, if allowed { 200 } else { 401 }, "{more}: {answer:?}");
        if allowed {
            let seen = origin.request();
            assert_eq!(seen.header("X-API-Key"), forwarded.then_some(key), "{more}");
        } else {
            assert_eq!(answer.reason(), "token_unknown", "{more}");
        }
        let wrong = gateway.ask(get("/paid/x", &[("X-API-Key", "legacy-key-9876543210")]));
        assert_eq!((wrong.status, wrong.reason().as_str()), (401, "token_unknown"), "{more}");
    }
}

fn sha256_hex(text: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | sha256sum", text])
        .output()
        .expect("sha256sum (Debian: coreutils)");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}

#[test]
fn preflights_pass_unpaid_but_only_true_ones() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let origin_header = ("Origin", "https://app.example");
    let asked = ("Access-Control-Request-Method", "POST");
    let rows = [
        (request("OPTIONS", "/paid/x", &[origin_header, asked]), 200),
        (request("OPTIONS", "/paid/x", &[origin_header]), 401),
        (request("OPTIONS", "/paid/x", &[asked]), 401),
        (request("GET", "/paid/x", &[origin_header, asked]), 401),
        (request("OPTIONS", "/blocked/x", &[origin_header, asked]), 403),
        (
            request("OPTIONS", "/paid/x", &[origin_header, asked, ("Content-Length", "2")]) + "hi",
            401,
        ),
    ];
    for (text, status) in rows {
        assert_eq!(gateway.ask(&text).status, status, "{text}");
    }
    gateway.wait_metric("payfence_decisions_total", &["reason=\"preflight\""], 1.0);
}
