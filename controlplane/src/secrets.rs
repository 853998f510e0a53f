//! Secrets at rest: values of origin headers, later keys of payment providers.
//!
//! In: plain bytes and the row they belong to. Out: sealed bytes that only a holder of the key can open, and only for
//! that row.
//! Form: one byte format (1), four bytes key id (big-endian), 24 bytes nonce, XChaCha20-Poly1305 of the plain bytes
//! with the row's name as associated data.
//! Always holds: a nonce is random and 192 bits, so it is never used twice; the first key seals, every key opens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::world::World;

const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 5 + NONCE_BYTES;
const KEY_BYTES: usize = 32;
/// Keys at once: the one that seals, and those being rotated out.
const KEYS_MAX: usize = 16;

/// The keys that secrets are sealed with.
pub struct Keyring {
    /// The first one seals.
    keys: Vec<(u32, XChaCha20Poly1305)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<u32> = self.keys.iter().map(|(id, _)| *id).collect();
        formatter.debug_struct("Keyring").field("ids", &ids).finish_non_exhaustive()
    }
}

/// What is wrong with keys or with something sealed. Never holds a key or a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A line is not `ID:BASE64`.
    #[error(
        "line {0} is not `ID:KEY` with an id from 1 to 4294967295 and 32 bytes in base64; make a key with `openssl rand -base64 32`"
    )]
    Form(usize),
    /// An id stands twice.
    #[error("key id {0} stands twice; every key has an id of its own")]
    Twice(u32),
    /// None at all, or too many.
    #[error("{0} keys; expected 1 to {KEYS_MAX}, the one that seals first")]
    Count(usize),
    /// What was sealed is no sealed secret, or was tampered with, or belongs to another row.
    #[error("a secret of {0} cannot be opened: it is damaged or was moved from another row")]
    Damaged(String),
    /// The key is not in the ring.
    #[error(
        "a secret of {row} was sealed with key {id}, which is not among the keys given; add it after the first one"
    )]
    UnknownKey {
        /// The row.
        row: String,
        /// The key's id.
        id: u32,
    },
}

impl Keyring {
    /// Reads `ID:BASE64` lines, the sealing key first; empty lines and `#` comments are passed over. A single line of
    /// base64 alone is key 1.
    ///
    /// # Errors
    /// What is wrong, by line.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut keys: Vec<(u32, XChaCha20Poly1305)> = Vec::new();
        for (position, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = line.split_once(':').unwrap_or(("1", line));
            let id: u32 = id.trim().parse().map_err(|_| SecretError::Form(position + 1))?;
            let bytes = STANDARD.decode(key.trim()).map_err(|_| SecretError::Form(position + 1))?;
            if id == 0 || bytes.len() != KEY_BYTES {
                return Err(SecretError::Form(position + 1));
            }
            if keys.iter().any(|(other, _)| *other == id) {
                return Err(SecretError::Twice(id));
            }
            let cipher = XChaCha20Poly1305::new_from_slice(&bytes)
                .map_err(|_| SecretError::Form(position + 1))?;
            keys.push((id, cipher));
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(SecretError::Count(keys.len()));
        }
        Ok(Self { keys })
    }

    /// The text of a new ring of one key, as [`Keyring::parse`] reads it.
    #[must_use]
    pub fn generate(world: &dyn World) -> String {
        let mut key = [0u8; KEY_BYTES];
        world.fill(&mut key);
        format!("1:{}\n", STANDARD.encode(key))
    }

    /// Seals `plain` for `row` (an id and a column).
    #[must_use]
    pub fn seal(&self, row: &str, plain: &[u8], world: &dyn World) -> Vec<u8> {
        let (id, cipher) = &self.keys[0];
        let mut nonce = [0u8; NONCE_BYTES];
        world.fill(&mut nonce);
        let payload = Payload { msg: plain, aad: row.as_bytes() };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("fails only past 256 GiB, which no request can hold");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + sealed.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        bytes
    }

    /// Opens what was sealed for `row`.
    ///
    /// # Errors
    /// When it is damaged, of another row, or sealed with a key that is not here.
    pub fn open(&self, row: &str, sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
        let damaged = || SecretError::Damaged(row.to_owned());
        let (id, rest) = split(sealed).ok_or_else(damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let (_, cipher) = self
            .keys
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or_else(|| SecretError::UnknownKey { row: row.to_owned(), id })?;
        let payload = Payload { msg: text, aad: row.as_bytes() };
        cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| damaged())
    }

    /// Whether `sealed` was sealed with another key than the one that seals now.
    #[must_use]
    pub fn is_old(&self, sealed: &[u8]) -> bool {
        split(sealed).is_none_or(|(id, _)| id != self.keys[0].0)
    }
}

fn split(sealed: &[u8]) -> Option<(u32, &[u8])> {
    let rest = sealed.strip_prefix(&[FORMAT])?;
    let (id, rest) = rest.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*id), rest))
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
