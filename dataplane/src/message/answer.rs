//! The gateway's own answers: refusals and failures, as problem documents (RFC 9457).
//!
//! In: who asks, the reason, figures where a budget was asked. Out: a whole response.
//! Always holds: `Content-Length` is that of the body, to `HEAD` too; an answer depends on nothing
//! but the reason and its figures, so it tells nobody whether a token of another system exists.

use std::fmt::Display;

use policy::budget::Figures;
use policy::decision::Reason;
use policy::snapshot::SiteView;

use super::json::{json_plain, json_text};
use super::limits::limit_headers;
use super::opening;
use super::request_id::RequestId;
use super::time::{date_header, json_time};
use crate::http1::write::{self, decimal, header, header_decimal};

/// `Retry-After` where nothing better is known, seconds.
const RETRY_AFTER_DEFAULT_S: u64 = 1;

/// What a script of another origin may read of an answer besides its body.
const EXPOSED: &[u8] = b"RateLimit-Policy, RateLimit, X-RateLimit-Limit, X-RateLimit-Remaining, \
    X-RateLimit-Reset, Retry-After, WWW-Authenticate, PayFence-Request-Id";

/// Methods that pass the gateway besides any that are not registered (RFC 9110 §10.2.1).
const ALLOWED_METHODS: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The site; `None` where the address names none.
    pub site: Option<SiteView<'a>>,
    /// The request's `Origin`.
    pub origin_header: Option<&'a [u8]>,
    /// The request is a `HEAD`: no body.
    pub is_head: bool,
    /// The connection ends with this answer.
    pub close: bool,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// Whether a token was sent, good or bad.
    pub token_sent: bool,
    /// The site's `Strict-Transport-Security` goes with the answer: the request came over TLS (RFC 6797 §7.2), to the site's
    /// own host.
    pub sends_hsts: bool,
    /// An HTTP/1.0 client that asked to keep the connection, and may (RFC 9112 §C.2.2).
    pub http10_keep_alive: bool,
}

/// What went wrong.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// Why.
    pub reason: Reason,
    /// A status in place of the reason's own: the parser's.
    pub status: Option<u16>,
    /// Text for a person in place of the reason's own.
    pub detail: Option<&'a dyn Display>,
    /// The entitlement's figures, where a budget was asked.
    pub figures: Option<&'a Figures>,
    /// The plan's concurrency limit, for `concurrency_limited`.
    pub concurrency: Option<u32>,
    /// `Retry-After` of a 429 or 503, seconds.
    pub retry_after_s: Option<u64>,
    /// Unix seconds.
    pub now_s: i64,
}

impl Problem<'_> {
    /// A problem of which nothing but the reason is known.
    #[must_use]
    pub const fn new(reason: Reason, now_s: i64) -> Self {
        Self {
            reason,
            status: None,
            detail: None,
            figures: None,
            concurrency: None,
            retry_after_s: None,
            now_s,
        }
    }

    fn status(&self) -> u16 {
        self.status.or(self.reason.status()).unwrap_or(500)
    }
}

/// Appends the whole answer; for `HEAD` without its body. The bytes of the body.
pub fn problem(out: &mut Vec<u8>, asker: &Asker<'_>, problem: &Problem<'_>) -> usize {
    let status = problem.status();
    let retries = matches!(status, 429 | 503);
    let retry_after_s = problem.retry_after_s.unwrap_or(RETRY_AFTER_DEFAULT_S).max(1);
    out.reserve(ANSWER_BYTES);
    opening::problem_head(out, problem.reason, problem.status);
    let head = Head {
        status,
        figures: problem.figures,
        retry_after_s: retries.then_some(retry_after_s),
        now_s: problem.now_s,
    };
    write_answer(out, asker, &head, |out| body(out, asker, problem))
}

/// The cause that [`misdirected`] requests are counted by.
pub const MISDIRECTED_CAUSE: &str = "misdirected";

/// Appends the answer to a request whose connection was opened for another site
/// ([`Snapshot::is_misdirected`](policy::snapshot::Snapshot::is_misdirected)). It ends the connection, so that the client
/// has to open another (RFC 9110 §15.5.20), and as of any request that has two readings nothing of a site is in it.
pub fn misdirected(out: &mut Vec<u8>, asker: &Asker<'_>, now_s: i64) {
    let asker = Asker { site: None, close: true, ..*asker };
    let the = Problem {
        status: Some(421),
        detail: Some(
            &"This connection was opened, by its TLS server name, for another API than the request's Host and path \
              name. Open a new connection for that host and send the request again.",
        ),
        ..Problem::new(Reason::RequestMalformed, now_s)
    };
    problem(out, &asker, &the);
}

/// The parts of an answer's head that differ.
pub(super) struct Head<'a> {
    pub status: u16,
    pub figures: Option<&'a Figures>,
    pub retry_after_s: Option<u64>,
    pub now_s: i64,
}

/// Room that most answers need: memory is asked for once.
const ANSWER_BYTES: usize = 1024;

/// Room for the length of a body, which is known only behind its head: nearly all have three digits.
const LENGTH_ROOM: &[u8] = b"000";

