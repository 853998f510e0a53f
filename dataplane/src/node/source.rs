//! Where a node's policy and its units come from: a file and a ledger of its own, or a control plane.
//!
//! In: a [`Config`]. Out: the first snapshot, a ledger's thread, and whatever keeps the policy up to date. Always holds: with a file there is a
//! policy at once or an error; with a control plane the last good one on disk, or the first that comes, however long that takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use link::control::{Control, ControlConfig, LedgerPort, Pace};
use policy::budget::{LeaseReply, LedgerClock};
use policy::snapshot::Snapshot;
use tokio::sync::mpsc;

use super::Error;
use crate::clock::Clock;
use crate::config::{Config, ControlFrom, PolicyFrom};
use crate::offcore::control_source::ControlSink;
use crate::offcore::ledger::{self, Keeping, LedgerThread};
use crate::offcore::origin_files::OriginFilesReader;
use crate::offcore::policy_source::{load_with_files, origin_names};
use crate::offcore::policy_watch::PolicyFile;
use crate::offcore::reload::WatchThread;
use crate::offcore::remote_ledger::{self, Port};
use crate::offcore::resolver::{Reach, Resolver};
use crate::offcore::state::{NodeState, VERSION};
use crate::shard::Links;
use crate::tls::OriginTls;

/// Where bases and changes are kept, within the data directory.
const POLICY_FOLDER: &str = "policy";

/// Where the files are that a policy names without their folder.
pub(super) fn folder(config: &Config) -> PathBuf {
    match &config.policy {
        PolicyFrom::File(path) => path.parent().map(PathBuf::from).unwrap_or_default(),
        PolicyFrom::Control(_) => config.data_dir.clone(),
    }
}

/// A source before the first snapshot was looked at.
pub(super) enum Source {
    /// A file that was read.
    File(PolicyFile<Snapshot>, Arc<Snapshot>),
    /// Control planes that were not asked yet.
    Control(ControlFrom, OriginFilesReader),
}

/// A source that gave its first snapshot.
pub(super) enum Started {
    File(PolicyFile<Snapshot>),
    Control(Linked),
}

/// A link that runs.
pub(super) struct Linked {
    control: Control,
    sink: Arc<ControlSink>,
    clock: Arc<LedgerClock>,
    port: Option<Port>,
}

/// Keeps the policy up to date, as long as it is held.
pub(super) enum Following {
    File(WatchThread),
    Control { _control: Control },
}

impl Following {
    /// What reads a file again when asked.
    pub const fn watch(&self) -> Option<&WatchThread> {
        match self {
            Self::File(thread) => Some(thread),
            Self::Control { .. } => None,
        }
    }
}

impl Source {
    /// Reads the file, where it is one.
    ///
    /// # Errors
    /// When the file is missing or wrong.
    pub fn open(
        config: &Config,
        origin_tls: &Arc<OriginTls>,
        state: &Arc<NodeState>,
    ) -> Result<Self, Error> {
        let files = OriginFilesReader::new(Arc::clone(origin_tls));
        let path = match &config.policy {
            PolicyFrom::Control(from) => return Ok(Self::Control(from.clone(), files)),
            PolicyFrom::File(path) => path,
        };
        let files = Arc::new(files);
        let load = {
            let (files, folder) = (Arc::clone(&files), folder(config));
            move |path: &Path, bytes: &[u8], sequence| {
                load_with_files(path, bytes, sequence, &files, &folder)
            }
        };
        let (file, snapshot) = PolicyFile::open(path, Box::new(load), state.clone())?;
        Ok(Self::File(file.with_further(files), snapshot))
    }

