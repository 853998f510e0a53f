//! Claims: the right to one key, made at payment, redeemed once.
//!
//! In: a session's id within an hour of the payment, or the secret of a link that was sent by e-mail; the word of the page that asks.
//! Out: a token's text, once.
//! Always holds: a token is made only when somebody redeems, so no text of one is ever stored; a claim is redeemed in the
//! transaction that makes the token, under its row's lock, so two at once get one key; what is shown works, since the
//! connected nodes have acknowledged it or [`ACKNOWLEDGED_WITHIN`] has passed. A key whose answer did not go out is replaced for the
//! page that asked for it, by its word, within [`REPLACED_WITHIN_MS`]: the first is revoked in the transaction that makes the second, so there
//! are never two.

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use sha2::{Digest as _, Sha256};

use super::stripe::Mode;
use super::{Billing, BillingError, BillingResult, free};
use crate::api::endpoints::tokens::TokenMode;
use crate::api::endpoints::tokens::create::new_token;
use crate::ids::new_id;
use crate::notify::{self, Event};
use crate::storage::{
    Actor, Change, Checkout, KeyClaim, StorageResult, Store, Subscription, Tenant, Token, column,
};
use crate::world::World;

/// How long nodes are waited for.
pub const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(3);
/// How often they are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long after it was redeemed a claim is good for another key, where the first one's answer did not go out.
pub const REPLACED_WITHIN_MS: i64 = 600_000;
/// The longest word of a page.
const ONCE_CHARS_MAX: usize = 64;
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
    let hash = hash_of(&secret).to_vec();
    (secret, hash)
}

fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A word for a page that offers a key: nobody else knows it, and whoever has it may ask again for what did not come.
#[must_use]
pub fn new_once(world: &dyn World) -> String {
    new_id("once", world)
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
            let claim = store.claim_of_link(&hash_of(secret)).await?;
            Ok(claim.filter(|claim| is_open(claim.link_until_ms)))
        }
    }
}

/// What a proof is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Names it among all that are offered.
    pub id: String,
    /// The key was given.
    pub is_redeemed: bool,
}

/// What a proof is good for now: a claim, or a free plan that was asked for.
///
/// # Errors
/// When the database cannot be asked.
pub async fn offered(store: &Store, proof: Proof<'_>) -> StorageResult<Option<Offered>> {
    if let Some(claim) = find(store, proof).await? {
        return Ok(Some(Offered { is_redeemed: claim.redeemed_at_ms.is_some(), id: claim.id }));
    }
    let Proof::Link(secret) = proof else { return Ok(None) };
    let request = store.free_request_of_link(&hash_of(secret)).await?;
    Ok(request.map(|request| Offered {
        id: format!("{}/{}", request.plan_id, request.email),
        is_redeemed: false,
    }))
}

/// Makes the token of a claim or of a free plan's link, once, and waits until nodes know it. With the `once` of the page that redeemed it, again
/// while it is not known that the answer went out ([`shown`]): another token takes the place of the first.
///
/// # Errors
/// When the database cannot be asked; nothing is made then, or it is not known.
pub async fn redeem(
    billing: &Billing,
    proof: Proof<'_>,
    once: Option<&str>,
) -> BillingResult<Redeemed> {
    let once = once.filter(|once| (1..=ONCE_CHARS_MAX).contains(&once.len()));
    let once_hash = once.map(|once| hash_of(once).to_vec());
    if let Some(found) = find(&billing.store, proof).await? {
        return redeem_claim(billing, &found, once_hash).await;
    }
    let Proof::Link(secret) = proof else { return Ok(Redeemed::Nothing) };
    if let Some(done) = free::redeem(billing, &hash_of(secret), once_hash.clone()).await? {
        return Ok(done);
    }
    // Whoever redeemed the same link meanwhile has made a claim of it.
    match find(&billing.store, proof).await? {
        Some(found) => redeem_claim(billing, &found, once_hash).await,
        None => Ok(Redeemed::Nothing),
    }
}

