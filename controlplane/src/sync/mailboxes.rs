//! Replies and recalls of the ledger for nodes whose streams are here, and for others through the database.
//!
//! In: what the ledger posts. Out: for each stream its replies.
//! Always holds: a mailbox is bounded, and what is lost of it the ledger says again when asked again; a node has one
//! stream, the last that came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use link::wire::ledger::Reply;
use link::wire::message::REPLIES_MAX;
use parking_lot::Mutex;
use policy::budget::Posted;
use tokio::sync::Notify;

use crate::storage::{Store, answered};

/// How often mail that others left in the database is looked for.
const COLLECT: Duration = Duration::from_millis(50);

/// What waits for one stream.
#[derive(Debug)]
pub struct Mailbox {
    /// The node's start whose stream it is.
    pub start: u64,
    waiting: Mutex<VecDeque<Reply>>,
    /// Something waits, or another stream has taken its place.
    pub news: Notify,
}

impl Mailbox {
    /// What waits, at most a frame full.
    pub fn take(&self) -> Vec<Reply> {
        self.waiting.lock().drain(..).collect()
    }

    fn put(&self, reply: Reply) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= REPLIES_MAX {
            waiting.pop_front();
        }
        waiting.push_back(reply);
        drop(waiting);
        self.news.notify_one();
    }
}

/// The mailboxes of all streams of this process, by the node's number.
#[derive(Debug, Default)]
pub struct Mailboxes(Mutex<HashMap<u64, Arc<Mailbox>>>);

impl Mailboxes {
    /// A stream has begun; the one before is told.
    pub fn open(&self, node: u64, start: u64) -> Arc<Mailbox> {
        let news = Notify::new();
        let mailbox = Arc::new(Mailbox { start, waiting: Mutex::default(), news });
        let before = self.0.lock().insert(node, Arc::clone(&mailbox));
        if let Some(before) = before {
            before.news.notify_one();
        }
        mailbox
    }

    /// Whether this is still the node's mailbox.
    pub fn holds(&self, node: u64, mailbox: &Arc<Mailbox>) -> bool {
        self.0.lock().get(&node).is_some_and(|current| Arc::ptr_eq(current, mailbox))
    }

    /// A stream has ended.
    pub fn close(&self, node: u64, mailbox: &Arc<Mailbox>) {
        let mut all = self.0.lock();
        if all.get(&node).is_some_and(|current| Arc::ptr_eq(current, mailbox)) {
            all.remove(&node);
        }
    }

    fn get(&self, node: u64) -> Option<Arc<Mailbox>> {
        self.0.lock().get(&node).cloned()
    }

    fn nodes(&self) -> Vec<i64> {
        self.0.lock().keys().filter_map(|node| i64::try_from(*node).ok()).collect()
    }

    /// Gives each its reply; what is for nodes that are not here goes through the database, where others may fetch it.
    pub async fn post(&self, store: &Store, posted: Vec<Posted>) {
        let mut away = Vec::new();
        for posted in posted {
            match self.get(posted.node) {
                Some(mailbox) => {
                    if let Some(reply) = posted.for_start(mailbox.start) {
                        mailbox.put(reply);
                    }
                }
                None if store.is_shared() => away.extend(addressed(&posted)),
                None => {}
            }
        }
        if !away.is_empty()
            && let Err(error) = store.put_mail(&away).await
        {
            tracing::warn!(%error, "replies of the ledger could not be passed on; nodes ask again");
        }
    }

    fn deliver(&self, node: u64, start: u64, bytes: &[u8]) {
        let reply = postcard::from_bytes::<Reply>(bytes);
        if let (Some(mailbox), Ok(reply)) = (self.get(node), reply) {
            let posted = Posted { node, start, shard: policy::budget::ShardId(0), reply };
            if let Some(reply) = posted.for_start(mailbox.start) {
                mailbox.put(reply);
            }
        }
    }
}

fn addressed(posted: &Posted) -> Option<(i64, u64, Vec<u8>)> {
    let node = i64::try_from(posted.node).ok()?;
    Some((node, posted.start, postcard::to_allocvec(&posted.reply).ok()?))
}

/// Fetches what other control planes leave for the nodes that are connected here.
pub async fn collect(store: Store, mailboxes: Arc<Mailboxes>) {
    let mut is_away = false;
    loop {
        tokio::time::sleep(COLLECT).await;
        match answered(store.take_mail(&mailboxes.nodes())).await {
            Ok(mail) => {
                is_away = false;
                for (node, start, bytes) in mail {
                    mailboxes.deliver(u64::try_from(node).unwrap_or_default(), start, &bytes);
                }
            }
            Err(error) => {
                if !is_away {
                    tracing::warn!(%error, "mail for nodes cannot be fetched; trying again until it can");
                }
                is_away = true;
            }
        }
    }
}

#[cfg(test)]
#[path = "mailboxes_tests.rs"]
mod tests;
