//! Public ids: `site_…`, a prefix that says what is named and 22 random characters (over 130 bits).
//!
//! In: randomness. Out: text that is unique without asking the database, and says nothing about how many there are.
//! Always holds: an id is 1 to [`ID_CHARS_MAX`] characters of `[a-z_]` and base62, so it fits a path and a header.

use crate::world::World;

/// The longest id that is looked up, characters; longer ones name nothing.
pub const ID_CHARS_MAX: usize = 64;
const RANDOM_CHARS: usize = 22;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Bytes from here on would favour some characters (4 × 62).
const UNBIASED_BYTES: u8 = 248;

/// A new id.
#[must_use]
pub fn new_id(prefix: &str, world: &dyn World) -> String {
    let mut id = String::with_capacity(prefix.len() + 1 + RANDOM_CHARS);
    id.push_str(prefix);
    id.push('_');
    let end = id.len() + RANDOM_CHARS;
    let mut bytes = [0u8; 32];
    while id.len() < end {
        world.fill(&mut bytes);
        let unbiased = bytes.iter().filter(|byte| **byte < UNBIASED_BYTES);
        let digits = unbiased.map(|byte| char::from(ALPHABET[usize::from(*byte % 62)]));
        id.extend(digits.take(end - id.len()));
    }
    id
}

/// Whether `text` can be an id at all.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
