//! Chunked bodies (RFC 9112 §7.1): decoded, or decoded and written anew, piece by piece.
//!
//! In: the body's bytes in whatever pieces they arrive. Out: ranges of body data within each
//! piece, the trailer fields, and where the body ends; or a chunked body with the same data.
//!
//! What always holds: sizes are hex digits alone, every line ends with CRLF, extensions are well
//! formed and bounded, and so is the trailer section; the result does not depend on how the bytes
//! were split; after an error nothing more is decoded.

use std::ops::Range;

use memchr::memchr;

use super::error::{ChunkError, FieldError};
use super::fields::Span;
use super::scan::{explain, is_token_byte};
use super::write;

/// Bytes of extensions on one chunk line: room for a signature or two, and no more.
pub const EXTENSION_BYTES_MAX: usize = 1024;

/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Fields in a trailer section.
pub const TRAILERS_MAX: usize = 64;

/// Hex digits of a chunk size: what fits 64 bits, leading zeros counted.
const SIZE_DIGITS_MAX: u8 = 16;

/// What a step of the decoder came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Body data: this range of the step's input.
    Data(Range<usize>),
    /// The input is used up; the body goes on.
    NeedMore,
    /// The body is complete, trailers included. What follows belongs to the next message.
    End,
}

/// One step of the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkStep {
    /// Bytes of the input that are dealt with; go on after them.
    pub consumed: usize,
    /// What they came to.
    pub event: ChunkEvent,
}

/// What became of one input buffer in [`ChunkDecoder::transcode`] and [`ChunkDecoder::decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcoded {
    /// Bytes of the input that belong to the body; all of them unless `done`.
    pub consumed: usize,
    /// Bytes of body data among them.
    pub data_bytes: usize,
    /// The body is complete.
    pub done: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Size,
    /// Whitespace after the size, allowed before `;` alone (RFC 9110 §5.6.3 `BWS`).
    SizeSpace,
    ExtensionStart,
    ExtensionName,
    ExtensionNameSpace,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    ExtensionQuotedEnd,
    ExtensionValueSpace,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerEndLf,
    End,
    Failed(ChunkError),
}

/// An incremental decoder of one chunked body.
#[derive(Debug, Clone, Default)]
pub struct ChunkDecoder {
    state: State,
    /// Bytes of data left in the current chunk.
    left: u64,
    digits: u8,
    extension_bytes: usize,
    trailer: Vec<u8>,
    trailers: Vec<(Span, Span)>,
}

impl ChunkDecoder {
    /// A decoder at the start of a body. It allocates only for trailer fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Back to the start of a body, keeping what is allocated.
    pub fn reset(&mut self) {
        self.state = State::Size;
        self.left = 0;
        self.digits = 0;
        self.extension_bytes = 0;
        self.trailer.clear();
        self.trailers.clear();
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The trailer fields, name and value, once the body is complete.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailers.iter().map(|(name, value)| (name.of(&self.trailer), value.of(&self.trailer)))
    }

