//! The origin's answer: its head read, decided upon, rewritten; its body relayed.
//!
//! In: what the origin sends. Out: the answer at the client, or how it failed. Always holds: an interim response is passed on and
//! never taken for the answer; a 101 counts only where the client asked for it; after the head was sent nothing is turned into
//! another answer.

use std::cell::Cell;

use policy::decision::{Outcome, Reason};

use crate::http1::{Parse, ResponseFacts, ResponseFraming, Upgrade, parse_response};
use crate::message::{self, ResponseEdit, client_framing};
use crate::net::{RecvBuf, Timer};
use crate::stream::Stream;

use super::Shard;
use super::planned::Exchange;
use super::relay::{self, COPY_BYTES_MAX, Downloading, Heard, RelayError, UploadEnd};

/// Interim responses that one answer may have before it.
const INTERIM_MAX: usize = 32;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No byte of one came.
    Unreachable,
    /// What came is none.
    Invalid,
    /// It did not come in time.
    Timeout,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client has the whole answer.
    Whole { keep_client: bool, keep_origin: bool },
    /// The client has nothing of an answer.
    Failed(Failure),
    /// The client has a part.
    Broken,
    /// What the client sent as a body is none, or did not come.
    BadBody(Reason),
    /// The client went away.
    ClientGone,
    /// The drain's time is over.
    CutOff,
    /// Both sides speak another protocol now.
    Switched,
}

/// What fetching an answer works on.
pub(super) struct Fetching<'a> {
    pub(super) shard: &'a Shard,
    pub(super) client: &'a Stream,
    pub(super) timer: &'a Timer,
    pub(super) origin: &'a Stream,
    pub(super) input: &'a mut Option<RecvBuf>,
    pub(super) exchange: &'a mut Exchange,
    /// How the upload ended; `None` while it runs.
    pub(super) upload_end: &'a Cell<Option<UploadEnd>>,
    /// When the origin had the whole request, once the upload has ended; monotonic nanoseconds.
    pub(super) uploaded_ns: &'a Cell<u64>,
    /// Bytes of the body that went to the origin after those that went with the head.
    pub(super) body_sent: &'a Cell<u64>,
}

/// A final head, rewritten and ready to be sent.
struct Rewritten {
    head: Vec<u8>,
    from: ResponseFraming,
    to: ResponseFraming,
    close: bool,
    keep_origin: bool,
    is_stream: bool,
}

/// What a head at hand came to.
enum Head {
    More,
    Interim(Option<Vec<u8>>),
    Switch(Vec<u8>),
    Final(Rewritten),
}

