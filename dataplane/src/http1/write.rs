//! Writes messages: start lines, header lines, framing, chunks, appended to the caller's buffer.
//!
//! In: parts. Out: bytes of one well-formed message. What always holds: a value can never end its
//! line, since control bytes become spaces (RFC 9110 §5.5), so nothing that is written here can
//! split a message, whatever a policy file or a database put into it.

use super::request::BodyFraming;
use super::response::ResponseFraming;
use super::scan::is_forbidden_in_value;

/// Appends a request line; the target is the parts put together, all of them from a parsed target
/// or a checked URL.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[&[u8]]) {
    out.extend_from_slice(method);
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends a status line with the given reason phrase, which may be empty.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    value(out, reason);
    out.extend_from_slice(b"\r\n");
}

/// The registered reason phrase of a status, or nothing.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default()
}

/// Appends a header line. The name is a token: a literal, or from a parsed head or checked policy.
pub fn header(out: &mut Vec<u8>, name: &[u8], text: &[u8]) {
    out.reserve(name.len() + text.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    value(out, text);
    out.extend_from_slice(b"\r\n");
}

/// Appends a header line with a decimal number.
#[inline]
pub fn header_decimal(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Appends a value; bytes that would end or corrupt its line become spaces.
pub fn value(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    out.extend_from_slice(text);
    let written = out.get_mut(start..).unwrap_or_default();
    // A fold without an early exit: the compiler makes vectors of it, and it hardly ever hits.
    if written.iter().fold(false, |bad, &byte| bad | is_forbidden_in_value(byte)) {
        for byte in written.iter_mut().filter(|byte| is_forbidden_in_value(**byte)) {
            *byte = b' ';
        }
    }
}

/// Appends the framing header of a request.
pub fn request_framing(out: &mut Vec<u8>, framing: BodyFraming) {
    match framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => header_decimal(out, b"Content-Length", length),
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Appends the framing header of a response; none where the body ends with the connection, or
/// where there is no body. The `Content-Length` of an answer to `HEAD` or of a 304 frames nothing:
/// write it with [`header_decimal`] from the facts.
pub fn response_framing(out: &mut Vec<u8>, framing: ResponseFraming) {
    match framing {
        ResponseFraming::None | ResponseFraming::UntilClose => {}
        ResponseFraming::Length(length) => header_decimal(out, b"Content-Length", length),
        ResponseFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Appends the empty line that ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends `data` as one chunk. Empty data is no chunk: a chunk of size 0 would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let start = out.len();
    let room = chunk_line_len(data.len());
    out.resize(start + room, 0);
    fill_chunk_line(out, start, room, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, the trailer fields whose names `passes` accepts, and the final CRLF.
pub fn last_chunk<'a>(
    out: &mut Vec<u8>,
    trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    mut passes: impl FnMut(&[u8]) -> bool,
) {
    out.extend_from_slice(b"0\r\n");
    for (name, text) in trailers.filter(|(name, _)| passes(name)) {
        header(out, name, text);
    }
    end(out);
}

/// Bytes of the line that announces a chunk of this size: hex digits and CRLF.
pub fn chunk_line_len(data_len: usize) -> usize {
    hex_digits(data_len) + 2
}

/// Fills the `room` bytes at `start`, reserved for a chunk line, with the line for `data_len`;
/// what follows moves up when the line is shorter than that.
pub(super) fn fill_chunk_line(out: &mut Vec<u8>, start: usize, room: usize, data_len: usize) {
    let spare = room.saturating_sub(chunk_line_len(data_len));
    out.drain(start..start + spare);
    let line = out.get_mut(start..start + room - spare).unwrap_or_default();
    let Some((digits, crlf)) = line.split_last_chunk_mut::<2>() else {
        return;
    };
    *crlf = *b"\r\n";
    let mut left = data_len;
    for slot in digits.iter_mut().rev() {
        *slot = hex_digit(left & 0xf);
        left >>= 4;
    }
}

/// Appends a decimal number.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn hex_digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize
}

const fn hex_digit(nibble: usize) -> u8 {
    let nibble = nibble as u8;
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
