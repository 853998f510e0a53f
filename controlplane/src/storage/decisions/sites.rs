//! Whose decisions are whose.
//!
//! In: slugs and times of rows; an account. Out: the site that had the slug then; the account's sites.
//! Always holds: a row is of the newest site that was made before it, of all sites that ever had its slug; the first of them has the rows
//! from before it, too, since clocks differ. [`OwnSites`] are made by [`Tenant`] alone, and no question about decisions or use can be
//! asked without them.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, Statement, Value};

use super::Arrived;
use crate::storage::error::StorageResult;
use crate::storage::policy_rows::VALUES_MAX;
use crate::storage::rows::{Site, column};
use crate::storage::tenant::Tenant;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

/// Times ahead of the control plane's clock that are believed.
const AHEAD_US: i64 = 3_600_000_000;
/// Sites that are asked about at once.
const SITES_MAX: u64 = 10_000;

/// A site by which decisions are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub key: i64,
    pub account_id: String,
    created_at_ms: i64,
}

/// Every site that ever had one of these slugs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Sites(BTreeMap<String, Vec<Owner>>);

/// A row with its site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<'a> {
    pub arrived: &'a Arrived<'a>,
    pub site: &'a Owner,
    /// When it was decided, microseconds; no later than a moment from now.
    pub time_us: i64,
}

impl Sites {
    pub(super) async fn of_rows<C: ConnectionTrait>(
        database: &C,
        rows: &[&Arrived<'_>],
    ) -> StorageResult<Self> {
        let slugs: BTreeSet<&str> = rows.iter().map(|row| row.row.opened.texts.site).collect();
        // No site has a slug with a NUL, and PostgreSQL has no text with one.
        let slugs = slugs.into_iter().filter(|slug| !slug.is_empty() && !slug.contains('\0'));
        Self::of(database, slugs.collect()).await
    }

    async fn of<C: ConnectionTrait>(database: &C, slugs: Vec<&str>) -> StorageResult<Self> {
        let mut sites = Self::default();
        for slugs in slugs.chunks(VALUES_MAX) {
            let marks: Vec<String> = (1..=slugs.len()).map(|at| format!("${at}")).collect();
            let sql = format!(
                "SELECT key, account_id, slug, created_at_ms FROM sites WHERE slug IN ({}) ORDER BY created_at_ms, key",
                marks.join(", ")
            );
            let values: Vec<Value> = slugs.iter().map(|slug| (*slug).into()).collect();
            let backend = database.get_database_backend();
            let statement = Statement::from_sql_and_values(backend, sql, values);
            for row in database.query_all_raw(statement).await? {
                let owner = Owner {
                    key: row.try_get("", "key")?,
                    account_id: row.try_get("", "account_id")?,
                    created_at_ms: row.try_get("", "created_at_ms")?,
                };
                sites.0.entry(row.try_get("", "slug")?).or_default().push(owner);
            }
        }
        Ok(sites)
    }

    /// The rows of known sites.
    pub(super) fn place<'a>(&'a self, rows: &[&'a Arrived<'a>], now_ms: i64) -> Vec<Placed<'a>> {
        let latest_us = now_ms.saturating_mul(1_000).saturating_add(AHEAD_US);
        let placed = rows.iter().filter_map(|arrived| {
            let time_us = arrived.time_us().min(latest_us);
            let site = self.owner(arrived.row.opened.texts.site, time_us.div_euclid(1_000))?;
            Some(Placed { arrived, site, time_us })
        });
        placed.collect()
    }

    fn owner(&self, slug: &str, time_ms: i64) -> Option<&Owner> {
        let owners = self.0.get(slug)?;
        owners.iter().rev().find(|owner| owner.created_at_ms <= time_ms).or(owners.first())
    }
}

/// One site, and when its slug was its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSpan {
    /// The row's number.
    pub key: i64,
    /// Its id.
    pub id: String,
    /// Its slug.
    pub slug: String,
    /// From then on, Unix milliseconds; none: from the beginning.
    pub from_ms: Option<i64>,
    /// Until another site had it; none: still.
    pub until_ms: Option<i64>,
}

/// Sites of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSites {
    account_id: String,
    spans: Vec<SiteSpan>,
    is_all: bool,
}

impl OwnSites {
    /// The account.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The sites; none of another account.
    #[must_use]
    pub fn spans(&self) -> &[SiteSpan] {
        &self.spans
    }

    /// The number of the one site, where one was asked for: no site's where the account does not have it.
    #[must_use]
    pub fn only(&self) -> Option<i64> {
        (!self.is_all).then(|| self.spans.first().map_or(-1, |span| span.key))
    }
}

impl Tenant<'_> {
    /// The account's sites, archived ones too; or the one with this id, which may be none of them.
    ///
    /// # Errors
    /// When the database cannot be asked, or there are more than 10,000.
    pub async fn own_sites(&self, id: Option<&str>) -> StorageResult<OwnSites> {
        let rows = self.all::<Site>(SITES_MAX, |query| match id {
            Some(id) => query.filter(column::Site::Id.eq(id)),
            None => query,
        });
        let rows = rows.await?;
        let slugs: BTreeSet<&str> = rows.iter().map(|site| site.slug.as_str()).collect();
        let all = Sites::of(&self.executor, slugs.into_iter().collect()).await?;
        let span = |site: &Site| {
            let owners = all.0.get(&site.slug).map(Vec::as_slice).unwrap_or_default();
            let at = owners.iter().position(|owner| owner.key == site.key);
            let next = at.and_then(|at| owners.get(at + 1));
            SiteSpan {
                key: site.key,
                id: site.id.clone(),
                slug: site.slug.clone(),
                from_ms: at.filter(|at| *at > 0).map(|_| site.created_at_ms),
                until_ms: next.map(|next| next.created_at_ms),
            }
        };
        let spans = rows.iter().map(span).collect();
        Ok(OwnSites { account_id: self.account_id.clone(), spans, is_all: id.is_none() })
    }
}
