use proptest::prelude::*;

use super::*;
use crate::ship::fixture::{DAY_NS, push_open, push_row};

fn decisions() -> Decisions {
    let mut rows = Vec::new();
    for number in 0..5 {
        push_row(&mut rows, &format!("/{number}"), DAY_NS);
    }
    let run = |shard, first, rows| Run { epoch: u64::MAX, shard, first, rows };
    Decisions { runs: vec![run(0, 7, 3), run(u16::MAX, 0, 2)], rows }
}

#[test]
fn rows_arrive_with_their_numbers() {
    let sent = decisions();
    let body = sent.encode().unwrap();
    assert!(body.len() < sent.rows.len(), "{} of {}", body.len(), sent.rows.len());
    let arrived = Decisions::decode(&body).unwrap();
    assert_eq!(arrived, sent);
    let each: Vec<_> = arrived
        .each()
        .map(|(run, seq, row)| {
            let (row, rest) = row::read(row).unwrap();
            assert!(rest.is_empty());
            (run.shard, seq, row.opened.texts.path)
        })
        .collect();
    let expected =
        [(0, 7, "/0"), (0, 8, "/1"), (0, 9, "/2"), (u16::MAX, 0, "/3"), (u16::MAX, 1, "/4")];
    assert_eq!(each, expected);
    assert_eq!(
        Decisions::decode(&Decisions::default().encode().unwrap()),
        Ok(Decisions::default())
    );
}

#[test]
fn positions_arrive() {
    let position = Position { epoch: 3, shard: 9, next: u64::MAX };
    let positions = Positions { positions: vec![position; 3] };
    assert_eq!(Positions::decode(&positions.encode().unwrap()), Ok(positions));
    assert!(Positions::decode(&decisions().encode().unwrap()).is_err());
}

#[test]
fn what_a_newer_end_adds_is_passed_over() {
    let body = decisions().encode().unwrap();
    let payload = &body[frame::HEAD_BYTES..];
    let more = frame::encode(Kind::Decisions, &[payload, b"more"]).unwrap();
    assert_eq!(Decisions::decode(&more), Ok(decisions()));
    let positions = Positions::default().encode().unwrap();
    let more = frame::encode(Kind::Positions, &[&positions[frame::HEAD_BYTES..], b"more"]).unwrap();
    assert_eq!(Positions::decode(&more), Ok(Positions::default()));
}

#[test]
fn what_is_past_a_bound_is_refused() {
    let mut open = Vec::new();
    push_open(&mut open, "/", DAY_NS);
    let small = open.len();
    let changed = |change: &dyn Fn(&mut Decisions)| {
        let mut decisions = decisions();
        change(&mut decisions);
        decisions.encode().unwrap()
    };
    let many: Vec<u8> = open.iter().copied().cycle().take(small * (ROWS_MAX + 1)).collect();
    let cases: [(&str, Vec<u8>); 7] = [
        ("a run of none", changed(&|all| all.runs[0].rows = 0)),
        ("more than there are", changed(&|all| all.runs[0].rows = 4)),
        ("fewer than there are", changed(&|all| all.runs[0].rows = 2)),
        ("numbers past the last", changed(&|all| all.runs[0].first = u64::MAX - 1)),
        ("rows that are cut", changed(&|all| all.rows.truncate(all.rows.len() - 1))),
        (
            "too many runs",
            changed(&|all| {
                all.rows = many[..small * (RUNS_MAX + 1)].to_vec();
                all.runs = vec![Run { epoch: 0, shard: 0, first: 0, rows: 1 }; RUNS_MAX + 1];
            }),
        ),
        (
            "too many rows",
            changed(&|all| {
                all.rows.clone_from(&many);
                all.runs = vec![Run { epoch: 0, shard: 0, first: 0, rows: ROWS_MAX as u32 + 1 }];
            }),
        ),
    ];
    for (what, body) in cases {
        assert!(Decisions::decode(&body).is_err(), "{what}");
    }
    // A length that nobody has memory for is refused before any is taken.
    let head = Head { runs: Vec::new(), unpacked_bytes: u32::MAX, packed_bytes: 2 };
    let head = postcard::to_allocvec(&head).unwrap();
    let bomb = frame::encode(Kind::Decisions, &[&head, &[0, 0]]).unwrap();
    assert!(Decisions::decode(&bomb).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = frame::encode(Kind::Decisions, &[&payload]).unwrap();
        if let Ok(decisions) = Decisions::decode(&body) {
            prop_assert_eq!(decisions.each().count(), decisions.runs.iter().map(|run| run.rows as usize).sum::<usize>());
        }
    }
}
