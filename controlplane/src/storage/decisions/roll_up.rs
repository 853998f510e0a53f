//! Use by minute and by day.
//!
//! In: rows with their sites. Out: rows of `usage_minutes`, `usage_days`, and of `usage_keys`, which say whose they are.
//! Always holds: a batch is summed up in memory first, and written in ascending order, so that transactions wait for each other in one
//! order alone. A site has about as many rows in a minute or day as it may: what is new then is counted as that of "others", by reason.
//! Sums over a site are exact all the same.

use std::collections::{BTreeMap, HashMap, HashSet};

use sea_orm::{ConnectionTrait as _, Statement, Value};
use sha2::{Digest as _, Sha256};

use super::recent::{period, text};
use super::sites::Placed;
use super::statement::insert_many;
use super::{DAY_MS, Retention};
use crate::domain::usage::{COLUMNS, Figures};
use crate::storage::database::Transaction;
use crate::storage::error::StorageResult;

/// Customer, subscription, token and resource of what is counted together for want of room.
pub const OTHERS: &str = "…";
/// The period of what has none.
pub const NO_PERIOD: i64 = -1;
const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = DAY_MS * 1_000;
/// Minutes or days that are asked about in one statement.
const BUCKETS: usize = 32;

/// Whose use it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Whose<'a> {
    customer: Option<&'a str>,
    subscription: Option<&'a str>,
    token: Option<&'a str>,
    resource: Option<&'a str>,
}

const OTHER: Whose<'static> = Whose {
    customer: Some(OTHERS),
    subscription: Some(OTHERS),
    token: Some(OTHERS),
    resource: Some(OTHERS),
};

type KeyId = [u8; 16];

impl<'a> Whose<'a> {
    fn of(placed: &'a Placed<'a>) -> Self {
        let texts = &placed.arrived.row.opened.texts;
        let subscriber = texts.subscriber;
        Self {
            customer: subscriber.map(|subscriber| subscriber.customer),
            subscription: subscriber.map(|subscriber| subscriber.subscription),
            token: subscriber.map(|subscriber| subscriber.token_id),
            resource: texts.resource,
        }
    }

    const fn parts(&self) -> [Option<&'a str>; 4] {
        [self.customer, self.subscription, self.token, self.resource]
    }

    fn id(&self) -> KeyId {
        let mut hasher = Sha256::new();
        for part in self.parts() {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hasher.update(length.to_be_bytes());
            hasher.update(part.unwrap_or_default());
        }
        let hash: [u8; 32] = hasher.finalize().into();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// What a row of a roll-up is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Cell {
    site: i64,
    at_s: i64,
    key: KeyId,
    period: i64,
    reason: i64,
}

type Cells = BTreeMap<Cell, Figures>;

/// Which of the two.
#[derive(Clone, Copy, Debug)]
struct Table {
    name: &'static str,
    bucket_us: i64,
    kept_ms: i64,
    rows_max: usize,
}

/// Adds a batch to both.
pub(super) async fn store(
    transaction: &Transaction,
    rows: &[Placed<'_>],
    kept: &Retention,
    now_ms: i64,
) -> StorageResult<()> {
    let mut ids: HashMap<Whose<'_>, KeyId> = HashMap::new();
    let tables = [
        Table {
            name: "usage_minutes",
            bucket_us: MINUTE_US,
            kept_ms: kept.minutes_ms,
            rows_max: kept.minute_rows,
        },
        Table {
            name: "usage_days",
            bucket_us: DAY_US,
            kept_ms: kept.days_ms,
            rows_max: kept.day_rows,
        },
    ];
    let mut used: BTreeMap<(i64, KeyId), i64> = BTreeMap::new();
    let mut folded = Vec::new();
    for table in tables {
        let cells = sum_up(rows, table, now_ms, &mut ids);
        let cells = make_fit(transaction, table, cells).await?;
        for cell in cells.keys() {
            let day_s = cell.at_s.div_euclid(DAY_MS / 1_000) * (DAY_MS / 1_000);
            let last_s = used.entry((cell.site, cell.key)).or_insert(day_s);
            *last_s = day_s.max(*last_s);
        }
        folded.push((table, cells));
    }
    let mut whose: HashMap<KeyId, Whose<'_>> =
        ids.into_iter().map(|(whose, id)| (id, whose)).collect();
    whose.insert(OTHER.id(), OTHER);
    store_keys(transaction, &used, &whose).await?;
    for (table, cells) in folded {
        store_cells(transaction, table, &cells).await?;
    }
    Ok(())
}

/// Sums of the rows that are young enough.
fn sum_up<'a>(
    rows: &'a [Placed<'a>],
    table: Table,
    now_ms: i64,
    ids: &mut HashMap<Whose<'a>, KeyId>,
) -> Cells {
    let oldest_us = now_ms.saturating_sub(table.kept_ms).saturating_mul(1_000);
    let mut cells: HashMap<Cell, Figures> = HashMap::new();
    for placed in rows.iter().filter(|placed| placed.time_us >= oldest_us) {
        let whose = Whose::of(placed);
        let row = &placed.arrived.row;
        let cell = Cell {
            site: placed.site.key,
            at_s: placed.time_us.div_euclid(table.bucket_us) * (table.bucket_us / 1_000_000),
            key: *ids.entry(whose).or_insert_with(|| whose.id()),
            period: period(row).unwrap_or(NO_PERIOD),
            reason: row.opened.reason as i64,
        };
        cells.entry(cell).or_default().add(&Figures::of(row));
    }
    cells.into_iter().collect()
}

