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

#[test]
fn an_id_is_the_number_of_its_digits() {
    let halves = [0, 1, 0xf0, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX];
    for first in halves {
        for second in halves {
            // Counting begins one step further.
            let id = RequestIds::new([first, second.wrapping_sub(STRIDE)]).next_id();
            assert_eq!(id.number(), u128::from(first) << 64 | u128::from(second), "{id}");
            assert_eq!(format!("{:032x}", id.number()), id.to_string());
        }
    }
}
