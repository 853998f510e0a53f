//! Whose turn it is to write, where the database has one writer.
//!
//! In: those of this process who want to write to SQLite. Out: a [`Turn`] each, one at a time, in the order in which they came.
//! Always holds: whoever waits holds no connection meanwhile. SQLite itself knows no order: it has each that is too early ask again after
//! waits that grow to 100 ms, so that who came first may be served last, and eight that ask hold all connections there are. Whoever
//! somebody outside waits for goes [`Urgency::First`]: at most one that came before it and one that writes are waited for. Neither kind
//! can keep the other out: while both wait they alternate. Another process that writes to the same file is waited for as SQLite does it.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How soon one's turn comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Urgency {
    /// After those that came before.
    #[default]
    Usual,
    /// Before those that wait.
    First,
}

/// The right to write. Dropped, it is the next one's.
#[derive(Debug)]
pub(super) struct Turn {
    _writer: OwnedMutexGuard<()>,
}

/// The order in which those write that have these. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    writer: Arc<Mutex<()>>,
    /// Whoever has it is the one of the usual that waits for the writer; so the first never have more than one of them before them.
    queue: Arc<Mutex<()>>,
    wait_max: Duration,
}

impl Turns {
    /// Nobody waits longer than `wait_max`.
    pub(super) fn new(wait_max: Duration) -> Self {
        Self { writer: Arc::default(), queue: Arc::default(), wait_max }
    }

    /// Waits for a turn. Dropped meanwhile, it leaves no trace.
    ///
    /// # Errors
    /// [`DbErr::ConnectionAcquire`] when it did not come in time.
    pub(super) async fn take(&self, urgency: Urgency) -> Result<Turn, DbErr> {
        let taken = async {
            let _queue = match urgency {
                Urgency::Usual => Some(self.queue.lock().await),
                Urgency::First => None,
            };
            Turn { _writer: self.writer.clone().lock_owned().await }
        };
        let taken = tokio::time::timeout(self.wait_max, taken).await;
        taken.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
