//! A node's end of the control link: policy comes in by it, the ledger's messages go both ways.
//!
//! In: a control plane's stream, or what an earlier start kept on disk; lease requests of this node. Out: snapshots handed to a
//! [`PolicySink`], lease replies, a [`LinkState`]. Always holds: what fails any check changes nothing but the state; the sequence in force
//! never goes back within one history; lease requests are sent until a control plane has answered them; every wait has a deadline and
//! every queue a bound.
//!
//! One thread with two tasks: [`follow`] keeps the stream and what is on disk, [`report`] sends reports. Both turn to the next URL when
//! one fails them.

pub mod client;
mod config;
mod download;
mod follow;
pub(crate) mod http;
mod keeper;
mod report;
mod session;
mod state;
mod store;
mod token_file;
mod waiting;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use policy::budget::message::{LeaseReply, LeaseRequest};
use tokio::sync::{mpsc, oneshot};

pub use config::{ControlConfig, ControlUrl, Pace, UrlError};
pub use state::{Alarm, LinkState, Status};
pub use store::StoreError;
pub use token_file::{TokenFileError, check as check_token_file};

use http::Http;
use keeper::Keeper;
use store::Store;

/// Lease requests that may wait to be taken.
pub const REQUESTS_WAITING_MAX: usize = 64 * 1024;

/// What makes snapshots of bytes, and puts them in force. What is in the bytes is its matter alone.
pub trait PolicySink: Send + Sync + 'static {
    /// A whole policy, cheap to clone.
    type Snapshot: Clone + Send + 'static;

    /// Makes a snapshot of a base file, which is never written to afterwards. May take long: it is called where that holds nothing up.
    ///
    /// # Errors
    /// Text for a person: the file does not hold the policy of this sequence, or fails any check.
    fn load_base(&self, file: File, sequence: u64) -> Result<Self::Snapshot, String>;

    /// The snapshot that a change makes of another. Takes well under a millisecond. A change may begin before what the snapshot holds: it says
    /// how things are at its end, not what is added.
    ///
    /// # Errors
    /// Text for a person: the change is damaged, or does not fit.
    fn apply(&self, snapshot: &Self::Snapshot, delta: &[u8]) -> Result<Self::Snapshot, String>;

    /// Puts a snapshot in force.
    fn publish(&self, snapshot: &Self::Snapshot, sequence: u64);

    /// A base or a change was refused, for this reason; what was in force stays.
    fn refused(&self, reason: &str);
}

/// Takes the ledger's replies and recalls. What it cannot take is lost; the ledger says it again when asked again.
pub type Deliver = Box<dyn Fn(Vec<LeaseReply>) + Send + Sync>;

/// Hears the ledger's clock: how long the question was under way, and what the clock said, Unix milliseconds. Called before the
/// replies of the same answer are delivered.
pub type Observe = Box<dyn Fn(Duration, i64) + Send + Sync>;

/// The way of the ledger's messages through the link.
pub struct LedgerPort {
    /// What owner shards ask and tell.
    pub requests: mpsc::Receiver<LeaseRequest>,
    /// Where replies go.
    pub deliver: Deliver,
    /// Who keeps the ledger's clock.
    pub observe: Observe,
}

impl std::fmt::Debug for LedgerPort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LedgerPort").finish_non_exhaustive()
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The token file is missing or wrong.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The folder for policies cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be had.
    #[error(
        "cannot trust any control plane: {0}; give the authorities' certificates with --control-ca"
    )]
    Authorities(String),
    /// The thread or its runtime cannot be made.
    #[error("the control link cannot run: {0}")]
    Io(#[from] io::Error),
}

/// A link that runs. Dropping it sends what waits, within [`Pace::last_report`], and ends it.
#[derive(Debug)]
pub struct Control {
    state: Arc<LinkState>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Puts the last good policy on disk in force, if there is one, and starts the link.
    ///
    /// # Errors
    /// When the token file, the folder or the authorities cannot be used. A control plane that cannot be reached is no error.
    pub fn start<S: PolicySink>(
        config: ControlConfig,
        sink: Arc<S>,
        ledger: LedgerPort,
    ) -> Result<Self, ControlError> {
        let state = Arc::new(LinkState::new(&config));
        let http = Arc::new(Http::new(&config, Arc::clone(&state))?);
        let store = Store::open(&config.folder)?;
        let keeper = Keeper::boot(sink, store, Arc::clone(&state));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let run = {
            let state = Arc::clone(&state);
            async move {
                let deliver = Arc::new(ledger.deliver);
                let follow = follow::run(
                    keeper,
                    Arc::clone(&http),
                    Arc::clone(&deliver),
                    Arc::clone(&state),
                    &config,
                );
                let report = report::run(
                    &http,
                    &state,
                    (ledger.requests, &deliver, &ledger.observe),
                    stopped,
                    &config,
                );
                // The report's task ends when the link does.
                tokio::select! {
                    () = follow => {}
                    () = report => {}
                }
            }
        };
        let thread = Builder::new().name("payfence-link".to_owned()).spawn(move || {
            runtime.block_on(run);
            // A base that is just being checked is not waited for: what is on disk is whole without it.
            runtime.shutdown_background();
        })?;
        Ok(Self { state, stop: Some(stop), thread: Some(thread) })
    }

    /// How the link is.
    #[must_use]
    pub const fn state(&self) -> &Arc<LinkState> {
        &self.state
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on it has been reported by the hook.
            let _ = thread.join();
        }
    }
}
