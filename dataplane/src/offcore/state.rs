//! What the node says about itself.
//!
//! In: shards and off-core threads set what they know. Out: readiness, `/status`, the node's own figures.
//! Always holds: setting and reading take no lock but for rare text; a node is ready only with a snapshot, all shards
//! accepting and no drain begun.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use link::control::LinkState;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::control_state;
use super::tls_state::TlsState;
use crate::clock::{Clock, Now};
use crate::journal::state::JournalState;
use crate::metrics::{Metrics, NodeFigures};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The state of one node, shared by all its threads.
#[derive(Debug)]
pub struct NodeState {
    clock: Clock,
    started: Now,
    metrics: Arc<Metrics>,
    accepting: Box<[AtomicBool]>,
    draining: AtomicBool,
    snapshot_sequence: AtomicU64,
    snapshot_loaded_ns: AtomicI64,
    snapshot_rejected: AtomicU64,
    snapshot_error: Mutex<Option<String>>,
    ledger_lag_ns: AtomicU64,
    tls: TlsState,
    journal: Arc<JournalState>,
    control: OnceLock<Arc<LinkState>>,
}

impl NodeState {
    /// A node that has just started: no snapshot, no shard accepting.
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        let accepting = metrics.shards().iter().map(|_| AtomicBool::new(false)).collect();
        Self {
            clock,
            started: clock.now(),
            metrics,
            accepting,
            draining: AtomicBool::new(false),
            snapshot_sequence: AtomicU64::new(0),
            snapshot_loaded_ns: AtomicI64::new(0),
            snapshot_rejected: AtomicU64::new(0),
            snapshot_error: Mutex::new(None),
            ledger_lag_ns: AtomicU64::new(0),
            tls: TlsState::default(),
            journal: Arc::default(),
            control: OnceLock::new(),
        }
    }

    /// The shards' cells.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is known about TLS.
    #[must_use]
    pub const fn tls(&self) -> &TlsState {
        &self.tls
    }

    /// What is known about the journal.
    #[must_use]
    pub const fn journal(&self) -> &Arc<JournalState> {
        &self.journal
    }

    /// The clock all threads share.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Says whether one shard accepts connections. A shard that does not exist is ignored.
    pub fn set_accepting(&self, shard: usize, accepting: bool) {
        if let Some(flag) = self.accepting.get(shard) {
            flag.store(accepting, Relaxed);
        }
    }

    /// Says that the node shuts down. There is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the node shuts down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Says that a snapshot is in use from now on; the last error is over.
    pub fn snapshot_loaded(&self, sequence: u64) {
        self.snapshot_sequence.store(sequence, Relaxed);
        self.snapshot_loaded_ns.store(self.clock.now().unix_ns, Relaxed);
        *self.snapshot_error.lock() = None;
    }

    /// Says that a snapshot or a policy file was refused, and why.
    pub fn snapshot_refused(&self, error: String) {
        *self.snapshot_error.lock() = Some(error);
        // Only the policy thread writes it.
        self.snapshot_rejected.store(self.snapshot_rejected.load(Relaxed) + 1, Relaxed);
    }

    /// Says that what is in the policy file is what runs, so that an earlier refusal is over.
    pub fn snapshot_is_current(&self) {
        *self.snapshot_error.lock() = None;
    }

    /// The sequence number of the snapshot in use; 0 before there is one.
    #[must_use]
    pub fn snapshot_sequence(&self) -> u64 {
        self.snapshot_sequence.load(Relaxed)
    }

    /// How many snapshots or policy files were refused.
    #[must_use]
    pub fn snapshot_rejected(&self) -> u64 {
        self.snapshot_rejected.load(Relaxed)
    }

    /// Why the last one was refused, unless a good one came after it.
    #[must_use]
    pub fn snapshot_error(&self) -> Option<String> {
        self.snapshot_error.lock().clone()
    }

    /// Sets how long the ledger has owed an answer, in nanoseconds; 0 when it owes none.
    pub fn set_ledger_lag_ns(&self, lag_ns: u64) {
        self.ledger_lag_ns.store(lag_ns, Relaxed);
    }

    /// Says which link to a control plane this node has. There is one at most; a second is passed over.
    pub fn set_control(&self, link: Arc<LinkState>) {
        let _ = self.control.set(link);
    }

    /// Why the node is not ready; none when it is.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining: the node is shutting down".to_owned());
        }
        if self.snapshot_sequence() == 0 {
            return Some("no policy snapshot is loaded".to_owned());
        }
        let waiting: Vec<String> = (0..)
            .zip(&self.accepting)
            .filter(|(_, accepting)| !accepting.load(Relaxed))
            .map(|(number, _): (usize, _)| number.to_string())
            .collect();
        (!waiting.is_empty()).then(|| format!("not accepting yet: shard {}", waiting.join(", ")))
    }

    /// The figures of `/metrics` that no shard counts.
    #[must_use]
    pub fn figures(&self) -> NodeFigures {
        let link = self.control.get().map(|link| link.status());
        let undelivered_s = link.as_ref().map_or(0.0, |link| link.ledger_lag().as_secs_f64());
        NodeFigures {
            version: VERSION,
            uptime_s: self.uptime_s(),
            snapshot_sequence: self.snapshot_sequence(),
            snapshot_loaded_s: self.snapshot_loaded_ns.load(Relaxed) as f64 / 1e9,
            snapshot_rejected: self.snapshot_rejected(),
            decisions_exported: self.journal.exported(),
            decisions_lost: self.journal.lost_or_dropped(),
            export_lag_s: self.journal.export_lag_s(self.clock.now().unix_ns),
            ledger_lag_s: (self.ledger_lag_ns.load(Relaxed) as f64 / 1e9).max(undelivered_s),
            certificate_expiry_s: self.tls.expiry_s(),
            certificates_rejected: self.tls.rejected(),
            control: link.as_ref().map(Into::into),
        }
    }

    /// The body of `/status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let loaded_at = match self.snapshot_loaded_ns.load(Relaxed) {
            0 => Value::Null,
            ns => timestamp(ns).into(),
        };
        let shards: Vec<Value> = self
            .metrics
            .shards()
            .iter()
            .zip(&self.accepting)
            .enumerate()
            .map(|(number, (cells, accepting))| {
                json!({
                    "shard": number,
                    "accepting": accepting.load(Relaxed),
                    "connections": cells.connections.get(),
                    "upstream_connections": cells.upstream_connections.get(),
                })
            })
            .collect();
        json!({
            "version": VERSION,
            "uptime_s": self.uptime_s().floor() as u64,
            "snapshot": {
                "sequence": self.snapshot_sequence(),
                "loaded_at": loaded_at,
                "rejected": self.snapshot_rejected(),
                "last_error": self.snapshot_error(),
            },
            "shards": shards,
            "connections": self.metrics.sum(|shard| shard.connections.get()),
            "budgets": {
                "entitlements": self.metrics.sum(|shard| shard.budget_entitlements.get()),
                "loaned_units": self.metrics.sum(|shard| shard.budget_loaned_units.get()),
                "loans": self.metrics.sum(|shard| shard.budget_loans.get()),
                "recalls": self.metrics.sum(|shard| shard.budget_recalls.get()),
                "ledger": if self.control.get().is_some() { "control" } else { "memory" },
            },
            "journal": self.journal.status(),
            "exports": self.journal.exports_status(self.clock.now().unix_ns),
            "tls": self.tls.status(),
            "control": self.control.get().map(|link| control_state::status(&link.status())),
        })
    }

    fn uptime_s(&self) -> f64 {
        self.clock.now().since(self.started).as_secs_f64()
    }
}

/// RFC 3339 in UTC.
pub(super) fn timestamp(unix_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns))
        .expect("an i64 of nanoseconds lies between the years 1677 and 2262")
        .to_string()
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
