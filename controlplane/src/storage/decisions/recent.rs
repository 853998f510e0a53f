//! Recent decisions, row by row.
//!
//! In: rows with their sites. Out: rows of `decisions`.
//! Always holds: of a batch no more rows of a site are written than are kept, and none that is too old.

use std::collections::HashMap;

use link::row::Row;
use sea_orm::Value;

use super::sites::Placed;
use super::statement::insert_many;
use super::{Retention, ordered};
use crate::domain::usage::counted;
use crate::storage::database::Transaction;
use crate::storage::error::StorageResult;

const COLUMNS: &str = "account_id, site_key, time_us, epoch, shard, seq, node_key, customer, subscription, period, token, plan, \
    resource, method, path, protocol, reason, status, charge, remaining, request_bytes, response_bytes, origin_us, total_us, \
    request_id, client";
const WIDTH: usize = 26;

/// Writes the newest rows of each site; says how many of which.
pub(super) async fn insert(
    transaction: &Transaction,
    node: i64,
    rows: &[Placed<'_>],
    kept: &Retention,
    now_ms: i64,
) -> StorageResult<Vec<(i64, u64)>> {
    let newest = newest(rows, kept, now_ms);
    let mut added: HashMap<i64, u64> = HashMap::new();
    let mut values = Vec::with_capacity(newest.len() * WIDTH);
    for placed in newest {
        *added.entry(placed.site.key).or_default() += 1;
        values.extend(values_of(node, placed));
    }
    let head = format!("INSERT INTO decisions ({COLUMNS}) VALUES");
    insert_many(transaction, &head, "ON CONFLICT DO NOTHING", WIDTH, values).await?;
    Ok(added.into_iter().collect())
}

/// The rows that are worth writing, oldest first.
fn newest<'a>(rows: &'a [Placed<'a>], kept: &Retention, now_ms: i64) -> Vec<&'a Placed<'a>> {
    let oldest_us = now_ms.saturating_sub(kept.decisions_ms).saturating_mul(1_000);
    let mut young: Vec<&Placed<'_>> = rows.iter().filter(|row| row.time_us >= oldest_us).collect();
    young.sort_by_key(|row| row.time_us);
    let mut counts: HashMap<i64, u64> = HashMap::new();
    let mut newest: Vec<&Placed<'_>> = young
        .into_iter()
        .rev()
        .filter(|row| {
            let count = counts.entry(row.site.key).or_default();
            *count += 1;
            *count <= kept.decisions
        })
        .collect();
    newest.reverse();
    newest
}

fn values_of(node: i64, placed: &Placed<'_>) -> [Value; WIDTH] {
    let row = &placed.arrived.row;
    let (opened, ended, texts) = (&row.opened, &row.ended, &row.opened.texts);
    let subscriber = texts.subscriber;
    let counted_opt = |value: Option<u64>| value.map(counted);
    [
        placed.site.account_id.as_str().into(),
        placed.site.key.into(),
        placed.time_us.into(),
        ordered(placed.arrived.epoch).into(),
        i64::from(placed.arrived.shard).into(),
        ordered(placed.arrived.seq).into(),
        node.into(),
        text_opt(subscriber.map(|subscriber| subscriber.customer)),
        text_opt(subscriber.map(|subscriber| subscriber.subscription)),
        period(row).into(),
        text_opt(subscriber.map(|subscriber| subscriber.token_id)),
        text_opt(texts.plan),
        text_opt(texts.resource),
        text(texts.method).into(),
        text(texts.path).into(),
        opened.protocol.as_str().into(),
        (opened.reason as i64).into(),
        ended.status.map(i64::from).into(),
        counted(ended.charge).into(),
        counted_opt(ended.remaining).into(),
        counted(ended.request_bytes).into(),
        counted(ended.response_bytes).into(),
        counted_opt(ended.origin_us).into(),
        counted(ended.total_us).into(),
        format!("{:032x}", opened.request_id).into(),
        opened.client.map(|client| client.to_string()).into(),
    ]
}

/// The period that was charged.
pub(super) fn period(row: &Row<'_>) -> Option<i64> {
    row.opened.account.map(|account| i64::try_from(account.period.id.0).unwrap_or(i64::MAX))
}

/// A text as PostgreSQL takes it: without NUL.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn text_opt(given: Option<&str>) -> Value {
    given.map(text).into()
}
