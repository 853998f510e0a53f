//! The gateway's own answers, whole and by their parts.

use proptest::prelude::*;
use serde_json::Value;

use super::super::detail::detail_of;
use super::super::fixture::{
    NOW_S, REQUEST_ID, crlf, figures, parsed_response, request_id, snapshot,
};
use super::super::opening::QUOTA_EXCEEDED;
use super::*;
use crate::http1::{HeadError, Limits, ResponseFraming, ResponseHead, parse_response};

const UPGRADE: &str = "upgrade_url = \"https://weather.example/pricing\"";

/// Who asks, beside the site.
#[derive(Debug, Clone, Copy)]
struct By {
    site_keys: Option<&'static str>,
    origin: Option<&'static str>,
    is_head: bool,
    close: bool,
    token_sent: bool,
    sends_hsts: bool,
    http10_keep_alive: bool,
}

const BY: By = By {
    site_keys: Some(""),
    origin: None,
    is_head: false,
    close: false,
    token_sent: false,
    sends_hsts: false,
    http10_keep_alive: false,
};

fn write(by: By, the: &Problem<'_>) -> Vec<u8> {
    let snapshot = by.site_keys.map(|keys| snapshot(keys, ""));
    let id = request_id();
    let asker = Asker {
        site: snapshot.as_ref().and_then(|snapshot| snapshot.site_by_slug("weather")),
        origin_header: by.origin.map(str::as_bytes),
        is_head: by.is_head,
        close: by.close,
        request_id: &id,
        token_sent: by.token_sent,
        sends_hsts: by.sends_hsts,
        http10_keep_alive: by.http10_keep_alive,
    };
    let mut out = b"before|".to_vec();
    problem(&mut out, &asker, the);
    out.split_off(b"before|".len())
}

fn split(answer: &[u8]) -> (String, Value) {
    let text = std::str::from_utf8(answer).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (format!("{head}\r\n"), serde_json::from_str(body).expect("JSON"))
}

fn of(reason: Reason) -> Problem<'static> {
    Problem::new(reason, NOW_S)
}

#[test]
fn whole_answers() {
    let figures = figures();
    let exhausted = Problem {
        figures: Some(&figures),
        retry_after_s: Some(615_600),
        ..of(Reason::QuotaExhausted)
    };
    let by = By { site_keys: Some(UPGRADE), token_sent: true, ..BY };
    let body = format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
         \"title\":\"The quota is used up\",\"status\":429,\
         \"detail\":\"The units left of the plan's quota do not cover this request. Wait until the \
         quota resets, or move to a larger plan.\",\"reason\":\"quota_exhausted\",\
         \"request_id\":\"{REQUEST_ID}\",\"limit\":10000,\"remaining\":9750,\
         \"reset\":\"2026-12-01T00:00:00Z\",\"upgrade_url\":\"https://weather.example/pricing\",\
         \"violated-policies\":[\"quota\"]}}"
    );
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\nContent-Type: application/problem+json\n\
         Cache-Control: no-store\nPayFence-Request-Id: {REQUEST_ID}\nContent-Length: {}\n\
         Date: Mon, 23 Nov 2026 21:00:00 GMT\n\
         RateLimit-Policy: \"quota\";q=10000;w=2592000, \"rate\";q=50;w=1\n\
         RateLimit: \"quota\";r=9750;t=615600, \"rate\";r=20;t=2\n\
         X-RateLimit-Limit: 10000\nX-RateLimit-Remaining: 9750\nX-RateLimit-Reset: 1796083200\n\
         Retry-After: 615600\n\n",
        body.len()
    );
    let written = String::from_utf8(write(by, &exhausted)).expect("ASCII");
    assert_eq!(written, crlf(&head) + &body);
    let to_head = String::from_utf8(write(By { is_head: true, ..by }, &exhausted)).expect("ASCII");
    assert_eq!(to_head, crlf(&head));
}

/// Header lines that an answer has, and some that it has not.
fn check_head(by: By, the: &Problem<'_>, has: &[&str], has_not: &[&str]) {
    let (head, _) = split(&write(by, the));
    for line in has {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} is not in\n{head}");
    }
    for name in has_not {
        assert!(!head.contains(&format!("\r\n{name}:")), "{name} is in\n{head}");
    }
}

