//! Numbers that look random and are the same in every run.
//!
//! In: a state, whose first value is a seed or a running number. Out: 64 bits, evenly spread (splitmix64).
//! Always holds: the same state gives the same numbers.

/// The next number; each differs from its neighbours in half of its bits.
pub fn scatter(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let scattered = mixed ^ (mixed >> 32);
    *state = mixed;
    scattered
}
