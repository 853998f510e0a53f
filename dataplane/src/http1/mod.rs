//! A sans-IO HTTP/1.0 and HTTP/1.1 codec for a reverse proxy: bytes in, facts out, bytes out.
//!
//! In: what a peer sent, as slices. Out: reusable heads that hold offsets into those slices, decoded
//! body ranges, and messages written from the parsed form. RFC 9110 and RFC 9112 are the law.
//!
//! Architecture invariant: no sockets, no clock, no randomness, no `unsafe`, and no call that can
//! panic, so that every part is a pure function that can be fuzzed. A message that two
//! implementations could read in two ways is refused here, and nothing is ever copied through raw.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod chunked;
pub mod error;
pub mod fields;
pub mod headers;
pub mod host;
pub mod request;
pub mod request_line;
pub mod response;
mod scan;
pub mod write;

pub use chunked::{ChunkDecoder, ChunkEvent, ChunkStep, Transcoded};
pub use error::{ChunkError, FieldError, HeadError, ResponseError};
pub use headers::{RequestName, ResponseName};
pub use request::{
    BodyFraming, ForwardRules, Request, RequestFacts, RequestHead, TargetForm, parse_request,
};
pub use response::{Response, ResponseFacts, ResponseFraming, ResponseHead, parse_response};

/// The most header lines that any [`Limits`] can allow: the parser's scratch space on the stack. At 32 bytes a line it
/// takes 32 KiB, which nobody writes before the parser fills a place, so a head of few lines does not pay for many.
pub const HEADERS_CAP: usize = 1024;

/// Bounds on one message head. They hold while a head is still incomplete, so a peer that never
/// ends its head is refused at the bound and never buffered past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole head, from the first byte to the end of the empty line (else 431).
    pub head_bytes_max: usize,
    /// Bytes of a request target (else 414).
    pub uri_bytes_max: usize,
    /// Header lines (else 431); more than [`HEADERS_CAP`] counts as [`HEADERS_CAP`].
    pub headers_max: usize,
}

impl Default for Limits {
    /// Heads of 64 KiB and targets of 16 KiB, twice what is promised to pass (32 KiB and 8,000 bytes), and as many
    /// header lines as the parser takes: a head of 32 KiB passes unless its lines are shorter than 32 bytes on average.
    fn default() -> Self {
        Self { head_bytes_max: 64 * 1024, uri_bytes_max: 16 * 1024, headers_max: HEADERS_CAP }
    }
}

/// How far a head could be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parse {
    /// The head is the first `len` bytes of the input; the body begins there.
    Complete {
        /// Bytes of the head, empty lines before a request included.
        len: usize,
    },
    /// All well so far; more bytes are needed.
    Partial,
}

/// The two versions that are spoken. Anything else is refused (RFC 9110 §15.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// What a message asks to upgrade to (RFC 9110 §7.8), when `Connection` names `upgrade` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// `websocket` (RFC 6455): the one that is passed on.
    WebSocket,
    /// Something else, `h2c` included: never passed on.
    Other,
}
