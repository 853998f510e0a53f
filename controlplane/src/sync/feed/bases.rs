//! The base that nodes fetch: when a new one is compiled, and for whom.
//!
//! In: what was changed since the last, what nodes need. Out: the base, and whether a node should take it.
//! Always holds: one is compiled at a time, beside everything else; however many are compiled for single nodes, no node is left with
//! changes over its base of more than is due.

use std::sync::Arc;
use std::time::Duration;

use super::Feed;
use crate::sync::base::{self, Base};
use crate::sync::bounds::DUE_PART;

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often is looked whether one is due, without having been told to.
const LOOK: Duration = Duration::from_secs(30);

/// What the feed knows of bases.
#[derive(Debug, Default)]
pub(super) struct Bases {
    /// The one that is there.
    pub(super) base: Option<Base>,
    /// The last one that was made because much had changed.
    due: u64,
    /// Subscriptions and tokens changed since that one.
    pub(super) weight: usize,
    /// A base of at least this sequence is wanted.
    wanted: u64,
}

/// The base, as one stream sees it.
#[derive(Clone, Debug)]
pub struct Offered {
    /// It.
    pub base: Base,
    /// The last that was made because much had changed; there may be none.
    due: u64,
    /// So many entries after a node's base another is due for it.
    distance: u64,
}

impl Offered {
    /// Whether a node with this base should take this one, even where changes would do.
    #[must_use]
    pub fn is_due_over(&self, base: u64) -> bool {
        let sequence = self.base.offer.sequence;
        // What was changed before this process began was not weighed: its entries are counted instead.
        sequence > base && (base < self.due || sequence - base > self.distance)
    }
}

impl Feed {
    /// The base, where there is one of the history that is served.
    pub fn base(&self) -> Option<Offered> {
        let inner = self.inner.lock();
        let base = inner.bases.base.clone()?;
        let distance = u64::try_from(self.due_weight(&base)).unwrap_or(u64::MAX);
        Some(Offered { base, due: inner.bases.due, distance })
    }

    /// A node needs a base of at least this sequence.
    pub fn want_base(&self, sequence: u64) {
        let mut inner = self.inner.lock();
        inner.bases.wanted = inner.bases.wanted.max(sequence);
        drop(inner);
        self.tell();
    }

    /// How much may change over a base before another is due.
    fn due_weight(&self, base: &Base) -> usize {
        self.bounds.due_weight.max(base.weight / DUE_PART)
    }

    /// Compiles bases as they are needed, for ever.
    pub async fn keep_base(self: Arc<Self>) {
        let mut news = self.news();
        let pause = self.bounds.base_pause;
        let mut made_at = None::<tokio::time::Instant>;
        loop {
            news.borrow_and_update();
            let reason = self.lacks_base();
            let may =
                reason == Some(Lack::Needed) || made_at.is_none_or(|at| at.elapsed() >= pause);
            if reason.is_none() || !may {
                let _ = tokio::time::timeout(LOOK, news.changed()).await;
                continue;
            }
            let began = tokio::time::Instant::now();
            let (history, weight) = {
                let inner = self.inner.lock();
                (inner.history, inner.bases.weight)
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
                    self.put_base(base, weight);
                    made_at = Some(tokio::time::Instant::now());
                }
                // Nothing was ever changed: there is nobody to serve.
                Ok(None) => drop(tokio::time::timeout(LOOK, news.changed()).await),
                Err(error) => {
                    tracing::error!(%error, "nodes that have no policy yet must wait; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn lacks_base(&self) -> Option<Lack> {
        let inner = self.inner.lock();
        let head = inner.head.filter(|head| *head > 0)?;
        let Some(base) = &inner.bases.base else { return Some(Lack::Needed) };
        let sequence = base.offer.sequence;
        if inner.bases.wanted > sequence && head > sequence {
            return Some(Lack::Needed);
        }
        (inner.bases.weight > self.due_weight(base)).then_some(Lack::Due)
    }

    /// Takes a base; before it was begun so much had changed since the last that was due.
    fn put_base(&self, base: Base, weight_before: usize) {
        let mut inner = self.inner.lock();
        // One that was compiled while the history changed is nobody's.
        if base.offer.history == inner.history {
            let is_first = inner.bases.base.is_none();
            let due_weight = inner.bases.base.as_ref().map(|last| self.due_weight(last));
            let is_due = due_weight.is_some_and(|due_weight| weight_before > due_weight);
            if is_due {
                inner.bases.due = base.offer.sequence;
            }
            // What one has that was made for a single node still is a change for those that have the one before.
            if is_due || is_first {
                inner.bases.weight = inner.bases.weight.saturating_sub(weight_before);
            }
            inner.bases.base = Some(base);
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
