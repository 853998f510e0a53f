//! How far the spool has come, for those who read it in the same process.
//!
//! In: positions from the one writer. Out: the last durable one, and a wake when it moves. Always holds: positions only grow; the
//! writer never waits for a reader.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Position;

type Hook = Box<dyn Fn() + Send + Sync>;

/// Shared between the writer and its readers.
#[derive(Default)]
pub struct Tail {
    state: Mutex<State>,
    moved: Condvar,
    hooks: Mutex<Vec<Hook>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    appended: Position,
    synced: Position,
    closed: bool,
}

impl Tail {
    /// Up to here everything is durable: what may be sent elsewhere.
    #[must_use]
    pub fn position(&self) -> Position {
        self.state.lock().synced
    }

    /// Up to here everything is in the file, but may not survive a loss of power.
    #[must_use]
    pub fn appended(&self) -> Position {
        self.state.lock().appended
    }

    /// The writer is gone: nothing more will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Blocks until more than `position` is durable, the writer is gone, or the time is over; the durable position then.
    pub fn wait_past(&self, position: Position, timeout: Duration) -> Position {
        let mut state = self.state.lock();
        self.moved.wait_while_for(
            &mut state,
            |state| state.synced <= position && !state.closed,
            timeout,
        );
        state.synced
    }

    /// Calls `hook` whenever the durable position has moved, and when the writer goes. It runs on the writer's thread, so it may
    /// only wake somebody. One for each reader that lives as long as the spool: hooks are never taken away.
    pub fn on_advance(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.hooks.lock().push(Box::new(hook));
    }

    pub(super) fn append(&self, appended: Position) {
        self.state.lock().appended = appended;
    }

    pub(super) fn sync(&self, synced: Position) {
        self.change(|state| {
            state.synced = synced;
            state.appended = state.appended.max(synced);
        });
    }

    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.moved.notify_all();
        for hook in self.hooks.lock().iter() {
            hook();
        }
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.lock().fmt(formatter)
    }
}
