//! What was used past the limit of plans that allow it, and the increments of it that Stripe is told.
//!
//! In: accounts of the ledger; increments and what came of them. Out: rows.
//! Always holds: a period's overage is reckoned by the limit that it had while it ran, so what comes late is not measured by a plan
//! of later; an increment is stored before it is sent, and increments of a period follow each other without a gap or an overlap
//! (`told_units` is the end of the last one, advanced in the transaction that stores the next).

use std::collections::BTreeMap;

use policy::budget::Overage;
use policy::budget::ledger::{Account, PeriodBooks};
use policy::ids::entitlement_id;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    Statement, Value,
};

use super::crossings::{Before, signed};
use super::database::Transaction;
use super::error::{StorageError, StorageResult};
use super::rows::{Entity, OverageEvent, column};
use super::{Actor, Change, NamedEntitlement, Store};

/// Books are kept this long after their period, seconds: as long as Stripe takes what was used then (35 days).
const KEPT_S: i64 = 40 * 86_400;
/// Increments are kept as long as somebody may ask what an invoice was made of, milliseconds.
const EVENTS_KEPT_MS: i64 = 400 * 86_400_000;

/// Writes down what was used past the limit, where that changed.
pub(super) async fn note(
    before: &Before,
    accounts: &BTreeMap<u128, Account>,
    unix_ms: i64,
    transaction: &Transaction,
) -> StorageResult<()> {
    for (id, account) in accounts {
        for books in &account.books {
            let then = before.get(&(*id, books.period.id)).copied();
            let now = super::crossings::of(account, books);
            let is_current = books.period.id == account.current.id;
            // Within its limit the running period is written down once, and again when the limit changes.
            let is_news = then.is_none_or(|then| match is_current {
                true => then.limit != now.limit || then.is_over() || now.is_over(),
                false => true,
            });
            if then == Some(now) || !is_news {
                continue;
            }
            match (is_current, account.terms.limit, account.terms.overage) {
                (true, Some(limit), Overage::Allow { cap }) => {
                    open(*id, books, signed(limit), cap.map(signed), unix_ms, transaction).await?;
                }
                // Nothing is charged from here on; what was used past the limit before stays.
                (true, ..) => {}
                (false, limit, overage) => {
                    let is_known = late(*id, books, transaction).await?;
                    if let (false, Some(limit), Overage::Allow { cap }) = (is_known, limit, overage)
                    {
                        let terms = (signed(limit), cap.map(signed));
                        open_late(*id, books, terms, unix_ms, transaction).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

async fn open(
    id: u128,
    books: &PeriodBooks,
    limit: i64,
    cap: Option<i64>,
    unix_ms: i64,
    transaction: &Transaction,
) -> StorageResult<()> {
    let used = signed(books.used());
    let over = over(used, limit, cap);
    let sql = "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, cap_units, \
               used_units, over_units, told_units, told_at_ms, retry_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, 0) \
               ON CONFLICT (entitlement, period_id) DO UPDATE SET period_end_s = excluded.period_end_s, \
               limit_units = excluded.limit_units, cap_units = excluded.cap_units, used_units = excluded.used_units, \
               over_units = excluded.over_units";
    let values: [Value; 9] = [
        id.to_be_bytes().to_vec().into(),
        signed(books.period.id.0).into(),
        books.period.start_s.into(),
        books.period.end_s.into(),
        limit.into(),
        cap.into(),
        used.into(),
        over.into(),
        unix_ms.into(),
    ];
    let backend = transaction.get_database_backend();
    transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// Use of a period that is over, by the limit that it had; false where that is not known.
async fn late(id: u128, books: &PeriodBooks, transaction: &Transaction) -> StorageResult<bool> {
    let sql = "UPDATE overage_books SET used_units = $3, over_units = CASE WHEN $3 <= limit_units THEN 0 \
               WHEN cap_units IS NOT NULL AND $3 - limit_units > cap_units THEN cap_units ELSE $3 - limit_units END \
               WHERE entitlement = $1 AND period_id = $2";
    let values: [Value; 3] = [
        id.to_be_bytes().to_vec().into(),
        signed(books.period.id.0).into(),
        signed(books.used()).into(),
    ];
    let backend = transaction.get_database_backend();
    let outcome =
        transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(outcome.rows_affected() > 0)
}

/// Use of a period that is over and in which nobody reported, as where the one node that had it was cut off: it is measured by the limit
/// that held in the last period before it that is known, if that holds now. Where it does not, nobody knows what held between, and
/// nothing is charged.
async fn open_late(
    id: u128,
    books: &PeriodBooks,
    (limit, cap): (i64, Option<i64>),
    unix_ms: i64,
    transaction: &Transaction,
) -> StorageResult<()> {
    let sql = "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, cap_units, \
               used_units, over_units, told_units, told_at_ms, retry_at_ms) SELECT entitlement, $2, $3, $4, limit_units, \
               cap_units, $5, $6, 0, $7, 0 FROM overage_books WHERE entitlement = $1 AND limit_units = $8 \
               AND COALESCE(cap_units, -1) = $9 AND period_id = (SELECT MAX(period_id) FROM overage_books WHERE \
               entitlement = $1 AND period_id < $2) ON CONFLICT (entitlement, period_id) DO NOTHING";
    let used = signed(books.used());
    let values: [Value; 9] = [
        id.to_be_bytes().to_vec().into(),
        signed(books.period.id.0).into(),
        books.period.start_s.into(),
        books.period.end_s.into(),
        used.into(),
        over(used, limit, cap).into(),
        unix_ms.into(),
        limit.into(),
        cap.unwrap_or(-1).into(),
    ];
    let backend = transaction.get_database_backend();
    transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    Ok(())
}

/// Units past the limit that may be charged.
fn over(used: i64, limit: i64, cap: Option<i64>) -> i64 {
    let over = used.saturating_sub(limit).max(0);
    cap.map_or(over, |cap| over.min(cap))
}

/// One period's overage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverageBook {
    /// The entitlement.
    pub entitlement: Vec<u8>,
    /// Whose; none where it is not known yet.
    pub owner: Option<NamedEntitlement>,
    /// The period.
    pub period_id: i64,
    /// Its first second.
    pub period_start_s: i64,
    /// The first second after it.
    pub period_end_s: i64,
    /// The limit it has, or had at last.
    pub limit_units: i64,
    /// Units used.
    pub used_units: i64,
    /// Units past the limit, no more than the plan's cap.
    pub over_units: i64,
    /// Units that increments were stored for.
    pub told_units: i64,
    /// Why the rest is not told, where something is in the way.
    pub error: Option<String>,
}

/// When books are due.
#[derive(Clone, Copy, Debug)]
pub struct OverageDue {
    /// Increments of running periods are stored this far apart, milliseconds.
    pub interval_ms: i64,
    /// But at once when the period ends within so many seconds.
    pub close_s: i64,
}

impl Store {
    /// Books of which more was used than was told, that are due, the longest waiting first.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn overage_due(
        &self,
        due: OverageDue,
        count: u64,
    ) -> StorageResult<Vec<OverageBook>> {
        let now_ms = self.world.now_ms();
        let condition = "over_units > told_units AND retry_at_ms <= $1 AND (told_at_ms <= $2 OR period_end_s <= $3)";
        let values: Vec<Value> = vec![
            now_ms.into(),
            now_ms.saturating_sub(due.interval_ms).into(),
            now_ms.div_euclid(1_000).saturating_add(due.close_s).into(),
        ];
        self.overage_books(condition, values, count).await
    }

    /// Books of an entitlement.
    pub async fn overage_of(&self, entitlement: u128) -> StorageResult<Vec<OverageBook>> {
        let values = vec![entitlement.to_be_bytes().to_vec().into()];
        self.overage_books("b.entitlement = $1", values, 100).await
    }

    /// Books of a subscription of which more was used than was told, whether they are due or not.
    pub async fn overage_left(
        &self,
        account_id: &str,
        subscription_id: &str,
    ) -> StorageResult<Vec<OverageBook>> {
        let condition = "over_units > told_units AND n.account_id = $1 AND n.subscription_id = $2";
        self.overage_books(condition, vec![account_id.into(), subscription_id.into()], 100).await
    }

    async fn overage_books(
        &self,
        condition: &str,
        values: Vec<Value>,
        count: u64,
    ) -> StorageResult<Vec<OverageBook>> {
        let sql = format!(
            "SELECT b.entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, over_units, told_units, error, \
             account_id, subscription_id FROM overage_books b LEFT JOIN entitlement_names n ON n.entitlement = b.entitlement \
             WHERE {condition} ORDER BY retry_at_ms, told_at_ms LIMIT {count}"
        );
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let mut books = Vec::new();
        for row in self.database.query_all_raw(statement).await? {
            books.push(OverageBook {
                entitlement: row.try_get("", "entitlement")?,
                owner: NamedEntitlement::of_row(&row)?,
                period_id: row.try_get("", "period_id")?,
                period_start_s: row.try_get("", "period_start_s")?,
                period_end_s: row.try_get("", "period_end_s")?,
                limit_units: row.try_get("", "limit_units")?,
                used_units: row.try_get("", "used_units")?,
                over_units: row.try_get("", "over_units")?,
                told_units: row.try_get("", "told_units")?,
                error: row.try_get("", "error")?,
            });
        }
        Ok(books)
    }

    /// Leaves a book alone for a while, with why.
    pub async fn put_off_overage(
        &self,
        book: &OverageBook,
        until_ms: i64,
        error: &str,
    ) -> StorageResult<()> {
        let sql = "UPDATE overage_books SET retry_at_ms = $3, error = $4 WHERE entitlement = $1 AND period_id = $2";
        let values: [Value; 4] =
            [book.entitlement.clone().into(), book.period_id.into(), until_ms.into(), error.into()];
        self.changes_one(sql, values).await?;
        Ok(())
    }

    /// Has a subscription's overage told at once: its invoice is being made. Mostly there is none, so it is looked for before anything is
    /// written: in a minute in which thousands renew, each asks.
    pub async fn flush_overage(
        &self,
        account_id: &str,
        subscription_id: &str,
    ) -> StorageResult<()> {
        let backend = self.database.get_database_backend();
        let named = "SELECT s.reference, sites.slug FROM subscriptions s JOIN sites ON sites.id = s.site_id \
                     WHERE s.id = $1 AND s.account_id = $2";
        let values: [Value; 2] = [subscription_id.into(), account_id.into()];
        let named = Statement::from_sql_and_values(backend, named, values);
        let Some(row) = self.database.query_one_raw(named).await? else { return Ok(()) };
        let (slug, reference): (String, String) =
            (row.try_get("", "slug")?, row.try_get("", "reference")?);
        let entitlement: Value = entitlement_id(&slug, &reference).0.to_be_bytes().to_vec().into();
        let open = "SELECT 1 AS is_open FROM overage_books WHERE entitlement = $1 AND over_units > told_units LIMIT 1";
        let open = Statement::from_sql_and_values(backend, open, [entitlement.clone()]);
        if self.database.query_one_raw(open).await?.is_some() {
            let sql = "UPDATE overage_books SET told_at_ms = 0, retry_at_ms = 0 WHERE entitlement = $1 AND over_units > told_units";
            let flush = Statement::from_sql_and_values(backend, sql, [entitlement]);
            self.database.execute_raw(flush).await?;
        }
        Ok(())
    }

    /// Takes increments to be sent, oldest first: those that are due, or all of one subscription, since one that is sent twice counts
    /// once. Nobody else takes them for so long.
    pub async fn take_overage_events(
        &self,
        subscription_id: Option<&str>,
        count: u64,
        lease_ms: i64,
    ) -> StorageResult<Vec<OverageEvent>> {
        let now_ms = self.world.now_ms();
        let wanted = match subscription_id {
            Some(_) => "next_at_ms IS NOT NULL AND subscription_id = $3",
            None => "next_at_ms <= $1",
        };
        let sql = format!(
            "UPDATE overage_events SET attempts = attempts + 1, next_at_ms = $2, updated_at_ms = $1 WHERE {wanted} \
             AND key IN (SELECT key FROM overage_events WHERE {wanted} ORDER BY next_at_ms, key LIMIT {count}) RETURNING key"
        );
        let mut values: Vec<Value> = vec![now_ms.into(), now_ms.saturating_add(lease_ms).into()];
        values.extend(subscription_id.map(Value::from));
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.database.query_all_raw(statement).await?;
        let keys: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("", "key")).collect();
        let query = Entity::<OverageEvent>::find()
            .filter(column::OverageEvent::Key.is_in(keys?))
            .order_by_asc(column::OverageEvent::Key);
        Ok(query.all(&self.database).await?)
    }

    /// Holds an increment that was taken for so long from now; false where another took it since.
    pub async fn hold_overage_event(
        &self,
        event: &OverageEvent,
        lease_ms: i64,
    ) -> StorageResult<bool> {
        let now_ms = self.world.now_ms();
        let sql = "UPDATE overage_events SET next_at_ms = $3, updated_at_ms = $4 WHERE key = $1 AND attempts = $2 AND status = 'pending'";
        let values: [Value; 4] = [
            event.key.into(),
            event.attempts.into(),
            now_ms.saturating_add(lease_ms).into(),
            now_ms.into(),
        ];
        self.changes_one(sql, values).await
    }

    /// Writes down what came of sending an increment: `pending` until a time, `sent` or `refused`.
    pub async fn overage_attempted(
        &self,
        event: &OverageEvent,
        status: &str,
        next_at_ms: Option<i64>,
        error: Option<&str>,
    ) -> StorageResult<()> {
        let now_ms = self.world.now_ms();
        let sql = "UPDATE overage_events SET status = $3, next_at_ms = $4, error = $5, sent_at_ms = $6, updated_at_ms = $7, \
                   version = version + 1 WHERE key = $1 AND attempts = $2 AND status = 'pending'";
        let values: [Value; 7] = [
            event.key.into(),
            event.attempts.into(),
            status.into(),
            next_at_ms.into(),
            error.into(),
            (status == "sent").then_some(now_ms).into(),
            now_ms.into(),
        ];
        self.changes_one(sql, values).await?;
        Ok(())
    }

    /// Writes down that an increment is told to nobody any more, and has the audit log of its account say so.
    pub async fn lose_overage(&self, event: &OverageEvent, error: &str) -> StorageResult<()> {
        let actor = Actor { kind: "system", id: "overage".to_owned(), request_id: None };
        let mut change = self.change(&event.account_id, actor).await?;
        let after = OverageEvent {
            status: "lost".to_owned(),
            next_at_ms: None,
            error: Some(error.to_owned()),
            ..event.clone()
        };
        match change.update(event, after).await {
            Ok(_) => change.commit().await,
            // Another has it by now.
            Err(StorageError::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Units that one meter was told of a customer between two times, Unix seconds, by increments that were sent.
    pub async fn overage_sent(
        &self,
        event: &OverageEvent,
        from_s: i64,
        until_s: i64,
    ) -> StorageResult<i64> {
        let sql = "SELECT CAST(COALESCE(SUM(to_units - from_units), 0) AS BIGINT) AS units FROM overage_events \
                   WHERE account_id = $1 AND stripe_customer_id = $2 AND event_name = $3 AND status = 'sent' \
                   AND at_s >= $4 AND at_s < $5";
        let values: [Value; 5] = [
            event.account_id.as_str().into(),
            event.stripe_customer_id.as_str().into(),
            event.event_name.as_str().into(),
            from_s.into(),
            until_s.into(),
        ];
        let backend = self.database.get_database_backend();
        let row = self.database.query_one_raw(Statement::from_sql_and_values(backend, sql, values));
        Ok(row.await?.map(|row| row.try_get("", "units")).transpose()?.unwrap_or_default())
    }

    /// Forgets books and increments that nobody asks for any more.
    pub async fn prune_overage(&self) -> StorageResult<()> {
        let now_ms = self.world.now_ms();
        let backend = self.database.get_database_backend();
        for (sql, until) in [
            (
                "DELETE FROM overage_books WHERE period_end_s < $1",
                now_ms.div_euclid(1_000) - KEPT_S,
            ),
            (
                "DELETE FROM overage_events WHERE next_at_ms IS NULL AND created_at_ms < $1",
                now_ms - EVENTS_KEPT_MS,
            ),
        ] {
            let statement = Statement::from_sql_and_values(backend, sql, [until.into()]);
            self.database.execute_raw(statement).await?;
        }
        Ok(())
    }
}

/// Which increments of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverageSpan {
    /// Those of what was used in a period.
    Period(i64),
    /// Those that count from a time on, before another, Unix seconds.
    Times(i64, i64),
}

impl OverageSpan {
    /// Whether it is of times that this one is among.
    #[must_use]
    pub fn has(self, at_s: i64) -> bool {
        matches!(self, Self::Times(from_s, until_s) if (from_s..until_s).contains(&at_s))
    }
}

/// Units that increments of one price and meter come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverageTold {
    /// Our row of the price.
    pub plan_price_id: Option<String>,
    /// The meter.
    pub meter_id: Option<String>,
    /// Units.
    pub units: i64,
}

impl Change {
    /// Units that were told of a subscription, or are about to be.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn overage_told(
        &self,
        subscription_id: &str,
        span: OverageSpan,
    ) -> StorageResult<Vec<OverageTold>> {
        let mut values: Vec<Value> = vec![subscription_id.into(), self.account_id.as_str().into()];
        let condition = match span {
            OverageSpan::Period(id) => {
                values.push(id.into());
                "period_id = $3"
            }
            OverageSpan::Times(from_s, until_s) => {
                values.extend([from_s.into(), until_s.into()]);
                "at_s >= $3 AND at_s < $4"
            }
        };
        let sql = format!(
            "SELECT plan_price_id, meter_id, CAST(SUM(to_units - from_units) AS BIGINT) AS units FROM overage_events \
             WHERE subscription_id = $1 AND account_id = $2 AND {condition} AND status NOT IN ('refused', 'lost') \
             GROUP BY plan_price_id, meter_id"
        );
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.transaction.query_all_raw(statement).await?;
        let told = rows.iter().map(|row| {
            Ok(OverageTold {
                plan_price_id: row.try_get("", "plan_price_id")?,
                meter_id: row.try_get("", "meter_id")?,
                units: row.try_get("", "units")?,
            })
        });
        told.collect()
    }

    /// Stores the next increment of a book; false where another one did since the book was read, or it holds less by now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn tell_overage(
        &mut self,
        book: &OverageBook,
        event: OverageEvent,
    ) -> StorageResult<bool> {
        let sql = "UPDATE overage_books SET told_units = $4, told_at_ms = $5, error = NULL WHERE entitlement = $1 \
                   AND period_id = $2 AND told_units = $3 AND over_units >= $4";
        let values: [Value; 5] = [
            book.entitlement.clone().into(),
            book.period_id.into(),
            book.told_units.into(),
            event.to_units.into(),
            self.now_ms.into(),
        ];
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        if self.transaction.execute_raw(statement).await?.rows_affected() != 1 {
            return Ok(false);
        }
        self.record(event).await?;
        Ok(true)
    }

    /// Has an increment count at another time; false where another has taken or sent it since it was taken.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn move_overage(&mut self, event: &OverageEvent, at_s: i64) -> StorageResult<bool> {
        let sql = "UPDATE overage_events SET at_s = $3, updated_at_ms = $4, version = version + 1 WHERE key = $1 AND attempts = $2 \
                   AND status = 'pending'";
        let values: [Value; 4] =
            [event.key.into(), event.attempts.into(), at_s.into(), self.now_ms.into()];
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.transaction.execute_raw(statement).await?.rows_affected() == 1)
    }
}