impl Fetching<'_> {
    /// Brings the answer to the client.
    pub(super) async fn run(mut self) -> Ended {
        let mut interim = 0;
        let mut seen = 0;
        loop {
            let head = match self.read_head(seen) {
                Ok(head) => head,
                Err(failure) => return Ended::Failed(failure),
            };
            let sent = match head {
                Head::More => {
                    seen = self.input.as_deref().map_or(0, <[u8]>::len);
                    if let Err(ended) = self.receive(seen > 0 || interim > 0).await {
                        return ended;
                    }
                    continue;
                }
                Head::Interim(bytes) => {
                    seen = 0;
                    interim += 1;
                    self.exchange.expects_continue = false;
                    if interim > INTERIM_MAX {
                        return Ended::Failed(Failure::Invalid);
                    }
                    match bytes {
                        Some(bytes) => self.send(bytes).await,
                        None => true,
                    }
                }
                Head::Switch(bytes) => {
                    self.count();
                    return if self.send(bytes).await {
                        Ended::Switched
                    } else {
                        Ended::ClientGone
                    };
                }
                Head::Final(rewritten) => return self.deliver(rewritten).await,
            };
            if !sent {
                return Ended::ClientGone;
            }
        }
    }

    fn count(&mut self) {
        let reason = self.exchange.reason;
        self.exchange.count(reason);
    }

    async fn send(&mut self, bytes: Vec<u8>) -> bool {
        let (result, bytes) = relay::send_all(self.shard, self.client, bytes, self.timer).await;
        self.shard.give_spare(bytes);
        result.is_ok()
    }

    /// Parses what is at hand; what is a head of is taken from the input.
    fn read_head(&mut self, seen: usize) -> Result<Head, Failure> {
        let Some(mut input) = self.input.take() else { return Ok(Head::More) };
        let mut scratch = self.shard.scratch.borrow_mut();
        let limits = &self.shard.settings.limits;
        let response = &mut scratch.response;
        let parsed = parse_response(&input, seen, self.exchange.is_head, limits, response);
        let len = match parsed.map_err(|error| {
            let site = self.exchange.policy.site(self.exchange.decision.site);
            tracing::warn!(
                site = site.slug(),
                cause = error.cause(),
                "the origin's answer is invalid"
            );
            Failure::Invalid
        })? {
            Parse::Partial => {
                *self.input = Some(input);
                return Ok(Head::More);
            }
            Parse::Complete { len } => len,
        };
        let view = response.view(&input);
        let facts = view.facts();
        let head = if facts.is_interim() {
            let mut bytes = self.shard.take_spare();
            let passes = message::interim(&mut bytes, &view, self.exchange.version);
            Head::Interim(passes.then_some(bytes))
        } else if facts.is_switching() {
            if !self.exchange.asks_websocket || facts.upgrade != Some(Upgrade::WebSocket) {
                return Err(Failure::Invalid);
            }
            self.exchange.correct(self.shard, message::cost_header(&view));
            self.exchange.status = Some(facts.status);
            Head::Switch(rewrite(self.shard, self.exchange, &view, ResponseFraming::None, false))
        } else {
            self.exchange.correct(self.shard, message::cost_header(&view));
            self.exchange.status = Some(facts.status);
            Head::Final(self.rewrite_final(&view, facts))
        };
        drop(scratch);
        input.advance(len);
        *self.input = Some(input).filter(|input| !input.is_empty());
        Ok(head)
    }

    fn rewrite_final(&self, view: &crate::http1::Response<'_>, facts: ResponseFacts) -> Rewritten {
        let exchange = &*self.exchange;
        let to = client_framing(&facts, exchange.version);
        let is_uploaded = self.upload_end.get() == Some(UploadEnd::Done);
        let close = !exchange.keep_alive
            || to == ResponseFraming::UntilClose
            || !is_uploaded
            || self.shard.is_draining();
        let is_stream = view.headers().any(|header| {
            header.name.eq_ignore_ascii_case(b"content-type")
                && header
                    .value
                    .get(..17)
                    .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
        });
        Rewritten {
            head: rewrite(self.shard, exchange, view, to, close),
            from: facts.framing,
            to,
            close,
            keep_origin: facts.keep_alive && is_uploaded,
            is_stream,
        }
    }

    async fn deliver(mut self, rewritten: Rewritten) -> Ended {
        self.count();
        let Rewritten { mut head, from, to, close, keep_origin, is_stream } = rewritten;
        if self.take_whole(from, &mut head) {
            let sent = relay::send_last(self.shard, self.client, head, self.timer).await;
            let whole = Ended::Whole { keep_client: !close, keep_origin };
            return sent.map_or(Ended::ClientGone, |()| whole);
        }
        let deadlines = &self.shard.settings.deadlines;
        let downloading = Downloading {
            shard: self.shard,
            client: self.client,
            origin: self.origin,
            input: self.input,
            timer: self.timer,
            quiet: if is_stream { deadlines.quiet } else { deadlines.stall },
            sent: &mut self.exchange.response_bytes,
            waited_ns: &mut self.exchange.origin_ns,
        };
        match downloading.run(head, from, to).await {
            Ok(()) => Ended::Whole { keep_client: !close, keep_origin },
            Err(RelayError::Client) => Ended::ClientGone,
            Err(RelayError::Origin) => {
                let site = self.exchange.policy.site(self.exchange.decision.site);
                tracing::warn!(
                    site = site.slug(),
                    "the origin broke off in the middle of an answer"
                );
                Ended::Broken
            }
        }
    }

    /// Puts a body behind `head` that is small, and at hand to its last byte; whether it did.
    fn take_whole(&mut self, from: ResponseFraming, head: &mut Vec<u8>) -> bool {
        let body = self.input.as_deref().unwrap_or_default();
        if !is_whole_and_small(from, body) {
            return false;
        }
        head.extend_from_slice(body);
        self.exchange.response_bytes += body.len() as u64;
        *self.input = None;
        true
    }

    /// Receives more of a head. `begun`: some of it is there.
    async fn receive(&mut self, begun: bool) -> Result<(), Ended> {
        let site = self.exchange.policy.site(self.exchange.decision.site);
        let timeout_ns = u64::from(site.response_timeout_ms()) * 1_000_000;
        // The origin's time begins when it has the whole request, or all of it that the client sends unasked.
        let expects = self.exchange.expects_continue;
        let deadline = || {
            let waits = expects && self.body_sent.get() == 0;
            let uploads = self.upload_end.get().is_none() && !waits;
            let began = if uploads { self.shard.ring.now_ns() } else { self.uploaded_ns.get() };
            began.saturating_add(timeout_ns)
        };
        let waited = &mut self.exchange.origin_ns;
        let heard =
            relay::hear(self.shard, self.origin, self.client, self.timer, waited, deadline).await;
        match heard {
            Heard::Received(Ok(buffer)) if !buffer.is_empty() => {
                *self.input = Some(match self.input.take() {
                    Some(input) => input.joined(&buffer),
                    None => buffer,
                });
                Ok(())
            }
            Heard::Received(_) if begun => Err(Ended::Failed(Failure::Invalid)),
            Heard::Received(_) => Err(Ended::Failed(Failure::Unreachable)),
            Heard::ClientGone => Err(Ended::ClientGone),
            Heard::TimedOut => {
                self.shard.metrics.timeouts.inc("response");
                Err(Ended::Failed(Failure::Timeout))
            }
        }
    }
}

