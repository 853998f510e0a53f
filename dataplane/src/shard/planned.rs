//! What a plan is made of: the steps that an exchange may take next.
//!
//! In: what planning found out. Out: nothing; these only carry it. Always holds: nothing here borrows from the bytes that were
//! parsed, so that a connection may wait with it.

use std::rc::Rc;

use policy::budget::{Figures, Outcome as Resolved, Ticket, WaitId};
use policy::decision::{Decision, Reason};

use crate::clock::Now;
use policy::snapshot::SiteView;

use crate::http1::{BodyFraming, ChunkDecoder, ChunkError, Version};
use crate::message::{self, RequestId};

use super::policy_view::PolicyView;

/// What is to be done next.
pub(super) enum Plan {
    /// The head is not complete.
    Partial,
    /// The gateway answers.
    Answer(Answer),
    /// It has to be known first whether units are left: plan again with the outcome.
    Wait(Waiting),
    /// The request goes to the origin.
    Forward(Box<Exchange>),
}

/// An answer of the gateway's own, ready to be sent.
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Bytes of the input that were the head.
    pub(super) head_len: usize,
    /// Bytes of a body to be skipped before the next request.
    pub(super) skip: u64,
    /// The connection ends with this answer.
    pub(super) close: bool,
}

/// A request that waits for units.
pub(super) struct Waiting {
    pub(super) id: WaitId,
    pub(super) policy: Rc<PolicyView>,
    pub(super) request_id: RequestId,
}

/// What a request came to that had waited.
pub(super) struct Resumed {
    pub(super) policy: Rc<PolicyView>,
    pub(super) request_id: RequestId,
    pub(super) outcome: Resolved,
}

/// A request body's part that has not been sent to the origin.
pub(super) enum Upload {
    /// Nothing.
    Done,
    /// This many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked(Box<ChunkDecoder>),
}

/// Everything an exchange needs once its request is planned.
pub(super) struct Exchange {
    pub(super) policy: Rc<PolicyView>,
    pub(super) decision: Decision,
    pub(super) reason: Reason,
    pub(super) ticket: Option<Ticket>,
    pub(super) figures: Option<Figures>,
    pub(super) request_id: RequestId,
    /// The request for the origin, with what of its body had come along.
    pub(super) request: Vec<u8>,
    /// Where the journal has it; `None` where it is lost from the log.
    pub(super) opened_at: Option<u64>,
    /// The status sent to the client.
    pub(super) status: Option<u16>,
    /// Bytes of the input that are in it.
    pub(super) consumed: usize,
    pub(super) upload: Upload,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    /// From the first byte sent to the origin to its response head, nanoseconds.
    pub(super) origin_ns: u64,
    pub(super) is_counted: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) is_head: bool,
    /// The site's HSTS goes with the answer: the client speaks TLS, to the site's own host.
    pub(super) sends_hsts: bool,
    pub(super) is_idempotent: bool,
    pub(super) asks_websocket: bool,
    pub(super) token_sent: bool,
    /// The `Origin` header, where the site answers browsers.
    pub(super) cors: Option<Box<[u8]>>,
    pub(super) started: Now,
}

/// Appends what of the body has come already; how many bytes those were, and what is still to come.
pub(super) fn begin_upload(
    site: &SiteView<'_>,
    framing: BodyFraming,
    body: &[u8],
    request: &mut Vec<u8>,
) -> Result<(usize, Upload), ChunkError> {
    match framing {
        BodyFraming::None => Ok((0, Upload::Done)),
        BodyFraming::Length(length) => {
            let here = usize::try_from(length).map_or(body.len(), |length| length.min(body.len()));
            request.extend_from_slice(body.get(..here).unwrap_or_default());
            let left = length - here as u64;
            Ok((here, if left == 0 { Upload::Done } else { Upload::Length(left) }))
        }
        BodyFraming::Chunked => {
            let mut decoder = Box::new(ChunkDecoder::new());
            let step = decoder
                .transcode(body, request, |name| message::request_trailer_passes(site, name))?;
            let upload = if step.done { Upload::Done } else { Upload::Chunked(decoder) };
            Ok((step.consumed, upload))
        }
    }
}
