//! A control plane's end of the link, in memory: what the real one can be compared with, and one that misbehaves when told to.
//!
//! In: changes to publish, tokens to revoke, faults. Out: a real HTTP server on loopback; what nodes asked and reported. Always holds: without a
//! fault it does what `link::wire` says; the sequence grows by one with each change.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::{get, post};
use futures_lite::stream;
use link::wire::message::delta_frame;
use link::wire::{
    BaseOffer, CONTENT_TYPE, DeltaHead, Heartbeat, Hello, NodeToken, NodeTokenHash, PROTOCOL,
    Pushed, Refusal, Report, ReportReply, StreamQuery, Why, ledger,
};
use parking_lot::Mutex;
use policy::budget::{Ledger, Message, ShardId};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, oneshot};

/// Short, so that what waits for a heartbeat does not wait long.
pub const HEARTBEAT: Duration = Duration::from_millis(40);

/// What goes wrong with answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The stream breaks after so many bytes.
    CutAt(usize),
    /// A bit of this byte of the stream is flipped.
    Flip(usize),
    /// The stream is these bytes, and then silence.
    Bytes(Vec<u8>),
    /// The stream comes a byte at a time, each as late as a heartbeat.
    Drip,
    /// Every request is answered with this status and a text that is no frame.
    Status(u16),
    /// Every request is refused.
    Refuse(u16, Why),
    /// Base files break off after so many bytes of each answer.
    BaseCutAt(usize),
    /// Base files are served from the beginning, whatever is asked for.
    BaseWithoutRanges,
    /// Base files have a wrong byte.
    BaseWrong,
    /// Base files are not there.
    BaseGone,
    /// Answers to reports cannot be read.
    ReportGarbage,
}

/// A node as the server knows it.
#[derive(Debug)]
struct Node {
    number: u64,
    is_revoked: bool,
    pushes: Vec<ledger::Reply>,
}

#[derive(Default)]
struct Plane {
    history: u64,
    sequence: u64,
    deltas: Vec<(DeltaHead, Vec<u8>)>,
    base: Option<(BaseOffer, Bytes)>,
    nodes: HashMap<NodeTokenHash, Node>,
    /// What goes wrong, and how many more times; `None` for ever.
    fault: Option<(Fault, Option<u32>)>,
    queries: Vec<StreamQuery>,
    reports: Vec<Report>,
    base_requests: u32,
    /// Streams that began before the last cut end.
    cuts: u64,
    ledger: Ledger,
}

#[derive(Default)]
struct Shared {
    plane: Mutex<Plane>,
    changed: Notify,
}

