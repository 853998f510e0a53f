//! Idempotency keys of calls to Stripe, stored before the call.
//!
//! In: an account, what the call is for (`product/plan_x/test`), its request. Out: the key to send.
//! Always holds: the same purpose with the same request has the same key, in every process and after every restart, until it
//! is forgotten; other parameters under one purpose are found before anything is sent.
//!
//! A flow that makes something goes: [`once`]; where [`Call::is_again`] says that an earlier try may have been done, look for
//! what it would have made; send; [`done`]. Where Stripe answers 500 to the end ([`super::stripe::StripeError::is_uncertain`])
//! it keeps that answer for the key for a day, so the flow looks for what may have been made after all and, where there is
//! nothing, [`forget`]s the call.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::stripe::{StripeError, form};
use crate::ids::new_id;
use crate::storage::{StorageError, Store, StripeCallBegun};

/// A call that may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is sent as `Idempotency-Key`.
    pub key: String,
    /// Whether it was begun before: it may have been done.
    pub is_again: bool,
    /// The id of what it made, where its answer is known.
    pub object_id: Option<String>,
}

/// Why a call may not be sent.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The database cannot be asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The request cannot be written down.
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// The purpose was begun with other parameters.
    #[error("the call `{0}` was begun with other parameters before")]
    Changed(String),
}

/// Stores a key for the call, or finds the one that it has.
///
/// # Errors
/// When the database cannot be asked, or the call was begun with other parameters.
pub async fn once<R: Serialize>(
    store: &Store,
    account_id: &str,
    purpose: &str,
    request: &R,
) -> Result<Call, CallError> {
    let hash: [u8; 32] = Sha256::digest(form(request)?.as_bytes()).into();
    let key = new_id("pf", &**store.world());
    match store.begin_stripe_call(account_id, purpose, hash, &key).await? {
        StripeCallBegun::New(call) => Ok(Call { key: call.key, is_again: false, object_id: None }),
        StripeCallBegun::Known(call) => {
            Ok(Call { key: call.key, is_again: true, object_id: call.object_id })
        }
        StripeCallBegun::Changed(_) => Err(CallError::Changed(purpose.to_owned())),
    }
}

/// A key for a call whose outcome is not there: the same one while nothing else is known of it, a new one where it was answered
/// before or asked for something else. Whoever takes it has looked first.
///
/// # Errors
/// When the database cannot be asked.
pub async fn again_or_anew<R: Serialize>(
    store: &Store,
    account_id: &str,
    purpose: &str,
    request: &R,
) -> Result<String, CallError> {
    match once(store, account_id, purpose, request).await {
        Ok(call) if call.object_id.is_none() => return Ok(call.key),
        Ok(_) | Err(CallError::Changed(_)) => {}
        Err(error) => return Err(error),
    }
    forget(store, account_id, purpose).await?;
    Ok(once(store, account_id, purpose, request).await?.key)
}

/// Keeps that the call was answered, and the id of what it made.
///
/// # Errors
/// When the database cannot be asked.
pub async fn done(
    store: &Store,
    account_id: &str,
    purpose: &str,
    object_id: &str,
) -> Result<(), StorageError> {
    store.end_stripe_call(account_id, purpose, Some(object_id)).await
}

/// Forgets the call, so that its purpose gets a new key.
///
/// # Errors
/// When the database cannot be asked.
pub async fn forget(store: &Store, account_id: &str, purpose: &str) -> Result<(), StorageError> {
    store.forget_stripe_call(account_id, purpose).await
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
