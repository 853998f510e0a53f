//! Whose a thing of billing is: how what comes from Stripe or from a buyer, without an admin key, finds its account.
//!
//! In: an id of Stripe's, a session's id, a slug, a hash. Out: the one row that it names, with its account.
//! Always holds: what is looked up here is either unguessable (sessions, links, states) or tells nothing that its owner did not
//! publish (a site's slug); rows are changed through [`super::Change`] of the account that was found alone.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Statement};

use super::Store;
use super::billing_rows::{Checkout, KeyClaim, StripeAccount};
use super::error::StorageResult;
use super::rows::{Entity, Node, Site};

use super::column;

/// Who began connecting an account by OAuth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthState {
    /// The account.
    pub account_id: String,
    /// The admin key.
    pub actor_id: String,
    /// `test` or `live`.
    pub mode: String,
}

impl Store {
    /// The connected account that is not lost with this id of Stripe's.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn stripe_account_named(
        &self,
        stripe_id: &str,
        mode: &str,
    ) -> StorageResult<Option<StripeAccount>> {
        let query = Entity::<StripeAccount>::find()
            .filter(column::StripeAccount::StripeId.eq(stripe_id))
            .filter(column::StripeAccount::Mode.eq(mode))
            .filter(column::StripeAccount::LostAtMs.is_null());
        Ok(query.one(&self.database).await?)
    }

    /// Connected accounts that are not lost after this key, by key, at most `rows_max`.
    pub async fn stripe_accounts_after(
        &self,
        key: i64,
        rows_max: u64,
    ) -> StorageResult<Vec<StripeAccount>> {
        let query = Entity::<StripeAccount>::find()
            .filter(column::StripeAccount::Key.gt(key))
            .filter(column::StripeAccount::LostAtMs.is_null())
            .order_by_asc(column::StripeAccount::Key)
            .limit(rows_max);
        Ok(query.all(&self.database).await?)
    }

    /// The checkout of a session.
    pub async fn checkout_of_session(&self, session_id: &str) -> StorageResult<Option<Checkout>> {
        let query = Entity::<Checkout>::find().filter(column::Checkout::SessionId.eq(session_id));
        Ok(query.one(&self.database).await?)
    }

    /// The claim whose link has this hash.
    pub async fn claim_of_link(&self, hash: &[u8; 32]) -> StorageResult<Option<KeyClaim>> {
        let query = Entity::<KeyClaim>::find().filter(column::KeyClaim::LinkHash.eq(hash.to_vec()));
        Ok(query.one(&self.database).await?)
    }

    /// The site with this slug that is not archived.
    pub async fn site_of_slug(&self, slug: &str) -> StorageResult<Option<Site>> {
        let query = Entity::<Site>::find()
            .filter(column::Site::Slug.eq(slug))
            .filter(column::Site::ArchivedAtMs.is_null());
        Ok(query.one(&self.database).await?)
    }

    /// How many nodes that were heard of within `away_ms` do not have change `sequence` yet.
    pub async fn nodes_behind(&self, sequence: i64, away_ms: i64) -> StorageResult<u64> {
        let since_ms = self.world.now_ms() - away_ms;
        let query = Entity::<Node>::find()
            .filter(column::Node::ArchivedAtMs.is_null())
            .filter(column::Node::DeclaredDeadAtMs.is_null())
            .filter(column::Node::LastSeenAtMs.gte(since_ms))
            .filter(column::Node::AppliedSequence.lt(sequence));
        Ok(query.count(&self.database).await?)
    }

    /// Keeps that somebody began to connect an account.
    pub async fn keep_oauth_state(
        &self,
        hash: &[u8; 32],
        state: &OauthState,
        expires_at_ms: i64,
    ) -> StorageResult<()> {
        let insert = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "INSERT INTO stripe_oauth_states (state_hash, account_id, actor_id, mode, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5)",
            [
                hash.to_vec().into(),
                state.account_id.as_str().into(),
                state.actor_id.as_str().into(),
                state.mode.as_str().into(),
                expires_at_ms.into(),
            ],
        );
        self.database.execute_raw(insert).await?;
        Ok(())
    }

    /// Takes the state with this hash: it is there once, and not when it has expired.
    pub async fn take_oauth_state(&self, hash: &[u8; 32]) -> StorageResult<Option<OauthState>> {
        let delete = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "DELETE FROM stripe_oauth_states WHERE state_hash = $1 \
             RETURNING account_id, actor_id, mode, expires_at_ms",
            [hash.to_vec().into()],
        );
        let Some(row) = self.database.query_one_raw(delete).await? else { return Ok(None) };
        if row.try_get::<i64>("", "expires_at_ms")? <= self.world.now_ms() {
            return Ok(None);
        }
        Ok(Some(OauthState {
            account_id: row.try_get("", "account_id")?,
            actor_id: row.try_get("", "actor_id")?,
            mode: row.try_get("", "mode")?,
        }))
    }
}
