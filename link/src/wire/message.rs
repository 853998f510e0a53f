//! What the frames carry.
//!
//! In: values, or a frame's kind and payload. Out: a frame's bytes, or values within their bounds. Always holds: what was decoded has
//! passed every bound below; fields that a newer end has added after those known here are passed over.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::{self, Frame, FrameError, Kind, REFUSAL_BYTES_MAX, REPORT_BYTES_MAX};
use super::ledger::{Reply, Request};

/// Lease requests in one report at most.
pub const REQUESTS_MAX: usize = 4_096;
/// Lease replies in one frame at most.
pub const REPLIES_MAX: usize = 16_384;
/// The longest base file that is offered: 64 GiB.
pub const BASE_BYTES_MAX: u64 = 64 << 30;
/// The longest text in a message.
pub const TEXT_BYTES_MAX: usize = 1_000;

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame is another than the one expected, or its payload cannot be read.
    #[error("a frame of kind {kind} cannot be read: {what}")]
    Message {
        /// Its kind's number.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A number in an address is none.
    #[error("`{0}` in the address is no number")]
    Query(String),
}

/// The first frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`](super::PROTOCOL) of the control plane.
    pub protocol: u16,
    /// How often a heartbeat comes when nothing else does, milliseconds.
    pub heartbeat_ms: u32,
    /// The last published change.
    pub sequence: u64,
    /// Names the database's past: sequences of another one mean nothing here. Chosen at random when a database is made, and anew when
    /// it was brought back from a backup. Never 0.
    pub history: u64,
    /// The name the control plane knows this node by.
    pub node: String,
}

/// A base file that the node should fetch. Once it has, it asks for the stream anew; until then changes may or may not follow, for the base
/// the node has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseOffer {
    /// [`Hello::history`]
    pub history: u64,
    /// The last change that is in it.
    pub sequence: u64,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: [u8; 32],
}

/// What stands before a change's own bytes in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaHead {
    /// The snapshot it applies to.
    pub from: u64,
    /// The snapshot it makes.
    pub to: u64,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The last published change.
    pub sequence: u64,
    /// The control plane's clock, Unix milliseconds.
    pub unix_ms: i64,
}

/// Why a request was refused, or a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The token was never issued here (401).
    TokenUnknown,
    /// The token was revoked (401).
    TokenRevoked,
    /// The node was declared dead, and its leases given to others: it must start anew with a new token (403).
    NodeDead,
    /// The protocol's version is not spoken here (400).
    Protocol,
    /// What was asked for is not to be had: a base that has been replaced (410).
    Gone,
    /// Another start of this node is connected: this one's stream ends (409).
    Superseded,
    /// The control plane cannot answer now: try another, or later (503).
    Unavailable,
    /// The request could not be understood (400).
    Malformed,
}

/// A refusal. On a stream it is the last frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub why: Why,
    /// For a person.
    pub text: String,
}

/// What a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// The program's version.
    pub version: String,
    /// Bases and changes refused since the start.
    pub rejected: u64,
    /// Why the last one was, unless a good one came after it.
    pub error: Option<String>,
}

/// What a node sends at least each second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The random number of this start of the node.
    pub epoch: u64,
    /// Counts this start's reports, those without an answer too.
    pub number: u64,
    /// The last change that is in force here; 0 for none. It acknowledges all before it.
    pub sequence: u64,
    /// The base below it; 0 for none.
    pub base: u64,
    /// What is asked of the ledger and told to it.
    pub requests: Vec<Request>,
    /// More waits, and comes with the next report at once.
    pub has_more: bool,
    /// About the node.
    pub figures: Figures,
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// The report's.
    pub number: u64,
    /// The control plane's clock, Unix milliseconds.
    pub unix_ms: i64,
    /// The ledger's replies; one may as well come by the stream, or later.
    pub replies: Vec<Reply>,
}

/// What comes by the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// First of all.
    Hello(Hello),
    /// A base to fetch.
    Base(BaseOffer),
    /// A change.
    Delta(DeltaHead, Vec<u8>),
    /// Replies and recalls.
    Ledger(Vec<Reply>),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// The last frame.
    Refusal(Refusal),
    /// A kind that is not known here.
    Other,
}

