//! Claims: the right to one key, made at payment, redeemed once.
//!
//! In: a session's id within an hour of the payment, or the secret of a link that was sent by e-mail. Out: a token's text, once.
//! Always holds: a token is made only when somebody redeems, so no text of one is ever stored; a claim is redeemed in the
//! transaction that makes the token, under its row's lock, so two at once get one key; what is shown works, since the
//! connected nodes have acknowledged it or [`ACKNOWLEDGED_WITHIN`] has passed.

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use sha2::{Digest as _, Sha256};

use super::stripe::Mode;
use super::{Billing, BillingError, BillingResult};
use crate::api::endpoints::tokens::TokenMode;
use crate::api::endpoints::tokens::create::new_token;
use crate::ids::new_id;
use crate::storage::{
    Actor, Checkout, KeyClaim, StorageResult, Store, Subscription, Tenant, Token, column,
};
use crate::world::World;

/// How long nodes are waited for.
pub const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(3);
/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A node that said nothing for so long is away: it fetches the token when it comes back.
const AWAY_MS: i64 = 5_000;

/// What shows that somebody may redeem.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// The id of a checkout session.
    Session(&'a str),
    /// The secret of a link.
    Link(&'a str),
}

/// What came of redeeming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// The key, shown this once.
    Key(Box<Key>),
    /// There is no such claim, or not any more, or not yet.
    Nothing,
    /// Somebody was first.
    Already,
}

/// A key and what it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The token's text.
    pub text: String,
    /// Its row.
    pub token: Token,
    /// Whether all connected nodes know it.
    pub is_acknowledged: bool,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Key").field("token", &self.token.id).finish_non_exhaustive()
    }
}

/// A new secret for a link, and the hash that its claim keeps.
#[must_use]
pub fn new_link(world: &dyn World) -> (String, Vec<u8>) {
    let secret = new_id("claim", world);
    let hash = Sha256::digest(secret.as_bytes()).to_vec();
    (secret, hash)
}

/// Where the link of a secret leads.
#[must_use]
pub fn link_url(public_url: &str, secret: &str) -> String {
    format!("{public_url}/claim/{secret}")
}

/// The claim that was made for a checkout.
///
/// # Errors
/// When the database cannot be asked.
pub async fn of_checkout(
    tenant: &Tenant<'_>,
    checkout_id: &str,
) -> StorageResult<Option<KeyClaim>> {
    tenant.one::<KeyClaim>(|query| query.filter(column::KeyClaim::CheckoutId.eq(checkout_id))).await
}

/// The claim that a proof is good for now, redeemed or not.
///
/// # Errors
/// When the database cannot be asked.
pub async fn find(store: &Store, proof: Proof<'_>) -> StorageResult<Option<KeyClaim>> {
    let now_ms = store.world().now_ms();
    let is_open = |until_ms: Option<i64>| until_ms.is_some_and(|until_ms| now_ms < until_ms);
    match proof {
        Proof::Session(session_id) => {
            let Some(checkout) = store.checkout_of_session(session_id).await? else {
                return Ok(None);
            };
            let claim = of_checkout(&store.tenant(&checkout.account_id), &checkout.id).await?;
            Ok(claim.filter(|claim| is_open(claim.session_until_ms)))
        }
        Proof::Link(secret) => {
            let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
            let claim = store.claim_of_link(&hash).await?;
            Ok(claim.filter(|claim| is_open(claim.link_until_ms)))
        }
    }
}

/// Makes the claim's token, once, and waits until nodes know it.
///
/// # Errors
/// When the database cannot be asked; nothing is made then, or it is not known.
pub async fn redeem(billing: &Billing, proof: Proof<'_>) -> BillingResult<Redeemed> {
    let store = &billing.store;
    let Some(found) = find(store, proof).await? else { return Ok(Redeemed::Nothing) };
    let actor = Actor { kind: "system", id: "claim".to_owned(), request_id: None };
    let head = store.outbox().head();
    let mut change = store.change(&found.account_id, actor).await?;
    let claim = change.lock::<KeyClaim>(&found.id).await?;
    let claim = claim.ok_or(BillingError::NotFound("claim"))?;
    if claim.redeemed_at_ms.is_some() {
        return Ok(Redeemed::Already);
    }
    let subscription = change.lock::<Subscription>(&claim.subscription_id).await?;
    let Some(subscription) = subscription.filter(|row| row.archived_at_ms.is_none()) else {
        return Ok(Redeemed::Nothing);
    };
    let mode = mode_of(&change.tenant(), &claim).await?;
    let (text, mut token) = new_token(&subscription, mode, &**change.world());
    token.id = change.new_id::<Token>();
    token.reference.clone_from(&token.id);
    let token = change.insert(token).await?;
    let same = subscription.clone();
    change.update(&subscription, same).await?;
    let after = KeyClaim {
        redeemed_at_ms: Some(change.now_ms()),
        token_id: Some(token.id.clone()),
        ..claim.clone()
    };
    change.update(&claim, after).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(store, head, &token.id).await;
    Ok(Redeemed::Key(Box::new(Key { text, token, is_acknowledged })))
}

/// What is bought in test mode is a test token.
async fn mode_of(tenant: &Tenant<'_>, claim: &KeyClaim) -> StorageResult<TokenMode> {
    let Some(id) = &claim.checkout_id else { return Ok(TokenMode::Live) };
    let checkout = tenant.get::<Checkout>(id).await?;
    let is_test = checkout.is_some_and(|row| row.mode == Mode::Test.as_str());
    Ok(if is_test { TokenMode::Test } else { TokenMode::Live })
}

/// Whether all connected nodes have what came after `head` up to this row, within [`ACKNOWLEDGED_WITHIN`].
pub async fn acknowledged(store: &Store, head: i64, row_id: &str) -> bool {
    let waiting = async {
        let mut follower = store.outbox().follow(head);
        let sequence = loop {
            let entries = follower.next().await?;
            if let Some(entry) = entries.iter().rev().find(|entry| entry.row_id == row_id) {
                break entries.last().map_or(entry.sequence, |last| last.sequence);
            }
        };
        while store.nodes_behind(sequence, AWAY_MS).await? > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        StorageResult::Ok(())
    };
    match tokio::time::timeout(ACKNOWLEDGED_WITHIN, waiting).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "it is not known whether nodes have a new key");
            false
        }
        Err(_) => {
            tracing::warn!(row_id, "a connected node has not acknowledged a new key in time");
            false
        }
    }
}
