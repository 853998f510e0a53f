//! The policy that a control plane sends, on its way to the shards.
//!
//! In: bases and changes of the control link. Out: snapshots in force, names for the resolver, TLS to origins prepared, what `/status`
//! says of it. Always holds: a snapshot is in force only once everything it needs is prepared; what is refused changes nothing; what came before
//! the shards were there is what they begin with.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use link::control::PolicySink;
use parking_lot::{Condvar, Mutex};
use policy::delta::Delta;
use policy::snapshot::Snapshot;

use super::origin_files::OriginFilesReader;
use super::policy_source::{origin_names, origin_tls_keys};
use super::resolver::ResolverHandle;
use super::state::NodeState;
use crate::shard::Links;

/// How often a wait for the first policy looks whether the node was told to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Puts in force what the link brings.
pub struct ControlSink {
    state: Arc<NodeState>,
    files: OriginFilesReader,
    /// Where the files are that a policy names without their folder.
    folder: PathBuf,
    names: ResolverHandle,
    links: OnceLock<Arc<Links>>,
    current: Mutex<Option<Arc<Snapshot>>>,
    has_first: Condvar,
}

impl ControlSink {
    /// For a node whose shards are not there yet.
    #[must_use]
    pub fn new(
        state: Arc<NodeState>,
        files: OriginFilesReader,
        folder: PathBuf,
        names: ResolverHandle,
    ) -> Self {
        let (links, current) = (OnceLock::new(), Mutex::default());
        Self { state, files, folder, names, links, current, has_first: Condvar::new() }
    }

    /// Waits for the first policy; none where the node was told to stop before.
    #[must_use]
    pub fn first(&self) -> Option<Arc<Snapshot>> {
        let mut current = self.current.lock();
        while current.is_none() && !self.state.is_draining() {
            self.has_first.wait_for(&mut current, LOOK);
        }
        current.clone()
    }

    /// The shards are there: they get what has come since they were made, and everything from now on.
    pub fn attach(&self, links: &Arc<Links>) {
        let current = self.current.lock();
        // There is one node in a process, and it has one set of shards.
        let _ = self.links.set(Arc::clone(links));
        if let Some(snapshot) = &*current {
            links.publish(Arc::clone(snapshot));
        }
    }

    fn prepare(&self, snapshot: &Snapshot, before: Option<&Snapshot>) -> Result<(), String> {
        if before.is_some_and(|before| before.has_sites_of(snapshot)) {
            return Ok(());
        }
        let keys = origin_tls_keys(snapshot, &self.folder);
        self.files.prepare(keys).map_err(|error| error.to_string())
    }
}

impl PolicySink for ControlSink {
    type Snapshot = Arc<Snapshot>;

    fn load_base(&self, file: File, sequence: u64) -> Result<Arc<Snapshot>, String> {
        let snapshot = Snapshot::from_file(&file).map_err(|error| error.to_string())?;
        if snapshot.sequence() != sequence {
            let found = snapshot.sequence();
            return Err(format!("the base was to have sequence {sequence} and has {found}"));
        }
        self.prepare(&snapshot, None)?;
        Ok(Arc::new(snapshot))
    }

    fn apply(&self, snapshot: &Arc<Snapshot>, delta: &[u8]) -> Result<Arc<Snapshot>, String> {
        let delta = Delta::decode(delta).map_err(|error| error.to_string())?;
        let next = snapshot.apply(&delta).map_err(|error| error.to_string())?;
        self.prepare(&next, Some(snapshot))?;
        Ok(Arc::new(next))
    }

    fn publish(&self, snapshot: &Arc<Snapshot>, sequence: u64) {
        let mut current = self.current.lock();
        let has_same_names = current.as_ref().is_some_and(|before| before.has_sites_of(snapshot));
        if !has_same_names {
            self.names.set_names(origin_names(snapshot));
        }
        if let Some(links) = self.links.get() {
            links.publish(Arc::clone(snapshot));
        }
        *current = Some(Arc::clone(snapshot));
        self.state.snapshot_loaded(sequence);
        drop(current);
        self.has_first.notify_all();
    }

    fn refused(&self, reason: &str) {
        self.state.snapshot_refused(reason.to_owned());
    }
}
