//! How a sink is doing, for `/status` and `/metrics`.
//!
//! In: what its shipper tells. Out: figures that any thread may read at any time. Always holds: counts only grow; reading waits for
//! nobody but, for a moment, whoever writes the last error's text.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Whether rows get into a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// They do, or there are none.
    Ok,
    /// The last attempt failed, and another will be made.
    Retrying,
    /// No more attempts are made.
    Stopped,
}

impl Health {
    /// The word in `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
        }
    }
}

/// How one sink is doing.
#[derive(Debug)]
pub struct ExportState {
    name: String,
    exported: AtomicU64,
    set_aside: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
    /// When the oldest row not taken was finished, Unix nanoseconds; `i64::MAX` when there is none.
    oldest_ns: AtomicI64,
    health: AtomicU8,
    last_error: Mutex<Option<String>>,
}

impl ExportState {
    /// Of a sink that has not begun.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            exported: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            oldest_ns: AtomicI64::new(i64::MAX),
            health: AtomicU8::new(Health::Ok as u8),
            last_error: Mutex::new(None),
        }
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rows that this process has brought, or found, in the sink.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    /// Rows that the sink would not take.
    #[must_use]
    pub fn set_aside(&self) -> u64 {
        self.set_aside.load(Relaxed)
    }

    /// Rows that the spool dropped before the sink took them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Attempts that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Age of the oldest row that was read and is not in the sink, seconds; zero when there is none.
    #[must_use]
    pub fn lag_seconds(&self, unix_ns: i64) -> f64 {
        match self.oldest_ns.load(Relaxed) {
            i64::MAX => 0.0,
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            oldest => unix_ns.saturating_sub(oldest).max(0) as f64 / 1e9,
        }
    }

    /// Whether rows get in.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Ok,
            1 => Health::Retrying,
            _ => Health::Stopped,
        }
    }

    /// What went wrong last; `None` when nothing did. It may be over by now: see [`Self::health`].
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_exported(&self, rows: u64) {
        self.exported.fetch_add(rows, Relaxed);
    }

    pub(crate) fn add_set_aside(&self, rows: u64) {
        self.set_aside.fetch_add(rows, Relaxed);
    }

    pub(crate) fn add_lost(&self, rows: u64) {
        self.lost.fetch_add(rows, Relaxed);
    }

    pub(crate) fn set_oldest(&self, unix_ns: Option<i64>) {
        self.oldest_ns.store(unix_ns.unwrap_or(i64::MAX), Relaxed);
    }

    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Relaxed);
    }

    pub(crate) fn failed(&self, text: &str) {
        self.failures.fetch_add(1, Relaxed);
        self.note(text);
        self.set_health(Health::Retrying);
    }

    /// Something to tell that is no failed attempt.
    pub(crate) fn note(&self, text: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }
}
