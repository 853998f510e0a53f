//! Why a message was refused: for requests, responses and chunked bodies.
//!
//! In: nothing. Out: errors with a stable `cause()` (the label of
//! `payfence_requests_malformed_total`), for requests the status to answer, and text for a person.
//! What always holds: causes are lower-case words that never change their meaning.

use thiserror::Error;

/// What can be wrong with the field lines of any message, requests, responses and trailers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldError {
    /// A CR or LF that is not part of a CRLF (RFC 9112 §2.2).
    #[error("a line does not end with CRLF; send CRLF and no lone CR or LF")]
    LineEnding,
    /// A field name that is empty or not a token, or a line without a colon (RFC 9110 §5.1).
    #[error("a header name is not a token; use letters, digits and !#$%&'*+-.^_`|~ only")]
    HeaderName,
    /// Whitespace between field name and colon (RFC 9112 §5.1).
    #[error("whitespace stands before the colon of a header; remove it")]
    SpaceBeforeColon,
    /// A folded field line (RFC 9112 §5.2).
    #[error("a header continues on the next line; write it on one line")]
    Folded,
    /// A control byte in a field value (RFC 9110 §5.5).
    #[error("a header value holds a control byte; remove or encode it")]
    HeaderValue,
    /// The head or trailer section is over its limit.
    #[error("the header section is over the size limit; send fewer or shorter headers")]
    TooLarge,
    /// More field lines than allowed.
    #[error("too many headers; send fewer")]
    TooMany,
    /// `Content-Length` is not a number of octets that fits 64 bits (RFC 9110 §8.6).
    #[error("Content-Length is not a plain decimal number; send one")]
    ContentLengthInvalid,
    /// Several `Content-Length` values that differ (RFC 9112 §6.3).
    #[error("Content-Length values differ; send one")]
    ContentLengthConflict,
    /// `Transfer-Encoding` is malformed or does not end in `chunked` (RFC 9112 §6.3).
    #[error("Transfer-Encoding is not exactly chunked, so the body's length is unknown")]
    TransferEncodingInvalid,
    /// A well-formed `Transfer-Encoding` with codings besides `chunked` (RFC 9112 §6.1).
    #[error("Transfer-Encoding names a coding other than chunked, which is not supported")]
    TransferEncodingUnsupported,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1).
    #[error("Transfer-Encoding in an HTTP/1.0 message; use HTTP/1.1 or Content-Length")]
    TransferEncodingVersion,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1).
    #[error("both Content-Length and Transfer-Encoding; send one of them")]
    FramingConflict,
    /// `Connection` names more fields than anyone needs.
    #[error("Connection names too many fields; name fewer")]
    ConnectionOptions,
}

impl FieldError {
    /// The stable label of this cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::LineEnding => "line_ending",
            Self::HeaderName => "header_name",
            Self::SpaceBeforeColon => "header_space_before_colon",
            Self::Folded => "header_folded",
            Self::HeaderValue => "header_value",
            Self::TooLarge => "head_too_large",
            Self::TooMany => "headers_too_many",
            Self::ContentLengthInvalid => "content_length_invalid",
            Self::ContentLengthConflict => "content_length_conflict",
            Self::TransferEncodingInvalid => "transfer_encoding_invalid",
            Self::TransferEncodingUnsupported => "transfer_encoding_unsupported",
            Self::TransferEncodingVersion => "transfer_encoding_version",
            Self::FramingConflict => "framing_conflict",
            Self::ConnectionOptions => "connection_options",
        }
    }
}

