//! The table that finds a token by its hash: open addressing on the hash's own bits.
//!
//! In: hashes with their subscriptions and tokens. Out: slots; a hash's slot.
//! A hash is uniform, so its first 64 bits, scaled to the number of homes, are its home position; slots stand in the
//! order of their hashes, each at its home or as little behind it as the ones before allow. A look-up reads from the home
//! on until it meets the hash, a greater one or an empty slot: at 5/8 load that is 1.8 slots of 40 bytes on average,
//! two cache lines next to each other, found or not. There is no wrapping around: slots pushed past the last home stand behind it, and
//! an empty slot is always last.
//! Always holds: at most 64 bytes a token, but for one slot at the end and what stands behind the last home.

use subtle::ConstantTimeEq;

use super::layout::{ArchivedTokenSlot, NO_INDEX, TokenSlot};
use crate::ids::{SubscriptionIndex, TokenIndex};
use crate::token::TokenHash;

/// Homes for each 5 tokens: 40 bytes × 8 / 5 = 64 bytes a token.
const HOMES_PER_5: u64 = 8;

const EMPTY: TokenSlot = TokenSlot { hash: [0; 32], subscription: NO_INDEX, token: NO_INDEX };

/// Builds the table. Returns its slots and the number of homes, or a hash that stands there twice.
pub(crate) fn build(mut tokens: Vec<TokenSlot>) -> Result<(Vec<TokenSlot>, u64), TokenHash> {
    tokens.sort_unstable_by_key(|token| token.hash);
    for pair in tokens.windows(2) {
        if let [left, right] = pair
            && left.hash == right.hash
        {
            return Err(TokenHash(left.hash));
        }
    }
    let homes = (tokens.len() as u64 * HOMES_PER_5 / 5).max(1);
    let mut slots = Vec::with_capacity(tokens.len() * 8 / 5 + 2);
    for token in tokens {
        let home = home_of(&token.hash, homes);
        if slots.len() < home {
            slots.resize(home, EMPTY);
        }
        slots.push(token);
    }
    let homes_len = usize::try_from(homes).unwrap_or(usize::MAX);
    slots.resize(slots.len().max(homes_len) + 1, EMPTY);
    Ok((slots, homes))
}

/// The position at which a look-up begins.
fn home_of(hash: &[u8; 32], homes: u64) -> usize {
    let scaled = (u128::from(prefix(hash)) * u128::from(homes)) >> 64;
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

fn prefix(hash: &[u8; 32]) -> u64 {
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Finds a hash. Whole hashes are compared in constant time; their first 64 bits place them and are not secret.
///
/// The first slots are looked at all at once: their loads overlap, and no branch waits for memory to tell how far behind its
/// home a hash stands, which cannot be predicted.
pub(super) fn find(
    slots: &[ArchivedTokenSlot],
    homes: u64,
    hash: &TokenHash,
) -> Option<(TokenIndex, SubscriptionIndex)> {
    let wanted = prefix(&hash.0);
    let run = slots.get(home_of(&hash.0, homes)..)?;
    if let Some((window, rest)) = run.split_first_chunk::<WINDOW_SLOTS>() {
        let (mut same, mut same_count, mut is_past) = (0, 0, false);
        for (position, slot) in window.iter().enumerate() {
            let found = prefix(&slot.hash);
            let is_empty = slot.subscription.to_native() == NO_INDEX;
            let is_same = (found == wanted) & !is_empty;
            same |= position * usize::from(is_same);
            same_count += usize::from(is_same);
            is_past |= is_empty | (found > wanted);
        }
        match same_count {
            0 if is_past => return None,
            0 => return find_in_order(rest, wanted, hash),
            1 => {
                if let Some(found) = window.get(same).and_then(|slot| matching(slot, hash)) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    find_in_order(run, wanted, hash)
}

/// Slots that are looked at all at once: enough for nine look-ups in ten.
const WINDOW_SLOTS: usize = 3;

/// Finds a hash slot by slot.
fn find_in_order(
    run: &[ArchivedTokenSlot],
    wanted: u64,
    hash: &TokenHash,
) -> Option<(TokenIndex, SubscriptionIndex)> {
    for slot in run {
        let found = prefix(&slot.hash);
        if slot.subscription.to_native() == NO_INDEX || found > wanted {
            return None;
        }
        if found == wanted
            && let Some(matching) = matching(slot, hash)
        {
            return Some(matching);
        }
    }
    None
}

/// What a slot holds, if it holds this hash. Compared in constant time, in words: byte by byte costs more than the rest of
/// the look-up.
fn matching(slot: &ArchivedTokenSlot, hash: &TokenHash) -> Option<(TokenIndex, SubscriptionIndex)> {
    let words = |bytes: &[u8; 32]| {
        let (words, _) = bytes.as_chunks::<8>();
        [0, 1, 2, 3].map(|at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
    };
    let differing = words(&slot.hash)
        .into_iter()
        .zip(words(&hash.0))
        .fold(0, |differing, (left, right)| differing | (left ^ right));
    bool::from(differing.ct_eq(&0)).then(|| {
        (TokenIndex(slot.token.to_native()), SubscriptionIndex(slot.subscription.to_native()))
    })
}

/// Whether every look-up in the table ends where it should: slots in strict order, none before its home, none with an
/// empty slot between its home and itself, and an empty one last.
pub(super) fn is_sound(slots: &[ArchivedTokenSlot], homes: u64) -> bool {
    let fits = usize::try_from(homes).is_ok_and(|homes| homes >= 1 && homes < slots.len());
    let ends_empty = slots.last().is_some_and(|slot| slot.subscription.to_native() == NO_INDEX);
    if !fits || !ends_empty {
        return false;
    }
    let mut previous: Option<&[u8; 32]> = None;
    let mut run_start = 0;
    for (position, slot) in slots.iter().enumerate() {
        if slot.subscription.to_native() == NO_INDEX {
            run_start = position + 1;
            continue;
        }
        let home = home_of(&slot.hash, homes);
        if home > position || home < run_start || previous.is_some_and(|last| *last >= slot.hash) {
            return false;
        }
        previous = Some(&slot.hash);
    }
    true
}

#[cfg(test)]
#[path = "token_table_tests.rs"]
mod tests;