async fn redeem_claim(
    billing: &Billing,
    found: &KeyClaim,
    once_hash: Option<Vec<u8>>,
) -> BillingResult<Redeemed> {
    let store = &billing.store;
    let head = store.outbox().head();
    let mut change = store.change(&found.account_id, claimant()).await?;
    let claim = change.lock::<KeyClaim>(&found.id).await?;
    let claim = claim.ok_or(BillingError::NotFound("claim"))?;
    let subscription = change.lock::<Subscription>(&claim.subscription_id).await?;
    let Some(subscription) = subscription.filter(|row| row.archived_at_ms.is_none()) else {
        return Ok(Redeemed::Nothing);
    };
    let mut replaced = None;
    if claim.redeemed_at_ms.is_some() {
        let first = lost(&change, &claim, once_hash.as_deref()).await?;
        let Some(first) = first else { return Ok(Redeemed::Already) };
        let after = Token { revoked_at_ms: Some(change.now_ms()), ..first.clone() };
        let revoked = change.update(&first, after).await?;
        notify::enqueue(&mut change, Event::token_revoked(&revoked)).await?;
        replaced = Some(revoked.id);
    }
    let mode = mode_of(&change.tenant(), &claim).await?;
    let (text, mut token) = new_token(&subscription, mode, &**change.world());
    token.id = change.new_id::<Token>();
    token.reference.clone_from(&token.id);
    let token = change.insert(token).await?;
    notify::enqueue(&mut change, Event::token_issued(&token, replaced.as_deref())).await?;
    let same = subscription.clone();
    change.update(&subscription, same).await?;
    let after = KeyClaim {
        // The time for another key is that of the first, however often it is asked for.
        redeemed_at_ms: claim.redeemed_at_ms.or(Some(change.now_ms())),
        token_id: Some(token.id.clone()),
        once_hash,
        ..claim.clone()
    };
    change.update(&claim, after).await?;
    change.commit().await?;
    let is_acknowledged = acknowledged(store, head, &token.id).await;
    Ok(Redeemed::Key(Box::new(Key { text, token, is_acknowledged })))
}

fn claimant() -> Actor {
    Actor { kind: "system", id: "claim".to_owned(), request_id: None }
}

/// The token that a claim was redeemed for by the page with this word, where its answer is not known to have gone out. One that its
/// owner revoked or rotated since is not replaced.
async fn lost(
    change: &Change,
    claim: &KeyClaim,
    once_hash: Option<&[u8]>,
) -> StorageResult<Option<Token>> {
    let is_asked_again = once_hash.is_some() && claim.once_hash.as_deref() == once_hash;
    let until_ms = claim.redeemed_at_ms.unwrap_or_default().saturating_add(REPLACED_WITHIN_MS);
    if !is_asked_again || claim.shown_at_ms.is_some() || change.now_ms() >= until_ms {
        return Ok(None);
    }
    let Some(id) = &claim.token_id else { return Ok(None) };
    let token = change.lock::<Token>(id).await?;
    Ok(token.filter(|token| token.revoked_at_ms.is_none() && token.rotated_to.is_none()))
}

/// Keeps that the answer with a key went out, so that nobody gets another one for it.
///
/// # Errors
/// When the database cannot be asked.
pub async fn shown(store: &Store, token: &Token) -> StorageResult<()> {
    let mut change = store.change(&token.account_id, claimant()).await?;
    let tenant = change.tenant();
    let found = tenant
        .one::<KeyClaim>(|query| {
            query
                .filter(column::KeyClaim::SubscriptionId.eq(token.subscription_id.as_str()))
                .filter(column::KeyClaim::TokenId.eq(token.id.as_str()))
        })
        .await?;
    let Some(found) = found else { return Ok(()) };
    let before = change.lock::<KeyClaim>(&found.id).await?;
    // Another key may have taken its place meanwhile.
    let is_its_own = |claim: &KeyClaim| claim.token_id.as_deref() == Some(token.id.as_str());
    let Some(before) = before.filter(is_its_own) else { return Ok(()) };
    let after = KeyClaim { shown_at_ms: Some(change.now_ms()), ..before.clone() };
    change.update(&before, after).await?;
    change.commit().await
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
