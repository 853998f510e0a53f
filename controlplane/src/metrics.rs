//! `GET /metrics`: what waits, how far nodes are behind, what Stripe told, and what the last reconciliation came to, for Prometheus.
//!
//! In: the database. Out: text (version 0.0.4), 503 while the database is away.
//! Always holds: nothing of any account is told, sums over all of them alone; what is counted is what waits, which indexes have.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};

use crate::billing::metrics as stripe;
use crate::billing::webhooks::Webhooks;
use crate::storage::{StorageResult, Store};

/// The route.
pub fn router(webhooks: Webhooks) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(webhooks)
}

async fn metrics(State(webhooks): State<Webhooks>) -> Response {
    match all(&webhooks).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::debug!(%error, "no metrics");
            (StatusCode::SERVICE_UNAVAILABLE, "the database is away\n").into_response()
        }
    }
}

async fn all(webhooks: &Webhooks) -> StorageResult<String> {
    Ok(text(webhooks.store()).await? + &stripe::lines(webhooks).await?)
}

/// Metrics of the database.
///
/// # Errors
/// When the database cannot be asked.
pub async fn text(store: &Store) -> StorageResult<String> {
    let waiting = store.waiting().await?;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: i64| {
        text.push_str(&format!(
            "# HELP payfence_{name} {help}\n# TYPE payfence_{name} gauge\npayfence_{name} {value}\n"
        ));
    };
    gauge(
        "webhook_deliveries_waiting",
        "Deliveries on their way to owners' endpoints.",
        waiting.deliveries,
    );
    gauge("mails_waiting", "Mails on their way.", waiting.mails);
    gauge(
        "quota_crossings_waiting",
        "Crossed quotas that nobody was told of yet.",
        waiting.crossings,
    );
    gauge(
        "overage_waiting",
        "Periods with overage that Stripe was not told of yet.",
        waiting.overage,
    );
    let nodes = store.nodes_lag().await?;
    gauge("nodes_reporting", "Nodes that were heard within the last minute.", nodes.reporting);
    gauge(
        "nodes_lag_changes",
        "Changes of policy that are published and that the last of those nodes does not have in force.",
        nodes.lag,
    );
    if let Some(last) = store.last_reconciliation().await? {
        gauge(
            "reconciliation_differences",
            "What did not agree in the last reconciliation.",
            last.differences,
        );
        gauge(
            "reconciliation_checked",
            "Subscriptions compared in the last reconciliation.",
            last.checked,
        );
        gauge(
            "reconciliation_ended_seconds",
            "When it ended, Unix time.",
            last.ended_at_ms.div_euclid(1_000),
        );
    }
    Ok(text)
}
