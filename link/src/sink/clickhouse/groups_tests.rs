//! Rows in groups of one month, and each group's rows in one piece of each stream.

use proptest::prelude::*;

use super::*;
use crate::ship::fixture::{DAY_NS, push_row};
use crate::ship::{Batch, SourceBlock};

const MONTH_NS: i64 = 31 * 86_400 * 1_000_000_000;

fn batch(times: &[i64]) -> Batch {
    let mut rows = Vec::new();
    for time_ns in times {
        push_row(&mut rows, "/", *time_ns);
    }
    let end = crate::ship::Position::default();
    Batch::of_block("n", SourceBlock { epoch: 1, shard: 0, first_seq: 0, rows, end })
}

#[test]
fn months_begin_where_the_calendar_says() {
    let table = [
        (0, 0, 2_678_400),
        (1_795_478_400_000_000, 1_793_491_200, 1_796_083_200),
        (1_796_083_199_999_999, 1_793_491_200, 1_796_083_200),
        (1_796_083_200_000_000, 1_796_083_200, 1_798_761_600),
        (i64::from(u32::MAX) * 1_000_000, 4_294_425_600, u32::MAX),
    ];
    for (time_us, from_s, to_s) in table {
        assert_eq!(Month::of(time_us), Month { from_s, to_s }, "{time_us}");
    }
    for (time_ns, expected) in
        [(-5, 0), (i64::MIN, 0), (1_999, 1), (i64::MAX, 4_294_967_295_999_999)]
    {
        assert_eq!(time_us(time_ns), expected);
    }
}

#[test]
fn a_batch_of_one_month_is_one_group() {
    let batch = batch(&[DAY_NS, DAY_NS + 1, DAY_NS - 1]);
    assert!(is_of_one_month(&batch));
    let groups = groups(&batch, &batch.rows, |_, _| Vec::new());
    assert_eq!((groups.len(), groups[0].rows.len()), (1, 3));
}

proptest! {
    #[test]
    fn every_row_is_in_one_group_and_numbers_from_first_to_last_say_which(
        months in prop::collection::vec(0..3_i64, 1..40),
        wanted in prop::collection::vec(any::<bool>(), 40),
        is_ahead in prop::collection::vec(any::<bool>(), 40),
    ) {
        let times: Vec<i64> = months.iter().map(|month| DAY_NS + month * MONTH_NS).collect();
        let batch = batch(&times);
        let rows: Vec<RowAt> = batch.rows.iter().zip(&wanted).filter(|(_, is)| **is).map(|(row, _)| *row).collect();
        let ahead = |row: &RowAt, _| if is_ahead[row.seq as usize] { vec![View::Day] } else { Vec::new() };
        let groups = groups(&batch, &rows, ahead);
        let mut all: Vec<u64> = groups.iter().flat_map(|group| group.rows.iter().map(|row| row.seq)).collect();
        all.sort_unstable();
        prop_assert_eq!(all, rows.iter().map(|row| row.seq).collect::<Vec<_>>());
        for group in &groups {
            let seqs: Vec<u64> = group.rows.iter().map(|row| row.seq).collect();
            let (first, last) = (seqs[0], seqs[seqs.len() - 1]);
            let month = months[first as usize];
            // All rows of the month between first and last are the group's.
            let between: Vec<u64> = (first..=last).filter(|seq| months[*seq as usize] == month).collect();
            prop_assert_eq!(&seqs, &between);
            for row in group.rows.iter() {
                prop_assert_eq!(&ahead(row, 0), &group.ahead);
            }
        }
    }
}
