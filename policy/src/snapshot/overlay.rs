//! Subscriptions that changed since the base, over it.
//!
//! In: subscriptions as they now are, and those that are gone. Out: which token is whose, and which of the base's no longer count.
//! Always holds: cloning costs nothing that grows with it, so a change is in force at once; a slot, once given, means the
//! same subscription or token in every snapshot that has it; nothing here is read by position of a site, plan or resource.

use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use crate::budget::EntitlementId;
use crate::delta::{SubscriptionState, TokenState};
use crate::ids::{SubscriptionIndex, TokenIndex};
use crate::token::TokenHash;

/// Marks positions in the overlay; those of the base are below it.
pub(super) const OVERLAY: u32 = 1 << 31;

/// Where a token of the overlay is.
#[derive(Clone, Copy, Debug)]
struct TokenPlace {
    subscription: u32,
    position: u32,
}

/// A subscription and what is counted of it, which is a hash that no request should have to make.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) entitlement: EntitlementId,
    pub(super) state: SubscriptionState,
}

/// What is known of a subscription that changed: its slot, or that it is gone.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Changed(u32),
    Gone,
}

/// The overlay.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    fates: HashTrieMapSync<EntitlementId, Fate>,
    tokens: HashTrieMapSync<[u8; 32], u32>,
    /// By slot; those that were replaced stay as holes.
    subscriptions: VectorSync<Option<Arc<Changed>>>,
    token_places: VectorSync<TokenPlace>,
}

impl Overlay {
    /// Whether nothing changed since the base.
    pub(super) fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    /// Slots of subscriptions and tokens, used or not: what there is to be freed by a new base.
    pub(super) fn len(&self) -> usize {
        self.subscriptions.len() + self.token_places.len() + self.fates.size()
    }

    /// Whether the base's word on an entitlement no longer counts.
    pub(super) fn supersedes(&self, id: EntitlementId) -> bool {
        self.fates.contains_key(&id)
    }

    /// Puts a subscription in place of what it was.
    ///
    /// # Errors
    /// When there is no slot left.
    pub(super) fn put(&mut self, state: SubscriptionState) -> Result<(), Full> {
        let entitlement = state.entitlement();
        self.take_out(entitlement);
        let slot = slot_of(self.subscriptions.len())?;
        for (position, token) in state.tokens.iter().enumerate() {
            let token_slot = slot_of(self.token_places.len())?;
            let position = slot_of(position)?;
            self.token_places.push_back_mut(TokenPlace { subscription: slot, position });
            self.tokens.insert_mut(token.hash, token_slot);
        }
        self.subscriptions.push_back_mut(Some(Arc::new(Changed { entitlement, state })));
        self.fates.insert_mut(entitlement, Fate::Changed(slot));
        Ok(())
    }

    /// Notes that a subscription is no more.
    pub(super) fn remove(&mut self, id: EntitlementId) {
        self.take_out(id);
        self.fates.insert_mut(id, Fate::Gone);
    }

    fn take_out(&mut self, id: EntitlementId) {
        let Some(Fate::Changed(slot)) = self.fates.get(&id).copied() else { return };
        let Some(Some(changed)) = self.subscriptions.get(slot as usize).cloned() else { return };
        for token in &changed.state.tokens {
            // A token that has moved to another subscription since stays there.
            let is_here = self
                .tokens
                .get(&token.hash)
                .and_then(|slot| self.token_places.get(*slot as usize))
                .is_some_and(|place| place.subscription == slot);
            if is_here {
                self.tokens.remove_mut(&token.hash);
            }
        }
        self.subscriptions.set_mut(slot as usize, None);
    }

    /// Finds a token. The map compares hashes of tokens that somebody presents, never tokens.
    pub(super) fn find(&self, hash: &TokenHash) -> Option<(TokenIndex, SubscriptionIndex)> {
        let slot = *self.tokens.get(&hash.0)?;
        let place = self.token_places.get(slot as usize)?;
        Some((TokenIndex(slot | OVERLAY), SubscriptionIndex(place.subscription | OVERLAY)))
    }

    /// A subscription by its index, less [`OVERLAY`].
    pub(super) fn subscription(&self, slot: u32) -> Option<&Changed> {
        self.subscriptions.get(slot as usize)?.as_deref()
    }

    /// A token by its index, less [`OVERLAY`].
    pub(super) fn token(&self, slot: u32) -> Option<&TokenState> {
        let place = self.token_places.get(slot as usize)?;
        self.subscription(place.subscription)?.state.tokens.get(place.position as usize)
    }

    /// The slots of all subscriptions that are here.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        (0_u32..)
            .zip(self.subscriptions.iter())
            .filter(|(_, held)| held.is_some())
            .map(|(slot, _)| slot)
    }
}

/// More changes than 31 bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

fn slot_of(len: usize) -> Result<u32, Full> {
    u32::try_from(len).ok().filter(|slot| *slot < OVERLAY).ok_or(Full)
}
