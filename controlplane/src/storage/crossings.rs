//! Quotas that were used up to a part, found where the ledger learns of use.
//!
//! In: an account of the ledger before and after a report. Out: rows of crossings; which subscription an entitlement is.
//! Always holds: a crossing is written in the report's own transaction, so none is missed and none is made up; the same
//! part of the same limit is crossed once in a period, and again only where the limit was raised above every one that was
//! told of; an unlimited plan has none. A crossing is told in the change that says so.

use std::collections::BTreeMap;

use policy::budget::PeriodId;
use policy::budget::ledger::{Account, PeriodBooks};
use policy::ids::entitlement_id;
use sea_orm::{ConnectionTrait as _, QueryResult, Statement, Value};

use super::database::Transaction;
use super::error::StorageResult;
use super::{Change, Store};

/// Parts of a quota that are told of, percent.
pub const PERCENTS: &[i64] = &[80, 100];
/// Names learnt in one statement.
const NAMES_BATCH: u64 = 200;
/// Tries before a crossing that nobody can name is left alone: its subscription's site is gone, or was never here.
const TRIES_MAX: i64 = 50;

/// How much of which limit was used in each period, before a report.
pub(super) type Before = BTreeMap<(u128, PeriodId), Reached>;

/// Use and limit of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) used: u64,
    pub(super) limit: Option<u64>,
}

impl Reached {
    /// Whether more is used than the limit.
    pub(super) fn is_over(self) -> bool {
        self.limit.is_some_and(|limit| self.used > limit)
    }

    /// Whether this part of the limit is used. A limit of nothing is never used up: nothing was given.
    fn is_at(self, percent: i64) -> bool {
        self.limit.is_some_and(|limit| {
            let (used, limit) = (u128::from(self.used), u128::from(limit));
            limit > 0 && used * 100 >= limit * u128::from(percent.unsigned_abs())
        })
    }
}

/// What is used in one period.
pub(super) fn of(account: &Account, books: &PeriodBooks) -> Reached {
    Reached { used: books.used(), limit: account.terms.limit }
}

/// What is used in each period of these accounts.
pub(super) fn reached<'a>(accounts: impl Iterator<Item = (&'a u128, &'a Account)>) -> Before {
    let mut all = Before::new();
    for (id, account) in accounts {
        for books in &account.books {
            all.insert((*id, books.period.id), of(account, books));
        }
    }
    all
}

/// Writes down what was crossed.
pub(super) async fn note(
    before: &Before,
    accounts: &BTreeMap<u128, Account>,
    unix_ms: i64,
    transaction: &Transaction,
) -> StorageResult<()> {
    for (id, account) in accounts {
        // Late use of a period that is over is told to nobody.
        let current = account.books.iter().find(|books| books.period.id == account.current.id);
        let Some(books) = current else { continue };
        let now = of(account, books);
        let then = before.get(&(*id, books.period.id));
        for percent in PERCENTS {
            if !now.is_at(*percent) || then.is_some_and(|then| then.is_at(*percent)) {
                continue;
            }
            let values: [Value; 8] = [
                id.to_be_bytes().to_vec().into(),
                signed(books.period.id.0).into(),
                (*percent).into(),
                signed(now.limit.unwrap_or_default()).into(),
                signed(now.used).into(),
                books.period.start_s.into(),
                books.period.end_s.into(),
                unix_ms.into(),
            ];
            let sql = "INSERT INTO quota_crossings (entitlement, period_id, percent, limit_units, used_units, period_start_s, \
                       period_end_s, crossed_at_ms, tries) SELECT CAST($1 AS {BLOB}), CAST($2 AS BIGINT), CAST($3 AS BIGINT), \
                       CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BIGINT), CAST($8 AS BIGINT), 0 \
                       WHERE NOT EXISTS (SELECT 1 FROM quota_crossings WHERE entitlement = $1 AND period_id = $2 \
                       AND percent = $3 AND limit_units >= $4)";
            let backend = transaction.get_database_backend();
            let blob = if backend == sea_orm::DbBackend::Postgres { "BYTEA" } else { "BLOB" };
            let sql = sql.replace("{BLOB}", blob);
            transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
    Ok(())
}

pub(super) fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// A crossing that is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
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
    /// Which part.
    pub percent: i64,
    /// Of how much.
    pub limit_units: i64,
    /// What was used when it was found.
    pub used_units: i64,
}

/// What an entitlement is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEntitlement {
    /// The account.
    pub account_id: String,
    /// The subscription.
    pub subscription_id: String,
}

impl NamedEntitlement {
    /// Of a row with `account_id` and `subscription_id`; none where they are not known yet.
    pub(super) fn of_row(row: &QueryResult) -> StorageResult<Option<Self>> {
        let account_id: Option<String> = row.try_get("", "account_id")?;
        let subscription_id: Option<String> = row.try_get("", "subscription_id")?;
        let both = account_id.zip(subscription_id);
        Ok(both.map(|(account_id, subscription_id)| Self { account_id, subscription_id }))
    }
}

