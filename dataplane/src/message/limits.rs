//! The header fields that tell a client its limits.
//!
//! In: an entitlement's figures, the time. Out: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-11 §4, §5) with items `"quota"` and `"rate"`, and
//! `X-RateLimit-*` for the quota.
//! Always holds: an unlimited quota and an absent rate limit leave their items out, and a field
//! without items is left out. Numbers fit RFC 9651's 15 digits: a policy allows no larger ones.

use policy::budget::Figures;

use crate::http1::write::{decimal, header_decimal};

/// Appends the limit headers of `figures` as they stand at `now_s` (Unix seconds).
pub fn limit_headers(out: &mut Vec<u8>, figures: &Figures, now_s: i64) {
    let quota = figures.limit.zip(figures.remaining);
    if quota.is_none() && figures.rate.is_none() {
        return;
    }
    let separator: &[u8] = if quota.is_some() { b", " } else { b"" };
    out.extend_from_slice(b"RateLimit-Policy: ");
    if let Some((limit, _)) = quota {
        item(out, b"\"quota\"", (b'q', limit), (b'w', figures.period.length_s()));
    }
    if let Some(rate) = figures.rate {
        out.extend_from_slice(separator);
        item(out, b"\"rate\"", (b'q', rate.limit), (b'w', rate.unit_s));
    }
    out.extend_from_slice(b"\r\nRateLimit: ");
    if let Some((_, remaining)) = quota {
        item(out, b"\"quota\"", (b'r', remaining), (b't', figures.period.left_s(now_s)));
    }
    if let Some(rate) = figures.rate {
        out.extend_from_slice(separator);
        item(out, b"\"rate\"", (b'r', rate.holds), (b't', rate.full_in_s));
    }
    out.extend_from_slice(b"\r\n");
    if let Some((limit, remaining)) = quota {
        header_decimal(out, b"X-RateLimit-Limit", limit);
        header_decimal(out, b"X-RateLimit-Remaining", remaining);
        let reset_s = u64::try_from(figures.period.end_s).unwrap_or(0);
        header_decimal(out, b"X-RateLimit-Reset", reset_s);
    }
}

/// Appends a String item with two Integer parameters (RFC 9651 §3.3).
#[inline]
fn item(out: &mut Vec<u8>, name: &[u8], first: (u8, u64), second: (u8, u64)) {
    out.extend_from_slice(name);
    for (key, number) in [first, second] {
        out.extend_from_slice(&[b';', key, b'=']);
        decimal(out, number);
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
