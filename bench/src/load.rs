//! Closed-loop load by `wrk`: how much a server can do, and what each request costs it.
//!
//! In: an address, a request, connections, seconds. Out: requests per second and how many were refused.
//! Always holds: a run with broken transfers is an error, not a figure.

use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::peers::HOST;

/// The request that is sent over and over.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub token: Option<&'static str>,
    pub status: u16,
    /// Over TLS.
    pub is_tls: bool,
    /// Each is another than the last of its connection, by a header as tracing adds it.
    pub differs: bool,
}

/// The header that tells requests apart (W3C Trace Context), with the place of its number.
pub const TRACE: (&str, usize) =
    ("traceparent: 00-0af7651916cd43dd0000000000000000-b7ad6b7169203331-01", 32);
/// Digits of that number, hexadecimal.
pub const TRACE_DIGITS: usize = 16;

/// Has `wrk` send so many requests in turn, made beforehand.
const DIFFERENT: usize = 1024;

/// What `wrk` counted.
pub struct Counted {
    pub requests: u64,
    pub requests_per_second: f64,
}

/// Runs `wrk` on `core` for `seconds`; every answer must have the request's status class.
pub fn closed_loop(
    core: usize,
    address: &str,
    request: &Request,
    connections: usize,
    seconds: u64,
) -> Result<Counted> {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string(), "wrk", "-t", "1"]);
    command.args(["-c", &connections.to_string(), "-d", &format!("{seconds}s")]);
    command.args(["-H", &format!("Host: {HOST}")]);
    if let Some(token) = request.token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let mut script = tempfile::NamedTempFile::new()?;
    if request.differs {
        script.write_all(different().as_bytes())?;
        command.arg("-s").arg(script.path());
    }
    let output = command
        .arg(format!(
            "{}://{address}{}",
            if request.is_tls { "https" } else { "http" },
            request.path
        ))
        .output()
        .context("cannot run wrk; run: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr));
    parse_wrk(&text, request.status)
}

/// What has `wrk` send requests that differ.
fn different() -> String {
    let ((header, at), count) = (TRACE, DIFFERENT);
    let (name, value) = header.split_once(": ").unwrap_or_default();
    let at = at - name.len() - ": ".len();
    let (before, after) = (&value[..at], &value[at + TRACE_DIGITS..]);
    format!(
        "local all, at = {{}}, 0\n\
         function init(args)\n\
         for i = 1, {count} do\n\
         local headers = {{}}\n\
         for name, value in pairs(wrk.headers) do headers[name] = value end\n\
         headers['{name}'] = string.format('{before}%0{TRACE_DIGITS}x{after}', i)\n\
         all[i] = wrk.format(nil, nil, headers)\n\
         end\n\
         end\n\
         function request()\n\
         at = at % {count} + 1\n\
         return all[at]\n\
         end\n"
    )
}

/// Reads wrk's report.
fn parse_wrk(text: &str, status: u16) -> Result<Counted> {
    if let Some(line) = text.lines().find(|line| line.contains("Socket errors")) {
        bail!("broken transfers: {}", line.trim());
    }
    let number_after = |mark: &str| {
        let line = text.lines().find(|line| line.contains(mark))?;
        line.split(mark).nth(1)?.trim().parse::<f64>().ok()
    };
    let requests = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("wrk said something new:\n{text}"))?;
    let refused = number_after("Non-2xx or 3xx responses:").unwrap_or(0.0) as u64;
    let refused_expected = if status < 400 { 0 } else { requests };
    ensure!(
        refused == refused_expected,
        "{refused} of {requests} answers were refusals, {refused_expected} expected:\n{text}"
    );
    let requests_per_second = number_after("Requests/sec:")
        .with_context(|| format!("wrk said something new:\n{text}"))?;
    Ok(Counted { requests, requests_per_second })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
