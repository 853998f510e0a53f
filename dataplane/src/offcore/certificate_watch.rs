//! Certificates: loaded at the start, loaded again when a file or a folder of them changed, or when asked for.
//!
//! In: where certificates are, inotify events, demands to reload. Out: a [`ServerTls`] whose table is replaced; refusals, told to the
//! [`NodeState`] and the log.
//! Always holds: with one bad pair nothing is replaced, so that what is served was good as a whole; files that hold what is served
//! already are no reload; no connection notices.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::TlsConfig;
use crate::tls::{CertificateTable, ClientTrust, Pair, ServerTls};

use super::certificate_files::{self, Loaded};
use super::file_watch::{Activity, FileWatch, WatchSet};
use super::reload::{Demand, Demands, WatchThread};
use super::state::NodeState;

/// How long nothing may have happened before files are taken as they are: a certificate and its key are two files, written one after
/// the other, and between them they do not match.
const SETTLE: Duration = Duration::from_millis(50);
/// How often that is waited for; where changes never end they are taken as they come.
const SETTLES_MAX: u32 = 40;

/// Why there are no certificates at the start.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// Files that are bad, each with what to do.
    #[error("{0}")]
    Files(String),
    /// The library refused.
    #[error("cannot prepare TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// Certificates that were loaded once and can be watched.
pub struct CertificateWatch {
    config: TlsConfig,
    state: Arc<NodeState>,
    tls: Arc<ServerTls>,
    clients: Option<ClientTrust>,
    watch: io::Result<FileWatch>,
    /// What has been warned of, so that it is said once.
    warned: HashSet<(PathBuf, String)>,
    /// What the last refusal said, so that it is counted once.
    refused: Option<String>,
}

impl CertificateWatch {
    /// Loads the certificates for the first time. What happens to their files from now on is seen by [`Self::watch`], however much
    /// later that is called.
    ///
    /// # Errors
    /// When a file is missing or bad.
    pub fn open(config: &TlsConfig, state: Arc<NodeState>) -> Result<Self, CertificatesError> {
        // The watch comes first: no change between reading and watching is missed.
        let watch = FileWatch::new(watch_set(config));
        let (loaded, clients) = load(config, &state, &[]).map_err(CertificatesError::Files)?;
        let table = CertificateTable::new(loaded.pairs);
        state.tls().loaded(&table);
        let tls = Arc::new(ServerTls::new(table, clients.clone(), state.clock())?);
        let config = config.clone();
        let mut opened =
            Self { config, state, tls, clients, watch, warned: HashSet::new(), refused: None };
        opened.warn(loaded.warnings);
        Ok(opened)
    }

    /// What connections are made with.
    #[must_use]
    pub const fn tls(&self) -> &Arc<ServerTls> {
        &self.tls
    }

    /// Reloads from now on, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn watch(mut self) -> io::Result<WatchThread> {
        WatchThread::start("payfence-certs", move |demands| self.run(&demands))
    }

    fn run(&mut self, demands: &Demands) {
        let mut watch = match std::mem::replace(&mut self.watch, Err(io::Error::other("taken"))) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::error!(
                    %error,
                    "cannot watch the certificates; changes are read on SIGHUP only. \
                     Raise fs.inotify.max_user_instances and start again"
                );
                None
            }
        };
        loop {
            if let Err(error) = demands.wait(watch.as_ref(), None) {
                tracing::error!(%error, "cannot wait for changes of certificates; they are no longer reloaded");
                return;
            }
            let demand = match settle(demands, watch.as_mut(), &self.config) {
                Settled::Stop => return,
                Settled::Nothing => continue,
                Settled::Changed => false,
                Settled::Demand => true,
            };
            self.reload(demand);
        }
    }

    fn reload(&mut self, demand: bool) {
        let running = self.tls.table();
        let (loaded, clients) = match load(&self.config, &self.state, running.pairs()) {
            Ok(good) => good,
            Err(error) => return self.refuse(error, demand),
        };
        self.refused = None;
        self.warn(loaded.warnings);
        let is_same = same(&loaded.pairs, running.pairs())
            && clients.as_ref().map(ClientTrust::fingerprint)
                == self.clients.as_ref().map(ClientTrust::fingerprint);
        if is_same && !demand {
            return self.state.tls().loaded(&running);
        }
        let table = CertificateTable::new(loaded.pairs);
        if let Err(error) = self.tls.replace(table, clients.clone()) {
            return self.refuse(error.to_string(), demand);
        }
        self.clients = clients;
        let table = self.tls.table();
        self.state.tls().loaded(&table);
        tracing::info!(certificates = table.pairs().len(), "certificates reloaded");
    }

    fn refuse(&mut self, error: String, demand: bool) {
        if self.refused.as_ref() == Some(&error) && !demand {
            return;
        }
        tracing::error!(%error, "certificates were refused; those served stay");
        self.state.tls().refused(error.clone());
        self.refused = Some(error);
    }

    /// Says what is unwise, once, and again after it had gone.
    fn warn(&mut self, warnings: Vec<(PathBuf, String)>) {
        let warnings: HashSet<_> = warnings.into_iter().collect();
        for (file, warning) in warnings.difference(&self.warned) {
            tracing::warn!(file = %file.display(), "{warning}");
        }
        self.warned = warnings;
    }
}

fn load(
    config: &TlsConfig,
    state: &NodeState,
    running: &[Pair],
) -> Result<(Loaded, Option<ClientTrust>), String> {
    let clients = config.client_auth.as_ref().map(certificate_files::load_client_trust).transpose();
    let now_s = state.clock().now().unix_s();
    let pairs = certificate_files::load(&config.certificates, now_s, running);
    match (pairs, clients) {
        (Ok(loaded), Ok(clients)) => Ok((loaded, clients)),
        (pairs, clients) => {
            let mut faults = pairs.err().unwrap_or_default();
            faults.extend(clients.err());
            Err(certificate_files::describe(&faults))
        }
    }
}

fn same(one: &[Pair], other: &[Pair]) -> bool {
    let of = |pair: &Pair| (pair.file.clone(), pair.fingerprint, pair.is_default);
    one.iter().map(of).eq(other.iter().map(of))
}

fn watch_set(config: &TlsConfig) -> WatchSet {
    certificate_files::watch_set(&config.certificates, config.client_auth.as_ref())
}

/// What there is to do after the files have come to rest.
enum Settled {
    Nothing,
    Changed,
    Demand,
    Stop,
}

/// Waits until nothing happens to the files for a moment. Whoever demands a reload wants them as they are.
fn settle(demands: &Demands, watch: Option<&mut FileWatch>, config: &TlsConfig) -> Settled {
    let mut watch = watch;
    let mut has_changed = false;
    for _ in 0..SETTLES_MAX {
        match demands.take() {
            Demand::Stop => return Settled::Stop,
            Demand::Reload => return Settled::Demand,
            Demand::None => {}
        }
        let Some(watch) = watch.as_deref_mut() else { return Settled::Nothing };
        // New links and folders lead to files that must be watched before they are read.
        watch.refresh(watch_set(config));
        match watch.take_activity() {
            Activity::None if has_changed => return Settled::Changed,
            Activity::None => return Settled::Nothing,
            // Its closing wakes the thread again.
            Activity::BeingWritten if !has_changed => return Settled::Nothing,
            Activity::BeingWritten | Activity::Changed => has_changed = true,
        }
        let _ = demands.wait(None, Some(SETTLE));
    }
    Settled::Changed
}

#[cfg(test)]
#[path = "certificate_watch_tests.rs"]
mod tests;
