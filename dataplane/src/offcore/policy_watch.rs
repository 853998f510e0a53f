//! The policy file: loaded at start, loaded again when it was written and closed, replaced, or asked for.
//!
//! In: a path, a function that makes a snapshot of a file's bytes, further files it reads, inotify events, demands to reload. Out: snapshots
//! with growing sequence numbers, handed to one publisher; refusals, told to whoever asked and the log.
//! Always holds: a file that somebody is writing is not read; bytes that already run are no reload; after a refusal
//! the running policy stays.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::file_watch::{Activity, FileWatch, WatchSet};
use super::reload::{Demand, Demands, WatchThread};
use super::state::NodeState;

/// The largest policy file that is read: one byte more than the policy allows, whose own message then says so.
const FILE_BYTES_MAX: u64 = policy::model::file::FILE_BYTES_MAX as u64 + 1;
/// How long nothing may have happened to the file after it was read: programs that save often do so in several steps.
const SETTLE: Duration = Duration::from_millis(5);
/// The same where the file was empty. Between truncating and writing a file is empty, and the kernel shows that before
/// it tells of it; a writer that is held up there must not be taken for one that wants an empty policy.
const SETTLE_EMPTY: Duration = Duration::from_millis(500);

/// Makes a snapshot of a file's bytes. Gets the path (for messages), the bytes and the sequence number; its error is
/// the whole text for a person.
pub type Compile<T> = Box<dyn FnMut(&Path, &[u8], u64) -> Result<T, String> + Send>;

/// Files besides the policy's own that its snapshot is made with, such as certificates of authorities.
pub trait FurtherFiles: Send + Sync {
    /// Where they are.
    fn paths(&self) -> Vec<PathBuf>;

    /// Whether they hold something else than when the snapshot was made, or was refused.
    fn have_changed(&self) -> bool;
}

/// Who is told what became of the file.
pub trait Reports: Send + Sync {
    /// What was read is in force.
    fn loaded(&self, sequence: u64);
    /// What was read is refused, for this reason.
    fn refused(&self, error: String);
    /// What is in the file is what runs, so that an earlier refusal is over.
    fn is_current(&self);
}

impl Reports for NodeState {
    fn loaded(&self, sequence: u64) {
        self.snapshot_loaded(sequence);
    }

    fn refused(&self, error: String) {
        self.snapshot_refused(error);
    }

    fn is_current(&self) {
        self.snapshot_is_current();
    }
}

/// Why there is no policy at the start.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error(
        "cannot read the policy file {}: {cause}; give the path of a readable file with --policy",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file is no valid policy. The text names file, line and key.
    #[error("{0}")]
    Invalid(String),
}

type Fingerprint = [u8; 32];

/// A policy file that was loaded once and can be watched.
pub struct PolicyFile<T> {
    path: PathBuf,
    compile: Compile<T>,
    state: Arc<dyn Reports>,
    sequence: u64,
    running: Fingerprint,
    refused: Option<Fingerprint>,
    watch: io::Result<FileWatch>,
    further: Option<Arc<dyn FurtherFiles>>,
}

