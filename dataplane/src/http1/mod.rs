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

/// The most header lines that any [`Limits`] can allow: the parser's fixed scratch space.
pub const HEADERS_CAP: usize = 256;

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
    /// Heads of 64 KiB, targets of 16 KiB, 128 header lines: twice what is promised to pass
    /// (32 KiB and 8,000 bytes).
    fn default() -> Self {
        Self { head_bytes_max: 64 * 1024, uri_bytes_max: 16 * 1024, headers_max: 128 }
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
