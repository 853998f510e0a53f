//! Names and values of headers that a site may set or look for tokens in.
//!
//! In: text. Out: whether it can be used, or a sentence that says what is allowed.
//! Always holds: what passes can be written into a request as it stands, and breaks neither framing nor the gateway's own
//! headers.

use super::table::quote;

/// The longest name, bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest value, bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 4_096;

/// Headers that belong to the connection, to the message's framing or to the gateway itself, in lower case: a site can
/// neither set them nor expect a token in them.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// A header name (RFC 9110 §5.1) that a site may use.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_token = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !is_token {
        return Err(format!(
            "expected the name of a header: 1 to {NAME_BYTES_MAX} letters, digits and `-`"
        ));
    }
    let folded = name.to_ascii_lowercase().replace('_', "-");
    if RESERVED_HEADERS.contains(&&*folded) || folded.starts_with("payfence-") {
        return Err(format!(
            "{} belongs to the gateway or the connection; any other header is allowed",
            quote(name)
        ));
    }
    Ok(())
}

/// The name of a header for tokens.
pub(crate) fn check_token_header(name: &str) -> Result<(), String> {
    check_name(name)?;
    if ["authorization", "cookie", "origin"].contains(&&*name.to_ascii_lowercase()) {
        return Err(format!(
            "{} cannot be used; `Authorization: Bearer` is always looked at, name another header \
             here",
            quote(name)
        ));
    }
    Ok(())
}

/// Whether `text` can be a header's value (RFC 9110 §5.5): printable ASCII, spaces and tabs within.
pub(crate) fn is_value(text: &str) -> bool {
    (1..=VALUE_BYTES_MAX).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t')
}
