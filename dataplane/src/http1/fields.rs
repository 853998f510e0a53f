//! The header block of a parsed head, and the facts that requests and responses share.
//!
//! In: header lines, one after another. Out: their places in the input with their classes, the
//! message's framing fields, its connection options. What always holds: framing comes out in one
//! reading or as an error (RFC 9112 §6.3), and every list that grows here has a bound.

use std::ops::Range;

use super::error::FieldError;
use super::headers::Classified;
use super::scan::is_token;
use super::{Upgrade, Version, write};

/// How many fields `Connection` may nominate for removal, beyond the known options. Each costs a
/// comparison per header, and no honest client names more than a few.
pub const NOMINATED_MAX: usize = 32;

/// A range of the input that a head was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub fn new(start: usize, len: usize) -> Self {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: narrow(start), len: narrow(len) }
    }

    /// The place of `part`, which must be a slice of `input`; any other slice gives a span that
    /// [`Span::of`] answers with nothing.
    pub fn within(input: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(input.as_ptr() as usize);
        Self::new(start, part.len())
    }

    /// The bytes of this span; empty when `input` is not what was parsed.
    pub fn of(self, input: &[u8]) -> &[u8] {
        let start = self.start as usize;
        input.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    const fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// One header line's place and class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<N> {
    pub name: Span,
    pub value: Span,
    pub class: Classified<N>,
}

impl<N> Entry<N> {
    /// The whole line's place, where it has the form `Name: value` and can be passed on as it was received.
    fn plain_line(&self, input: &[u8]) -> Option<Range<usize>> {
        let (start, name_end) = (self.name.start as usize, self.name.end());
        let (value_start, end) = (self.value.start as usize, self.value.end());
        let is_plain = value_start == name_end + 2
            && input.get(name_end..value_start) == Some(b": ")
            && input.get(end..end + 2) == Some(b"\r\n");
        is_plain.then_some(start..end + 2)
    }
}

/// One header line of a parsed head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a, N> {
    /// The name as received: a token.
    pub name: &'a [u8],
    /// The value as received, without the whitespace around it; no control bytes but HTAB.
    pub value: &'a [u8],
    /// What the name means.
    pub class: N,
    /// Whether the name resembles its class only with `_` read as `-`. Such a header is not to be
    /// acted upon.
    pub underscored: bool,
    /// Its place among the head's header lines, from 0.
    pub index: usize,
}

/// The header lines of a head.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields<N> {
    pub entries: Vec<Entry<N>>,
    nominated: Vec<Span>,
}

impl<N: Copy> Fields<N> {
    pub fn clear(&mut self) {
        self.entries.clear();
        self.nominated.clear();
    }

    pub fn iter<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = Header<'a, N>> + Clone {
        self.entries.iter().enumerate().map(move |(index, entry)| Header {
            name: entry.name.of(input),
            value: entry.value.of(input),
            class: entry.class.name,
            underscored: entry.class.underscored,
            index,
        })
    }

    /// Appends the lines that `passes` accepts, those next to each other in one copy.
    pub fn write<'a>(
        &'a self,
        input: &'a [u8],
        out: &mut Vec<u8>,
        mut passes: impl FnMut(&Header<'a, N>) -> bool,
    ) {
        let mut run = 0..0;
        for (entry, line) in self.entries.iter().zip(self.iter(input)) {
            if !passes(&line) {
                continue;
            }
            let plain = entry.plain_line(input);
            if plain.as_ref().is_some_and(|plain| plain.start == run.end) {
                run.end = plain.map_or(run.end, |plain| plain.end);
                continue;
            }
            out.extend_from_slice(input.get(run).unwrap_or_default());
            if plain.is_none() {
                write::header(out, line.name, line.value);
            }
            run = plain.unwrap_or(0..0);
        }
        out.extend_from_slice(input.get(run).unwrap_or_default());
    }

    /// Whether `Connection` names this field (RFC 9110 §7.6.1).
    pub fn is_nominated(&self, input: &[u8], name: &[u8]) -> bool {
        self.nominated.iter().any(|span| span.of(input).eq_ignore_ascii_case(name))
    }

    /// Takes in the value of one `Connection` line.
    pub fn connection(
        &mut self,
        input: &[u8],
        value: &[u8],
        options: &mut ConnectionOptions,
    ) -> Result<(), FieldError> {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if self.nominated.len() == NOMINATED_MAX {
                return Err(FieldError::ConnectionOptions);
            } else {
                self.nominated.push(Span::within(input, option));
            }
        }
        Ok(())
    }
}

/// The options of all `Connection` lines that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
}

impl ConnectionOptions {
    /// Whether the connection persists after this message (RFC 9112 §9.3).
    pub const fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// The framing fields of one message, as its lines come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Framing {
    pub content_length: Option<u64>,
    pub chunked: bool,
}

impl Framing {
    /// Takes in one `Content-Length` line. Equal values may repeat, in one line or several
    /// (RFC 9112 §6.3 point 5): one of them is written onwards.
    pub fn content_length(&mut self, value: &[u8]) -> Result<(), FieldError> {
        for member in value.split(|&byte| byte == b',') {
            let length = decimal(member.trim_ascii()).ok_or(FieldError::ContentLengthInvalid)?;
            if self.content_length.is_some_and(|earlier| earlier != length) {
                return Err(FieldError::ContentLengthConflict);
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    /// Takes in one `Transfer-Encoding` line: `chunked` once, in any case, and nothing else.
    pub fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), FieldError> {
        if self.chunked {
            return Err(FieldError::TransferEncodingInvalid);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut codings = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let last_is_chunked =
            codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        let others_are_others =
            codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"));
        Err(if last_is_chunked && others_are_others {
            FieldError::TransferEncodingUnsupported
        } else {
            FieldError::TransferEncodingInvalid
        })
    }

    /// What must hold once all lines are in.
    pub const fn check(self, version: Version) -> Result<(), FieldError> {
        if !self.chunked {
            return Ok(());
        }
        if self.content_length.is_some() {
            return Err(FieldError::FramingConflict);
        }
        match version {
            Version::Http10 => Err(FieldError::TransferEncodingVersion),
            Version::Http11 => Ok(()),
        }
    }
}

/// `1*DIGIT` that fits 64 bits; leading zeros are digits like others.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The members of a comma-separated list without the empty ones (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Which upgrade one `Upgrade` line asks for, given what earlier ones asked for.
pub(super) fn upgrade(value: &[u8], earlier: Option<Upgrade>) -> Option<Upgrade> {
    list(value).fold(earlier, |found, protocol| {
        if found == Some(Upgrade::WebSocket) || protocol.eq_ignore_ascii_case(b"websocket") {
            Some(Upgrade::WebSocket)
        } else {
            Some(Upgrade::Other)
        }
    })
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