    /// Whether there is a policy already.
    pub const fn is_there(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// Where its origins may be.
    pub const fn reach(&self) -> Reach {
        match self {
            // Whoever writes the file runs the node.
            Self::File(..) => Reach::Anywhere,
            Self::Control(from, _) if from.allow_private_origins => Reach::Anywhere,
            Self::Control(..) => Reach::Public,
        }
    }

    /// The first snapshot; none where the node was told to stop before there was one.
    ///
    /// # Errors
    /// When there can be no link.
    pub fn first(
        self,
        config: &Config,
        state: &Arc<NodeState>,
        clock: Clock,
        resolver: &Resolver,
    ) -> Result<Option<(Started, Arc<Snapshot>)>, Error> {
        match self {
            Self::File(file, snapshot) => {
                resolver.handle().set_names(origin_names(&snapshot));
                Ok(Some((Started::File(file), snapshot)))
            }
            Self::Control(from, files) => {
                let names = resolver.handle();
                let folder = folder(config);
                let sink = Arc::new(ControlSink::new(Arc::clone(state), files, folder, names));
                let linked = Linked::start(config, &from, &sink, clock)?;
                state.set_control(Arc::clone(linked.control.state()));
                if state.snapshot_sequence() == 0 {
                    tracing::info!("waiting for the first policy of the control plane");
                }
                Ok(sink.first().map(|snapshot| (Started::Control(linked), snapshot)))
            }
        }
    }
}

/// How control planes are reached.
///
/// # Errors
/// When there is no randomness.
pub(super) fn link_to(config: &Config, from: &ControlFrom) -> Result<ControlConfig, Error> {
    Ok(ControlConfig {
        urls: from.urls.clone(),
        token_file: from.token_file.clone(),
        ca_file: from.ca_file.clone(),
        folder: config.data_dir.join(POLICY_FOLDER),
        epoch: getrandom::u64().map_err(std::io::Error::other)?,
        version: VERSION.to_owned(),
        pace: Pace::default(),
    })
}

impl Linked {
    fn start(
        config: &Config,
        from: &ControlFrom,
        sink: &Arc<ControlSink>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let settings = link_to(config, from)?;
        let (to_control, requests) = mpsc::channel(link::control::REQUESTS_WAITING_MAX);
        let (replied, replies) = remote_ledger::replies();
        let ledger_clock = Arc::new(LedgerClock::default());
        let observe = {
            let ledger_clock = Arc::clone(&ledger_clock);
            move |asked: Duration, unix_ms: i64| {
                let received_us = clock.now().mono_ns / 1_000;
                let asked_us = u64::try_from(asked.as_micros()).unwrap_or(u64::MAX);
                ledger_clock.observe(received_us.saturating_sub(asked_us), received_us, unix_ms);
            }
        };
        let deliver = move |new: Vec<LeaseReply>| {
            // What has no room is said again when asked again.
            let _ = replied.try_send(new);
        };
        let port = LedgerPort { requests, deliver: Box::new(deliver), observe: Box::new(observe) };
        let control = Control::start(settings, Arc::clone(sink), port)?;
        let port = Some(Port { requests: to_control, replies });
        Ok(Self { control, sink: Arc::clone(sink), clock: ledger_clock, port })
    }
}

impl Started {
    /// Starts the ledger, or the way to it.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn lease(
        mut self,
        requests: Receiver<ledger::Request>,
        links: &Arc<Links>,
        state: &Arc<NodeState>,
        clock: Clock,
        keeping: Keeping,
    ) -> Result<(Self, LedgerThread), Error> {
        let links = Arc::clone(links);
        let port = match &mut self {
            Self::File(_) => None,
            Self::Control(linked) => linked.port.take(),
        };
        let thread = match port {
            None => ledger::start(requests, links, Arc::clone(state), clock, keeping)?,
            Some(port) => remote_ledger::start(requests, port, links, clock, keeping)?,
        };
        Ok((self, thread))
    }

    /// The ledger's clock, where it is not this machine's.
    pub fn clock(&self) -> Option<Arc<LedgerClock>> {
        match self {
            Self::File(_) => None,
            Self::Control(linked) => Some(Arc::clone(&linked.clock)),
        }
    }

    /// Puts in force what comes from now on.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn follow(self, links: &Arc<Links>, resolver: &Resolver) -> Result<Following, Error> {
        match self {
            Self::File(file) => {
                let (names, links) = (resolver.handle(), Arc::clone(links));
                let publish = move |snapshot: Arc<Snapshot>| {
                    names.set_names(origin_names(&snapshot));
                    links.publish(snapshot);
                };
                Ok(Following::File(file.watch(publish)?))
            }
            Self::Control(linked) => {
                linked.sink.attach(links);
                Ok(Following::Control { _control: linked.control })
            }
        }
    }
}