impl Store {
    /// Crossings nobody was told of, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn untold_crossings(&self, count: u64) -> StorageResult<Vec<Crossing>> {
        let sql = format!(
            "SELECT c.entitlement, period_id, period_start_s, period_end_s, percent, limit_units, used_units, \
             account_id, subscription_id FROM quota_crossings c LEFT JOIN entitlement_names n \
             ON n.entitlement = c.entitlement WHERE told_at_ms IS NULL AND tries < {TRIES_MAX} \
             ORDER BY crossed_at_ms LIMIT {count}"
        );
        let backend = self.database.get_database_backend();
        let mut found = Vec::new();
        for row in self.database.query_all_raw(Statement::from_string(backend, sql)).await? {
            found.push(Crossing {
                entitlement: row.try_get("", "entitlement")?,
                owner: NamedEntitlement::of_row(&row)?,
                period_id: row.try_get("", "period_id")?,
                period_start_s: row.try_get("", "period_start_s")?,
                period_end_s: row.try_get("", "period_end_s")?,
                percent: row.try_get("", "percent")?,
                limit_units: row.try_get("", "limit_units")?,
                used_units: row.try_get("", "used_units")?,
            });
        }
        Ok(found)
    }

    /// Notes that a crossing could not be told of, so that it is not tried for ever.
    pub async fn crossing_tried(&self, crossing: &Crossing) -> StorageResult<()> {
        let sql = "UPDATE quota_crossings SET tries = tries + 1 WHERE entitlement = $1 AND period_id = $2 AND percent = $3 AND limit_units = $4";
        self.changes_one(sql, key_of(crossing)).await?;
        Ok(())
    }

    /// Learns which subscriptions entitlements are, of those that are not known; says how many were new. A name of an
    /// entitlement is made of a slug and a reference, which both stay, so what was learnt stays true until the account
    /// makes a site of the slug anew with a subscription of the reference: what goes on there is of that one.
    pub async fn name_entitlements(&self) -> StorageResult<u64> {
        let backend = self.database.get_database_backend();
        let sql = format!(
            "SELECT s.key, s.id, s.account_id, s.reference, sites.slug FROM subscriptions s JOIN sites ON sites.id = s.site_id \
             WHERE NOT EXISTS (SELECT 1 FROM entitlement_names n WHERE n.subscription_key = s.key) \
             AND NOT EXISTS (SELECT 1 FROM sites newer JOIN subscriptions later ON later.site_id = newer.id \
             WHERE newer.slug = sites.slug AND newer.key > sites.key AND later.reference = s.reference) ORDER BY s.key LIMIT {NAMES_BATCH}"
        );
        let rows = self.database.query_all_raw(Statement::from_string(backend, sql)).await?;
        let (mut values, mut marks): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
        for row in &rows {
            let (slug, reference): (String, String) =
                (row.try_get("", "slug")?, row.try_get("", "reference")?);
            let at = values.len();
            marks.push(format!("(${}, ${}, ${}, ${})", at + 1, at + 2, at + 3, at + 4));
            values.extend([
                entitlement_id(&slug, &reference).0.to_be_bytes().to_vec().into(),
                row.try_get::<i64>("", "key")?.into(),
                row.try_get::<String>("", "id")?.into(),
                row.try_get::<String>("", "account_id")?.into(),
            ]);
        }
        if marks.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "INSERT INTO entitlement_names (entitlement, subscription_key, subscription_id, account_id) VALUES {} \
             ON CONFLICT (entitlement) DO UPDATE SET subscription_key = excluded.subscription_key, \
             subscription_id = excluded.subscription_id WHERE excluded.subscription_key > entitlement_names.subscription_key",
            marks.join(", ")
        );
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(rows.len() as u64)
    }
}

fn key_of(crossing: &Crossing) -> [Value; 4] {
    [
        crossing.entitlement.clone().into(),
        crossing.period_id.into(),
        crossing.percent.into(),
        crossing.limit_units.into(),
    ]
}

impl Change {
    /// Has it learnt anew whose an entitlement is: a subscription of the name is made.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn forget_name(&mut self, slug: &str, reference: &str) -> StorageResult<()> {
        let sql = "DELETE FROM entitlement_names WHERE entitlement = $1 AND account_id = $2";
        let entitlement = entitlement_id(slug, reference).0.to_be_bytes().to_vec();
        let values: [Value; 2] = [entitlement.into(), self.account_id.as_str().into()];
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        self.transaction.execute_raw(statement).await?;
        Ok(())
    }

    /// Notes that a crossing is told of by this change; false where another one did.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn tell_crossing(&mut self, crossing: &Crossing) -> StorageResult<bool> {
        let sql = "UPDATE quota_crossings SET told_at_ms = $5 WHERE entitlement = $1 AND period_id = $2 AND percent = $3 \
                   AND limit_units = $4 AND told_at_ms IS NULL";
        let mut values = key_of(crossing).to_vec();
        values.push(self.now_ms.into());
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        Ok(self.transaction.execute_raw(statement).await?.rows_affected() == 1)
    }
}
