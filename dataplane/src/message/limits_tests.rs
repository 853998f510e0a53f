//! The limit fields of every kind of plan.

use super::super::fixture::{NOW_S, PERIOD_END_S, crlf, figures};
use super::*;

fn check(figures: &Figures, now_s: i64, expected: &str) {
    let mut out = b"before|".to_vec();
    limit_headers(&mut out, figures, now_s);
    let text = String::from_utf8(out).expect("ASCII");
    assert_eq!(text.strip_prefix("before|").expect("appends"), crlf(expected));
}

#[test]
fn plans() {
    let both = figures();
    let unlimited = Figures { limit: None, remaining: None, ..both };
    let no_rate = Figures { rate: None, ..both };
    let exhausted = Figures { used: 10_200, remaining: Some(0), rate: None, ..both };
    check(
        &both,
        NOW_S,
        "RateLimit-Policy: \"quota\";q=10000;w=2592000, \"rate\";q=50;w=1\n\
         RateLimit: \"quota\";r=9750;t=615600, \"rate\";r=20;t=2\n\
         X-RateLimit-Limit: 10000\nX-RateLimit-Remaining: 9750\nX-RateLimit-Reset: 1796083200\n",
    );
    check(&unlimited, NOW_S, "RateLimit-Policy: \"rate\";q=50;w=1\nRateLimit: \"rate\";r=20;t=2\n");
    check(
        &no_rate,
        NOW_S,
        "RateLimit-Policy: \"quota\";q=10000;w=2592000\nRateLimit: \"quota\";r=9750;t=615600\n\
         X-RateLimit-Limit: 10000\nX-RateLimit-Remaining: 9750\nX-RateLimit-Reset: 1796083200\n",
    );
    check(
        &exhausted,
        PERIOD_END_S + 5,
        "RateLimit-Policy: \"quota\";q=10000;w=2592000\nRateLimit: \"quota\";r=0;t=0\n\
         X-RateLimit-Limit: 10000\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1796083200\n",
    );
    check(&Figures { rate: None, ..unlimited }, NOW_S, "");
}
