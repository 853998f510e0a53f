//! How the control link is, for `/status` and metrics.
//!
//! In: the link's tasks say what happens. Out: one [`Status`], copied. Always holds: reading holds up nobody for longer than a copy takes.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ControlConfig;
use crate::wire::{Refusal, Why};

/// What the control plane has said that only an operator can mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub why: Why,
    /// In its words.
    pub text: String,
}

/// The link at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The control planes.
    pub urls: Vec<String>,
    /// The one whose stream is read now.
    pub connected: Option<String>,
    /// The name it knows this node by.
    pub node: Option<String>,
    /// The last change in force; 0 for none.
    pub sequence: u64,
    /// The base below it; 0 for none.
    pub base: u64,
    /// The last change the control plane has told of.
    pub control_sequence: u64,
    /// Bases and changes refused.
    pub rejected: u64,
    /// Why the last one was, unless a good one came after it.
    pub rejected_error: Option<String>,
    /// Why there is no stream, or there was none before this one.
    pub error: Option<String>,
    /// The control plane refuses this node.
    pub alarm: Option<Alarm>,
    /// Streams that began.
    pub connects: u64,
    /// Changes put in force.
    pub deltas: u64,
    /// Times that changes were missing and asked for.
    pub gaps: u64,
    /// Bases put in force.
    pub bases: u64,
    /// Bytes of the base being fetched, and of those how many are here.
    pub fetching: Option<(u64, u64)>,
    /// What cannot be written to disk, and why.
    pub disk_error: Option<String>,
    /// Reports answered, and not.
    pub reports: u64,
    /// Reports that got no answer.
    pub reports_failed: u64,
    /// Lease requests not answered yet.
    pub ledger_waiting: u64,
    last_contact: Option<Instant>,
    owing_since: Option<Instant>,
}

impl Status {
    /// How long ago the control plane was last heard; none: never.
    #[must_use]
    pub fn last_contact(&self) -> Option<Duration> {
        self.last_contact.map(|at| at.elapsed())
    }

    /// How long the oldest lease request has waited to be delivered.
    #[must_use]
    pub fn ledger_lag(&self) -> Duration {
        self.owing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// The link's state, shared by its tasks and whoever looks.
#[derive(Debug)]
pub struct LinkState {
    status: Mutex<Status>,
    /// Another sequence came into force.
    advanced: Notify,
}

impl LinkState {
    pub(crate) fn new(config: &ControlConfig) -> Self {
        let urls = config.urls.iter().map(ToString::to_string).collect();
        Self { status: Mutex::new(Status { urls, ..Status::default() }), advanced: Notify::new() }
    }

    /// A copy of it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock());
    }

    /// Another sequence is in force: who waits for it is told.
    pub(super) fn advance(&self, change: impl FnOnce(&mut Status)) {
        self.update(change);
        self.advanced.notify_one();
    }

    /// Returns when a sequence has come into force since the last time this returned. For one task.
    pub(super) async fn advanced(&self) {
        self.advanced.notified().await;
    }

    /// A control plane has said something that shows it takes this node for its own.
    pub(super) fn heard(&self) {
        self.update(|status| {
            status.last_contact = Some(Instant::now());
            if status.alarm.take().is_some() {
                tracing::info!("the control plane takes this node again");
            }
        });
    }

    /// A control plane refuses this node.
    pub(super) fn alarmed(&self, refusal: &Refusal) {
        let alarm = Alarm { why: refusal.why, text: refusal.text.clone() };
        self.update(|status| {
            status.last_contact = Some(Instant::now());
            if status.alarm.as_ref() != Some(&alarm) {
                tracing::error!(
                    why = ?alarm.why,
                    "the control plane refuses this node: {}. It serves on with the policy and the leases it has",
                    alarm.text
                );
            }
            status.alarm = Some(alarm);
        });
    }

    pub(super) fn rejected(&self, reason: &str) {
        tracing::error!("policy was refused, what was in force stays: {reason}");
        self.update(|status| {
            status.rejected += 1;
            status.rejected_error = Some(reason.to_owned());
        });
    }

    pub(super) fn disk_failed(&self, what: &str, error: &dyn std::fmt::Display) {
        let text = format!("{what}: {error}");
        self.update(|status| {
            if status.disk_error.as_ref() != Some(&text) {
                tracing::error!("{text}");
            }
            status.disk_error = Some(text);
        });
    }

    pub(super) fn disk_works(&self) {
        self.update(|status| status.disk_error = None);
    }

    pub(super) fn ledger_waits(&self, waiting: usize) {
        self.update(|status| {
            status.ledger_waiting = waiting as u64;
            status.owing_since =
                (waiting > 0).then(|| status.owing_since.unwrap_or_else(Instant::now));
        });
    }
}