/// Whether `body` is all of a body, and as little as is copied behind a head.
const fn is_whole_and_small(framing: ResponseFraming, body: &[u8]) -> bool {
    let is_whole = match framing {
        ResponseFraming::None => body.is_empty(),
        ResponseFraming::Length(length) => body.len() as u64 == length,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => false,
    };
    is_whole && body.len() <= COPY_BYTES_MAX
}

/// The answer for the client where `bytes` are a whole small one, after which both connections stay; the decision is counted
/// then. `None`, and nothing done, where they are anything else.
pub(super) fn whole(shard: &Shard, exchange: &mut Exchange, bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_empty() || bytes.len() > COPY_BYTES_MAX || !exchange.keep_alive {
        return None;
    }
    let mut scratch = shard.scratch.borrow_mut();
    let response = &mut scratch.response;
    let parsed = parse_response(bytes, 0, exchange.is_head, &shard.settings.limits, response);
    let Ok(Parse::Complete { len }) = parsed else { return None };
    let view = response.view(bytes);
    let facts = view.facts();
    let body = bytes.get(len..).unwrap_or_default();
    let is_final = !facts.is_interim() && !facts.is_switching();
    if !is_final || !facts.keep_alive || !is_whole_and_small(facts.framing, body) {
        return None;
    }
    exchange.correct(shard, message::cost_header(&view));
    exchange.status = Some(facts.status);
    exchange.count(exchange.reason);
    let to = client_framing(&facts, exchange.version);
    let mut answer = rewrite(shard, exchange, &view, to, false);
    answer.extend_from_slice(body);
    exchange.response_bytes += body.len() as u64;
    Some(answer)
}

fn rewrite(
    shard: &Shard,
    exchange: &Exchange,
    view: &crate::http1::Response<'_>,
    to: ResponseFraming,
    close: bool,
) -> Vec<u8> {
    let mut bytes = shard.take_spare();
    let edit = ResponseEdit {
        is_metered: exchange.decision.outcome == Outcome::Meter,
        figures: exchange.figures.as_ref(),
        hsts: exchange.policy.site(exchange.decision.site).hsts().filter(|_| exchange.sends_hsts),
        now_s: shard.now().unix_s(),
        request_id: &exchange.request_id,
        client_version: exchange.version,
        close,
        framing_out: to,
    };
    message::write_response(&mut bytes, view, &edit);
    bytes
}
