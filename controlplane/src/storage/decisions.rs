//! Decisions that nodes ship: recent ones by row, all of them rolled up by minute and by day.
//!
//! In: batches of a node. Out: rows, roll-ups, and up to where each of the node's streams is taken.
//! Always holds: rows are taken in one transaction with their streams' positions, under the locks of these, and a row before its
//! stream's position is passed over; so each row counts once, however often it comes and wherever. What is a row of no site counts for the
//! position alone. A batch is taken in several transactions, none of them long: leases, which requests wait for, are written between.
//!
//! Numbers of 64 bits are kept so that their order stays: `epoch` and `seq` with the highest bit turned.

mod prune;
mod read;
mod recent;
mod roll_up;
mod sites;
mod statement;

use std::collections::{BTreeMap, HashSet};

use link::row::{self, Row, Stage};
use link::wire::{Decisions, Position};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};

use super::database::Transaction;
use super::error::StorageResult;
use super::{Store, begin_write};
pub use roll_up::OTHERS;
use sites::Sites;
pub use sites::{OwnSites, SiteSpan};
use statement::insert_many;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Decisions of each site, the newest.
    pub decisions: u64,
    /// How old they may be, milliseconds.
    pub decisions_ms: i64,
    /// How old a minute's roll-up may be, milliseconds.
    pub minutes_ms: i64,
    /// How old a day's roll-up may be, milliseconds.
    pub days_ms: i64,
    /// Rows of a site in one minute; about so many, and what does not fit is counted together.
    pub minute_rows: usize,
    /// Rows of a site in one day, likewise.
    pub day_rows: usize,
}

/// Rows in one transaction: a few hundredths of a second where there is one writer.
const ROWS_AT_ONCE: usize = 1_000;

/// A day.
pub const DAY_MS: i64 = 86_400_000;

impl Default for Retention {
    fn default() -> Self {
        Self {
            decisions: 100_000,
            decisions_ms: 7 * DAY_MS,
            minutes_ms: 3 * DAY_MS,
            days_ms: 400 * DAY_MS,
            minute_rows: 1_000,
            day_rows: 20_000,
        }
    }
}

/// What came of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenDecisions {
    /// Where each stream of the batch is now.
    pub positions: Vec<Position>,
    /// How many rows of which sites were added to the recent ones.
    pub added: Vec<(i64, u64)>,
}

/// A row of a batch, read.
#[derive(Clone, Copy, Debug)]
struct Arrived<'a> {
    epoch: u64,
    shard: u16,
    seq: u64,
    row: Row<'a>,
}

impl Arrived<'_> {
    /// When it was decided, microseconds.
    fn time_us(&self) -> i64 {
        self.row.opened.time_ns.div_euclid(1_000)
    }
}

/// Bytes in a batch that are no finished rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row cannot be read")]
pub struct Unreadable;

/// A batch whose rows were read.
#[derive(Debug)]
pub struct ReadDecisions<'a>(Vec<Arrived<'a>>);

impl<'a> ReadDecisions<'a> {
    /// Reads every row.
    ///
    /// # Errors
    /// When one is none, or has not ended.
    pub fn of(decisions: &'a Decisions) -> Result<Self, Unreadable> {
        let rows = decisions.each().map(|(run, seq, bytes)| {
            let (row, _) = row::read(bytes).map_err(|_| Unreadable)?;
            let is_ended = row.stage != Stage::Open;
            is_ended
                .then_some(Arrived { epoch: run.epoch, shard: run.shard, seq, row })
                .ok_or(Unreadable)
        });
        rows.collect::<Result<_, _>>().map(Self)
    }
}

/// Positions of a node by (epoch, shard).
type Next = BTreeMap<(u64, u16), u64>;

impl Store {
    /// Takes a node's decisions.
    ///
    /// # Errors
    /// When the database cannot be asked; then some were taken, of each stream those before its position.
    pub async fn take_decisions(
        &self,
        node: i64,
        decisions: &ReadDecisions<'_>,
        kept: &Retention,
    ) -> StorageResult<TakenDecisions> {
        let (mut next, mut added) = (Next::new(), BTreeMap::<i64, u64>::new());
        for rows in decisions.0.chunks(ROWS_AT_ONCE) {
            let taken = self.take_rows(node, rows, kept).await?;
            for at in taken.positions {
                next.insert((at.epoch, at.shard), at.next);
            }
            for (site, rows) in taken.added {
                *added.entry(site).or_default() += rows;
            }
        }
        let streams = next.keys().copied().collect();
        let positions = positions(&next, &streams);
        Ok(TakenDecisions { positions, added: added.into_iter().collect() })
    }

