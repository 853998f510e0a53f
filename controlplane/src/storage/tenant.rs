//! The one way to read rows of tenants.
//!
//! In: an account. Out: its rows, and nobody else's.
//! Always holds: every query built here carries `account_id = …` before anything else is added; the types that queries
//! could be built from otherwise do not leave `storage`.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Select};

use super::database::Executor;
use super::error::{StorageError, StorageResult};
use super::rows::{Account, Entity, TenantRow};
use crate::ids::is_id;

/// An account's view of the database.
#[derive(Debug)]
pub struct Tenant<'c> {
    pub(super) executor: Executor<'c>,
    pub(super) account_id: String,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<R> {
    /// The rows, newest first.
    pub rows: Vec<R>,
    /// Whether there are more after the last one.
    pub has_more: bool,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// Rows at most.
    pub limit: u64,
    /// The id of the row to go on after.
    pub starting_after: Option<&'a str>,
}

impl Tenant<'_> {
    /// Whose view it is.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// A query of the account's rows, to be narrowed.
    #[must_use]
    pub fn select<R: TenantRow>(&self) -> Select<R::Entity> {
        R::Entity::find().filter(R::columns().account_id.eq(self.account_id.as_str()))
    }

    /// One row by its public id; `None` where the account has none.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn get<R: TenantRow>(&self, id: &str) -> StorageResult<Option<R>> {
        if !is_id(id) {
            return Ok(None);
        }
        let query = self.select::<R>().filter(R::columns().id.eq(id));
        Ok(query.one(&self.executor).await?)
    }

    /// The one row that a query finds.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn one<R: TenantRow>(
        &self,
        narrow: impl FnOnce(Select<R::Entity>) -> Select<R::Entity>,
    ) -> StorageResult<Option<R>> {
        Ok(narrow(self.select::<R>()).one(&self.executor).await?)
    }

    /// All rows that a query finds, oldest first, at most `rows_max`: one more is an error, not a cut.
    ///
    /// # Errors
    /// When the database cannot be asked, or there are more.
    pub async fn all<R: TenantRow>(
        &self,
        rows_max: u64,
        narrow: impl FnOnce(Select<R::Entity>) -> Select<R::Entity>,
    ) -> StorageResult<Vec<R>> {
        let query = narrow(self.select::<R>()).order_by_asc(R::columns().key).limit(rows_max + 1);
        let rows = query.all(&self.executor).await?;
        if rows.len() as u64 > rows_max {
            return Err(StorageError::Broken(format!("more than {rows_max} rows of {}", R::KIND)));
        }
        Ok(rows)
    }

    /// How many rows a query finds.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn count<R: TenantRow>(
        &self,
        narrow: impl FnOnce(Select<R::Entity>) -> Select<R::Entity>,
    ) -> StorageResult<u64> {
        let count = R::columns().key.count();
        let query = narrow(self.select::<R>()).select_only().expr_as(count, "count");
        let found: Option<i64> = query.into_tuple().one(&self.executor).await?;
        Ok(found.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Part of a list, newest first; `None` where `starting_after` names no row of the account.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn page<R: TenantRow>(
        &self,
        window: Window<'_>,
        narrow: impl FnOnce(Select<R::Entity>) -> Select<R::Entity>,
    ) -> StorageResult<Option<Page<R>>> {
        let after = match window.starting_after {
            Some(id) => match self.get::<R>(id).await? {
                Some(row) => Some(row.key()),
                None => return Ok(None),
            },
            None => None,
        };
        let query = narrow(self.select::<R>());
        page(query, after, window.limit, &self.executor).await.map(Some)
    }
}

async fn page<R: TenantRow, C: ConnectionTrait>(
    query: Select<R::Entity>,
    after: Option<i64>,
    limit: u64,
    database: &C,
) -> StorageResult<Page<R>> {
    let key = R::columns().key;
    let query = match after {
        Some(after) => query.filter(key.lt(after)),
        None => query,
    };
    let query = query.order_by_desc(key).limit(limit.saturating_add(1));
    let mut rows = query.all(database).await?;
    let has_more = rows.len() as u64 > limit;
    if has_more {
        rows.pop();
    }
    Ok(Page { rows, has_more })
}

/// All accounts: the one list that is not of one account.
pub(super) async fn all_accounts<C: ConnectionTrait>(
    database: &C,
    window: Window<'_>,
) -> StorageResult<Option<Page<Account>>> {
    let after = match window.starting_after {
        Some(id) => {
            let query = Entity::<Account>::find().filter(Account::columns().id.eq(id));
            match query.one(database).await? {
                Some(row) => Some(row.key),
                None => return Ok(None),
            }
        }
        None => None,
    };
    page(Entity::<Account>::find(), after, window.limit, database).await.map(Some)
}