#[test]
fn headers_by_reason() {
    let figures = figures();
    let realm = "WWW-Authenticate: Bearer realm=\"weather\"";
    let sent = By { token_sent: true, ..BY };
    let invalid = "WWW-Authenticate: Bearer realm=\"weather\", error=\"invalid_token\"";
    check_head(
        BY,
        &of(Reason::TokenMissing),
        &[realm],
        &["Retry-After", "RateLimit", "Connection"],
    );
    check_head(sent, &of(Reason::TokenUnknown), &[invalid], &["Retry-After"]);
    check_head(sent, &of(Reason::TokenRevoked), &[invalid], &[]);
    check_head(sent, &of(Reason::TokenExpired), &[invalid], &[]);
    check_head(sent, &of(Reason::SubscriptionInactive), &[], &["WWW-Authenticate", "RateLimit"]);
    check_head(BY, &of(Reason::Draining), &["Retry-After: 1"], &[]);
    let later = Problem { retry_after_s: Some(7), ..of(Reason::LedgerUnreachable) };
    check_head(BY, &later, &["Retry-After: 7"], &[]);
    let at_once = Problem { retry_after_s: Some(0), ..of(Reason::RateLimited) };
    check_head(BY, &at_once, &["Retry-After: 1"], &[]);
    // The charge was given back, and the client may see that.
    let failed =
        Problem { figures: Some(&figures), retry_after_s: Some(5), ..of(Reason::OriginTimeout) };
    check_head(BY, &failed, &["X-RateLimit-Remaining: 9750"], &["Retry-After"]);
    let refused = Problem { status: Some(405), ..of(Reason::RequestMalformed) };
    check_head(BY, &refused, &["Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"], &[]);
    check_head(By { close: true, ..BY }, &refused, &["Connection: close"], &[]);
    let kept = By { http10_keep_alive: true, ..BY };
    check_head(kept, &of(Reason::NotFound), &["Connection: keep-alive"], &[]);
    check_head(By { close: true, ..kept }, &of(Reason::NotFound), &["Connection: close"], &[]);
}

#[test]
fn https_is_remembered_over_tls_alone() {
    let site_keys = Some("hsts = { max_age_seconds = 300, include_subdomains = true }");
    let name = "Strict-Transport-Security";
    let line = &["Strict-Transport-Security: max-age=300; includeSubDomains"][..];
    let over_tls = By { sends_hsts: true, ..BY };
    check_head(By { site_keys, ..over_tls }, &of(Reason::TokenMissing), line, &[]);
    check_head(By { site_keys, ..BY }, &of(Reason::TokenMissing), &[], &[name]);
    check_head(over_tls, &of(Reason::TokenMissing), &[], &[name]);
    check_head(By { site_keys: None, ..over_tls }, &of(Reason::SiteUnknown), &[], &[name]);
}

#[test]
fn cross_origin() {
    let allow = "Access-Control-Allow-Origin: https://app.example";
    let expose = "Access-Control-Expose-Headers: RateLimit-Policy, RateLimit, X-RateLimit-Limit, \
        X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After, WWW-Authenticate, PayFence-Request-Id";
    let (allows, exposes) = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers");
    let one = Some("cors_origins = [\"https://app.example\"]");
    let any = Some("cors_origins = [\"*\"]");
    for (site_keys, origin, has, has_not) in [
        (Some(""), Some("https://app.example"), &[][..], &[allows, exposes, "Vary"][..]),
        (None, Some("https://app.example"), &[], &[allows, exposes, "Vary"]),
        (one, Some("https://app.example"), &[allow, expose, "Vary: Origin"], &[]),
        (one, Some("https://evil.example"), &["Vary: Origin"], &[allows, exposes]),
        (one, Some("https://app.example.evil"), &["Vary: Origin"], &[allows, exposes]),
        (one, None, &["Vary: Origin"], &[allows, exposes]),
        (any, Some("null"), &["Access-Control-Allow-Origin: *", expose], &[]),
    ] {
        check_head(By { site_keys, origin, ..BY }, &of(Reason::TokenMissing), has, has_not);
    }
}

/// Members that an answer's body has, with their values; `Null` stands for a member it has not.
fn check_body(by: By, the: &Problem<'_>, members: &[(&str, Value)]) {
    let (_, body) = split(&write(by, the));
    for (name, expected) in members {
        assert_eq!(&body[*name], expected, "{name} in {body}");
    }
}

#[test]
fn members_by_reason() {
    let figures = figures();
    let unlimited = Figures { limit: None, remaining: None, rate: None, ..figures };
    let metered = |reason| Problem { figures: Some(&figures), ..of(reason) };
    let null = Value::Null;
    let policies = "violated-policies";
    check_body(
        BY,
        &metered(Reason::RateLimited),
        &[
            ("limit", 50.into()),
            ("remaining", 20.into()),
            ("reset", "2026-11-23T21:00:02Z".into()),
            (policies, vec!["rate"].into()),
        ],
    );
    check_body(
        BY,
        &Problem { concurrency: Some(20), ..metered(Reason::ConcurrencyLimited) },
        &[
            ("limit", 20.into()),
            ("remaining", 0.into()),
            ("reset", null.clone()),
            (policies, vec!["concurrency"].into()),
            ("upgrade_url", null.clone()),
        ],
    );
    check_body(
        By { site_keys: Some(UPGRADE), ..BY },
        &metered(Reason::OriginUnreachable),
        &[
            ("type", "urn:payfence:problem:origin_unreachable".into()),
            ("limit", 10_000.into()),
            ("reset", "2026-12-01T00:00:00Z".into()),
            (policies, null.clone()),
            ("upgrade_url", "https://weather.example/pricing".into()),
        ],
    );
    check_body(
        BY,
        &Problem { figures: Some(&unlimited), ..of(Reason::OriginInvalid) },
        &[("limit", null.clone()), ("remaining", null.clone()), ("reset", null)],
    );
}

