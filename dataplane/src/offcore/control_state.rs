//! What a node says about its link to a control plane.
//!
//! In: the link's own [`Status`]. Out: the `control` of `/status`, the figures of `/metrics`. Always holds: without a control plane there is
//! nothing of either; the token is in neither.

use std::time::Duration;

use link::control::Status;
use serde_json::{Value, json};

/// The figures of `/metrics` about the link.
#[derive(Clone, Debug, Default)]
pub struct ControlFigures {
    /// A stream is being read.
    pub is_connected: bool,
    /// The control plane refuses this node.
    pub is_refused: bool,
    /// Seconds since the control plane was last heard; none: never.
    pub last_contact_s: Option<f64>,
    /// The last change the control plane has told of.
    pub sequence: u64,
    /// Streams that began.
    pub connects: u64,
    /// Reports without an answer.
    pub reports_failed: u64,
    /// Changes in force are missing on disk.
    pub is_disk_failing: bool,
}

impl From<&Status> for ControlFigures {
    fn from(status: &Status) -> Self {
        Self {
            is_connected: status.connected.is_some(),
            is_refused: status.alarm.is_some(),
            last_contact_s: status.last_contact().map(|age| age.as_secs_f64()),
            sequence: status.control_sequence,
            connects: status.connects,
            reports_failed: status.reports_failed,
            is_disk_failing: status.disk_error.is_some(),
        }
    }
}

/// The `control` of `/status`.
#[must_use]
pub fn status(status: &Status) -> Value {
    let seconds = |age: Duration| age.as_secs_f64();
    let alarm = status
        .alarm
        .as_ref()
        .map(|alarm| json!({ "why": format!("{:?}", alarm.why), "text": alarm.text }));
    let fetching = status.fetching.map(|(bytes, here)| json!({ "bytes": bytes, "here": here }));
    json!({
        "urls": status.urls,
        "connected": status.connected,
        "node": status.node,
        "last_contact_s": status.last_contact().map(seconds),
        "sequence": status.sequence,
        "base": status.base,
        "control_sequence": status.control_sequence,
        "alarm": alarm,
        "error": status.error,
        "disk_error": status.disk_error,
        "fetching": fetching,
        "connects": status.connects,
        "deltas": status.deltas,
        "gaps": status.gaps,
        "bases": status.bases,
        "reports": status.reports,
        "reports_failed": status.reports_failed,
        "ledger_waiting": status.ledger_waiting,
    })
}

#[cfg(test)]
#[path = "control_state_tests.rs"]
mod tests;
