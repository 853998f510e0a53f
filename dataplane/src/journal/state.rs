//! What the journal says of itself.
//!
//! In: what the drain and the ledger thread know. Out: the journal's part of `/status` and `/metrics`. Always holds: setting and
//! reading take no lock but for rare text.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use link::ship::ExportState;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::live::Live;

/// The state of one node's journal.
#[derive(Debug, Default)]
pub struct JournalState {
    enabled: AtomicBool,
    node: Mutex<Arc<str>>,
    live: Live,
    rows: AtomicU64,
    lost: AtomicU64,
    waiting_bytes: AtomicU64,
    spool_bytes: AtomicU64,
    spool_segments: AtomicU64,
    dropped: AtomicU64,
    error: Mutex<Option<String>>,
    exports: OnceLock<Vec<Arc<ExportState>>>,
    /// What the last start found missing, and what it counted as used for that.
    recovered: Mutex<Option<String>>,
}

impl JournalState {
    /// Says that decisions are recorded, in the name of this node.
    pub fn enable(&self, node: &str) {
        *self.node.lock() = node.into();
        self.enabled.store(true, Relaxed);
    }

    /// The node's name in the log.
    #[must_use]
    pub fn node(&self) -> Arc<str> {
        Arc::clone(&self.node.lock())
    }

    /// Rows as they are written.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Rows written, and decisions that found no room in a ring.
    pub(super) fn set_rows(&self, written: u64, lost: u64, waiting_bytes: u64) {
        self.rows.fetch_add(written, Relaxed);
        self.lost.store(lost, Relaxed);
        self.waiting_bytes.store(waiting_bytes, Relaxed);
    }

    /// The spool's bytes and segments.
    pub(super) fn set_spool(&self, bytes: u64, segments: usize) {
        self.spool_bytes.store(bytes, Relaxed);
        self.spool_segments.store(segments as u64, Relaxed);
    }

    /// Rows that the spool's cap has dropped.
    pub(super) fn add_dropped(&self, rows: u64) {
        self.dropped.fetch_add(rows, Relaxed);
    }

    /// Why nothing can be written at the moment; `None` once it can. Whether that is news.
    pub(super) fn set_error(&self, error: Option<String>) -> bool {
        let mut known = self.error.lock();
        let is_news = known.is_some() != error.is_some();
        *known = error;
        is_news
    }

    /// What the start found missing.
    pub fn set_recovered(&self, text: String) {
        *self.recovered.lock() = Some(text);
    }

    /// Says where rows go.
    pub fn set_exports(&self, exports: Vec<Arc<ExportState>>) {
        // Set once, at the start.
        let _ = self.exports.set(exports);
    }

    /// How every sink is doing.
    #[must_use]
    pub fn exports(&self) -> &[Arc<ExportState>] {
        self.exports.get().map_or(&[], Vec::as_slice)
    }

    /// Rows that sinks have taken, over all sinks.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exports().iter().map(|sink| sink.exported()).sum()
    }

    /// Rows that never got, or never will get, where they should: those that found no room, and those that a sink misses.
    #[must_use]
    pub fn lost_or_dropped(&self) -> u64 {
        self.lost() + self.exports().iter().map(|sink| sink.lost() + sink.set_aside()).sum::<u64>()
    }

    /// Age of the oldest row that a sink lacks, seconds.
    #[must_use]
    pub fn export_lag_s(&self, unix_ns: i64) -> f64 {
        self.exports().iter().map(|sink| sink.lag_seconds(unix_ns)).fold(0.0, f64::max)
    }

    /// The sinks' part of `/status`.
    #[must_use]
    pub fn exports_status(&self, unix_ns: i64) -> Vec<Value> {
        let status = |sink: &Arc<ExportState>| {
            json!({
                "sink": sink.name(),
                "state": sink.health().as_str(),
                "exported": sink.exported(),
                "lost": sink.lost(),
                "set_aside": sink.set_aside(),
                "failures": sink.failures(),
                "lag_s": sink.lag_seconds(unix_ns),
                "last_error": sink.last_error(),
            })
        };
        self.exports().iter().map(status).collect()
    }

    /// Decisions that are in no log: those that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// The journal's part of `/status`.
    #[must_use]
    pub fn status(&self) -> Value {
        json!({
            "enabled": self.enabled.load(Relaxed),
            "rows": self.rows.load(Relaxed),
            "lost": self.lost(),
            "ring_bytes": self.waiting_bytes.load(Relaxed),
            "spool_bytes": self.spool_bytes.load(Relaxed),
            "spool_segments": self.spool_segments.load(Relaxed),
            "spool_rows_dropped": self.dropped.load(Relaxed),
            "error": *self.error.lock(),
            "recovered": *self.recovered.lock(),
        })
    }
}
