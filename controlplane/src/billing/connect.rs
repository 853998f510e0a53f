//! An owner's Stripe account: made for them, looked at, given back.
//!
//! In: an owner's wish, what Stripe says of the account. Out: a row with what it can do; links to Stripe's pages.
//! Always holds: an account has one Stripe account of a mode at a time; what it can do is asked of Stripe and never assumed.

use std::collections::BTreeMap;

use http::StatusCode;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};

use super::calls::CallError;
use super::stripe::{AccountLink, AccountRequest, Mode, Scope, StripeAccountObject, StripeError};
use super::{Billing, BillingError, BillingResult, Percent, calls, catalogue};
use crate::ids::new_id;
use crate::storage::{Actor, Change, Site, StorageError, StorageResult, StripeAccount, column};

/// What an owner is told whose account Stripe does not show us.
const NOT_SHOWN: &str = "Stripe does not let this control plane act for the account; disconnect it and connect it again";

/// What a row keeps of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountSettings {
    /// Whether it was the owner's before.
    pub is_oauth: bool,
    /// Stripe's word for whether it can take cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card_payments: Option<String>,
    /// What Stripe waits for.
    pub awaited: Vec<String>,
    /// The platform with whose key it was called last, `acct_…`: the key of another one is refused as if access were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What the platform takes, hundredths of a percent; the operator's default where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee: Option<u32>,
    /// The same for single sites.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub site_fees: BTreeMap<String, u32>,
}

