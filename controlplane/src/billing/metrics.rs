//! `GET /metrics/stripe`: what came of what Stripe told, for Prometheus.
//!
//! In: the inbox, the counters of the endpoint. Out: text (version 0.0.4), 503 while the database is away.
//! Always holds: sums over all accounts alone; counters are this process's, gauges the database's.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::webhooks::Webhooks;
use crate::storage::InboxState;

/// The route.
pub fn router(webhooks: Webhooks) -> Router {
    Router::new().route("/metrics/stripe", get(metrics)).with_state(webhooks)
}

async fn metrics(State(webhooks): State<Webhooks>) -> Response {
    match webhooks.store().inbox_state().await {
        Ok(inbox) => {
            let text = text(inbox, webhooks.counters().all(), webhooks.store().world().now_ms());
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => {
            tracing::debug!(%error, "no metrics");
            (StatusCode::SERVICE_UNAVAILABLE, "the database is away\n").into_response()
        }
    }
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
