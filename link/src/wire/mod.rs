//! What a node and a control plane say to each other, byte for byte; both ends build on it.
//!
//! In: messages as values. Out: frames, and back. Always holds: a frame is believed only whole and with its checksum; nothing is
//! allocated by what a length says, only by what has come; a kind of frame that is not known is stepped over, so that either end can
//! be newer.
//!
//! HTTP/1.1, `Authorization: Bearer pfn_…`, TLS unless on loopback. Every body but the base file's is frames ([`frame`]).
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /node/v1/stream?…` ([`StreamQuery`]) | none | frames without end: [`Hello`] first, then the others of [`Pushed`] |
//! | `GET /node/v1/base/SEQ` | none | the base file; `Range: bytes=N-` is answered with 206 |
//! | `POST /node/v1/report` | one [`Report`] | one [`ReportReply`] |
//! | `POST /node/v1/decisions` | one [`Decisions`] | one [`Positions`] |
//! | `GET /node/v1/decisions/EPOCH` | none | one [`Positions`] |
//!
//! Whoever refuses a request says why in one [`Refusal`] frame, with the status 400, 401, 403, 404, 409, 410 or 503.

pub mod decisions;
pub mod frame;
pub mod ledger;
pub mod message;
pub mod token;

pub use decisions::{Decisions, Position, Positions, Run};
pub use frame::{Frame, FrameError, Frames, Kind};
pub use message::{
    BaseOffer, DeltaHead, Figures, Heartbeat, Hello, Pushed, Refusal, Report, ReportReply, Why,
    WireError,
};
pub use token::{NodeToken, NodeTokenHash};

/// The version of all this. Both ends name theirs ([`PROTOCOL_HEADER`], [`Hello::protocol`]); another one is refused.
pub const PROTOCOL: u16 = 2;
/// The request header that names the node's protocol version.
pub const PROTOCOL_HEADER: &str = "payfence-link";
/// The media type of frames.
pub const CONTENT_TYPE: &str = "application/vnd.payfence.link";
/// The stream's path.
pub const STREAM_PATH: &str = "/node/v1/stream";
/// The path of base files, before their sequence number.
pub const BASE_PATH: &str = "/node/v1/base/";
/// The report's path.
pub const REPORT_PATH: &str = "/node/v1/report";
/// The path of decisions; before a start's number, of where they are.
pub const DECISIONS_PATH: &str = "/node/v1/decisions";

/// What a node says when it asks for the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamQuery {
    /// The random number of this start of the node.
    pub epoch: u64,
    /// The history that the sequences below are of ([`Hello::history`]); 0 for none. A node of another one is offered a base.
    pub history: u64,
    /// The last change the node has applied and written down; changes after it are wanted. 0 for none.
    pub from: u64,
    /// The sequence of the node's base file; 0 for none.
    pub base: u64,
    /// A base of at least this sequence is wanted, and no change before it: something was refused. 0 for none.
    pub fresh: u64,
}

impl StreamQuery {
    /// As it stands in the address, without `?`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { epoch, history, from, base, fresh } = self;
        format!("epoch={epoch:016x}&history={history:016x}&from={from}&base={base}&fresh={fresh}")
    }

    /// From what stands in the address. What is not there is 0; what is not known is passed over.
    ///
    /// # Errors
    /// [`WireError::Query`] with the name of what is no number.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (place, radix) = match name {
                "epoch" => (&mut query.epoch, 16),
                "history" => (&mut query.history, 16),
                "from" => (&mut query.from, 10),
                "base" => (&mut query.base, 10),
                "fresh" => (&mut query.fresh, 10),
                _ => continue,
            };
            *place = u64::from_str_radix(value, radix)
                .map_err(|_| WireError::Query(name.chars().take(16).collect()))?;
        }
        Ok(query)
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
