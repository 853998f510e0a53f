//! `GET /node/v1/stream`.
//!
//! In: what a node has. Out: frames without end: changes as they come, replies of the ledger, heartbeats.
//! Always holds: the first frame says hello; a node whose token is revoked, expired or of a dead node gets that as its
//! last frame within a heartbeat of the outbox's saying so; what a slow node does not read is not kept for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_lite::stream;
use http::{HeaderMap, StatusCode};
use link::wire::message::delta_frame;
use link::wire::{Heartbeat, Hello, PROTOCOL, Pushed, Refusal, StreamQuery, Why};
use tokio::sync::watch;
use tokio::time::Instant;

use super::feed::After;
use super::mailboxes::Mailbox;
use super::{Sync, frames, refuse, unavailable};
use crate::storage::{Admission, KnownNode, Start, StorageResult};

/// How often a heartbeat comes when nothing else does.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Serves a stream.
pub async fn stream(
    State(sync): State<Sync>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (node, hash) = match sync.admit(&headers).await {
        Ok(known) => known,
        Err(refusal) => return refusal,
    };
    let Ok(query) = StreamQuery::parse(&query.unwrap_or_default()) else {
        return refuse(StatusCode::BAD_REQUEST, Why::Malformed, "a number in the address is none");
    };
    match open(sync, node, hash, query).await {
        Ok(Ok(stream)) => {
            let pieces = stream::unfold(stream, |mut stream| async {
                let piece = stream.next().await?;
                Some((io::Result::Ok(piece), stream))
            });
            frames(StatusCode::OK, Body::from_stream(pieces))
        }
        Ok(Err(refusal)) => refusal,
        Err(error) => unavailable(&error),
    }
}

async fn open(
    sync: Sync,
    node: KnownNode,
    hash: [u8; 32],
    query: StreamQuery,
) -> StorageResult<Result<NodeStream, Response>> {
    let Start::Current(start) = sync.store.node_start(node.key, query.epoch).await? else {
        let text = "a later start of this node has connected: two processes use one node token";
        return Ok(Err(refuse(StatusCode::CONFLICT, Why::Superseded, text)));
    };
    let generation = sync.feed.nodes_generation();
    let history = sync.feed.meet(query.history, query.from).await?;
    let number = u64::try_from(node.key).unwrap_or_default();
    let hello = Hello {
        protocol: PROTOCOL,
        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        sequence: sync.feed.head(),
        history,
        node: node.name.clone(),
    };
    let goes_on = query.history == history && query.from > 0 && query.fresh == 0;
    let has = if goes_on { i64::try_from(query.from).unwrap_or(i64::MAX) } else { 0 };
    sync.store.node_connected(node.key, has).await?;
    if query.fresh > 0 {
        sync.feed.want_base(query.fresh);
    }
    let (news, stopping) = (sync.feed.news(), sync.stopping.subscribe());
    let mailbox = sync.mailboxes.open(number, start);
    let mut stream = NodeStream {
        at: goes_on.then_some(query.from),
        base: query.base,
        fresh: query.fresh,
        history,
        generation,
        expires_at_ms: node.expires_at_ms,
        hash,
        number,
        mailbox,
        queue: Vec::new(),
        has_ended: false,
        sent_at: Instant::now(),
        news,
        stopping,
        sync,
    };
    stream.push(&Pushed::Hello(hello));
    Ok(Ok(stream))
}

