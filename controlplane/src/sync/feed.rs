//! What streams are served from: the last changes, encoded once for all nodes, and the base below them.
//!
//! In: the outbox. Out: changes after any sequence that is kept or can be made again, a base, the name of the history.
//! Always holds: changes are kept in order and without a gap; memory is bounded; a new base is compiled beside
//! everything else, when there is none, when a node needs one, or when much has changed since the last.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::base::{self, Base};
use super::changes::{self, Encoded};
use crate::secrets::Keyring;
use crate::storage::{OutboxEntry, StorageResult, Store, answered};

/// Bytes of changes that are kept.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Changes that are kept.
const KEPT_MAX: usize = 100_000;
/// Entries of the outbox that a node may be behind and still be told by changes.
const CATCH_UP_MAX: u64 = 20_000;
/// After a failure it is tried again.
const RETRY: Duration = Duration::from_millis(250);
const BASE_RETRY: Duration = Duration::from_secs(5);
/// Between two bases that nobody waits for.
const BASE_PAUSE: Duration = Duration::from_secs(30);
/// A new base is due once so much has changed, or this part of it, whichever is more.
const DUE_WEIGHT: usize = 20_000;
const DUE_PART: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    keyring: Arc<Keyring>,
    folder: PathBuf,
    inner: Mutex<Inner>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    /// 0 before the database was asked.
    history: u64,
    /// The last change that is kept, or was when following began; none before that.
    head: Option<u64>,
    kept: VecDeque<Encoded>,
    kept_bytes: usize,
    base: Option<Base>,
    /// The base is there because much had changed: nodes that have another should take it.
    is_base_due: bool,
    /// Subscriptions and tokens changed since the base.
    weight: usize,
    /// A base of at least this sequence is wanted.
    wanted: u64,
    /// Grows whenever a node's right to be here may have changed.
    nodes_generation: u64,
}

/// What there is after a sequence.
#[derive(Debug)]
pub enum After {
    /// These follow, maybe none.
    Changes(Vec<Encoded>),
    /// It is too long ago, or of another history.
    Gap,
}

/// The base, as one stream sees it.
#[derive(Clone, Debug)]
pub struct Offered {
    /// It.
    pub base: Base,
    /// Nodes should take it even where changes would do.
    pub is_due: bool,
}

