//! Leases: who alone may do something for a while, over all processes and on both databases.
//!
//! In: a name, a holder, a time. Out: a [`Lease`], or nothing while another has it.
//! Always holds: of two processes one has it; what was done under a lease is committed only if it is held still
//! ([`Change::hold`]), so that a process that was stopped for long writes nothing old. No connection is held meanwhile, which
//! an advisory lock would need for as long as Stripe takes to answer.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::change::Change;
use super::error::{StorageError, StorageResult};
use super::{Store, begin_write};
use crate::ids::new_id;

/// The right to be the only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of what.
    pub name: String,
    /// Whose, unlike any other's.
    pub holder: String,
}

impl Store {
    /// The lease of this name for so long, milliseconds; `None` while another has it.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn lease(&self, name: &str, for_ms: i64) -> StorageResult<Option<Lease>> {
        let holder = new_id("hold", &*self.world);
        let lease = Lease { name: name.to_owned(), holder };
        let now_ms = self.world.now_ms();
        Ok(take(&self.database, &lease, now_ms, for_ms).await?.then_some(lease))
    }

    /// Has it for so long from now on, if it was not lost; says whether.
    pub async fn extend(&self, lease: &Lease, for_ms: i64) -> StorageResult<bool> {
        let until_ms = self.world.now_ms().saturating_add(for_ms);
        let statement = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_leases SET until_ms = $3 WHERE name = $1 AND holder = $2",
            [lease.name.as_str().into(), lease.holder.as_str().into(), until_ms.into()],
        );
        Ok(self.database.execute_raw(statement).await?.rows_affected() == 1)
    }

    /// How long the lease of this name is had from now on, milliseconds; 0 where nobody has it.
    pub async fn lease_left_ms(&self, name: &str) -> StorageResult<i64> {
        let statement = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "SELECT until_ms FROM stripe_leases WHERE name = $1",
            [name.into()],
        );
        let row = self.database.query_one_raw(statement).await?;
        let until_ms = row.map(|row| row.try_get::<i64>("", "until_ms")).transpose()?;
        Ok(until_ms.unwrap_or_default().saturating_sub(self.world.now_ms()).max(0))
    }

    /// Gives it back.
    pub async fn release(&self, lease: &Lease) -> StorageResult<()> {
        release(&self.database, lease).await
    }

    /// How many leases of a kind (`kind/…`) are held now.
    pub async fn count_leases(&self, kind: &str) -> StorageResult<u32> {
        let statement = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "SELECT COUNT(*) AS n FROM stripe_leases WHERE name LIKE $1 AND until_ms >= $2",
            [format!("{kind}/%").into(), self.world.now_ms().into()],
        );
        let row = self.database.query_one_raw(statement).await?;
        let count = row.map(|row| row.try_get::<i64>("", "n")).transpose()?.unwrap_or_default();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Forgets leases that ended long ago, a bounded number at a time.
    pub(super) async fn prune_leases(&self) -> StorageResult<u64> {
        const KEPT_MS: i64 = 3_600_000;
        let transaction = begin_write(&self.database).await?;
        let statement = Statement::from_sql_and_values(
            transaction.get_database_backend(),
            "DELETE FROM stripe_leases WHERE name IN \
             (SELECT name FROM stripe_leases WHERE until_ms < $1 LIMIT 1000) AND until_ms < $1",
            [self.world.now_ms().saturating_sub(KEPT_MS).into()],
        );
        let count = transaction.execute_raw(statement).await?.rows_affected();
        transaction.commit().await?;
        Ok(count)
    }
}

impl Change {
    /// Makes the change one that is committed only while the lease is held; nobody else can take it until then.
    ///
    /// # Errors
    /// `Stale` where it was lost.
    pub async fn hold(&self, lease: &Lease) -> StorageResult<()> {
        let backend = self.transaction.get_database_backend();
        let lock = if backend == DbBackend::Postgres { " FOR UPDATE" } else { "" };
        let statement = Statement::from_sql_and_values(
            backend,
            format!("SELECT until_ms FROM stripe_leases WHERE name = $1 AND holder = $2{lock}"),
            [lease.name.as_str().into(), lease.holder.as_str().into()],
        );
        // One that ended and that nobody took since is as good: nothing was written in between.
        let row = self.transaction.query_one_raw(statement).await?;
        row.map(drop).ok_or(StorageError::Stale)
    }

    /// As [`Change::hold`], and gives the lease back with the change.
    ///
    /// # Errors
    /// `Stale` where it was lost.
    pub async fn give_back(&self, lease: &Lease) -> StorageResult<()> {
        self.hold(lease).await?;
        release(&self.transaction, lease).await
    }
}

pub(super) async fn take<C: ConnectionTrait>(
    database: &C,
    lease: &Lease,
    now_ms: i64,
    for_ms: i64,
) -> StorageResult<bool> {
    let statement = Statement::from_sql_and_values(
        database.get_database_backend(),
        "INSERT INTO stripe_leases (name, holder, until_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE \
         SET holder = excluded.holder, until_ms = excluded.until_ms WHERE stripe_leases.until_ms < $4",
        [
            lease.name.as_str().into(),
            lease.holder.as_str().into(),
            now_ms.saturating_add(for_ms).into(),
            now_ms.into(),
        ],
    );
    Ok(database.execute_raw(statement).await?.rows_affected() == 1)
}

pub(super) async fn release<C: ConnectionTrait>(database: &C, lease: &Lease) -> StorageResult<()> {
    let statement = Statement::from_sql_and_values(
        database.get_database_backend(),
        "DELETE FROM stripe_leases WHERE name = $1 AND holder = $2",
        [lease.name.as_str().into(), lease.holder.as_str().into()],
    );
    database.execute_raw(statement).await?;
    Ok(())
}
