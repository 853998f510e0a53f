//! Numbers of rows, and sets of them.

use super::super::fixture::{DAY_NS, push_open, push_row};
use super::*;

fn block(first_seq: u64, rows: &[bool]) -> SourceBlock {
    let mut bytes = Vec::new();
    for is_done in rows {
        if *is_done {
            push_row(&mut bytes, "/", DAY_NS);
        } else {
            push_open(&mut bytes, "/", DAY_NS);
        }
    }
    let end = Position { segment: 1, offset: first_seq + 1 };
    SourceBlock { epoch: 1, shard: 2, first_seq, rows: bytes, end }
}

const STREAM: Stream = Stream { epoch: 1, shard: 2 };

#[test]
fn open_rows_have_no_number_and_rows_taken_before_are_passed_over() {
    let mut next = NextNumbers::default();
    let mut batch = Batch::new("n".into(), Position::default());
    assert_eq!(batch.add(block(5, &[true, false, true]), &mut next), Added::default());
    assert_eq!(batch.add(block(6, &[true, true, true]), &mut next), Added::default());
    let seqs: Vec<u64> = batch.rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [5, 6, 7, 8]);
    assert_eq!(next.get(STREAM), Some(9));
    assert_eq!(batch.ranges(), [Range { stream: STREAM, from: 5, to: 9 }]);
    let lost = batch.add(block(20, &[false]), &mut next).lost;
    assert_eq!((lost, next.get(STREAM)), (11, Some(20)));
}

#[test]
fn bytes_that_are_no_rows_end_a_block() {
    let mut next = NextNumbers::default();
    let mut batch = Batch::new("n".into(), Position::default());
    let mut torn = block(0, &[true, true]);
    torn.rows.truncate(torn.rows.len() - 1);
    let unreadable = batch.add(torn, &mut next).unreadable;
    assert!(unreadable > crate::row::FIXED_BYTES, "{unreadable}");
    assert_eq!((batch.rows.len(), next.get(STREAM)), (1, Some(1)));
}

#[test]
fn sets_of_numbers_know_what_is_in_them() {
    let other = Stream { epoch: 0, shard: 9 };
    let held = Held::new(vec![
        Range { stream: STREAM, from: 10, to: 12 },
        Range { stream: other, from: 0, to: 1 },
        Range { stream: STREAM, from: 3, to: 10 },
        Range { stream: STREAM, from: 20, to: 21 },
    ]);
    let of = |stream| (0..30).filter(|seq| held.contains(stream, *seq)).collect::<Vec<_>>();
    assert_eq!(of(STREAM), [3, 4, 5, 6, 7, 8, 9, 10, 11, 20]);
    assert_eq!(of(other), [0]);
    assert_eq!(Held::of_numbers([(STREAM, 3), (STREAM, 4), (other, 0)]).ranges.len(), 2);
}

#[test]
fn the_streams_longest_unused_are_forgotten() {
    let mut next = NextNumbers::default();
    for epoch in 0..5_000 {
        next.set(Stream { epoch, shard: 0 }, 1);
        next.set(STREAM, epoch);
    }
    assert_eq!(next.list().len(), NextNumbers::STREAMS_MAX);
    assert_eq!(next.get(STREAM), Some(4_999));
    assert_eq!(next.get(Stream { epoch: 3, shard: 0 }), None);
}
