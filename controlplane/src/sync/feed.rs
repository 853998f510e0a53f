//! What streams are served from: the last changes, encoded once for all nodes, and the base below them ([`bases`]).
//!
//! In: the outbox. Out: changes after any sequence that is kept or can be made again, a base, the name of the history.
//! Always holds: changes are kept in order and without a gap; memory is bounded; what is kept no more is made again of the
//! outbox's rows ([`pages`]) as long as those are there, so that whoever has the base can follow, however much has changed since.

mod bases;
mod pages;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use bases::Bases;
use pages::Pages;

use super::bounds::Bounds;
use super::changes::{self, Encoded};
use crate::secrets::Keyring;
use crate::storage::{OutboxEntry, StorageResult, Store, answered};

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    keyring: Arc<Keyring>,
    folder: PathBuf,
    bounds: Bounds,
    pages: Pages,
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
    bases: Bases,
    /// Grows whenever a node's right to be here may have changed.
    nodes_generation: u64,
}

/// What there is after a sequence.
#[derive(Debug)]
pub enum After {
    /// These follow, maybe none, maybe not the last ones.
    Changes(Vec<Encoded>),
    /// It is before what is kept: [`Feed::page_after`] has what follows.
    Rows,
    /// A base is there that spares a node many of the changes.
    Base,
}

impl Feed {
    /// Nothing is followed yet.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, folder: PathBuf, bounds: Bounds) -> Self {
        let news = watch::Sender::new(0);
        let pages = Pages::new(&bounds);
        Self { store, keyring, folder, bounds, pages, inner: Mutex::default(), news }
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

    /// What follows a sequence of the history that is served, as much as a stream is given at once.
    pub fn after(&self, sequence: u64) -> After {
        let inner = self.inner.lock();
        let Some(head) = inner.head else { return After::Changes(Vec::new()) };
        let floor = inner.kept.front().map_or(head, |first| first.head.from);
        if sequence >= floor {
            let begin = inner.kept.partition_point(|kept| kept.head.to <= sequence);
            let mut bytes = 0;
            let fits = |kept: &&Encoded| {
                let is_first = bytes == 0;
                bytes += kept.bytes.len();
                is_first || bytes <= self.bounds.piece_bytes
            };
            return After::Changes(inner.kept.range(begin..).take_while(fits).cloned().collect());
        }
        let base = inner.bases.base.as_ref().map_or(0, |base| base.offer.sequence);
        match base.saturating_sub(sequence) > self.bounds.catch_up {
            true => After::Base,
            false => After::Rows,
        }
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
            inner.bases.weight += encoded.weight;
            inner.kept.push_back(encoded);
        }
        while inner.kept_bytes > self.bounds.kept_bytes || inner.kept.len() > self.bounds.kept {
            let Some(first) = inner.kept.pop_front() else { break };
            inner.kept_bytes -= first.bytes.len();
        }
        inner.nodes_generation += u64::from(concerns_nodes);
        drop(inner);
        self.tell();
    }
}
