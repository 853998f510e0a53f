//! What endpoints at Stripe and answers to webhooks come to.

use super::*;

const URL: &str = "https://pay.example/stripe/webhooks/test";

fn word(finding: &Finding) -> String {
    match finding {
        Finding::Well(found) => format!("well: {found}"),
        Finding::Unwise(problem) => format!("unwise: {problem}"),
        Finding::Broken(problem) => format!("broken: {problem}"),
    }
}

#[track_caller]
fn check(finding: &Finding, expected: &str, part: &str) {
    let word = word(finding);
    assert!(word.starts_with(expected) && word.contains(part), "{word}");
}

#[test]
fn an_endpoint_has_to_refuse_what_is_not_signed() {
    for (status, expected) in
        [(400, "well"), (401, "well"), (200, "broken"), (404, "broken"), (502, "broken")]
    {
        check(&of_unsigned(URL, status), expected, URL);
    }
}

#[test]
fn what_is_signed_has_to_be_taken() {
    for (status, outcome, expected, part) in [
        (200, "other_mode", "well", "secret alone"),
        (400, "forged", "broken", "same file"),
        (400, "old", "broken", "time service"),
        (400, "malformed", "broken", "log"),
        (502, "", "broken", "502"),
    ] {
        let answer = Answered { status, outcome: outcome.to_owned() };
        check(&of_signed(URL, &answer), expected, part);
    }
}

#[test]
fn an_endpoint_at_stripe_has_to_be_there_and_sent_all() {
    let all = TYPES.iter().copied().flatten().chain(UNSWEPT);
    let all: Vec<String> = all.map(|it| (*it).to_owned()).collect();
    let good = WebhookEndpoint {
        url: URL.to_owned(),
        status: "enabled".to_owned(),
        api_version: Some(VERSION.to_owned()),
        application: None,
        enabled_events: all.clone(),
    };
    let disabled = WebhookEndpoint { status: "disabled".to_owned(), ..good.clone() };
    let other = WebhookEndpoint { url: "https://elsewhere.example/".to_owned(), ..good.clone() };
    let star = WebhookEndpoint { enabled_events: vec!["*".to_owned()], ..good.clone() };
    let less = WebhookEndpoint { enabled_events: all[1..].to_vec(), ..good.clone() };
    let swept = all.len() - UNSWEPT.len();
    let swept = WebhookEndpoint { enabled_events: all[..swept].to_vec(), ..good.clone() };
    let old = WebhookEndpoint { api_version: Some("2020-01-01".to_owned()), ..good.clone() };
    for (endpoints, expected, part) in [
        (vec![other.clone(), good.clone()], "well", URL),
        (vec![disabled.clone(), star], "well", URL),
        (vec![], "broken", "no endpoint"),
        (vec![other], "broken", "no endpoint"),
        (vec![disabled], "broken", "disabled"),
        (vec![less], "unwise", all[0].as_str()),
        (vec![swept], "unwise", "account.application.deauthorized"),
        (vec![old], "unwise", VERSION),
    ] {
        check(&of_endpoints(&endpoints, URL, None), expected, part);
    }
    let shown = WebhookEndpoint { application: Some("ca_1".to_owned()), ..good.clone() };
    for (endpoint, on_time, expected, part) in [
        (&shown, None, "well", "of connected accounts, too"),
        (&shown, Some((20, 0)), "well", "of connected accounts, too"),
        (&good, None, "well", "the Stripe dashboard (Developers, Webhooks)"),
        (&good, Some((0, 0)), "well", "no event has"),
        (&good, Some((1, 1)), "well", "of the newest 1 events"),
        (&good, Some((20, 10)), "well", "10 came within a minute"),
        (&good, Some((20, 9)), "unwise", "found by sweeps: the endpoint's page"),
        (&good, Some((1, 0)), "unwise", "make another"),
    ] {
        let all = [endpoint.clone()];
        check(&of_endpoints(&all, URL, on_time), expected, part);
    }
    for wanted in ["checkout.session.*", "checkout.*", "*"] {
        let endpoint = WebhookEndpoint { enabled_events: vec![wanted.to_owned()], ..good.clone() };
        assert!(is_sent(&endpoint, "checkout.session.completed"), "{wanted}");
        assert!(wanted == "*" || !is_sent(&endpoint, "charge.refunded"), "{wanted}");
    }
}