/// Appends the rest of a head whose opening is there, and the body, then puts the body's length into the head. The
/// bytes of the body that are there.
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    asker: &Asker<'_>,
    head: &Head<'_>,
    body: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let length_at = write_head(out, asker, head);
    let body_at = out.len();
    body(out);
    let body_bytes = out.len() - body_at;
    if asker.is_head {
        out.truncate(body_at);
    }
    let digit = |unit: usize| b'0' + u8::try_from(body_bytes / unit % 10).unwrap_or(0);
    let room = length_at..length_at + LENGTH_ROOM.len();
    if (100..1000).contains(&body_bytes) {
        out[room].copy_from_slice(&[digit(100), digit(10), digit(1)]);
    } else {
        out.splice(room, body_bytes.to_string().into_bytes());
    }
    if asker.is_head { 0 } else { body_bytes }
}

/// Appends the head; where in `out` the room for the body's length begins.
fn write_head(out: &mut Vec<u8>, asker: &Asker<'_>, head: &Head<'_>) -> usize {
    out.extend_from_slice(asker.request_id.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: ");
    let length_at = out.len();
    out.extend_from_slice(LENGTH_ROOM);
    out.extend_from_slice(b"\r\n");
    date_header(out, head.now_s);
    if let Some(figures) = head.figures {
        limit_headers(out, figures, head.now_s);
    }
    if let Some(retry_after_s) = head.retry_after_s {
        header_decimal(out, b"Retry-After", retry_after_s);
    }
    if head.status == 401 {
        challenge(out, asker);
    }
    if head.status == 405 {
        header(out, b"Allow", ALLOWED_METHODS);
    }
    cors(out, asker);
    if let Some(hsts) = asker.site.filter(|_| asker.sends_hsts).and_then(|site| site.hsts()) {
        header(out, b"Strict-Transport-Security", hsts.as_bytes());
    }
    if asker.close {
        header(out, b"Connection", b"close");
    } else if asker.http10_keep_alive {
        header(out, b"Connection", b"keep-alive");
    }
    write::end(out);
    length_at
}

/// RFC 6750 §3. A slug holds nothing that needs quoting.
fn challenge(out: &mut Vec<u8>, asker: &Asker<'_>) {
    let slug = asker.site.map_or("", |site| site.slug());
    out.extend_from_slice(b"WWW-Authenticate: Bearer realm=\"");
    write::value(out, slug.as_bytes());
    out.push(b'"');
    if asker.token_sent {
        out.extend_from_slice(b", error=\"invalid_token\"");
    }
    out.extend_from_slice(b"\r\n");
}

/// Lets a browser's script read the answer (Fetch standard, CORS protocol). An answer that depends on
/// `Origin` says so, to those that send none too.
fn cors(out: &mut Vec<u8>, asker: &Asker<'_>) {
    let Some(site) = asker.site.filter(|site| site.cors_origins().next().is_some()) else {
        return;
    };
    if let Some(allowed) = asker.origin_header.and_then(|origin| site.allowed_cors_origin(origin)) {
        header(out, b"Access-Control-Allow-Origin", allowed.as_bytes());
        header(out, b"Access-Control-Expose-Headers", EXPOSED);
    }
    header(out, b"Vary", b"Origin");
}

fn body(out: &mut Vec<u8>, asker: &Asker<'_>, problem: &Problem<'_>) {
    opening::problem_body(out, problem.reason, problem.status, problem.detail);
    json_plain(out, asker.request_id.as_str());
    limit(out, problem);
    if let Some(url) = asker.site.and_then(|site| site.upgrade_url()) {
        out.extend_from_slice(b",\"upgrade_url\":");
        json_text(out, url);
    }
    if let Some(name) = violated_policy(problem.reason) {
        out.extend_from_slice(b",\"violated-policies\":[");
        json_plain(out, name);
        out.push(b']');
    }
    out.push(b'}');
}

/// The numbers of the limit that refused; of the quota where none did.
fn limit(out: &mut Vec<u8>, problem: &Problem<'_>) {
    let figures = problem.figures;
    let (limit, remaining, reset_s) = match problem.reason {
        Reason::ConcurrencyLimited => {
            let limit = problem.concurrency.map(u64::from);
            (limit, limit.map(|_| 0), None)
        }
        Reason::RateLimited => {
            let rate = figures.and_then(|figures| figures.rate);
            let full_at_s = rate.map(|rate| problem.now_s.saturating_add_unsigned(rate.full_in_s));
            (rate.map(|rate| rate.limit), rate.map(|rate| rate.holds), full_at_s)
        }
        _ => match figures.filter(|figures| figures.limit.is_some()) {
            Some(figures) => (figures.limit, figures.remaining, Some(figures.period.end_s)),
            None => (None, None, None),
        },
    };
    for (key, number) in [(",\"limit\":", limit), (",\"remaining\":", remaining)] {
        if let Some(number) = number {
            out.extend_from_slice(key.as_bytes());
            decimal(out, number);
        }
    }
    if let Some(reset_s) = reset_s {
        out.extend_from_slice(b",\"reset\":");
        json_time(out, reset_s);
    }
}

const fn violated_policy(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::RateLimited => Some("rate"),
        Reason::ConcurrencyLimited => Some("concurrency"),
        Reason::QuotaExhausted => Some("quota"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