/// One stream as it is written.
struct NodeStream {
    sync: Sync,
    number: u64,
    hash: [u8; 32],
    expires_at_ms: Option<i64>,
    /// The feed's, when the token was last looked up.
    generation: u64,
    history: u64,
    /// Changes after this follow; none: the node waits for a base.
    at: Option<u64>,
    /// The last base the node has or was offered.
    base: u64,
    /// The least base it takes.
    fresh: u64,
    mailbox: Arc<Mailbox>,
    queue: Vec<u8>,
    has_ended: bool,
    sent_at: Instant,
    news: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

impl Drop for NodeStream {
    fn drop(&mut self) {
        self.sync.mailboxes.close(self.number, &self.mailbox);
    }
}

impl NodeStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.queue.is_empty() {
                self.sent_at = Instant::now();
                return Some(std::mem::take(&mut self.queue).into());
            }
            if self.has_ended {
                return None;
            }
            self.news.borrow_and_update();
            if let Err(error) = self.gather().await {
                tracing::debug!(%error, "a stream ends for the database");
                self.end(Why::Unavailable, "the database is away");
            }
            if !self.queue.is_empty() || self.has_ended {
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => self.has_ended |= changed.is_err(),
                () = self.mailbox.news.notified() => {}
                _ = self.stopping.changed() => {}
                () = tokio::time::sleep_until(self.sent_at + HEARTBEAT) => self.beat(),
            }
        }
    }

    fn beat(&mut self) {
        let unix_ms = self.sync.store.world().now_ms();
        let sequence = self.sync.feed.head();
        self.push(&Pushed::Heartbeat(Heartbeat { sequence, unix_ms }));
    }

    /// Queues what is new.
    async fn gather(&mut self) -> StorageResult<()> {
        if *self.stopping.borrow() {
            self.end(Why::Unavailable, "this control plane stops");
            return Ok(());
        }
        if !self.sync.mailboxes.holds(self.number, &self.mailbox) {
            self.end(Why::Superseded, "another stream of this node has begun");
            return Ok(());
        }
        self.check_token().await?;
        if self.has_ended {
            return Ok(());
        }
        if self.sync.feed.history() != self.history {
            // The node asks anew, and hears of the new one.
            self.has_ended = true;
            return Ok(());
        }
        let replies = self.mailbox.take();
        if !replies.is_empty() {
            self.push(&Pushed::Ledger(replies));
        }
        if let Some(at) = self.at {
            match self.sync.feed.after(at).await? {
                After::Changes(changes) => {
                    for change in changes {
                        match delta_frame(change.head, &change.bytes) {
                            Ok(frame) => self.queue.extend(frame),
                            Err(error) => tracing::error!(%error, "a change cannot be sent"),
                        }
                        self.at = Some(change.head.to);
                    }
                }
                After::Gap => self.at = None,
            }
        }
        self.offer_base();
        Ok(())
    }

    fn offer_base(&mut self) {
        let needs = self.at.is_none();
        let Some(offered) = self.sync.feed.base() else { return };
        let offer = offered.base.offer;
        let is_new = offer.sequence > self.base || needs && offer.sequence != self.base;
        let is_enough = offer.sequence >= self.fresh;
        if (needs || offered.is_due) && is_new && is_enough {
            self.base = offer.sequence;
            self.push(&Pushed::Base(offer));
        }
    }

    /// Looks the token up again, where it may have changed.
    async fn check_token(&mut self) -> StorageResult<()> {
        let generation = self.sync.feed.nodes_generation();
        let now_ms = self.sync.store.world().now_ms();
        let has_expired = self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if generation == self.generation && !has_expired {
            return Ok(());
        }
        match self.sync.store.admit_node(&self.hash).await? {
            Admission::Known(node) => self.expires_at_ms = node.expires_at_ms,
            Admission::Dead => self.end(Why::NodeDead, "the node was declared dead"),
            Admission::Unknown | Admission::Revoked => {
                self.end(Why::TokenRevoked, "the node token was revoked or has expired");
            }
        }
        self.generation = generation;
        Ok(())
    }

    fn end(&mut self, why: Why, text: &str) {
        self.push(&Pushed::Refusal(Refusal::new(why, text)));
        self.has_ended = true;
    }

    fn push(&mut self, pushed: &Pushed) {
        match pushed.encode() {
            Ok(frame) => self.queue.extend(frame),
            Err(error) => tracing::error!(%error, "a frame cannot be written"),
        }
    }
}
