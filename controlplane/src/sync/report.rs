//! `POST /node/v1/report`.
//!
//! In: one [`Report`]. Out: one [`ReportReply`]; other nodes are told what concerns them.
//! Always holds: only the newest start of a node is heard; what a report asks of the ledger is done wholly or not at
//! all.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use link::wire::{Report, ReportReply, Why};

use super::{Sync, frames, refuse, unavailable};
use crate::storage::{NodeReport, Start, StorageResult, Taken};

/// Takes a report.
pub async fn report(State(sync): State<Sync>, headers: HeaderMap, body: Bytes) -> Response {
    let node = match sync.admit(&headers).await {
        Ok((node, _)) => node,
        Err(refusal) => return refusal,
    };
    let Ok(report) = Report::decode(&body) else {
        return refuse(StatusCode::BAD_REQUEST, Why::Malformed, "the report cannot be read");
    };
    let start = match sync.store.node_start(node.key, report.epoch).await {
        Ok(Start::Current(start)) => start,
        Ok(Start::Superseded) => {
            let text = "a later start of this node has connected: two processes use one node token";
            return refuse(StatusCode::CONFLICT, Why::Superseded, text);
        }
        Err(error) => return unavailable(&error),
    };
    let number = u64::try_from(node.key).unwrap_or_default();
    let taken = match take(&sync, node.key, number, start, &report).await {
        Ok(taken) => taken,
        Err(error) => return unavailable(&error),
    };
    let (own, others): (Vec<_>, Vec<_>) =
        taken.posted.into_iter().partition(|posted| posted.node == number);
    sync.mailboxes.post(&sync.store, others).await;
    let replies = own.iter().filter_map(|posted| posted.for_start(start)).collect();
    let reply = ReportReply { number: report.number, unix_ms: taken.unix_ms, replies };
    match reply.encode() {
        Ok(bytes) => frames(StatusCode::OK, Body::from(bytes)),
        Err(error) => {
            tracing::error!(%error, "a report's answer cannot be written");
            refuse(StatusCode::SERVICE_UNAVAILABLE, Why::Unavailable, "the answer is too long")
        }
    }
}

async fn take(
    sync: &Sync,
    key: i64,
    number: u64,
    start: u64,
    report: &Report,
) -> StorageResult<Taken> {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let said = NodeReport {
        applied_sequence: signed(report.sequence),
        base_sequence: signed(report.base),
        rejected: signed(report.figures.rejected),
        error: report.figures.error.clone(),
        program: report.figures.version.clone(),
    };
    if sync.seen.is_news(key, &said) {
        sync.store.node_reported(key, &said).await?;
    }
    if report.requests.is_empty() {
        let unix_ms = sync.store.ledger_now_ms().await?;
        return Ok(Taken { unix_ms, posted: Vec::new() });
    }
    sync.store.take_requests(number, start, &report.requests).await
}
