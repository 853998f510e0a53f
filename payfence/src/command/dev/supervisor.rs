//! Who ends `payfence dev`: signals, or a part that dies.
//!
//! In: signals, what parts say of their end. Out: that it is time to stop, and why; demands to read the policy file again.
//! Always holds: the first signal to stop lets all parts finish in order, whenever it comes; the second ends the process with code 1; the
//! reason of the first part that died is what the command ends with.

use std::process::exit;
use std::sync::{Arc, OnceLock};

use dataplane::offcore::reload::Reloader;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::failure::{Failure, Outcome};

/// What all parts share.
#[derive(Debug)]
pub struct Supervisor {
    is_stopping: watch::Sender<bool>,
    death: OnceLock<String>,
    reloader: OnceLock<Reloader>,
}

impl Supervisor {
    /// Listens to signals from now on.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn start(runtime: &tokio::runtime::Runtime) -> Result<Arc<Self>, Failure> {
        let _context = runtime.enter();
        let listen = |kind| signal(kind).map_err(|error| Failure::Failed(error.into()));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        let supervisor = Arc::new(Self {
            is_stopping: watch::Sender::new(false),
            death: OnceLock::new(),
            reloader: OnceLock::new(),
        });
        let told = Arc::clone(&supervisor);
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => told.stop(),
                    _ = interrupt.recv() => told.stop(),
                    _ = hang_up.recv() => {
                        if let Some(reloader) = told.reloader.get() {
                            reloader.reload();
                        }
                    }
                }
            }
        });
        Ok(supervisor)
    }

    fn stop(&self) {
        if self.is_stopping.send_replace(true) {
            tracing::warn!("asked to stop a second time: ending without waiting");
            exit(1);
        }
    }

    /// Whether all is to end.
    pub fn is_stopping(&self) -> bool {
        *self.is_stopping.borrow()
    }

    /// What comes of `work`; none where all is to end before.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopping = self.is_stopping.subscribe();
        tokio::select! {
            done = work => Some(done),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        }
    }

    /// From now on SIGHUP asks this.
    pub fn set_reloader(&self, reloader: Reloader) {
        // There is one policy file.
        let _ = self.reloader.set(reloader);
    }

    /// Says that a part died: all others end as if they were told to.
    pub fn died(&self, part: &str, reason: &str) {
        tracing::error!(part, reason, "a part died: all stop");
        let is_first = self.death.set(format!("{part} died: {reason}")).is_ok();
        if !is_first || self.is_stopping() {
            return;
        }
        // The node listens to signals by itself.
        if let Err(error) = kill_process(getpid(), Signal::TERM) {
            tracing::error!(%error, "cannot end the other parts in order");
            exit(1);
        }
    }

    /// How the command ends, once `ended` is how the node did.
    pub fn outcome(&self, ended: Outcome) -> Outcome {
        match self.death.get() {
            Some(reason) => Err(Failure::failed(reason)),
            None => ended,
        }
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