/// The server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// On a free port, at sequence 0 without a base.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        shared.plane.lock().history = 1;
        Self::start_with(shared, "127.0.0.1:0".parse().expect("an address"))
    }

    /// Another one with the same database.
    pub fn twin(&self) -> Self {
        Self::start_with(Arc::clone(&self.shared), "127.0.0.1:0".parse().expect("an address"))
    }

    /// Ends it, and gives what starts it again at the same address with the same database.
    pub fn stop(mut self) -> impl FnOnce() -> Self {
        let (address, shared) = (self.address, Arc::clone(&self.shared));
        self.end();
        move || Self::start_with(shared, address)
    }

    fn start_with(shared: Arc<Shared>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("loopback can be listened on");
        listener.set_nonblocking(true).expect("a socket can be made so");
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new()
            .route("/node/v1/stream", get(stream_of))
            .route("/node/v1/base/{sequence}", get(base))
            .route("/node/v1/report", post(report))
            .with_state(Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                // Leaving this block cuts every connection, as the end of a process would.
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.expect("it serves"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets a node with this token in.
    pub fn issue(&self) -> NodeToken {
        let token = NodeToken::make(getrandom::fill).expect("random bytes");
        let mut plane = self.shared.plane.lock();
        let number = plane.nodes.len() as u64;
        plane.nodes.insert(token.hash(), Node { number, is_revoked: false, pushes: Vec::new() });
        token
    }

    pub fn revoke(&self, token: &NodeToken) {
        if let Some(node) = self.shared.plane.lock().nodes.get_mut(&token.hash()) {
            node.is_revoked = true;
        }
        self.shared.changed.notify_waiters();
    }

    /// Publishes a change; its sequence.
    pub fn publish(&self, bytes: impl FnOnce(DeltaHead) -> Vec<u8>) -> u64 {
        let mut plane = self.shared.plane.lock();
        let head = DeltaHead { from: plane.sequence, to: plane.sequence + 1 };
        plane.sequence = head.to;
        plane.deltas.push((head, bytes(head)));
        drop(plane);
        self.shared.changed.notify_waiters();
        head.to
    }

    /// Puts a base in place of the one before, with everything up to `sequence`.
    pub fn set_base(&self, sequence: u64, bytes: Vec<u8>) {
        let mut plane = self.shared.plane.lock();
        let (history, sha256) = (plane.history, Sha256::digest(&bytes).into());
        let offer = BaseOffer { history, sequence, bytes: bytes.len() as u64, sha256 };
        plane.sequence = plane.sequence.max(sequence);
        plane.base = Some((offer, bytes.into()));
        drop(plane);
        self.shared.changed.notify_waiters();
    }

    /// Forgets changes up to `sequence`.
    pub fn prune(&self, sequence: u64) {
        self.shared.plane.lock().deltas.retain(|(head, _)| head.to > sequence);
    }

    /// A database brought back from a backup: another history, and a lower sequence.
    pub fn restore(&self, sequence: u64) {
        let mut plane = self.shared.plane.lock();
        plane.history += 1;
        plane.sequence = sequence;
        plane.deltas.clear();
        plane.base = None;
    }

    /// Goes wrong in this way so many times, or for ever.
    pub fn fail(&self, fault: Fault, times: Option<u32>) {
        self.shared.plane.lock().fault = Some((fault, times));
        self.shared.changed.notify_waiters();
    }

    /// Ends the streams that run.
    pub fn cut(&self) {
        self.shared.plane.lock().cuts += 1;
        self.shared.changed.notify_waiters();
    }

    pub fn mend(&self) {
        self.shared.plane.lock().fault = None;
    }

    pub fn queries(&self) -> Vec<StreamQuery> {
        self.shared.plane.lock().queries.clone()
    }

    pub fn reports(&self) -> Vec<Report> {
        self.shared.plane.lock().reports.clone()
    }

    pub fn base_requests(&self) -> u32 {
        self.shared.plane.lock().base_requests
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Plane {
    /// The fault, where it is one of these; used up by one.
    fn fault(&mut self, is_it: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let (fault, times) = self.fault.as_mut().filter(|(fault, _)| is_it(fault))?;
        if let Some(left) = times {
            *left = left.checked_sub(1)?;
        }
        Some(fault.clone())
    }

    fn admit(&mut self, headers: &HeaderMap) -> Result<NodeTokenHash, Response<Body>> {
        match self.fault(|fault| matches!(fault, Fault::Status(_) | Fault::Refuse(..))) {
            Some(Fault::Status(status)) => {
                let response = Response::builder().status(status);
                return Err(response.body("something in between".into()).expect("a response"));
            }
            Some(Fault::Refuse(status, why)) => return Err(refuse(status, why)),
            _ => {}
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            bearer.and_then(|bearer| NodeToken::parse(bearer.strip_prefix("Bearer ")?).ok());
        let hash = token.ok_or_else(|| refuse(401, Why::TokenUnknown))?.hash();
        match self.nodes.get(&hash) {
            None => Err(refuse(401, Why::TokenUnknown)),
            Some(node) if node.is_revoked => Err(refuse(401, Why::TokenRevoked)),
            Some(_) => Ok(hash),
        }
    }

    /// The frames a stream begins with, and the sequence it goes on from; none: no changes follow.
    fn open(&self, query: &StreamQuery) -> (Vec<u8>, Option<u64>) {
        let hello = Hello {
            protocol: PROTOCOL,
            heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).expect("it is short"),
            sequence: self.sequence,
            history: self.history,
            node: "fixture".into(),
        };
        let mut frames = Pushed::Hello(hello).encode().expect("it is short");
        let floor = self.deltas.first().map_or(self.sequence, |(head, _)| head.from);
        let goes_on = query.history == self.history && query.from >= floor && query.fresh == 0;
        let base = self.base.as_ref().map(|(offer, _)| *offer);
        if let Some(offer) = base.filter(|offer| !goes_on && offer.sequence >= query.fresh) {
            frames.extend(Pushed::Base(offer).encode().expect("it is short"));
        }
        (frames, goes_on.then_some(query.from))
    }
}

fn refuse(status: u16, why: Why) -> Response<Body> {
    let body = Refusal::new(why, "the fixture says so").encode().expect("it is short");
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, CONTENT_TYPE);
    response.body(body.into()).expect("a response")
}

/// One stream as it is written.
struct Stream {
    shared: Arc<Shared>,
    hash: NodeTokenHash,
    /// Changes after this follow; `None`: none.
    at: Option<u64>,
    base: Option<BaseOffer>,
    queue: Vec<u8>,
    fault: Option<Fault>,
    sent: usize,
    cuts: u64,
    has_ended: bool,
}

async fn stream_of(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let mut plane = shared.plane.lock();
    let hash = match plane.admit(&headers) {
        Ok(hash) => hash,
        Err(refusal) => return refusal,
    };
    let query = StreamQuery::parse(&query.unwrap_or_default()).expect("a node's query is good");
    plane.queries.push(query);
    let fault = plane.fault(|fault| {
        matches!(fault, Fault::CutAt(_) | Fault::Flip(_) | Fault::Bytes(_) | Fault::Drip)
    });
    let (queue, at) = plane.open(&query);
    let base = plane.base.as_ref().map(|(offer, _)| *offer);
    let cuts = plane.cuts;
    drop(plane);
    let queue = if let Some(Fault::Bytes(bytes)) = &fault { bytes.clone() } else { queue };
    let stream = Stream { shared, hash, at, base, queue, fault, sent: 0, cuts, has_ended: false };
    let pieces = stream::unfold(stream, |mut stream| async {
        let piece = stream.next().await?;
        Some((piece, stream))
    });
    let response = Response::builder().header(header::CONTENT_TYPE, CONTENT_TYPE);
    response.body(Body::from_stream(pieces)).expect("a response")
}

impl Stream {
    async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            if !self.queue.is_empty() {
                return Some(self.piece().await);
            }
            if self.has_ended {
                return None;
            }
            let is_mute = matches!(self.fault, Some(Fault::Bytes(_)));
            let shared = Arc::clone(&self.shared);
            let changed = shared.changed.notified();
            if !is_mute && self.gather() {
                continue;
            }
            if tokio::time::timeout(HEARTBEAT, changed).await.is_err() && !is_mute {
                let heartbeat =
                    Heartbeat { sequence: self.shared.plane.lock().sequence, unix_ms: 0 };
                self.queue = Pushed::Heartbeat(heartbeat).encode().expect("it is short");
            }
        }
    }

    /// Queues what is new; whether there was anything.
    fn gather(&mut self) -> bool {
        let mut plane = self.shared.plane.lock();
        if plane.cuts != self.cuts {
            self.has_ended = true;
            return true;
        }
        let Some(node) = plane.nodes.get_mut(&self.hash) else { return false };
        if node.is_revoked {
            let refusal = Refusal::new(Why::TokenRevoked, "the fixture says so");
            self.queue = refusal.encode().expect("it is short");
            self.has_ended = true;
            return true;
        }
        let pushes = std::mem::take(&mut node.pushes);
        if !pushes.is_empty() {
            self.queue.extend(Pushed::Ledger(pushes).encode().expect("it is short"));
        }
        if let Some(at) = self.at {
            for (head, bytes) in plane.deltas.iter().filter(|(head, _)| head.from >= at) {
                self.queue.extend(delta_frame(*head, bytes).expect("it is short"));
                self.at = Some(head.to);
            }
        }
        let base = plane.base.as_ref().map(|(offer, _)| *offer);
        if base != self.base {
            self.base = base;
            let offer = Pushed::Base(base.expect("a base is never taken away while streams run"));
            self.queue.extend(offer.encode().expect("it is short"));
        }
        !self.queue.is_empty()
    }

    /// The next bytes, as the fault has them.
    async fn piece(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = std::mem::take(&mut self.queue);
        let end = self.sent + piece.len();
        match &self.fault {
            Some(Fault::CutAt(at)) if *at < end => {
                piece.truncate(at - self.sent);
                if piece.is_empty() {
                    return Err(io::Error::other("cut by the fixture"));
                }
            }
            Some(Fault::Flip(at)) if (self.sent..end).contains(at) => piece[at - self.sent] ^= 1,
            Some(Fault::Drip) => {
                self.queue = piece.split_off(1);
                let _ = tokio::time::timeout(HEARTBEAT, std::future::pending::<()>()).await;
            }
            _ => {}
        }
        self.sent += piece.len();
        if matches!(self.fault, Some(Fault::CutAt(at)) if at == self.sent) {
            self.queue = vec![0];
        }
        Ok(piece)
    }
}

async fn base(
    State(shared): State<Arc<Shared>>,
    Path(sequence): Path<u64>,
    headers: HeaderMap,
) -> Response<Body> {
    let mut plane = shared.plane.lock();
    if let Err(refusal) = plane.admit(&headers) {
        return refusal;
    }
    plane.base_requests += 1;
    let fault = plane.fault(|fault| {
        matches!(
            fault,
            Fault::BaseCutAt(_) | Fault::BaseWithoutRanges | Fault::BaseWrong | Fault::BaseGone
        )
    });
    let known = plane.base.as_ref().filter(|(offer, _)| offer.sequence == sequence);
    let Some((_, bytes)) = known.filter(|_| fault != Some(Fault::BaseGone)) else {
        return refuse(410, Why::Gone);
    };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.filter(|_| fault != Some(Fault::BaseWithoutRanges)).unwrap_or(0);
    let mut body = bytes.get(from..).unwrap_or_default().to_vec();
    if fault == Some(Fault::BaseWrong) {
        body.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    }
    let end = if let Some(Fault::BaseCutAt(at)) = fault { Some(at.min(body.len())) } else { None };
    let length = bytes.len();
    let response = match from {
        0 => Response::builder(),
        _ => Response::builder()
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{length}", length - 1)),
    };
    let Some(end) = end else { return response.body(body.into()).expect("a response") };
    body.truncate(end);
    let pieces = [Ok(body), Err(io::Error::other("cut by the fixture"))];
    response.body(Body::from_stream(stream::iter(pieces))).expect("a response")
}

async fn report(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut plane = shared.plane.lock();
    let hash = match plane.admit(&headers) {
        Ok(hash) => hash,
        Err(refusal) => return refusal,
    };
    if plane.fault(|fault| *fault == Fault::ReportGarbage).is_some() {
        return Response::new("no frame".into());
    }
    let Ok(report) = Report::decode(&body) else { return refuse(400, Why::Malformed) };
    let number = plane.nodes[&hash].number;
    for request in &report.requests {
        let message = Message::LeaseRequest(Box::new(*request));
        plane.ledger.on_message(number, ShardId(0), &message);
    }
    let answers: Vec<_> = plane.ledger.drain_outbox().collect();
    let mut replies = Vec::new();
    for (to, _, message) in answers {
        let Message::LeaseReply(reply) = message else { continue };
        if to == number {
            replies.push(*reply);
        } else if let Some(node) = plane.nodes.values_mut().find(|node| node.number == to) {
            node.pushes.push(*reply);
        }
    }
    let reply = ReportReply { number: report.number, unix_ms: 0, replies };
    plane.reports.push(report);
    drop(plane);
    shared.changed.notify_waiters();
    Response::new(reply.encode().expect("it is short").into())
}
