//! `GET /node/v1/stream`.
//!
//! In: what a node has. Out: frames without end: changes as they come, replies of the ledger, heartbeats.
//! Always holds: the first frame says hello; a node whose token is revoked, expired or of a dead node gets that as its
//! last frame within a heartbeat of the outbox's saying so; what a slow node does not read is not kept for it: a piece of the
//! changes is in memory, or a page; a node for which no change leads on is told by a base that is newer than what it has.

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
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::changes::Encoded;
use super::feed::After;
use super::mailboxes::Mailbox;
use super::{Sync, frames, refuse, unavailable};
use crate::storage::{Admission, KnownNode, Start, StorageError, StorageResult};

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
        // One of another history says nothing of those of this one.
        base: if query.history == history { query.base } else { 0 },
        fresh: query.fresh,
        history,
        generation,
        expires_at_ms: node.expires_at_ms,
        hash,
        number,
        mailbox,
        queue: Vec::new(),
        making: JoinSet::new(),
        made: None,
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
    /// Makes changes of a page of the outbox's rows, one page at a time: heartbeats go on beside it.
    making: JoinSet<StorageResult<Vec<Encoded>>>,
    /// What came of it.
    made: Option<StorageResult<Vec<Encoded>>>,
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
                Some(made) = self.making.join_next() => {
                    self.made = Some(made.unwrap_or_else(|error| Err(StorageError::Broken(error.to_string()))));
                }
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
        if let Some(made) = self.made.take() {
            let page = made?;
            match self.at {
                Some(at) if page.is_empty() => self.lose_place(at),
                _ => self.push_changes(page),
            }
        }
        self.go_on();
        self.offer_base();
        Ok(())
    }

    /// Queues a piece of what follows, or has it made.
    fn go_on(&mut self) {
        let Some(at) = self.at.filter(|_| self.making.is_empty()) else { return };
        match self.sync.feed.after(at) {
            After::Changes(changes) => self.push_changes(changes),
            After::Rows => {
                let feed = Arc::clone(&self.sync.feed);
                self.making.spawn(async move { feed.page_after(at).await });
            }
            After::Base => self.lose_place(at),
        }
    }

    fn push_changes(&mut self, changes: Vec<Encoded>) {
        for change in changes {
            match delta_frame(change.head, &change.bytes) {
                Ok(frame) => self.queue.extend(frame),
                Err(error) => tracing::error!(%error, "a change cannot be sent"),
            }
            self.at = Some(change.head.to);
        }
    }

    /// No change leads on from here, or a base does so faster: one that is newer, which is made where there is none.
    fn lose_place(&mut self, at: u64) {
        tracing::info!(node = self.number, after = at, "a node is told by a base what was changed");
        self.at = None;
        self.base = 0;
        self.fresh = self.fresh.max(at.saturating_add(1));
        self.sync.feed.want_base(self.fresh);
    }

    fn offer_base(&mut self) {
        let Some(offered) = self.sync.feed.base() else { return };
        let offer = offered.base.offer;
        let is_of_use = match self.at {
            None => offer.sequence != self.base,
            Some(_) => offered.is_due_over(self.base),
        };
        if is_of_use && offer.sequence >= self.fresh {
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
