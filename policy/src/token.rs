//! API keys: how one is made, and what can be said of one without looking it up.
//!
//! In: random bytes, or the bytes a client sent. Out: a token, its SHA-256, or what is wrong with its form.
//! Form: `pf_`, at most one label `[a-z0-9]+` and `_`, `live_` or `test_`, 32 characters
//! base62, and 6 characters: the CRC-32 (IEEE 802.3, as zlib's) of all before them in base62, most significant first.
//! Always holds: the checksum is of the whole text before it, so a typo anywhere is found without a look-up.

use sha2::{Digest, Sha256};

/// Digits of base62, by value.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of the random part: 62^32 > 2^190.
const RANDOM_CHARS: usize = 32;
/// Characters of the checksum: 62^6 > 2^32.
const CHECKSUM_CHARS: usize = 6;
/// Bytes a byte of randomness must stay under so that all 62 digits are equally likely (4 × 62).
const UNBIASED_BYTES: u8 = 248;

/// The shortest key of another system that is taken, characters.
pub const FOREIGN_CHARS_MIN: usize = 16;
/// The longest key that is taken at all, ours included, characters.
pub const TOKEN_CHARS_MAX: usize = 256;

/// SHA-256 of a token: all that is ever stored or sent of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// The hash of a token as it was sent.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// From 64 hexadecimal digits of either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16)?;
                *byte = (*byte << 4) | u8::try_from(value).ok()?;
            }
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for TokenHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TokenHash({self})")
    }
}

/// Whether a token is for real money or for trying out. Both are enforced alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `live`
    Live,
    /// `test`
    Test,
}

impl Mode {
    /// The word in the token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

/// What is wrong with a token's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is not one of ours.
    #[error("it does not begin with `pf_`")]
    NoPrefix,
    /// Neither `live_` nor `test_` stands before the random part, or what stands before that is not one label.
    #[error(
        "expected `pf_live_` or `pf_test_`; one label of a-z and 0-9 may stand after `pf_`, as in `pf_acme_live_`"
    )]
    NoMode,
    /// The part after `live_` or `test_` has the wrong length.
    #[error(
        "expected 38 characters after `live_` or `test_`, found {0}: was part of it lost in copying?"
    )]
    Length(usize),
    /// A character outside `0-9A-Za-z` in the random part or the checksum.
    #[error("only 0-9, A-Z and a-z may stand after `live_` or `test_`")]
    Character,
    /// The last six characters do not fit the rest.
    #[error("the checksum does not fit: a character is wrong or missing")]
    Checksum,
    /// More than [`TOKEN_CHARS_MAX`].
    #[error("a token has at most 256 characters")]
    TooLong,
}

/// Makes a token from random bytes of the operating system. `random` is drawn from until 32 unbiased digits are found.
///
/// # Errors
/// Passes on what `random` returns when it cannot fill the buffer.
pub fn make<E>(mode: Mode, random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<String, E> {
    make_key(&format!("pf_{}_", mode.as_str()), random)
}

/// Makes a key of another kind in the same way: `prefix`, 32 random characters, the checksum of all before it.
///
/// # Errors
/// Passes on what `random` returns when it cannot fill the buffer.
pub fn make_key<E>(
    prefix: &str,
    mut random: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<String, E> {
    let mut text = prefix.to_owned();
    let mut drawn = 0;
    let mut bytes = [0u8; 64];
    while drawn < RANDOM_CHARS {
        random(&mut bytes)?;
        let digits = bytes
            .iter()
            .filter(|byte| **byte < UNBIASED_BYTES)
            .filter_map(|byte| ALPHABET.get(usize::from(*byte % 62)));
        for digit in digits.take(RANDOM_CHARS - drawn) {
            text.push(char::from(*digit));
            drawn += 1;
        }
    }
    let sum = checksum(text.as_bytes());
    text.extend(sum.iter().map(|digit| char::from(*digit)));
    Ok(text)
}

/// Whether `key` has the form that [`make_key`] gives with `prefix`; says nothing about whether it was ever issued.
#[must_use]
pub fn is_key(prefix: &str, key: &[u8]) -> bool {
    check_after(prefix, key).is_ok()
}

/// CRC-32 (IEEE) of `text` in base62, most significant digit first, padded with `0`.
fn checksum(text: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(text);
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        if let Some(character) = ALPHABET.get((rest % 62) as usize) {
            *digit = *character;
        }
        rest /= 62;
    }
    digits
}

/// Checks a token's form and checksum; says nothing about whether it was ever issued.
///
/// # Errors
/// What is wrong with it, first things first.
pub fn check(token: &[u8]) -> Result<Mode, FormError> {
    let rest = token.strip_prefix(b"pf_").ok_or(FormError::NoPrefix)?;
    if token.len() > TOKEN_CHARS_MAX {
        return Err(FormError::TooLong);
    }
    let mut parts = rest.splitn(4, |byte| *byte == b'_');
    let label_is_good = |label: &[u8]| {
        !label.is_empty()
            && label.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let (mode, tail) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(mode), Some(tail), None, None) => (mode, tail),
        (Some(label), Some(mode), Some(tail), None) if label_is_good(label) => (mode, tail),
        _ => return Err(FormError::NoMode),
    };
    let mode = match mode {
        b"live" => Mode::Live,
        b"test" => Mode::Test,
        _ => return Err(FormError::NoMode),
    };
    check_tail(token, tail)?;
    Ok(mode)
}

/// Checks what [`make_key`] makes.
///
/// # Errors
/// As [`check`]; [`FormError::NoPrefix`] where it does not begin with `prefix`.
pub fn check_after(prefix: &str, token: &[u8]) -> Result<(), FormError> {
    let tail = token.strip_prefix(prefix.as_bytes()).ok_or(FormError::NoPrefix)?;
    check_tail(token, tail)
}

/// The random part and the checksum, which is of all of `token` before it.
fn check_tail(token: &[u8], tail: &[u8]) -> Result<(), FormError> {
    // Without an early exit the compiler makes vectors of it: nearly all tokens are good.
    if !tail.iter().fold(true, |good, byte| good & byte.is_ascii_alphanumeric()) {
        return Err(FormError::Character);
    }
    if tail.len() != RANDOM_CHARS + CHECKSUM_CHARS {
        return Err(FormError::Length(tail.len()));
    }
    match token.split_last_chunk::<CHECKSUM_CHARS>() {
        Some((body, sum)) if checksum(body) == *sum => Ok(()),
        _ => Err(FormError::Checksum),
    }
}

/// Whether a value claims to be one of our tokens: it begins `pf_`.
#[must_use]
pub fn is_pf_form(value: &[u8]) -> bool {
    value.starts_with(b"pf_")
}

/// Whether a value can be a key brought along from another system: 16–256 visible ASCII characters.
#[must_use]
pub fn is_foreign_form(value: &[u8]) -> bool {
    (FOREIGN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&value.len())
        && value.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
