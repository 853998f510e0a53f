//! `Stripe-Signature`: made for deliveries, checked for tests.
//!
//! In: secret, second, body. Out: `t=…,v1=…`, HMAC-SHA256 over `"{t}.{body}"` with the whole `whsec_…` as the key.
//! Always holds: comparison takes the same time whatever differs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// The header for a body sent at second `t`.
pub fn header(secret: &str, t: i64, body: &[u8]) -> String {
    format!("t={t},v1={}", digest(secret, t, body))
}

/// Whether a header signs this body at a second within `tolerance_s` of `now`.
pub fn verify(secret: &str, header: &str, body: &[u8], now: i64, tolerance_s: i64) -> bool {
    let mut t = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.split_once('=') {
            Some(("t", value)) => t = value.parse::<i64>().ok(),
            Some(("v1", value)) => signatures.push(value),
            _ => {}
        }
    }
    let Some(t) = t.filter(|t| (now - t).abs() <= tolerance_s) else { return false };
    let wanted = digest(secret, t, body);
    signatures.iter().any(|given| bool::from(given.as_bytes().ct_eq(wanted.as_bytes())))
}

fn digest(secret: &str, t: i64, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{t}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
