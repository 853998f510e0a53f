//! Money: how accounts sell plans through Stripe.
//!
//! In: plans with prices, buyers, what Stripe says. Out: products, prices and sessions in the owner's Stripe account; checkouts
//! and claims here.
//! Always holds: a call that makes something carries an idempotency key that was stored before it ([`calls`]); test and live
//! never mix ([`stripe::Mode`] is part of every row and every call); amounts are whole numbers of the currency's smallest
//! unit ([`money`]).

pub mod calls;
pub mod catalogue;
pub mod change;
pub mod checkout;
pub mod claims;
pub mod connect;
pub mod error;
pub mod free;
pub mod metrics;
pub mod money;
pub mod oauth;
pub mod pages;
pub mod payers;
pub mod settings;
pub mod settle;
pub mod sharers;
pub mod stripe;
pub mod sweep;
pub mod waiting;
pub mod webhooks;
pub mod worker;

use std::sync::Arc;

pub use error::{BillingError, BillingResult};
pub use settings::{BillingSettings, ClientIds, Percent};

use crate::storage::{StorageResult, Store, StripeAccount, column};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use settle::Settler;
use stripe::{Mode, Scope, Stripe};

/// All that billing needs. Clones share one client and one database.
#[derive(Clone, Debug)]
pub struct Billing {
    /// Stripe.
    pub stripe: Stripe,
    /// The database.
    pub store: Store,
    /// What the operator said.
    pub settings: Arc<BillingSettings>,
    /// What a payment becomes here.
    pub settler: Settler,
}

impl Billing {
    /// Billing over a database.
    ///
    /// # Errors
    /// Text for a person, where there can be no client.
    pub fn new(settings: BillingSettings, store: Store) -> Result<Self, String> {
        let stripe = Stripe::new(settings.stripe.clone(), store.world().clone())?;
        let settler = Settler::new(store.clone(), stripe.clone());
        Ok(Self { stripe, store, settings: Arc::new(settings), settler })
    }

    /// In which world the public pages sell: live wherever there is a live key, since what is bought in test mode costs
    /// nothing and its token works.
    #[must_use]
    pub fn public_mode(&self) -> Mode {
        if self.stripe.has(Mode::Live) { Mode::Live } else { Mode::Test }
    }

    /// Where buyers reach our pages.
    ///
    /// # Errors
    /// When nobody said.
    pub fn public_url(&self) -> BillingResult<&str> {
        let url = self.settings.public_url.as_deref();
        url.ok_or(BillingError::NotSetUp("the control plane was started without --public-url"))
    }

    /// The account's Stripe account of a mode.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn connected(
        &self,
        account_id: &str,
        mode: Mode,
    ) -> StorageResult<Option<StripeAccount>> {
        let tenant = self.store.tenant(account_id);
        tenant
            .one::<StripeAccount>(|query| {
                query
                    .filter(column::StripeAccount::Mode.eq(mode.as_str()))
                    .filter(column::StripeAccount::LostAtMs.is_null())
            })
            .await
    }

    /// The account's Stripe account of a mode, as calls name it.
    ///
    /// # Errors
    /// When there is no key of that mode, or no account.
    pub async fn scope(&self, account_id: &str, mode: Mode) -> BillingResult<Scope> {
        if !self.stripe.has(mode) {
            return Err(stripe::StripeError::NotSetUp(mode).into());
        }
        let account = self.connected(account_id, mode).await?;
        let account = account.ok_or(BillingError::NotConnected(mode))?;
        Ok(Scope::connected(mode, &account.stripe_id))
    }
}
