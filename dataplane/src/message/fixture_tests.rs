//! What the tests of this module share: a snapshot from a policy file, figures, parsed heads.

use policy::budget::{Figures, Period, PeriodId, RateFigures};
use policy::snapshot::Snapshot;

use super::request_id::{RequestId, RequestIds};
use crate::http1::{Limits, Parse, RequestHead, ResponseHead, parse_request, parse_response};

/// 2026-11-23T21:00:00Z
pub const NOW_S: i64 = 1_795_467_600;
/// 2026-11-01T00:00:00Z
pub const PERIOD_START_S: i64 = 1_793_491_200;
/// 2026-12-01T00:00:00Z
pub const PERIOD_END_S: i64 = 1_796_083_200;
/// What [`request_id`] makes.
pub const REQUEST_ID: &str = "00000000000000ab0000000000000001";

/// A snapshot of one site with these keys besides `slug` and `origin`, a plan and a subscription.
pub fn snapshot(site_keys: &str, plan_keys: &str) -> Snapshot {
    let origin = if site_keys.contains("origin =") {
        ""
    } else {
        "origin = \"http://origin.example:9000\"\n"
    };
    let text = format!(
        "[[sites]]\nslug = \"weather\"\n{origin}{site_keys}\n\
         [[sites.resources]]\npattern = \"/paid\"\n\
         [[sites.plans]]\nid = \"pro\"\n{plan_keys}\n\
         [[sites.subscriptions]]\nid = \"sub_acme\"\nplan = \"pro\"\ncustomer = \"acme\"\n\
         status = \"active\"\n"
    );
    let parsed = policy::model::file::parse("test.toml", text.as_bytes()).expect("a good policy");
    let bytes = policy::compile::compile(&parsed.policy, 1).expect("it compiles");
    Snapshot::from_bytes(&bytes).expect("it loads")
}

pub fn request_id() -> RequestId {
    RequestIds::new([0xab, 1u64.wrapping_sub(0x9e37_79b9_7f4a_7c15)]).next_id()
}

/// A quota of 10,000 with 250 used, a rate of 50 a second with 20 in the bucket.
pub fn figures() -> Figures {
    Figures {
        limit: Some(10_000),
        used: 250,
        remaining: Some(9_750),
        period: Period { id: PeriodId(7), start_s: PERIOD_START_S, end_s: PERIOD_END_S },
        rate: Some(RateFigures { limit: 50, unit_s: 1, holds: 20, full_in_s: 2 }),
    }
}

/// Lines as a person writes them, as HTTP has them.
pub fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// Parses a whole head; what is left over is a fault of the test or of what wrote the head.
pub fn parsed_request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::new();
    let parse = parse_request(bytes, 0, &Limits::default(), &mut head);
    assert_eq!(parse, Ok(Parse::Complete { len: bytes.len() }), "{}", bytes.escape_ascii());
    head
}

/// Parses a whole head, as [`parsed_request`].
pub fn parsed_response(bytes: &[u8], request_was_head: bool) -> ResponseHead {
    let mut head = ResponseHead::new();
    let parse = parse_response(bytes, 0, request_was_head, &Limits::default(), &mut head);
    assert_eq!(parse, Ok(Parse::Complete { len: bytes.len() }), "{}", bytes.escape_ascii());
    head
}