impl Pushed {
    /// The frame's bytes; none for what cannot be sent.
    ///
    /// # Errors
    /// When it is longer than a frame may be.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Hello(hello) => put(Kind::Hello, hello),
            Self::Base(offer) => put(Kind::Base, offer),
            Self::Delta(head, bytes) => delta_frame(*head, bytes),
            Self::Ledger(replies) => put(Kind::Ledger, replies),
            Self::Heartbeat(heartbeat) => put(Kind::Heartbeat, heartbeat),
            Self::Refusal(refusal) => put(Kind::Refusal, refusal),
            Self::Other => Ok(Vec::new()),
        }
    }

    /// What a frame carries.
    ///
    /// # Errors
    /// When the payload cannot be read or is past a bound.
    pub fn decode(frame: Frame) -> Result<Self, WireError> {
        let Some(kind) = Kind::of(frame.kind) else { return Ok(Self::Other) };
        let bad = |what| WireError::Message { kind: frame.kind, what };
        match kind {
            Kind::Hello => {
                let hello: Hello = get(&frame)?;
                bounded_text(&hello.node).map_err(bad)?;
                Ok(Self::Hello(hello))
            }
            Kind::Base => {
                let offer: BaseOffer = get(&frame)?;
                let is_good = offer.history > 0
                    && offer.sequence > 0
                    && (1..=BASE_BYTES_MAX).contains(&offer.bytes);
                is_good.then_some(Self::Base(offer)).ok_or(bad("no base is of such a length"))
            }
            Kind::Delta => delta(frame),
            Kind::Ledger => {
                let replies: Vec<Reply> = get(&frame)?;
                let fits = replies.len() <= REPLIES_MAX;
                fits.then_some(Self::Ledger(replies)).ok_or(bad("too many replies"))
            }
            Kind::Heartbeat => Ok(Self::Heartbeat(get(&frame)?)),
            Kind::Refusal => Ok(Self::Refusal(refusal(&frame)?)),
            Kind::Report | Kind::ReportReply | Kind::Decisions | Kind::Positions => {
                Err(bad("it does not belong in a stream"))
            }
        }
    }
}

/// The frame of a change, whose bytes stand as they are after its head.
///
/// # Errors
/// When it is longer than a frame may be.
pub fn delta_frame(head: DeltaHead, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    Ok(frame::encode(Kind::Delta, &[&serialise(Kind::Delta, &head)?, bytes])?)
}

fn delta(frame: Frame) -> Result<Pushed, WireError> {
    let bad = |what| WireError::Message { kind: Kind::Delta as u8, what };
    let mut bytes = frame.payload;
    let (head, rest): (DeltaHead, &[u8]) =
        postcard::take_from_bytes(&bytes).map_err(|_| bad("its head is cut"))?;
    if head.from >= head.to {
        return Err(bad("it leads nowhere"));
    }
    let head_bytes = bytes.len() - rest.len();
    bytes.drain(..head_bytes);
    Ok(Pushed::Delta(head, bytes))
}

impl Refusal {
    /// One with a text that is cut to its bound.
    #[must_use]
    pub fn new(why: Why, text: &str) -> Self {
        Self { why, text: cut(text) }
    }

    /// As a body.
    ///
    /// # Errors
    /// None that can be: its text is bounded.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        put(Kind::Refusal, self)
    }

    /// From a body.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let frame = frame::only(body, REFUSAL_BYTES_MAX)?;
        expect(&frame, Kind::Refusal)?;
        refusal(&frame)
    }
}

fn refusal(frame: &Frame) -> Result<Refusal, WireError> {
    let refusal: Refusal = get(frame)?;
    let bad = |what| WireError::Message { kind: frame.kind, what };
    bounded_text(&refusal.text).map_err(bad)?;
    Ok(refusal)
}

impl Report {
    /// As a body.
    ///
    /// # Errors
    /// When it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        put(Kind::Report, self)
    }

    /// From a body.
    ///
    /// # Errors
    /// When it is anything else, or past a bound.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let frame = frame::only(body, REPORT_BYTES_MAX)?;
        expect(&frame, Kind::Report)?;
        let report: Self = get(&frame)?;
        let bad = |what| WireError::Message { kind: frame.kind, what };
        if report.requests.len() > REQUESTS_MAX {
            return Err(bad("too many requests"));
        }
        bounded_text(&report.figures.version).map_err(bad)?;
        bounded_text(report.figures.error.as_deref().unwrap_or_default()).map_err(bad)?;
        Ok(report)
    }
}

impl ReportReply {
    /// As a body.
    ///
    /// # Errors
    /// When it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        put(Kind::ReportReply, self)
    }

    /// From a body.
    ///
    /// # Errors
    /// When it is anything else, or past a bound.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let frame = frame::only(body, REPORT_BYTES_MAX)?;
        expect(&frame, Kind::ReportReply)?;
        let reply: Self = get(&frame)?;
        let fits = reply.replies.len() <= REPLIES_MAX;
        let bad = WireError::Message { kind: frame.kind, what: "too many replies" };
        fits.then_some(reply).ok_or(bad)
    }
}

/// Text of any length, cut to [`TEXT_BYTES_MAX`].
#[must_use]
pub fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().to_owned()
}

fn bounded_text(text: &str) -> Result<(), &'static str> {
    if text.len() <= TEXT_BYTES_MAX { Ok(()) } else { Err("a text in it is too long") }
}

pub(super) fn expect(frame: &Frame, kind: Kind) -> Result<(), WireError> {
    let is_it = frame.kind == kind as u8;
    let error = WireError::Message { kind: frame.kind, what: "another kind was expected" };
    if is_it { Ok(()) } else { Err(error) }
}

pub(super) fn serialise<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, WireError> {
    let bad = |_| WireError::Message { kind: kind as u8, what: "it cannot be written" };
    postcard::to_allocvec(value).map_err(bad)
}

pub(super) fn put<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, WireError> {
    Ok(frame::encode(kind, &[&serialise(kind, value)?])?)
}

pub(super) fn get<T: DeserializeOwned>(frame: &Frame) -> Result<T, WireError> {
    let bad = |_| WireError::Message { kind: frame.kind, what: "its fields do not fit" };
    postcard::take_from_bytes(&frame.payload).map(|(value, _)| value).map_err(bad)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
