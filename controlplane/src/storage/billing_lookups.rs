//! Whose a thing of billing is: how what comes from Stripe or from a buyer, without an admin key, finds its account.
//!
//! In: an id of Stripe's, a session's id, a slug, a hash. Out: the one row that it names, with its account.
//! Always holds: what is looked up here is either unguessable (sessions, links) or tells nothing that its owner did not
//! publish (a site's slug); rows are changed through [`super::Change`] of the account that was found alone.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _};

use super::Store;
use super::billing_rows::{Checkout, KeyClaim, StripeAccount};
use super::error::StorageResult;
use super::rows::{Entity, Node, Site};

use super::column;

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
}
