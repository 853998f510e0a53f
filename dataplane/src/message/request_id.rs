//! The id that every response carries, and the log with it.
//!
//! In: random bits once for each shard. Out: printable ids of 32 hex digits.
//! Always holds: one shard never repeats an id within 2^64 requests; ids of two shards or nodes
//! differ unless 64 random bits collide.

use std::fmt;

/// Bytes of an id.
pub const REQUEST_ID_BYTES: usize = 32;

/// 2^64 divided by the golden ratio. Odd, so steps of it visit every number before one comes
/// again; large, so ids that follow each other look unlike and tell nobody how many requests passed.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// One request's id: lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; REQUEST_ID_BYTES]);

/// The value of eight hex digits, all at once: it is asked for with every row of the journal.
const fn value(digits: [u8; 8]) -> u128 {
    let digits = u64::from_be_bytes(digits);
    // Letters have bit 6 set.
    let nibbles = (digits & 0x0f0f_0f0f_0f0f_0f0f) + 9 * ((digits >> 6) & 0x0101_0101_0101_0101);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    ((pairs | pairs >> 16) & 0xffff_ffff) as u128
}

impl RequestId {
    /// The id as bytes of ASCII.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; REQUEST_ID_BYTES] {
        &self.0
    }

    /// The number whose digits they are.
    #[must_use]
    pub fn number(&self) -> u128 {
        let (eights, _) = self.0.as_chunks::<8>();
        eights.iter().fold(0, |number, digits| number << 32 | value(*digits))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RequestId({self})")
    }
}

/// Makes the ids of one shard.
#[derive(Debug, Clone)]
pub struct RequestIds {
    shard: [u8; 16],
    next: u64,
}

impl RequestIds {
    /// Ids of one shard. `random`: bits from the operating system, drawn anew for each shard at
    /// each start; the first half stays, the second is where counting begins.
    #[must_use]
    pub fn new(random: [u64; 2]) -> Self {
        Self { shard: hex(random[0]), next: random[1] }
    }

    /// The next request's id.
    pub fn next_id(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(STRIDE);
        let mut bytes = [0; REQUEST_ID_BYTES];
        bytes[..16].copy_from_slice(&self.shard);
        bytes[16..].copy_from_slice(&hex(self.next));
        RequestId(bytes)
    }
}

/// A number as 16 hex digits.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    digits
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
#[path = "request_id_tests.rs"]
mod tests;
