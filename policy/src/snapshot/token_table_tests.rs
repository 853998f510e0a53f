//! Tests of `token_table.rs`: the table against a `HashMap`.

use std::collections::HashMap;

use proptest::prelude::*;
use rkyv::rancor::Error;

use super::*;

fn archived(slots: &Vec<TokenSlot>) -> rkyv::util::AlignedVec {
    rkyv::to_bytes::<Error>(slots).unwrap()
}

fn with_slots<T>(bytes: &[u8], read: impl FnOnce(&[ArchivedTokenSlot]) -> T) -> T {
    read(rkyv::access::<rkyv::Archived<Vec<TokenSlot>>, Error>(bytes).unwrap())
}

/// Hashes that share most of their beginning with others, so that runs and ties are common.
fn hashes() -> impl Strategy<Value = Vec<[u8; 32]>> {
    let hash = (0u8..4, any::<[u8; 2]>(), any::<u8>()).prop_map(|(kind, middle, last)| {
        let mut hash = [0u8; 32];
        match kind {
            0 => hash[..2].copy_from_slice(&middle),
            1 => hash[..8].fill(0xFF),
            2 => hash[6..8].copy_from_slice(&middle),
            _ => hash[0] = middle[0],
        }
        hash[31] = last;
        hash
    });
    prop::collection::vec(hash, 0..200)
}

proptest! {
    #[test]
    fn finds_what_a_map_finds(stored in hashes(), asked in hashes()) {
        let mut reference = HashMap::new();
        for (position, hash) in (0..).zip(&stored) {
            reference.entry(*hash).or_insert(position);
        }
        let tokens: Vec<TokenSlot> = reference
            .iter()
            .map(|(hash, position)| TokenSlot {
                hash: *hash,
                subscription: position / 2,
                token: *position,
            })
            .collect();
        let (slots, homes) = build(tokens).unwrap();
        prop_assert!(homes <= 1 + reference.len() as u64 * 8 / 5);
        let bytes = archived(&slots);
        with_slots(&bytes, |slots| {
            prop_assert!(is_sound(slots, homes));
            for hash in stored.iter().chain(&asked) {
                let expected = reference
                    .get(hash)
                    .map(|position| (TokenIndex(*position), SubscriptionIndex(position / 2)));
                prop_assert_eq!(find(slots, homes, &TokenHash(*hash)), expected);
            }
            Ok(())
        })?;
    }

    /// Whatever the slots: a table that is called sound finds every token in it.
    #[test]
    fn sound_tables_find_all_of_theirs(
        stored in hashes(),
        moves in prop::collection::vec((0usize..400, 0usize..400), 0..3),
    ) {
        let mut distinct = stored;
        distinct.sort_unstable();
        distinct.dedup();
        let tokens = (0..).zip(&distinct).map(|(position, hash)| TokenSlot {
            hash: *hash,
            subscription: 0,
            token: position,
        });
        let (mut slots, homes) = build(tokens.collect()).unwrap();
        for (from, to) in moves {
            let len = slots.len();
            slots.swap(from % len, to % len);
        }
        let bytes = archived(&slots);
        with_slots(&bytes, |archived| {
            if is_sound(archived, homes) {
                for slot in slots.iter().filter(|slot| slot.subscription != NO_INDEX) {
                    let found = find(archived, homes, &TokenHash(slot.hash));
                    prop_assert_eq!(found.map(|(token, _)| token.0), Some(slot.token));
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn refuses_a_hash_twice() {
    let slot = TokenSlot { hash: [9; 32], subscription: 0, token: 0 };
    assert_eq!(build(vec![slot, slot]).err(), Some(TokenHash([9; 32])));
}

#[test]
fn stays_within_its_bytes() {
    assert_eq!(size_of::<ArchivedTokenSlot>(), 40);
    let tokens = (0..100_000u32).map(|position| TokenSlot {
        hash: TokenHash::of(&position.to_le_bytes()).0,
        subscription: 0,
        token: position,
    });
    let (slots, _) = build(tokens.collect()).unwrap();
    // A few slots stand behind the last home; for a table of any size they are nothing.
    let bytes_per_token = slots.len() as f64 * 40.0 / 100_000.0;
    assert!(bytes_per_token < 64.02, "{bytes_per_token}");
}
