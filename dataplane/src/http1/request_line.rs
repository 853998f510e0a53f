//! Request lines: method, target and version, and the parts of an absolute-form target.
//!
//! In: a line, complete or only begun. Out: its parts as received, or the first thing wrong with
//! it. What always holds: a begun line is refused only for what its complete form is refused for,
//! and for the same cause.

use memchr::memchr;

use super::error::{FieldError, HeadError};
use super::host::split_host_port;
use super::scan::is_token;
use super::{Limits, Version};

/// Empty lines skipped before a request line (RFC 9112 §2.2 asks for one at least: old clients end
/// a body with an extra CRLF).
pub const EMPTY_LINES_MAX: usize = 4;

/// The longest method: well over the longest registered one (`UPDATEREDIRECTREF`).
pub const METHOD_BYTES_MAX: usize = 64;

/// Where the request line begins; `None` while only (part of) empty lines are there.
pub(super) fn skip_empty_lines(input: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut from = 0;
    loop {
        let rest = input.get(from..).unwrap_or_default();
        match rest {
            [b'\r', b'\n', ..] if from == 2 * EMPTY_LINES_MAX => return Err(HeadError::EmptyLines),
            [b'\r', b'\n', ..] => from += 2,
            [] | [b'\r'] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(FieldError::LineEnding.into()),
            _ => return Ok(Some(from)),
        }
    }
}

/// Judges a request line that has not ended yet, by the first checks that [`request_line`] makes
/// too: noise and endless targets are refused without waiting for a line's end.
pub(super) fn check_begun_line(line: &[u8], limits: &Limits) -> Result<(), HeadError> {
    let (method, target) = match memchr(b' ', line) {
        Some(space) => line.split_at_checked(space).unwrap_or_default(),
        None => (line, [].as_slice()),
    };
    if !method.is_empty() || !target.is_empty() {
        check_method(method)?;
    }
    let target = target.strip_prefix(b" ").unwrap_or(target);
    let target_len = memchr(b' ', target).unwrap_or(target.len());
    if target_len > limits.uri_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    if target.len() - target_len > " HTTP/1.1".len() {
        return Err(HeadError::RequestLine);
    }
    Ok(())
}

fn check_method(method: &[u8]) -> Result<(), HeadError> {
    if !is_token(method.get(..METHOD_BYTES_MAX).unwrap_or(method)) {
        return Err(HeadError::Method);
    }
    if method.len() > METHOD_BYTES_MAX {
        return Err(HeadError::MethodTooLong);
    }
    Ok(())
}

/// The parts of a request line.
pub(super) struct RequestLine<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub version: Version,
}

/// Splits a complete request line, without its CRLF.
pub(super) fn request_line<'a>(
    line: &'a [u8],
    limits: &Limits,
) -> Result<RequestLine<'a>, HeadError> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let method = parts.next().unwrap_or_default();
    check_method(method)?;
    let target = parts.next().ok_or(HeadError::RequestLine)?;
    if target.len() > limits.uri_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    let version = match parts.next() {
        Some(b"HTTP/1.1") => Version::Http11,
        Some(b"HTTP/1.0") => Version::Http10,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        // The form of HTTP/0.9 (RFC 1945 §5).
        None if method == b"GET" && target.starts_with(b"/") && is_target(target) => {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::RequestLine),
    };
    Ok(RequestLine { method, target, version })
}

/// Whether all bytes may stand in a target: visible ASCII, and no `#`, since a fragment is never
/// sent (RFC 9112 §3.2).
pub(super) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#')
}

/// Splits `http(s)://authority` from what follows it. User information is refused, as RFC 9110
/// §4.2.4 advises: it makes the host look like another.
pub(super) fn split_absolute(target: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let scheme_len = [b"http://".as_slice(), b"https://"]
        .iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| scheme.len())
        .ok_or(HeadError::Target)?;
    let rest = target.get(scheme_len..).unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(HeadError::Target)?;
    if split_host_port(authority).is_none() {
        return Err(HeadError::HostInvalid);
    }
    Ok((authority, rest))
}
