//! Heads written, read back and damaged.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::spool::fixture::{block, done_row};

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
    let mut packer = Packer::default();
    let stored = packer.pack(&rows);
    let bytes = [&block_head(5, &block, stored)[..], stored.bytes()].concat();
    let read = read_block_head(&bytes, 5).unwrap();
    assert_eq!((read.head, read.block_bytes()), (block, bytes.len() as u64));
    let mut unpacked = Vec::new();
    assert!(!read.unpack(&stored.bytes()[1..], &mut unpacked));
    assert!(read.unpack(stored.bytes(), &mut unpacked) && unpacked == rows);
    assert!(stored.bytes().len() < rows.len() / 3, "{} bytes", stored.bytes().len());
    assert!(read_block_head(&bytes, 4).is_none() && read_block_head(&bytes[..63], 5).is_none());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let read = read_block_head(&damaged, 5);
        let is_whole =
            read.is_some_and(|read| read.unpack(&damaged[BLOCK_HEAD_BYTES..], &mut unpacked));
        assert!(!is_whole, "bit {bit}");
        assert_eq!(read.is_some(), bit >= BLOCK_HEAD_BYTES * 8, "bit {bit}");
    }
}

#[test]
fn the_longest_name_fits() {
    let node = "n".repeat(NODE_BYTES_MAX);
    assert_eq!(read_segment_head(&segment_head(1, &node), 1), SegmentHead::Known(node));
}

/// What a block of these bytes is read as.
fn read_back(rows: u32, stored: Stored<'_>) -> Option<Vec<u8>> {
    let block = BlockHead { rows, ..block(3, 70, 1).0 };
    let mut unpacked = Vec::new();
    let read = read_block_head(&block_head(5, &block, stored), 5)?;
    read.unpack(stored.bytes(), &mut unpacked).then_some(unpacked)
}

#[test]
fn rows_that_do_not_get_shorter_are_stored_as_they_are() {
    let mut packer = Packer::default();
    // What resembles itself nowhere: a chain of hashes.
    let mut noise = vec![1; 32];
    while noise.len() < 800 {
        noise.extend(Sha256::digest(&noise[noise.len() - 32..]));
    }
    let path: String = noise.iter().map(|byte| char::from(*byte % 64 + b'0')).collect();
    let row = done_row(1, 1, 1, &path);
    for rows in [row.as_slice(), &[]] {
        let stored = packer.pack(rows);
        assert!(stored.bytes().len() <= rows.len());
        assert_eq!(read_back(u32::from(!rows.is_empty()), stored).as_deref(), Some(rows));
    }
    assert_eq!(packer.pack(&noise[32..]).bytes(), &noise[32..]);
}

#[test]
fn a_packed_length_is_not_believed() {
    let (_, rows) = block(3, 70, 4);
    let mut packer = Packer::default();
    let packed = packer.pack(&rows).bytes().to_vec();
    let with_length = |length: u32| [&length.to_le_bytes(), &packed[4..]].concat();
    let right = u32::try_from(rows.len()).unwrap();
    for length in [right, right - 1, right + 1, 0, 1 << 20, u32::MAX] {
        let bytes = with_length(length);
        let read = read_back(4, Stored { bytes: &bytes, packing: LZ4 });
        assert_eq!(read.is_some(), length == right, "{length}");
    }
    for bytes in [&[][..], &[1], &[0; 4]] {
        assert_eq!(read_back(1, Stored { bytes, packing: LZ4 }), None);
    }
    assert_eq!(read_back(4, Stored { bytes: &rows, packing: 2 }), None, "a packing of later");
}