    async fn take_rows(
        &self,
        node: i64,
        rows: &[Arrived<'_>],
        kept: &Retention,
    ) -> StorageResult<TakenDecisions> {
        let now_ms = self.world.now_ms();
        let streams: HashSet<(u64, u16)> = rows.iter().map(|row| (row.epoch, row.shard)).collect();
        let transaction = begin_write(&self.database).await?;
        let mut next = lock(&transaction, node, &streams, now_ms).await?;
        let before = next.clone();
        let new: Vec<&Arrived<'_>> = rows.iter().filter(|row| advance(&mut next, row)).collect();
        let mut taken = TakenDecisions { positions: positions(&next, &streams), added: Vec::new() };
        if next == before {
            return Ok(taken);
        }
        let sites = Sites::of_rows(&transaction, &new).await?;
        let placed = sites.place(&new, now_ms);
        store_positions(&transaction, node, &next, &before, now_ms).await?;
        taken.added = recent::insert(&transaction, node, &placed, kept, now_ms).await?;
        roll_up::store(&transaction, &placed, kept, now_ms).await?;
        transaction.commit().await?;
        Ok(taken)
    }

    /// Where the streams of one start of a node are.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn decision_positions(&self, node: i64, epoch: u64) -> StorageResult<Vec<Position>> {
        let sql = "SELECT shard, next FROM decision_positions WHERE node_key = $1 AND epoch = $2 ORDER BY shard";
        let backend = self.database.get_database_backend();
        let values: [Value; 2] = [node.into(), ordered(epoch).into()];
        let rows =
            self.database.query_all_raw(Statement::from_sql_and_values(backend, sql, values));
        let mut positions = Vec::new();
        for row in rows.await? {
            let shard: i64 = row.try_get("", "shard")?;
            let next = number(row.try_get("", "next")?);
            positions.push(Position {
                epoch,
                shard: u16::try_from(shard).unwrap_or_default(),
                next,
            });
        }
        Ok(positions)
    }
}

/// Whether a row is new, and its stream's position behind it then.
fn advance(next: &mut Next, row: &Arrived<'_>) -> bool {
    let position = next.entry((row.epoch, row.shard)).or_insert(0);
    let is_new = row.seq >= *position;
    if is_new {
        *position = row.seq.saturating_add(1);
    }
    is_new
}

fn positions(next: &Next, streams: &HashSet<(u64, u16)>) -> Vec<Position> {
    let known = next.iter().filter(|(stream, _)| streams.contains(stream));
    known
        .map(|((epoch, shard), next)| Position { epoch: *epoch, shard: *shard, next: *next })
        .collect()
}

/// A number in the order of the database's signed ones.
fn ordered(number: u64) -> i64 {
    (number ^ (1 << 63)).cast_signed()
}

/// The number that [`ordered`] was given.
fn number(ordered: i64) -> u64 {
    ordered.cast_unsigned() ^ (1 << 63)
}

/// Locks the positions of streams, which are made where they are missing, in the order that everybody keeps to.
async fn lock(
    transaction: &Transaction,
    node: i64,
    streams: &HashSet<(u64, u16)>,
    now_ms: i64,
) -> StorageResult<Next> {
    let mut sorted: Vec<_> = streams.iter().copied().collect();
    sorted.sort_unstable();
    let values = sorted.iter().flat_map(|(epoch, shard)| {
        [node, ordered(*epoch), i64::from(*shard), ordered(0), now_ms].map(Value::from)
    });
    let head =
        "INSERT INTO decision_positions (node_key, epoch, shard, next, updated_at_ms) VALUES";
    let tail = "ON CONFLICT (node_key, epoch, shard) DO NOTHING";
    insert_many(transaction, head, tail, 5, values.collect()).await?;
    let mut epochs: Vec<u64> = sorted.iter().map(|(epoch, _)| *epoch).collect();
    epochs.dedup();
    let backend = transaction.get_database_backend();
    let for_update = if backend == DbBackend::Postgres { " FOR UPDATE" } else { "" };
    let sql = format!(
        "SELECT shard, next FROM decision_positions WHERE node_key = $1 AND epoch = $2 ORDER BY shard{for_update}"
    );
    let mut next = Next::new();
    for epoch in epochs {
        let values: [Value; 2] = [node.into(), ordered(epoch).into()];
        let statement = Statement::from_sql_and_values(backend, &sql, values);
        for row in transaction.query_all_raw(statement).await? {
            let shard: i64 = row.try_get("", "shard")?;
            let shard = u16::try_from(shard).unwrap_or_default();
            next.insert((epoch, shard), number(row.try_get("", "next")?));
        }
    }
    Ok(next)
}

async fn store_positions(
    transaction: &Transaction,
    node: i64,
    next: &Next,
    before: &Next,
    now_ms: i64,
) -> StorageResult<()> {
    let changed = next.iter().filter(|(stream, next)| before.get(stream) != Some(next));
    let values = changed.flat_map(|((epoch, shard), next)| {
        [node, ordered(*epoch), i64::from(*shard), ordered(*next), now_ms].map(Value::from)
    });
    let head =
        "INSERT INTO decision_positions (node_key, epoch, shard, next, updated_at_ms) VALUES";
    let tail = "ON CONFLICT (node_key, epoch, shard) DO UPDATE SET next = excluded.next, updated_at_ms = excluded.updated_at_ms";
    insert_many(transaction, head, tail, 5, values.collect()).await
}
