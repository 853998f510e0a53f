//! `POST /node/v1/decisions`, `GET /node/v1/decisions/{epoch}`; and forgetting what is kept no longer.
//!
//! In: [`Decisions`] of a node. Out: [`Positions`].
//! Always holds: a node speaks for itself alone, since its token says whose rows these are; rows are answered once all of a
//! batch are taken; no more batches are in memory at once than are worked on.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use link::wire::decisions::BODY_BYTES_MAX;
use link::wire::{Decisions, Position, Positions, Why};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::{Sync, frames, refuse, unavailable};
use crate::storage::{ReadDecisions, Retention, StorageResult};

/// Batches that are worked on at once: the database is there for others, too.
const AT_ONCE: usize = 2;
/// How long a batch waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How often all sites are gone through.
const ROUND: Duration = Duration::from_secs(600);
/// How often it is looked whether a site has many new rows.
const LOOK: Duration = Duration::from_secs(1);
/// A site is pruned when it has got this part of what is kept anew.
const SURPLUS: u64 = 10;

/// What batches share.
#[derive(Debug)]
pub struct Intake {
    kept: Retention,
    turns: Semaphore,
    /// Rows each site has got since it was pruned.
    added: Mutex<HashMap<i64, u64>>,
    is_full: Notify,
}

impl Intake {
    /// Nothing was taken yet.
    pub fn new(kept: Retention) -> Self {
        let (added, is_full) = (Mutex::default(), Notify::new());
        Self { kept, turns: Semaphore::new(AT_ONCE), added, is_full }
    }

    fn note(&self, added: &[(i64, u64)]) {
        let mut all = self.added.lock();
        for (site, rows) in added {
            let sum = all.entry(*site).or_default();
            *sum += rows;
            if *sum > self.surplus() {
                self.is_full.notify_one();
            }
        }
    }

    fn surplus(&self) -> u64 {
        (self.kept.decisions / SURPLUS).max(1_000)
    }

    /// Sites that have got many rows, which are forgotten here.
    fn full(&self) -> Vec<i64> {
        let surplus = self.surplus();
        let mut added = self.added.lock();
        added.extract_if(|_, rows| *rows > surplus).map(|(site, _)| site).collect()
    }
}

/// Takes decisions.
pub async fn take(
    State(sync): State<Sync>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let node = match sync.admit(&headers).await {
        Ok((node, _)) => node,
        Err(refusal) => return refusal,
    };
    let malformed = |text| refuse(StatusCode::BAD_REQUEST, Why::Malformed, text);
    let Ok(body) = body else {
        let text = format!("the body broke off or is longer than {BODY_BYTES_MAX} bytes");
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, Why::Malformed, &text);
    };
    let turn = tokio::time::timeout(TURN, sync.intake.turns.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        let text = "other nodes' decisions are being taken; try again";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, Why::Unavailable, text);
    };
    let Ok(decisions) = Decisions::decode(&body) else {
        return malformed("the decisions cannot be read");
    };
    drop(body);
    let Ok(rows) = ReadDecisions::of(&decisions) else {
        return malformed(
            "a decision cannot be read: run this control plane in the version of its nodes, or a later one",
        );
    };
    match sync.store.take_decisions(node.key, &rows, &sync.intake.kept).await {
        Ok(taken) => {
            sync.intake.note(&taken.added);
            answer(taken.positions)
        }
        Err(error) => unavailable(&error),
    }
}

/// Says where the streams of one start are.
pub async fn positions(
    State(sync): State<Sync>,
    headers: HeaderMap,
    Path(epoch): Path<String>,
) -> Response {
    let node = match sync.admit(&headers).await {
        Ok((node, _)) => node,
        Err(refusal) => return refusal,
    };
    let Ok(epoch) = u64::from_str_radix(&epoch, 16) else {
        return refuse(StatusCode::BAD_REQUEST, Why::Malformed, "the start is no number");
    };
    match sync.store.decision_positions(node.key, epoch).await {
        Ok(positions) => answer(positions),
        Err(error) => unavailable(&error),
    }
}

fn answer(positions: Vec<Position>) -> Response {
    match (Positions { positions }).encode() {
        Ok(bytes) => frames(StatusCode::OK, Body::from(bytes)),
        Err(error) => {
            tracing::error!(%error, "positions of decisions cannot be written");
            refuse(StatusCode::SERVICE_UNAVAILABLE, Why::Unavailable, "the answer is too long")
        }
    }
}

/// Prunes for ever: sites with many new rows at once, all of them now and then.
pub async fn prune(sync: Sync) {
    let mut last = None::<Instant>;
    loop {
        let pruned = if last.is_none_or(|last| last.elapsed() >= ROUND) {
            last = Some(Instant::now());
            prune_all(&sync).await
        } else {
            prune_full(&sync).await
        };
        if let Err(error) = pruned {
            tracing::debug!(%error, "old decisions stay for now");
        }
        let _ = tokio::time::timeout(ROUND, sync.intake.is_full.notified()).await;
        // So that a storm of rows does not make one of deletions.
        tokio::time::sleep(LOOK).await;
    }
}

async fn prune_full(sync: &Sync) -> StorageResult<()> {
    for site in sync.intake.full() {
        sync.store.prune_decisions(site, &sync.intake.kept).await?;
    }
    Ok(())
}

async fn prune_all(sync: &Sync) -> StorageResult<()> {
    let (store, kept) = (&sync.store, &sync.intake.kept);
    let mut after = 0;
    loop {
        let sites = store.site_keys_after(after).await?;
        let Some(last) = sites.last() else { break };
        after = *last;
        for site in sites {
            store.prune_decisions(site, kept).await?;
            store.prune_usage(site, kept).await?;
        }
    }
    store.prune_positions(kept).await.map(drop)
}