/// Counts together what a site has no room for.
async fn make_fit(transaction: &Transaction, table: Table, cells: Cells) -> StorageResult<Cells> {
    let mut buckets: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for cell in cells.keys() {
        *buckets.entry((cell.site, cell.at_s)).or_default() += 1;
    }
    let all: Vec<(i64, i64)> = buckets.keys().copied().collect();
    let counts = counts(transaction, table, &all).await?;
    let is_tight = |bucket: &(i64, i64), new: usize| {
        counts.get(bucket).copied().unwrap_or_default() + new > table.rows_max
    };
    buckets.retain(|bucket, new| is_tight(bucket, *new));
    if buckets.is_empty() {
        return Ok(cells);
    }
    let mut rooms = HashMap::new();
    for bucket in buckets.keys() {
        let known = known(transaction, table, *bucket).await?;
        let room = table.rows_max.saturating_sub(known.len());
        rooms.insert(*bucket, (known, room));
    }
    let others = OTHER.id();
    let mut fitting = Cells::new();
    for (mut cell, figures) in cells {
        if let Some((known, room)) = rooms.get_mut(&(cell.site, cell.at_s))
            && !known.contains(&cell)
        {
            match room.checked_sub(1) {
                Some(left) => *room = left,
                None => cell = Cell { key: others, period: NO_PERIOD, ..cell },
            }
        }
        fitting.entry(cell).or_default().add(&figures);
    }
    Ok(fitting)
}

/// How many rows these minutes or days have.
async fn counts(
    transaction: &Transaction,
    table: Table,
    buckets: &[(i64, i64)],
) -> StorageResult<HashMap<(i64, i64), usize>> {
    let mut counts = HashMap::new();
    let backend = transaction.get_database_backend();
    for buckets in buckets.chunks(BUCKETS) {
        let marks: Vec<String> = (0..BUCKETS)
            .map(|at| format!("(site_key = ${} AND at_s = ${})", 2 * at + 1, 2 * at + 2))
            .collect();
        let sql = format!(
            "SELECT site_key, at_s, COUNT(*) AS cells FROM {} WHERE {} GROUP BY site_key, at_s",
            table.name,
            marks.join(" OR ")
        );
        // The last one over and over, so that it is always the same statement.
        let padded = buckets.iter().chain(std::iter::repeat(buckets.last().unwrap_or(&(0, 0))));
        let values: Vec<Value> = padded
            .take(BUCKETS)
            .flat_map(|(site, at_s)| [Value::from(*site), Value::from(*at_s)])
            .collect();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        for row in transaction.query_all_raw(statement).await? {
            let count: i64 = row.try_get("", "cells")?;
            let bucket = (row.try_get("", "site_key")?, row.try_get("", "at_s")?);
            counts.insert(bucket, usize::try_from(count).unwrap_or(usize::MAX));
        }
    }
    Ok(counts)
}

/// The rows that a minute or day has.
async fn known(
    transaction: &Transaction,
    table: Table,
    (site, at_s): (i64, i64),
) -> StorageResult<HashSet<Cell>> {
    let sql = format!(
        "SELECT key_id, period, reason FROM {} WHERE site_key = $1 AND at_s = $2",
        table.name
    );
    let backend = transaction.get_database_backend();
    let values: [Value; 2] = [site.into(), at_s.into()];
    let mut known = HashSet::new();
    for row in
        transaction.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?
    {
        let key: Vec<u8> = row.try_get("", "key_id")?;
        known.insert(Cell {
            site,
            at_s,
            key: key.first_chunk().copied().unwrap_or_default(),
            period: row.try_get("", "period")?,
            reason: row.try_get("", "reason")?,
        });
    }
    Ok(known)
}

async fn store_keys(
    transaction: &Transaction,
    used: &BTreeMap<(i64, KeyId), i64>,
    whose: &HashMap<KeyId, Whose<'_>>,
) -> StorageResult<()> {
    let mut values: Vec<Value> = Vec::with_capacity(7 * used.len());
    for ((site, id), used_at_s) in used {
        values.push((*site).into());
        values.push(id.to_vec().into());
        let parts = whose.get(id).unwrap_or(&OTHER).parts();
        values.extend(parts.map(|part| Value::from(part.map(text))));
        values.push((*used_at_s).into());
    }
    let head = "INSERT INTO usage_keys (site_key, id, customer, subscription, token, resource, used_at_s) VALUES";
    let tail = "ON CONFLICT (site_key, id) DO UPDATE SET used_at_s = excluded.used_at_s \
        WHERE usage_keys.used_at_s < excluded.used_at_s";
    insert_many(transaction, head, tail, 7, values).await
}

async fn store_cells(transaction: &Transaction, table: Table, cells: &Cells) -> StorageResult<()> {
    let width = 5 + COLUMNS.len();
    let mut values: Vec<Value> = Vec::with_capacity(width * cells.len());
    for (cell, figures) in cells {
        values.extend([cell.site.into(), cell.at_s.into(), cell.key.to_vec().into()]);
        values.extend([Value::from(cell.period), Value::from(cell.reason)]);
        values.extend(figures.columns().map(Value::from));
    }
    let name = table.name;
    let sums: Vec<String> = COLUMNS
        .iter()
        .map(|column| format!("{column} = {name}.{column} + excluded.{column}"))
        .collect();
    let head = format!(
        "INSERT INTO {name} (site_key, at_s, key_id, period, reason, {}) VALUES",
        COLUMNS.join(", ")
    );
    let tail = format!(
        "ON CONFLICT (site_key, at_s, key_id, period, reason) DO UPDATE SET {}",
        sums.join(", ")
    );
    insert_many(transaction, &head, &tail, width, values).await
}
