//! How far connected accounts were compared with what is known here, and whose subscriptions can be asked for no more.
//!
//! In: places of sweeps. Out: the same after a restart.
//! Always holds: a place is kept after what was found up to it; it is no administrator's change, so it is not audited.

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, Statement};

use super::Store;
use super::error::StorageResult;
use super::rows::{Entity, Stamp, TenantRow as _};
use super::stripe_event_rows::{StripeSweep, column};
use crate::ids::new_id;

impl Store {
    /// The sweep of one kind over a connected account, made where there is none.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn stripe_sweep(
        &self,
        account_id: &str,
        mode: &str,
        stripe_account: &str,
        kind: &str,
    ) -> StorageResult<StripeSweep> {
        let find = || {
            Entity::<StripeSweep>::find()
                .filter(column::StripeSweep::AccountId.eq(account_id))
                .filter(column::StripeSweep::StripeAccount.eq(stripe_account))
                .filter(column::StripeSweep::Mode.eq(mode))
                .filter(column::StripeSweep::Kind.eq(kind))
        };
        if let Some(row) = find().one(&self.database).await? {
            return Ok(row);
        }
        let mut row = StripeSweep {
            mode: mode.to_owned(),
            stripe_account: stripe_account.to_owned(),
            kind: kind.to_owned(),
            ..StripeSweep::default()
        };
        let id = new_id(StripeSweep::PREFIX, &*self.world);
        row.stamp(Stamp::New { id: &id, account_id, now_ms: self.world.now_ms() });
        let mut active = row.into_active_model().reset_all();
        active.not_set(column::StripeSweep::Key);
        match active.insert(&self.database).await.map_err(super::StorageError::from) {
            // Another has made it since.
            Err(super::StorageError::Taken(_)) => {}
            other => return other,
        }
        let made = find().one(&self.database).await?;
        made.ok_or_else(|| super::StorageError::Broken("a sweep came and went".to_owned()))
    }

    /// Keeps a sweep's place, but not that it was asked for, which others may have done since.
    pub async fn keep_stripe_sweep(&self, row: &mut StripeSweep) -> StorageResult<()> {
        let (key, version, now_ms) = (row.key, row.version, self.world.now_ms());
        row.stamp(Stamp::Changed { key, version, now_ms });
        let mut active = row.clone().into_active_model().reset_all();
        active.not_set(column::StripeSweep::Key);
        active.not_set(column::StripeSweep::AskedAtMs);
        Entity::<StripeSweep>::update_many()
            .set(active)
            .filter(column::StripeSweep::Key.eq(row.key))
            .exec(&self.database)
            .await?;
        Ok(())
    }

    /// Subscriptions whose period is over and whose account at Stripe is connected no more: account and row, at most
    /// `rows_max`.
    pub async fn orphaned_subscriptions(
        &self,
        rows_max: u64,
    ) -> StorageResult<Vec<(String, String)>> {
        let sql = format!(
            "SELECT known.account_id, known.id FROM stripe_subscriptions AS known \
             WHERE known.stripe_status IN ('active', 'trialing', 'past_due') AND known.period_end_ms <= $1 \
             AND NOT EXISTS (SELECT 1 FROM stripe_accounts WHERE stripe_accounts.account_id = known.account_id \
             AND stripe_accounts.mode = known.mode AND stripe_accounts.stripe_id = known.stripe_account \
             AND stripe_accounts.lost_at_ms IS NULL) \
             ORDER BY known.key LIMIT {rows_max}"
        );
        let values = [self.world.now_ms().into()];
        let backend = self.database.get_database_backend();
        let rows = self
            .database
            .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
        let pair = |row: sea_orm::QueryResult| {
            Ok((row.try_get("", "account_id")?, row.try_get("", "id")?))
        };
        rows.into_iter().map(pair).collect()
    }
}