    /// Decodes up to the next piece of data, the end of the body, or the end of the input.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Decodes one input buffer and appends its data to `out`, bare: for a receiver that reads
    /// until close. On an error `out` is as before.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Transcoded, ChunkError> {
        let start = out.len();
        let mut consumed = 0;
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let step = self.step(rest).inspect_err(|_| out.truncate(start))?;
            consumed += step.consumed;
            match step.event {
                ChunkEvent::Data(range) => {
                    out.extend_from_slice(rest.get(range).unwrap_or_default());
                }
                ChunkEvent::NeedMore | ChunkEvent::End => {
                    let data_bytes = out.len() - start;
                    return Ok(Transcoded { consumed, data_bytes, done: self.is_done() });
                }
            }
        }
    }

    /// Decodes one input buffer and appends its data to `out` as one chunk; at the body's end also
    /// the last chunk with those trailer fields whose names `passes` accepts. Extensions are for
    /// one hop (RFC 9112 §7.1.1) and end here. On an error `out` is as before.
    pub fn transcode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        passes: impl FnMut(&[u8]) -> bool,
    ) -> Result<Transcoded, ChunkError> {
        let start = out.len();
        // Decoded data is never longer than its input, so its size line fits this room; mostly
        // exactly, and then nothing has to move.
        let room = write::chunk_line_len(input.len());
        out.resize(start + room, 0);
        let result = self.decode(input, out).inspect_err(|_| out.truncate(start))?;
        if result.data_bytes == 0 {
            out.truncate(start);
        } else {
            write::fill_chunk_line(out, start, room, result.data_bytes);
            out.extend_from_slice(b"\r\n");
        }
        if result.done {
            write::last_chunk(out, self.trailers(), passes);
        }
        Ok(result)
    }

    fn advance(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let rest = input.len() - at;
                    let len = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                    self.left -= len as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    let range = at..at + len;
                    return Ok(ChunkStep { consumed: range.end, event: ChunkEvent::Data(range) });
                }
                State::TrailerStart | State::TrailerLine | State::TrailerEndLf => {
                    at += self.trailer(byte, input.get(at..).unwrap_or_default())?;
                }
                State::End => break,
                State::Failed(error) => return Err(error),
                _ => {
                    self.state = self.line_byte(byte)?;
                    at += 1;
                }
            }
        }
        let event = if self.is_done() { ChunkEvent::End } else { ChunkEvent::NeedMore };
        Ok(ChunkStep { consumed: at, event })
    }

    /// One byte of a chunk line, or of the CRLF after chunk data.
    fn line_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size, _) => self.size_byte(byte),
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                self.extension_bytes = 0;
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size),
            (State::SizeLf | State::DataCr | State::DataLf, _) => Err(ChunkError::LineEnding),
            _ => self.extension_byte(byte),
        }
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::Size);
            }
            self.digits += 1;
            self.left = self.left << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(ChunkError::Size),
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::ExtensionStart),
            b' ' | b'\t' => Ok(State::SizeSpace),
            b'\n' => Err(ChunkError::LineEnding),
            _ => Err(ChunkError::Size),
        }
    }

    /// RFC 9112 §7.1.1: `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`.
    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        use State as S;
        let blank = byte == b' ' || byte == b'\t';
        let ends_line =
            matches!(self.state, S::ExtensionName | S::ExtensionToken | S::ExtensionQuotedEnd);
        if byte == b'\r' && ends_line {
            return Ok(S::SizeLf);
        }
        if byte == b'\r' || byte == b'\n' {
            return Err(ChunkError::LineEnding);
        }
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        let token = is_token_byte(byte);
        match self.state {
            S::ExtensionQuoted => match byte {
                b'"' => Ok(S::ExtensionQuotedEnd),
                b'\\' => Ok(S::ExtensionQuotedPair),
                _ if is_quotable(byte) => Ok(S::ExtensionQuoted),
                _ => Err(ChunkError::Extension),
            },
            S::ExtensionQuotedPair if is_quotable(byte) => Ok(S::ExtensionQuoted),
            S::SizeSpace
            | S::ExtensionStart
            | S::ExtensionNameSpace
            | S::ExtensionValueStart
            | S::ExtensionValueSpace
                if blank =>
            {
                Ok(self.state)
            }
            S::ExtensionName if blank => Ok(S::ExtensionNameSpace),
            S::ExtensionToken | S::ExtensionQuotedEnd if blank => Ok(S::ExtensionValueSpace),
            S::ExtensionStart | S::ExtensionName if token => Ok(S::ExtensionName),
            S::ExtensionValueStart | S::ExtensionToken if token => Ok(S::ExtensionToken),
            S::ExtensionValueStart if byte == b'"' => Ok(S::ExtensionQuoted),
            S::ExtensionName | S::ExtensionNameSpace if byte == b'=' => Ok(S::ExtensionValueStart),
            S::SizeSpace
            | S::ExtensionName
            | S::ExtensionNameSpace
            | S::ExtensionToken
            | S::ExtensionQuotedEnd
            | S::ExtensionValueSpace
                if byte == b';' =>
            {
                Ok(S::ExtensionStart)
            }
            _ => Err(ChunkError::Extension),
        }
    }

    /// Takes in trailer bytes from `rest`, which begins with `byte`; returns how many.
    fn trailer(&mut self, byte: u8, rest: &[u8]) -> Result<usize, ChunkError> {
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => {
                self.state = State::TrailerEndLf;
                return Ok(1);
            }
            (State::TrailerEndLf, b'\n') => {
                self.end_trailers()?;
                self.state = State::End;
                return Ok(1);
            }
            (State::TrailerEndLf, _) => return Err(FieldError::LineEnding.into()),
            _ => self.state = State::TrailerLine,
        }
        let line_end = memchr(b'\n', rest).map(|lf| lf + 1);
        let line = line_end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        let room = TRAILER_BYTES_MAX - self.trailer.len().min(TRAILER_BYTES_MAX);
        self.trailer.extend_from_slice(line.get(..room).unwrap_or(line));
        if line.len() > room {
            return Err(FieldError::TooLarge.into());
        }
        if line_end.is_some() {
            if !self.trailer.ends_with(b"\r\n") {
                return Err(FieldError::LineEnding.into());
            }
            self.state = State::TrailerStart;
        }
        Ok(line.len())
    }

    fn end_trailers(&mut self) -> Result<(), ChunkError> {
        if self.trailer.is_empty() {
            return Ok(());
        }
        self.trailer.extend_from_slice(b"\r\n");
        let mut scratch = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let parsed = match httparse::parse_headers(&self.trailer, &mut scratch) {
            Ok(httparse::Status::Complete((_, parsed))) => parsed,
            Err(httparse::Error::TooManyHeaders) => return Err(FieldError::TooMany.into()),
            _ => return Err(explain(&self.trailer).into()),
        };
        self.trailers.extend(parsed.iter().map(|field| {
            let name = Span::within(&self.trailer, field.name.as_bytes());
            (name, Span::within(&self.trailer, field.value))
        }));
        Ok(())
    }
}

/// RFC 9110 §5.6.4: what a quoted-string may hold, quotes and backslashes aside.
const fn is_quotable(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