/// Why a request head was refused. The connection is closed after the answer: where the request
/// ends is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The request line is not `METHOD SP TARGET SP VERSION`.
    #[error("the request line is not METHOD TARGET VERSION, each one space apart")]
    RequestLine,
    /// More empty lines before the request line than are skipped (RFC 9112 §2.2).
    #[error("too many empty lines before the request line")]
    EmptyLines,
    /// The method is not a token.
    #[error("the method is not a token; use letters, digits and !#$%&'*+-.^_`|~ only")]
    Method,
    /// The method is longer than any that is registered (RFC 9112 §3).
    #[error("the method is longer than any known one")]
    MethodTooLong,
    /// `CONNECT` and `TRACE`: a gateway is no tunnel, and an echo would show what only the origin
    /// may see (RFC 9110 §9.3.8).
    #[error("this method is not allowed through the gateway")]
    MethodRefused,
    /// The target is neither origin-form, absolute-form nor `*`, or holds a byte that no URI may.
    #[error("the request target is not a path or an http URL in visible ASCII without a fragment")]
    Target,
    /// The target is over its limit.
    #[error("the request target is over the size limit; shorten it")]
    TargetTooLong,
    /// A version other than 1.0 and 1.1.
    #[error("the HTTP version is not supported; use HTTP/1.1")]
    Version,
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    #[error("Host is missing; send one")]
    HostMissing,
    /// More than one `Host`.
    #[error("Host is repeated; send one")]
    HostRepeated,
    /// `Host`, or the target's authority, is not a host with an optional port.
    #[error("Host is not a host name or address with an optional port")]
    HostInvalid,
    /// An absolute-form target names another host than `Host`.
    #[error("the request target and Host name different hosts; send the same in both")]
    HostMismatch,
    /// An expectation other than one `100-continue` (RFC 9110 §10.1.1).
    #[error("Expect is something other than 100-continue; leave it out")]
    Expect,
    /// Something about the field lines.
    #[error(transparent)]
    Field(#[from] FieldError),
}

impl HeadError {
    /// The status to answer with.
    pub const fn status(self) -> u16 {
        match self {
            Self::MethodRefused => 405,
            Self::TargetTooLong => 414,
            Self::Field(FieldError::TooLarge | FieldError::TooMany) => 431,
            Self::MethodTooLong | Self::Field(FieldError::TransferEncodingUnsupported) => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// The stable label of this cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::EmptyLines => "empty_lines",
            Self::Method => "method",
            Self::MethodTooLong => "method_too_long",
            Self::MethodRefused => "method_refused",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostInvalid => "host_invalid",
            Self::HostMismatch => "host_mismatch",
            Self::Expect => "expect",
            Self::Field(field) => field.cause(),
        }
    }
}

/// Why a response head is no answer: the exchange reports 502 `origin_invalid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// The first line is not `VERSION SP STATUS [SP REASON]` with a status of 100 to 999.
    #[error("the origin's answer does not begin with an HTTP/1 status line")]
    StatusLine,
    /// A version other than 1.0 and 1.1.
    #[error("the origin answered in an HTTP version that is not supported")]
    Version,
    /// Something about the field lines.
    #[error("the origin's answer: {0}")]
    Field(#[from] FieldError),
}

impl ResponseError {
    /// The stable label of this cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::StatusLine => "status_line",
            Self::Version => "version",
            Self::Field(field) => field.cause(),
        }
    }
}

/// Why a chunked body cannot be understood. Nothing after the failing byte may be trusted: close
/// the connection it came from, and break the one it goes to visibly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// The chunk size is not 1 to 16 hex digits (RFC 9112 §7.1).
    #[error("a chunk size is not 1 to 16 hex digits")]
    Size,
    /// A chunk extension is malformed (RFC 9112 §7.1.1).
    #[error("a chunk extension is malformed")]
    Extension,
    /// A chunk's extensions are over their limit.
    #[error("a chunk's extensions are over the size limit")]
    ExtensionTooLong,
    /// A chunk line or its data does not end with CRLF.
    #[error("a chunk does not end with CRLF")]
    LineEnding,
    /// Something about the trailer section.
    #[error("in the trailers: {0}")]
    Trailer(#[from] FieldError),
}

impl ChunkError {
    /// The stable label of this cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Size => "chunk_size",
            Self::Extension => "chunk_extension",
            Self::ExtensionTooLong => "chunk_extension_too_long",
            Self::LineEnding => "chunk_line_ending",
            Self::Trailer(_) => "chunk_trailer",
        }
    }
}