impl Feed {
    /// Nothing is followed yet.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, folder: PathBuf) -> Self {
        let news = watch::Sender::new(0);
        Self { store, keyring, folder, inner: Mutex::default(), news }
    }

    /// Tells when anything here has changed.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// The last change that nodes can be told of; 0 before there is one.
    pub fn head(&self) -> u64 {
        self.inner.lock().head.unwrap_or_default()
    }

    /// The history that is served; 0 before it is known.
    pub fn history(&self) -> u64 {
        self.inner.lock().history
    }

    /// Grows whenever a node's right to be here may have changed.
    pub fn nodes_generation(&self) -> u64 {
        self.inner.lock().nodes_generation
    }

    /// The base, where there is one of the history that is served.
    pub fn base(&self) -> Option<Offered> {
        let inner = self.inner.lock();
        let base = inner.base.clone()?;
        Some(Offered { base, is_due: inner.is_base_due })
    }

    /// A node needs a base of at least this sequence.
    pub fn want_base(&self, sequence: u64) {
        let mut inner = self.inner.lock();
        inner.wanted = inner.wanted.max(sequence);
        drop(inner);
        self.tell();
    }

    /// The history, for a node that comes with changes of `history` up to `from`. One that knows more than the database
    /// shows that the database was brought back from a backup: that begins a new history.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn meet(&self, history: u64, from: u64) -> StorageResult<u64> {
        let mut known = self.store.history().await?;
        if history == known && from > self.head() {
            let head = self.store.policy_reader().await?.sequence().await?;
            if u64::try_from(head).unwrap_or_default() < from {
                if self.store.begin_history(known, from).await? {
                    tracing::warn!(
                        from,
                        head,
                        "a node knows changes that this database does not have: it was brought back from a backup; \
                         all nodes fetch the policy anew"
                    );
                }
                known = self.store.history().await?;
            }
        }
        if self.history() != known {
            let head = self.store.policy_reader().await?.sequence().await?;
            self.turn_to(known, u64::try_from(head).unwrap_or_default());
        }
        Ok(known)
    }

    fn turn_to(&self, history: u64, head: u64) {
        let mut inner = self.inner.lock();
        if inner.history == history {
            return;
        }
        let is_first = inner.history == 0;
        inner.history = history;
        if !is_first {
            let (nodes_generation, head) = (inner.nodes_generation, Some(head));
            *inner = Inner { history, head, nodes_generation, ..Inner::default() };
        }
        drop(inner);
        self.tell();
    }

    /// What follows a sequence of the history that is served.
    ///
    /// # Errors
    /// When the database must be asked and cannot be.
    pub async fn after(&self, sequence: u64) -> StorageResult<After> {
        let (floor, head) = {
            let inner = self.inner.lock();
            let Some(head) = inner.head else { return Ok(After::Changes(Vec::new())) };
            let floor = inner.kept.front().map_or(head, |first| first.head.from);
            if sequence >= floor {
                let begin = inner.kept.partition_point(|kept| kept.head.to <= sequence);
                return Ok(After::Changes(inner.kept.range(begin..).cloned().collect()));
            }
            (floor, head)
        };
        if sequence == 0 || head - sequence > CATCH_UP_MAX {
            return Ok(After::Gap);
        }
        let mut made: Vec<Encoded> = Vec::new();
        let mut at = sequence;
        while at < floor {
            let after = i64::try_from(at).unwrap_or(i64::MAX);
            let entries = self.store.outbox().read_after(after).await?;
            let next = entries.first().map(|entry| entry.sequence);
            if next != Some(after.saturating_add(1)) {
                return Ok(After::Gap);
            }
            made.extend(changes::of_entries(&self.store, &self.keyring, at, &entries).await?);
            at = made.last().map_or(at, |last| last.head.to);
        }
        Ok(After::Changes(made))
    }

    /// Follows the outbox, for ever.
    pub async fn follow(self: Arc<Self>) {
        let head = loop {
            match self.begin().await {
                Ok(head) => break head,
                Err(error) => {
                    tracing::warn!(%error, "changes cannot be followed yet; trying again until they can");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let mut follower = self.store.outbox().follow(head);
        let mut is_away = false;
        loop {
            let entries = match follower.next().await {
                Ok(entries) => entries,
                Err(error) => {
                    if !is_away {
                        tracing::warn!(%error, "changes cannot be read; trying again until they can");
                    }
                    is_away = true;
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            loop {
                // A new history may have begun past some of them: its base has what they changed.
                let head = self.head();
                let is_new = |entry: &OutboxEntry| entry.sequence.unsigned_abs() > head;
                let first = entries.iter().position(is_new).unwrap_or(entries.len());
                let new = entries.get(first..).unwrap_or_default();
                let made = changes::of_entries(&self.store, &self.keyring, head, new);
                match answered(made).await {
                    Ok(made) => {
                        is_away = false;
                        self.keep(made, changes::concern_nodes(&entries));
                        break;
                    }
                    Err(error) => {
                        if !is_away {
                            tracing::warn!(%error, "changes cannot be read; trying again until they can");
                        }
                        is_away = true;
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn begin(&self) -> StorageResult<i64> {
        let history = self.store.history().await?;
        let head = self.store.policy_reader().await?.sequence().await?;
        self.turn_to(history, u64::try_from(head).unwrap_or_default());
        self.inner.lock().head = u64::try_from(head).ok();
        self.tell();
        Ok(head)
    }

    fn keep(&self, made: Vec<Encoded>, concerns_nodes: bool) {
        let mut inner = self.inner.lock();
        for encoded in made {
            inner.head = Some(encoded.head.to);
            inner.kept_bytes += encoded.bytes.len();
            inner.weight += encoded.weight;
            inner.kept.push_back(encoded);
        }
        while inner.kept_bytes > KEPT_BYTES_MAX || inner.kept.len() > KEPT_MAX {
            let Some(first) = inner.kept.pop_front() else { break };
            inner.kept_bytes -= first.bytes.len();
        }
        inner.nodes_generation += u64::from(concerns_nodes);
        drop(inner);
        self.tell();
    }

    /// Compiles bases as they are needed, for ever.
    pub async fn keep_base(self: Arc<Self>) {
        let mut news = self.news();
        let mut made_at = None::<tokio::time::Instant>;
        loop {
            news.borrow_and_update();
            let reason = self.lacks_base();
            let may =
                reason == Some(Lack::Needed) || made_at.is_none_or(|at| at.elapsed() >= BASE_PAUSE);
            if reason.is_none() || !may {
                let _ = tokio::time::timeout(BASE_PAUSE, news.changed()).await;
                continue;
            }
            let began = tokio::time::Instant::now();
            let (history, weight) = {
                let inner = self.inner.lock();
                (inner.history, inner.weight)
            };
            match base::compile(&self.store, &self.keyring, history, &self.folder).await {
                Ok(Some(base)) => {
                    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(
                        sequence = base.offer.sequence,
                        bytes = base.offer.bytes,
                        subscriptions_and_tokens = base.weight,
                        took_ms,
                        "compiled the policy"
                    );
                    self.put_base(base, reason == Some(Lack::Due), weight);
                    made_at = Some(tokio::time::Instant::now());
                }
                // Nothing was ever changed: there is nobody to serve.
                Ok(None) => drop(tokio::time::timeout(BASE_PAUSE, news.changed()).await),
                Err(error) => {
                    tracing::error!(%error, "nodes that have no policy yet must wait; trying again");
                    tokio::time::sleep(BASE_RETRY).await;
                }
            }
        }
    }

    fn lacks_base(&self) -> Option<Lack> {
        let inner = self.inner.lock();
        let head = inner.head.filter(|head| *head > 0)?;
        let Some(base) = &inner.base else { return Some(Lack::Needed) };
        if inner.wanted > base.offer.sequence && head > base.offer.sequence {
            return Some(Lack::Needed);
        }
        (inner.weight > DUE_WEIGHT.max(base.weight / DUE_PART)).then_some(Lack::Due)
    }

    fn put_base(&self, base: Base, is_due: bool, weight_before: usize) {
        let mut inner = self.inner.lock();
        // One that was compiled while the history changed is nobody's.
        if base.offer.history == inner.history {
            inner.is_base_due = is_due;
            inner.weight = inner.weight.saturating_sub(weight_before);
            inner.base = Some(base);
        }
        drop(inner);
        self.tell();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Needed,
    Due,
}
