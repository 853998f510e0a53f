//! Identifiers and chance, from one seed.
//!
//! In: a seed. Out: ids of Stripe's form (`sub_` and 24 letters or digits) and small random numbers.
//! Always holds: the same seed and the same calls give the same ids; nothing here is fit for secrets outside a sandbox.

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A generator (SplitMix64) of ids and chances.
#[derive(Debug)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end` (which is at least 1).
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// Whether something of this chance in a thousand happens now.
    pub fn happens(&mut self, per_mille: u16) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    /// `length` letters or digits.
    pub fn letters(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| {
                let at = self.below(ALPHABET.len());
                char::from(ALPHABET.get(at).copied().unwrap_or(b'0'))
            })
            .collect()
    }

    /// An id: `prefix`, `_`, 24 letters or digits.
    pub fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", self.letters(24))
    }
}
