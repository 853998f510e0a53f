//! The answer of a listener in the clear that only sends clients on to https.
//!
//! In: the request's Host and target, the port of the TLS listener. Out: 308, or 400 where the two do not make a URL.
//! Always holds: what is written into `Location` is a host and a target by the rules of `http1`, so it leads nowhere but
//! to that host; the body repeats nothing that was sent.

use policy::decision::Reason;

use super::answer::{Asker, Head, Problem, problem, write_answer};
use super::opening;
use crate::http1::host::split_host_port;
use crate::http1::write::{self, decimal};

/// The port that a URL of `https` need not name (RFC 9110 §4.2.2).
const HTTPS_PORT: u16 = 443;

const BODY: &[u8] =
    b"This API is served over HTTPS alone. Send the request to the URL in Location.\n";

/// Where a request was to go.
#[derive(Debug, Clone, Copy)]
pub struct Redirect<'a> {
    /// `host[:port]`, as [`Request::host`](crate::http1::Request::host) has it.
    pub host: Option<&'a [u8]>,
    /// The path, as [`Request::path`](crate::http1::Request::path) has it.
    pub path: &'a [u8],
    /// What follows `?`, where one is there.
    pub query: Option<&'a [u8]>,
    /// Where the TLS listener is reached.
    pub https_port: u16,
}

/// Appends the whole answer; to `HEAD` without its body. 308 keeps method and body (RFC 9110 §15.4.9).
pub fn redirect(out: &mut Vec<u8>, asker: &Asker<'_>, redirect: &Redirect<'_>, now_s: i64) {
    let Some(host) = target_host(redirect) else {
        let the = Problem {
            status: Some(400),
            detail: Some(
                &"This address only sends clients on to https, and from this request's Host and target no https URL \
                  can be made. Send the request over https.",
            ),
            ..Problem::new(Reason::RequestMalformed, now_s)
        };
        problem(out, asker, &the);
        return;
    };
    write::status_line(out, 308, write::reason(308).as_bytes());
    location(out, host, redirect);
    opening::rest_of_head(out, "text/plain");
    let head = Head { status: 308, figures: None, retry_after_s: None, now_s };
    write_answer(out, asker, &head, |out| out.extend_from_slice(BODY));
}

/// The host without its port; `None` where it is none, or the target is no path (`OPTIONS *` asks the server itself).
fn target_host<'a>(redirect: &Redirect<'a>) -> Option<&'a [u8]> {
    let is_plain = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    let is_good = redirect.path.starts_with(b"/")
        && is_plain(redirect.path)
        && !redirect.path.contains(&b'?')
        && redirect.query.is_none_or(is_plain);
    let (host, _) = split_host_port(redirect.host.filter(|_| is_good)?)?;
    Some(host)
}

fn location(out: &mut Vec<u8>, host: &[u8], redirect: &Redirect<'_>) {
    out.extend_from_slice(b"Location: https://");
    out.extend_from_slice(host);
    if redirect.https_port != HTTPS_PORT {
        out.push(b':');
        decimal(out, u64::from(redirect.https_port));
    }
    out.extend_from_slice(redirect.path);
    if let Some(query) = redirect.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod tests;
