//! The usage answer of every kind of plan.

use super::super::fixture::{NOW_S, figures, parsed_response, request_id, snapshot};
use super::*;

const QUOTA: &str = "quota = { requests = 10000, per = \"month\" }";
const RATE: &str = "rate_limit = { requests = 50, per = \"second\", burst = 100 }";

fn written(plan_keys: &str, figures: &Figures, is_head: bool) -> Vec<u8> {
    let snapshot = snapshot("cors_origins = [\"*\"]", plan_keys);
    let site = snapshot.site_by_slug("weather").expect("the site");
    let id = request_id();
    let asker = Asker {
        site: Some(site),
        origin_header: Some(b"https://app.example"),
        is_head,
        close: false,
        request_id: &id,
        token_sent: true,
        sends_hsts: false,
        http10_keep_alive: false,
    };
    let report = UsageReport {
        site: site.slug(),
        subscription: snapshot.subscriptions().next().expect("a subscription"),
        plan: site.plans().next().expect("a plan"),
        figures,
        now_s: NOW_S,
    };
    let mut out = b"before|".to_vec();
    usage(&mut out, &asker, &report);
    out.split_off(b"before|".len())
}

fn check(plan_keys: &str, figures: &Figures, expected: &str) {
    let out = written(plan_keys, figures, false);
    let text = String::from_utf8(out).expect("ASCII");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, expected);
    serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in [
        "Content-Type: application/json".to_owned(),
        format!("Content-Length: {}", body.len()),
        "Access-Control-Allow-Origin: *".to_owned(),
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in\n{head}");
    }
    let has_limits = figures.limit.is_some() || figures.rate.is_some();
    assert_eq!(head.contains("\r\nRateLimit: "), has_limits, "{head}");
    assert!(!head.contains("Retry-After: "), "{head}");
}

#[test]
fn plans() {
    let both = figures();
    check(
        &format!("{QUOTA}\n{RATE}"),
        &both,
        "{\"site\":\"weather\",\"plan\":\"pro\",\"subscription\":\"sub_acme\",\"status\":\"active\",\
         \"limit\":10000,\"used\":250,\"remaining\":9750,\
         \"period_start\":\"2026-11-01T00:00:00Z\",\"reset\":\"2026-12-01T00:00:00Z\",\
         \"rate_limit\":{\"requests\":50,\"per\":\"second\",\"burst\":100,\"remaining\":20}}",
    );
    check(
        "",
        &Figures { limit: None, remaining: None, rate: None, ..both },
        "{\"site\":\"weather\",\"plan\":\"pro\",\"subscription\":\"sub_acme\",\"status\":\"active\",\
         \"limit\":null,\"used\":250,\"remaining\":null,\"period_start\":null,\"reset\":null,\
         \"rate_limit\":null}",
    );
    // The plan has a rate limit since a moment ago, and no bucket has been filled for it.
    check(
        RATE,
        &Figures { limit: None, remaining: None, rate: None, ..both },
        "{\"site\":\"weather\",\"plan\":\"pro\",\"subscription\":\"sub_acme\",\"status\":\"active\",\
         \"limit\":null,\"used\":250,\"remaining\":null,\"period_start\":null,\"reset\":null,\
         \"rate_limit\":{\"requests\":50,\"per\":\"second\",\"burst\":100,\"remaining\":100}}",
    );
}

#[test]
fn head_has_the_same_head_and_no_body() {
    let get = written(QUOTA, &figures(), false);
    let head = written(QUOTA, &figures(), true);
    assert!(get.starts_with(&head));
    parsed_response(&head, true);
}