#[test]
fn malformed_requests_are_told_why() {
    let error = HeadError::TargetTooLong;
    let the = Problem {
        status: Some(error.status()),
        detail: Some(&error),
        ..of(Reason::RequestMalformed)
    };
    check_body(
        By { site_keys: None, close: true, ..BY },
        &the,
        &[
            ("type", "urn:payfence:problem:request_malformed".into()),
            ("status", 414.into()),
            ("detail", "the request target is over the size limit; shorten it".into()),
            ("reason", "request_malformed".into()),
            ("request_id", REQUEST_ID.into()),
        ],
    );
}

#[test]
fn a_connection_for_another_site_is_ended() {
    let snapshot = snapshot("hsts = { max_age_seconds = 300 }\ncors_origins = [\"*\"]", "");
    let id = request_id();
    let asker = Asker {
        site: snapshot.site_by_slug("weather"),
        origin_header: Some(b"https://app.example"),
        is_head: false,
        close: false,
        request_id: &id,
        token_sent: true,
        sends_hsts: true,
        http10_keep_alive: true,
    };
    let mut out = Vec::new();
    misdirected(&mut out, &asker, NOW_S);
    let (head, body) = split(&out);
    let expected = format!(
        "HTTP/1.1 421 Misdirected Request\nContent-Type: application/problem+json\n\
         Cache-Control: no-store\nPayFence-Request-Id: {REQUEST_ID}\nContent-Length: {}\n\
         Date: Mon, 23 Nov 2026 21:00:00 GMT\nConnection: close\n",
        out.len() - head.len() - 2
    );
    assert_eq!(head, crlf(&expected));
    assert_eq!((&body["status"], &body["reason"]), (&421.into(), &"request_malformed".into()));
    assert!(body["detail"].as_str().expect("a text").contains("Open a new connection"));
}

#[test]
fn every_reason_has_an_answer() {
    for reason in Reason::ALL {
        let Some(status) = reason.status() else { continue };
        let (_, body) = split(&write(BY, &of(*reason)));
        let kind = match status {
            429 => QUOTA_EXCEEDED.to_owned(),
            _ => format!("urn:payfence:problem:{}", reason.as_str()),
        };
        assert_eq!(body["type"], kind);
        assert_eq!(body["status"], status);
        assert_eq!(body["title"], reason.title());
        assert_eq!(body["reason"], reason.as_str());
        let detail = body["detail"].as_str().expect("a text");
        assert!(detail.ends_with('.') && detail != detail_of(Reason::Ok), "{reason:?}: {detail}");
        assert_eq!(body["violated-policies"].is_array(), status == 429, "{reason:?}");
    }
}

proptest! {
    /// Whatever is in them, an answer is one response whose body is as long as it says, and is JSON
    /// that gives back the text.
    #[test]
    fn any_text_any_asker(
        detail in any::<String>(),
        reason in prop::sample::select(Reason::ALL.to_vec()),
        is_head in any::<bool>(),
        close in any::<bool>(),
        token_sent in any::<bool>(),
        now_s in any::<i64>(),
        retry_after_s in prop::option::of(any::<u64>()),
        is_metered in any::<bool>(),
    ) {
        let figures = figures();
        let the = Problem {
            detail: Some(&detail),
            figures: is_metered.then_some(&figures),
            retry_after_s,
            ..Problem::new(reason, now_s)
        };
        let by = By { is_head, close, token_sent, site_keys: Some(UPGRADE), ..BY };
        let answer = write(by, &the);
        let mut head = ResponseHead::new();
        let parse = parse_response(&answer, 0, is_head, &Limits::default(), &mut head);
        let Ok(crate::http1::Parse::Complete { len }) = parse else {
            return Err(TestCaseError::fail(format!("{parse:?}")));
        };
        let body = &answer[len..];
        prop_assert_eq!(head.facts().status, reason.status().unwrap_or(500));
        prop_assert_eq!(head.facts().keep_alive, !close);
        if is_head {
            prop_assert!(body.is_empty());
            let get = write(By { is_head: false, ..by }, &the);
            prop_assert_eq!(head.facts().content_length, Some((get.len() - len) as u64));
            parsed_response(&answer, true);
        } else {
            prop_assert_eq!(head.facts().framing, ResponseFraming::Length(body.len() as u64));
            let body: Value = serde_json::from_slice(body).expect("JSON");
            prop_assert_eq!(body["detail"].as_str(), Some(detail.as_str()));
        }
    }
}
