//! What came of what Stripe told, for `GET /metrics`.
//!
//! In: the inbox, the counters of the endpoint. Out: lines for Prometheus.
//! Always holds: sums over all accounts alone; counters are this process's, gauges the database's.

use std::fmt::Write as _;

use super::webhooks::Webhooks;
use crate::storage::{InboxState, StorageResult};

/// The lines.
///
/// # Errors
/// When the database cannot be asked.
pub async fn lines(webhooks: &Webhooks) -> StorageResult<String> {
    let inbox = webhooks.store().inbox_state().await?;
    Ok(text(inbox, webhooks.counters().all(), webhooks.store().world().now_ms()))
}

fn text(
    inbox: InboxState,
    outcomes: impl Iterator<Item = (&'static str, u64)>,
    now_ms: i64,
) -> String {
    let mut text = String::from(
        "# HELP payfence_stripe_webhooks_total Webhooks by what became of them.\n\
         # TYPE payfence_stripe_webhooks_total counter\n",
    );
    for (outcome, count) in outcomes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "payfence_stripe_webhooks_total{{outcome=\"{outcome}\"}} {count}");
    }
    let lag_ms = inbox.oldest_ms.map_or(0, |oldest_ms| (now_ms - oldest_ms).max(0));
    let gauges = [
        ("events_waiting", "Events that are not settled yet.", inbox.waiting),
        ("lag_milliseconds", "How long the oldest of them has waited.", lag_ms),
        ("events_dead", "Events that were given up.", inbox.dead),
    ];
    for (name, help, value) in gauges {
        let _ = write!(
            text,
            "# HELP payfence_stripe_{name} {help}\n# TYPE payfence_stripe_{name} gauge\npayfence_stripe_{name} {value}\n"
        );
    }
    text
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