impl AccountSettings {
    /// What a row says; nothing where it cannot be read.
    #[must_use]
    pub fn of(row: &StripeAccount) -> Self {
        serde_json::from_str(&row.settings).unwrap_or_default()
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What the platform takes of payments for a site.
#[must_use]
pub fn fee(billing: &Billing, row: &StripeAccount, site_id: &str) -> Percent {
    let settings = AccountSettings::of(row);
    let own = settings.site_fees.get(site_id).copied().or(settings.fee);
    own.and_then(Percent::of_hundredths).unwrap_or(billing.settings.fee)
}

/// Sets what the platform takes of an account's payments, or of one site's; `None` for the operator's default.
///
/// # Errors
/// When there is no account or no such site of it, or the database cannot be asked.
pub async fn set_fee(
    billing: &Billing,
    account_id: &str,
    actor: Actor,
    mode: Mode,
    site_id: Option<&str>,
    fee: Option<u32>,
) -> BillingResult<StripeAccount> {
    if let Some(id) = site_id
        && billing.store.tenant(account_id).get::<Site>(id).await?.is_none()
    {
        return Err(BillingError::NotFound("site"));
    }
    let row = billing.connected(account_id, mode).await?;
    let row = row.ok_or(BillingError::NotConnected(mode))?;
    let mut change = billing.store.change(account_id, actor).await?;
    let before = change.lock::<StripeAccount>(&row.id).await?;
    let before = before.ok_or(BillingError::NotConnected(mode))?;
    let mut settings = AccountSettings::of(&before);
    match (site_id, fee) {
        (None, fee) => settings.fee = fee,
        (Some(site), Some(fee)) => drop(settings.site_fees.insert(site.to_owned(), fee)),
        (Some(site), None) => drop(settings.site_fees.remove(site)),
    }
    let after = StripeAccount { settings: settings.text(), ..before.clone() };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(row)
}

/// The account's Stripe account, made where there is none, and a link on which its owner sets it up.
///
/// # Errors
/// When Stripe or the database cannot be asked; done again, it goes on.
pub async fn begin(
    billing: &Billing,
    account_id: &str,
    actor: Actor,
    mode: Mode,
    email: &str,
    country: Option<&str>,
) -> BillingResult<(StripeAccount, AccountLink)> {
    // Nothing is made that its owner could not come back from.
    let pages = billing.public_url()?.to_owned();
    let row = match billing.connected(account_id, mode).await? {
        Some(row) => row,
        None => {
            let made = make(billing, account_id, mode, email, country).await?;
            record(billing, account_id, actor, mode, &made, None).await?
        }
    };
    let key = new_id("pf", &**billing.store.world());
    let (again, back) =
        (format!("{pages}/stripe/onboarding/again"), format!("{pages}/stripe/onboarding/done"));
    let link = billing.stripe.account_link(mode, &row.stripe_id, &again, &back, &key).await?;
    Ok((row, link))
}

async fn make(
    billing: &Billing,
    account_id: &str,
    mode: Mode,
    email: &str,
    country: Option<&str>,
) -> BillingResult<StripeAccountObject> {
    let before = billing
        .store
        .tenant(account_id)
        .count::<StripeAccount>(|query| query.filter(column::StripeAccount::Mode.eq(mode.as_str())))
        .await?;
    let mut request = AccountRequest::merchant(email, country);
    request.metadata.insert("payfence_account".to_owned(), account_id.to_owned());
    let purpose = format!("account/{before}/{mode}");
    let store = &billing.store;
    let call = match calls::once(store, account_id, &purpose, &request).await {
        // Nothing is known to have come of the first wish, and this one says otherwise.
        Err(CallError::Changed(_)) => {
            calls::forget(store, account_id, &purpose).await?;
            calls::once(store, account_id, &purpose, &request).await?
        }
        outcome => outcome?,
    };
    match billing.stripe.create_account(mode, &request, &call.key).await {
        Ok(account) => {
            calls::done(store, account_id, &purpose, &account.id).await?;
            Ok(account)
        }
        Err(error) => {
            // Accounts v2 does a call that failed anew with the same key, so one that may have been done keeps it. By v1 a failure is
            // kept for the key; what it may have made was looked for.
            if !error.is_temporary() || error.is_replayed() {
                calls::forget(store, account_id, &purpose).await?;
            }
            Err(error.into())
        }
    }
}

fn status_of(account: &StripeAccountObject) -> &'static str {
    match (account.is_ready(), account.card_payments()) {
        (true, _) => "ready",
        (false, Some("restricted" | "unsupported")) => "restricted",
        (false, _) => "pending",
    }
}

/// Puts what Stripe says of an account into its row.
pub(super) fn fill(row: &mut StripeAccount, account: &StripeAccountObject) {
    let settings = AccountSettings {
        card_payments: account.card_payments().map(ToOwned::to_owned),
        awaited: account.awaited(),
        ..AccountSettings::of(row)
    };
    row.settings = settings.text();
    row.status = status_of(account).to_owned();
}

/// Keeps an account that is connected now, and with it that an attempt by OAuth has come to its end.
pub(super) async fn record(
    billing: &Billing,
    account_id: &str,
    actor: Actor,
    mode: Mode,
    account: &StripeAccountObject,
    oauth_state: Option<&[u8; 32]>,
) -> BillingResult<StripeAccount> {
    let is_oauth = oauth_state.is_some();
    let settings = AccountSettings { is_oauth, ..AccountSettings::default() };
    let mut row = StripeAccount {
        mode: mode.as_str().to_owned(),
        stripe_id: account.id.clone(),
        settings: settings.text(),
        ..StripeAccount::default()
    };
    fill(&mut row, account);
    let mut change = billing.store.change(account_id, actor).await?;
    match change.insert(row).await {
        Ok(row) => {
            if let Some(state) = oauth_state {
                change.end_oauth_state(state, &row.stripe_id).await?;
            }
            change.commit().await?;
            Ok(row)
        }
        Err(StorageError::Taken(_)) => {
            drop(change);
            let known = billing.connected(account_id, mode).await?;
            known.filter(|known| known.stripe_id == account.id).ok_or_else(|| {
                let text =
                    "a Stripe account is connected already, or this one is another account's";
                BillingError::Conflict(text.to_owned())
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// Puts into an account's row that Stripe does not let us act for it: it sells nothing until it does. Lost it is only where Stripe tells so
/// or the platform is known to be the same, since the key of another one would be refused alike.
pub(super) fn fill_not_shown(row: &mut StripeAccount) {
    let mut settings = AccountSettings::of(row);
    settings.awaited = vec![NOT_SHOWN.to_owned()];
    row.settings = settings.text();
    row.status = "restricted".to_owned();
}

/// Whether the row says that Stripe did not let us act for the account.
pub(super) fn is_not_shown(row: &StripeAccount) -> bool {
    row.status == "restricted" && AccountSettings::of(row).awaited == [NOT_SHOWN]
}

/// Keeps the platform that may act for the account.
pub(super) fn fill_platform(row: &mut StripeAccount, platform: &str) {
    let settings =
        AccountSettings { platform: Some(platform.to_owned()), ..AccountSettings::of(row) };
    row.settings = settings.text();
}

/// Puts into a change that an account is not ours to call any more: its sites stop selling, what runs goes on to its period's end.
pub(super) async fn lose_in(
    change: &mut Change,
    before: &StripeAccount,
) -> StorageResult<StripeAccount> {
    let after = StripeAccount {
        status: "lost".to_owned(),
        lost_at_ms: Some(change.now_ms()),
        ..before.clone()
    };
    let row = change.update(before, after).await?;
    catalogue::withdraw_all(change, Mode::stored(&row.mode)?).await?;
    Ok(row)
}

/// Asks Stripe what the account can do, and keeps it.
///
/// # Errors
/// When Stripe or the database cannot be asked.
pub async fn refresh(billing: &Billing, row: &StripeAccount) -> BillingResult<StripeAccount> {
    let mode = Mode::stored(&row.mode)?;
    let account = match billing.stripe.account(mode, &row.stripe_id).await {
        Ok(account) => Some(account),
        Err(error) if error.is_missing() || error.is_access_lost() => {
            tracing::warn!(account = row.stripe_id, %error, "Stripe does not show a connected account");
            None
        }
        Err(error) => return Err(error.into()),
    };
    let mut change = billing.store.change(&row.account_id, catalogue::system()).await?;
    let before = change.lock::<StripeAccount>(&row.id).await?;
    let before = before.ok_or(BillingError::NotConnected(mode))?;
    let mut after = before.clone();
    match &account {
        Some(account) => fill(&mut after, account),
        None => fill_not_shown(&mut after),
    }
    if before.lost_at_ms.is_some() || after == before {
        return Ok(before);
    }
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(row)
}

/// The account's Stripe account, where it can take payments.
///
/// # Errors
/// When there is none or it cannot, or Stripe or the database cannot be asked.
pub async fn ready(
    billing: &Billing,
    account_id: &str,
    mode: Mode,
) -> BillingResult<StripeAccount> {
    if !billing.stripe.has(mode) {
        return Err(StripeError::NotSetUp(mode).into());
    }
    let row = billing.connected(account_id, mode).await?;
    let row = row.ok_or(BillingError::NotConnected(mode))?;
    if row.status == "ready" {
        return Ok(row);
    }
    let row = refresh(billing, &row).await?;
    if row.status == "ready" {
        return Ok(row);
    }
    let text = "the Stripe account cannot take payments yet; GET /v1/stripe/account says what Stripe waits for";
    Err(BillingError::Conflict(text.to_owned()))
}

/// Keeps that the account is not ours to call any more: its sites stop selling, what runs goes on to its period's end.
///
/// # Errors
/// When the database cannot be asked.
pub async fn lose(
    billing: &Billing,
    row: &StripeAccount,
    actor: Actor,
) -> BillingResult<StripeAccount> {
    let mut change = billing.store.change(&row.account_id, actor).await?;
    let before = change.lock::<StripeAccount>(&row.id).await?;
    let before = before.ok_or(BillingError::NotFound("Stripe account"))?;
    if before.lost_at_ms.is_some() {
        return Ok(before);
    }
    let row = lose_in(&mut change, &before).await?;
    change.commit().await?;
    Ok(row)
}

/// Whether Stripe still lets us act for an account.
pub(super) async fn may_act_for(
    billing: &Billing,
    mode: Mode,
    stripe_id: &str,
) -> BillingResult<bool> {
    match billing.stripe.own_account(&Scope::connected(mode, stripe_id)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_ours() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives the account back to its owner alone.
///
/// # Errors
/// When there is none, or Stripe or the database cannot be asked.
pub async fn disconnect(
    billing: &Billing,
    account_id: &str,
    actor: Actor,
    mode: Mode,
) -> BillingResult<StripeAccount> {
    let row = billing.connected(account_id, mode).await?;
    let row = row.ok_or(BillingError::NotConnected(mode))?;
    if AccountSettings::of(&row).is_oauth
        && let Some(client_id) = billing.settings.client_ids.of(mode)
        && let Err(error) = billing.stripe.oauth_deauthorize(mode, client_id, &row.stripe_id).await
    {
        // Somebody was first, or we were and the answer was lost; where we still may act for it, it is not given back.
        let is_over = !error.is_temporary() && !may_act_for(billing, mode, &row.stripe_id).await?;
        if !is_over {
            return Err(error.into());
        }
    }
    lose(billing, &row, actor).await
}

/// What a problem of these pages is answered with.
#[must_use]
pub fn page_status(error: &BillingError) -> StatusCode {
    match error {
        BillingError::NotFound(_) => StatusCode::NOT_FOUND,
        BillingError::Field(..) => StatusCode::UNPROCESSABLE_ENTITY,
        BillingError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        error if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        BillingError::Broken(_) | BillingError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    }
}
