//! Signals, from the node's first moment: to stop before there are shards, and after.
//!
//! In: signals to the process. Out: a node that drains, files read again. Always holds: told to stop, the node stops, whenever that is.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::offcore::reload::Reloader;
use crate::offcore::signals::{Request, SignalThread};
use crate::offcore::state::NodeState;
use crate::shard::Links;

/// What there is to stop and to reload.
#[derive(Default)]
struct Reached {
    links: Option<Arc<Links>>,
    reloaders: Vec<Reloader>,
}

/// Who is told of signals.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<Mutex<Reached>>);

impl Stop {
    /// Listens to signals from now on.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn listen(&self, state: Arc<NodeState>) -> io::Result<SignalThread> {
        let reached = Arc::clone(&self.0);
        SignalThread::start(move |request| match request {
            Request::Reload => reached.lock().reloaders.iter().for_each(Reloader::reload),
            Request::Drain => {
                tracing::info!("asked to stop: finishing what runs");
                state.set_draining();
                if let Some(links) = &reached.lock().links {
                    links.drain();
                }
            }
        })
    }

    /// There are shards now.
    pub fn attach(&self, links: &Arc<Links>, reloaders: Vec<Reloader>, state: &NodeState) {
        *self.0.lock() = Reached { links: Some(Arc::clone(links)), reloaders };
        // Told before that: whoever set it saw no shards.
        if state.is_draining() {
            links.drain();
        }
    }
}
