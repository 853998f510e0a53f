use std::sync::Arc;

use super::*;
use crate::ship::SourceBlock;
use crate::ship::fixture::{DAY_NS, push_row};

fn batch_of(blocks: &[(u64, u16, u64, usize)]) -> Batch {
    let mut rows = Vec::new();
    let mut batch = Batch::new(Arc::from("n1"), crate::ship::Position::default());
    for (epoch, shard, first_seq, count) in blocks.iter().copied() {
        rows.clear();
        (0..count).for_each(|_| push_row(&mut rows, "/x", DAY_NS));
        let end = crate::ship::Position { segment: 1, offset: 1 };
        let block = SourceBlock { epoch, shard, first_seq, rows: rows.clone(), end };
        batch.add(block, &mut crate::ship::NextNumbers::default());
    }
    batch
}

/// Cuts all of it; the runs of each request.
fn requests(batch: &Batch) -> Vec<Vec<Run>> {
    let (mut rest, mut all) = (batch.rows.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (decisions, after) = cut(batch, rest);
        let encoded = decisions.encode().unwrap();
        assert_eq!(Decisions::decode(&encoded), Ok(decisions.clone()), "within every bound");
        all.push(decisions.runs);
        rest = after;
    }
    all
}

#[test]
fn rows_are_cut_into_runs_and_requests() {
    let run = |epoch, shard, first, rows| Run { epoch, shard, first, rows };
    let cases: Vec<(&str, Batch, Vec<Vec<Run>>)> = vec![
        ("one stream", batch_of(&[(1, 0, 5, 3), (1, 0, 8, 2)]), vec![vec![run(1, 0, 5, 5)]]),
        (
            "a hole",
            batch_of(&[(1, 0, 5, 3), (1, 0, 9, 1)]),
            vec![vec![run(1, 0, 5, 3), run(1, 0, 9, 1)]],
        ),
        (
            "streams in turn",
            batch_of(&[(1, 0, 0, 1), (1, 1, 0, 1), (1, 0, 1, 1), (2, 0, 0, 1)]),
            vec![vec![run(1, 0, 0, 1), run(1, 1, 0, 1), run(1, 0, 1, 1), run(2, 0, 0, 1)]],
        ),
        (
            "more than one request takes",
            batch_of(&[(1, 0, 0, ROWS_MAX + 5)]),
            vec![vec![run(1, 0, 0, ROWS_MAX as u32)], vec![run(1, 0, ROWS_MAX as u64, 5)]],
        ),
    ];
    for (what, batch, expected) in cases {
        assert_eq!(requests(&batch), expected, "{what}");
    }
    let many: Vec<_> = (0..RUNS_MAX as u64 + 1).map(|at| (1, 0, 2 * at, 1)).collect();
    let runs: Vec<usize> = requests(&batch_of(&many)).iter().map(Vec::len).collect();
    assert_eq!(runs, [RUNS_MAX, 1]);
}

#[test]
fn an_answer_covers_what_was_sent_or_does_not() {
    let position = |shard, next| crate::wire::Position { epoch: 1, shard, next };
    let runs = [
        Run { epoch: 1, shard: 0, first: 0, rows: 5 },
        Run { epoch: 1, shard: 1, first: 3, rows: 1 },
    ];
    let cases = [
        (vec![position(0, 5), position(1, 4)], true),
        (vec![position(1, 9), position(0, 7), position(2, 0)], true),
        (vec![position(0, 4), position(1, 4)], false),
        (vec![position(0, 5)], false),
        (Vec::new(), false),
    ];
    for (positions, is_covered) in cases {
        assert_eq!(
            covers(&Positions { positions: positions.clone() }, &runs),
            is_covered,
            "{positions:?}"
        );
    }
}
