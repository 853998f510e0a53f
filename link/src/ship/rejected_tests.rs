//! Rows that are set aside, up to a bound.

use super::super::batch::NextNumbers;
use super::super::fixture::{DAY_NS, push_row};
use super::super::{Position, SourceBlock};
use super::*;

#[test]
fn past_its_bound_the_file_does_not_grow() {
    let folder = tempfile::tempdir().unwrap();
    let mut batch = Batch::new("n".into(), Position::default());
    let mut rows = Vec::new();
    push_row(&mut rows, "/a", DAY_NS);
    push_row(&mut rows, "/b", DAY_NS);
    let end = Position::default();
    let block = SourceBlock { epoch: 4, shard: 1, first_seq: 8, rows, end };
    batch.add(block, &mut NextNumbers::default());
    let rejected = Rejected { file_bytes_max: 700, ..Rejected::new(folder.path(), "ch") };
    let bad: Vec<_> = batch.rows.iter().map(|row| (*row, "no".to_owned())).collect();
    assert_eq!(rejected.append(&batch, &bad).unwrap(), 1);
    let text = std::fs::read_to_string(rejected.path()).unwrap();
    assert!(
        text.starts_with(r#"{"error":"no","epoch":4,"shard":1,"seq":8,"row":{"time":"#),
        "{text}"
    );
    assert!(text.ends_with("}\n") && text.len() <= 700);
    assert_eq!(rejected.append(&batch, &bad).unwrap(), 0);
}
