//! Secrets that webhooks are signed with, in the form and the manner of Standard Webhooks.
//!
//! In: randomness; a message. Out: `whsec_` and base64; `v1,` and base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`.
//! Always holds: an endpoint has one secret, or two while the older one is being replaced; at rest they are sealed as
//! one, for the endpoint's id.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::secrets::{Keyring, SecretError};
use crate::world::World;

const PREFIX: &str = "whsec_";
/// Standard Webhooks: 24 to 64.
const BYTES: usize = 32;

/// A new secret.
#[must_use]
pub fn generate(world: &dyn World) -> String {
    let mut bytes = [0; BYTES];
    world.fill(&mut bytes);
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

/// Seals an endpoint's secrets, the newest first.
#[must_use]
pub fn seal(
    secrets: &[String],
    endpoint_id: &str,
    keyring: &Keyring,
    world: &dyn World,
) -> Vec<u8> {
    keyring.seal(endpoint_id, secrets.join("\n").as_bytes(), world)
}

/// Opens an endpoint's secrets, the newest first.
///
/// # Errors
/// When they cannot be opened.
pub fn open(
    sealed: &[u8],
    endpoint_id: &str,
    keyring: &Keyring,
) -> Result<Vec<String>, SecretError> {
    let text = keyring.open(endpoint_id, sealed)?;
    let text = String::from_utf8(text).map_err(|_| SecretError::Damaged(endpoint_id.to_owned()))?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

/// The value of `webhook-signature`: one signature for each secret, with a space between. A secret that cannot be read
/// signs nothing.
#[must_use]
pub fn sign(secrets: &[String], id: &str, timestamp_s: i64, body: &str) -> String {
    let signatures = secrets.iter().filter_map(|secret| {
        let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