impl<T: Send + Sync + 'static> PolicyFile<T> {
    /// Loads `path` for the first time, as sequence number 1. What happens to the file from now on is seen by
    /// [`Self::watch`], however much later that is called.
    ///
    /// # Errors
    /// When the file cannot be read or is no valid policy.
    pub fn open(
        path: &Path,
        mut compile: Compile<T>,
        state: Arc<dyn Reports>,
    ) -> Result<(Self, Arc<T>), PolicyError> {
        // The watch comes first: no change between reading and watching is missed.
        let watch = FileWatch::new(watch_set(path, None));
        let bytes =
            read(path).map_err(|cause| PolicyError::Read { path: path.to_owned(), cause })?;
        let sequence = 1;
        let snapshot = compile(path, &bytes, sequence).map_err(PolicyError::Invalid)?;
        state.loaded(sequence);
        let file = Self {
            path: path.to_owned(),
            compile,
            state,
            sequence,
            running: fingerprint(&bytes),
            refused: None,
            watch,
            further: None,
        };
        Ok((file, Arc::new(snapshot)))
    }

    /// Reloads when one of these files changes as well.
    #[must_use]
    pub fn with_further(mut self, files: Arc<dyn FurtherFiles>) -> Self {
        if let Ok(watch) = &mut self.watch {
            watch.refresh(watch_set(&self.path, Some(&*files)));
        }
        self.further = Some(files);
        self
    }

    /// Reloads from now on, on a thread of its own, and hands each new snapshot to `publish`.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn watch(
        mut self,
        publish: impl FnMut(Arc<T>) + Send + 'static,
    ) -> io::Result<WatchThread> {
        WatchThread::start("payfence-policy", move |demands| self.run(&demands, publish))
    }

    fn run(&mut self, demands: &Demands, mut publish: impl FnMut(Arc<T>)) {
        let mut watch = match std::mem::replace(&mut self.watch, Err(io::Error::other("taken"))) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::error!(
                    %error,
                    path = %self.path.display(),
                    "cannot watch the policy file; changes are read on SIGHUP only. \
                     Raise fs.inotify.max_user_instances and start again"
                );
                None
            }
        };
        loop {
            // A change noticed but not read yet (the file kept changing) has no event to wait for.
            let unread = watch.as_mut().is_some_and(|w| w.peek_activity() == Activity::Changed);
            let timeout = unread.then_some(Duration::ZERO);
            if let Err(error) = demands.wait(watch.as_ref(), timeout) {
                tracing::error!(%error, "cannot wait for changes of the policy file; it is no longer reloaded");
                return;
            }
            let demand = match demands.take() {
                Demand::Stop => return,
                Demand::Reload => true,
                Demand::None => false,
            };
            match &mut watch {
                Some(watch) => self.reload(watch, demand, demands, &mut publish),
                None if demand => self.load(read(&self.path), true, &mut publish),
                None => {}
            }
        }
    }

    /// Reads the file if it changed, nobody is writing it and it stays as it is for a moment; otherwise its next event,
    /// or the change noticed meanwhile, leads here again. Whoever demands a reload wants the file as it is.
    fn reload(
        &mut self,
        watch: &mut FileWatch,
        demand: bool,
        demands: &Demands,
        publish: &mut impl FnMut(Arc<T>),
    ) {
        watch.refresh(watch_set(&self.path, self.further.as_deref()));
        if watch.take_activity() != Activity::Changed && !demand {
            return;
        }
        let bytes = read(&self.path);
        if !demand {
            let is_empty = bytes.as_ref().is_ok_and(Vec::is_empty);
            let pause = if is_empty { SETTLE_EMPTY } else { SETTLE };
            // A demand ends the pause early, and then leads here again; so does an event where a pause is long.
            let _ = demands.wait(is_empty.then_some(&*watch), Some(pause));
            if watch.peek_activity() != Activity::None {
                return;
            }
        }
        self.load(bytes, demand, publish);
    }

    fn load(
        &mut self,
        bytes: io::Result<Vec<u8>>,
        demanded: bool,
        publish: &mut impl FnMut(Arc<T>),
    ) {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(cause) => {
                let error = PolicyError::Read { path: self.path.clone(), cause };
                self.refuse(error.to_string());
                return;
            }
        };
        let fingerprint = fingerprint(&bytes);
        let further = self.further.as_deref();
        if !demanded && !further.is_some_and(FurtherFiles::have_changed) {
            if self.refused == Some(fingerprint) {
                return;
            }
            // What the running policy's further files hold is not known once another policy was read.
            if fingerprint == self.running && (self.refused.is_none() || further.is_none()) {
                self.refused = None;
                self.state.is_current();
                return;
            }
        }
        let sequence = self.sequence + 1;
        match (self.compile)(&self.path, &bytes, sequence) {
            Ok(snapshot) => {
                self.sequence = sequence;
                self.running = fingerprint;
                self.refused = None;
                publish(Arc::new(snapshot));
                self.state.loaded(sequence);
                tracing::info!(sequence, path = %self.path.display(), "policy reloaded");
            }
            Err(error) => {
                self.refused = Some(fingerprint);
                self.refuse(error);
            }
        }
    }

    fn refuse(&self, error: String) {
        tracing::error!(%error, "the policy file was refused; the running policy stays");
        self.state.refused(error);
    }
}

fn watch_set(path: &Path, further: Option<&dyn FurtherFiles>) -> WatchSet {
    let mut files = further.map(FurtherFiles::paths).unwrap_or_default();
    files.push(path.to_owned());
    WatchSet { what: "the policy file", files, ..WatchSet::default() }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// The bytes of a regular file within the bound.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[path = "policy_watch_tests.rs"]
mod tests;
