//! Whether Stripe sent a body.
//!
//! In: the header `Stripe-Signature` (`t=SECONDS,v1=HEX[,v1=HEX…]`), the body as it came, the secrets, the time. Out: yes, or
//! why not.
//! Always holds: every secret is tried with every signature, each compared in constant time; the age counts only of what was
//! signed well, so that a forger learns nothing of the clock.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

/// The header.
pub const SIGNATURE_HEADER: &str = "stripe-signature";
/// How far the time of signing may be away, both ways, seconds.
const TOLERANCE_S: u64 = 300;
/// Signatures that are looked at.
const SIGNATURES_MAX: usize = 16;
const BYTES: usize = 32;

/// Why a body is not taken for Stripe's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// The header is missing or is none.
    Unreadable,
    /// No signature is that of a secret of ours.
    Forged,
    /// It was signed too long ago, or in the future.
    Old,
}

/// Whether `body` was signed with one of `secrets`, lately.
///
/// # Errors
/// Why not.
pub fn check(header: &str, body: &[u8], secrets: &[String], now_s: i64) -> Result<(), Unsigned> {
    let (signed_at, signatures) = read(header).ok_or(Unsigned::Unreadable)?;
    let at_s: i64 = signed_at.parse().map_err(|_| Unsigned::Unreadable)?;
    let mut is_good = Choice::from(0);
    for secret in secrets {
        let expected = sign(secret, signed_at, body);
        for signature in &signatures {
            is_good |= expected.ct_eq(signature);
        }
    }
    if !bool::from(is_good) {
        return Err(Unsigned::Forged);
    }
    if at_s.abs_diff(now_s) > TOLERANCE_S { Err(Unsigned::Old) } else { Ok(()) }
}

/// The signature of a body: HMAC-SHA256 with the whole secret, its prefix included.
fn sign(secret: &str, signed_at: &str, body: &[u8]) -> [u8; BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .expect("a key of any length is one of HMAC");
    mac.update(signed_at.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The time as it was written, and the signatures of the first version.
fn read(header: &str) -> Option<(&str, Vec<[u8; BYTES]>)> {
    let mut signed_at = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        let (name, value) = part.trim().split_once('=')?;
        match name {
            "t" => signed_at = signed_at.or(Some(value)),
            "v1" if signatures.len() < SIGNATURES_MAX => signatures.extend(bytes_of(value)),
            // Other versions are passed over, as Stripe's own libraries do.
            _ => {}
        }
    }
    (!signatures.is_empty()).then_some((signed_at?, signatures))
}

fn bytes_of(hex: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0u8; BYTES];
    if hex.len() != 2 * BYTES || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The header for a body.
pub(crate) fn header_of(secret: &str, at_s: i64, body: &[u8]) -> String {
    let signature = sign(secret, &at_s.to_string(), body);
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_s},v1={hex}")
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
