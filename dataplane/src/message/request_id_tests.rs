//! Ids are printable and never come twice.

use std::collections::HashSet;

use super::*;

#[test]
fn ids_are_hex_and_differ() {
    let mut shards =
        [RequestIds::new([1, 9]), RequestIds::new([2, 9]), RequestIds::new([3, u64::MAX])];
    let mut seen = HashSet::new();
    for ids in &mut shards {
        for _ in 0..10_000 {
            let id = ids.next_id();
            assert!(id.as_bytes().iter().all(|byte| b"0123456789abcdef".contains(byte)), "{id}");
            assert_eq!(id.as_str().as_bytes(), id.as_bytes());
            assert!(seen.insert(id), "{id} twice");
        }
    }
}

#[test]
fn numbers_are_written_whole() {
    for number in [0, 1, 0xf0, 0x0123_4567_89ab_cdef, u64::MAX] {
        assert_eq!(hex(number), format!("{number:016x}").as_bytes());
    }
}
