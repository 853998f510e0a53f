//! Heads written, read back and damaged.

use super::*;
use crate::spool::fixture::block;

#[test]
fn heads_are_read_back_and_no_flipped_bit_is_believed() {
    let head = segment_head(5, "näme");
    assert_eq!(read_segment_head(&head, 5), SegmentHead::Known("näme".into()));
    assert_eq!(read_segment_head(&head, 6), SegmentHead::Damaged);
    assert_eq!(read_segment_head(&head[..255], 5), SegmentHead::Damaged);
    for bit in 0..head.len() * 8 {
        let mut damaged = head;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_segment_head(&damaged, 5), SegmentHead::Damaged, "bit {bit}");
    }
    let (block, rows) = block(3, 70, 4);
    let bytes = [&block_head(5, &block, &rows)[..], &rows].concat();
    let read = read_block_head(&bytes, 5).unwrap();
    assert_eq!((read.head, read.block_bytes()), (block, bytes.len() as u64));
    assert!(read.has_written(&rows) && !read.has_written(&rows[1..]));
    assert!(read_block_head(&bytes, 4).is_none() && read_block_head(&bytes[..63], 5).is_none());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let read = read_block_head(&damaged, 5);
        let is_whole = read.is_some_and(|read| read.has_written(&damaged[BLOCK_HEAD_BYTES..]));
        assert!(!is_whole, "bit {bit}");
        assert_eq!(read.is_some(), bit >= BLOCK_HEAD_BYTES * 8, "bit {bit}");
    }
}

#[test]
fn the_longest_name_fits() {
    let node = "n".repeat(NODE_BYTES_MAX);
    assert_eq!(read_segment_head(&segment_head(1, &node), 1), SegmentHead::Known(node));
}
