//! Recovery against a naive reference, after crashes at any byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::Checkpoint;
use crate::spool::fixture::{account, block, config, done_row, head, open_row, spool};
use crate::spool::{BlockHead, Config, Spool};

fn units(books: &Books, entitlement: u128) -> u64 {
    let account = account(entitlement);
    books.units(account.entitlement, account.period.id)
}

fn recovered(folder: &Path) -> Recovered {
    recover(folder, folder, 100).unwrap()
}

#[test]
fn use_and_open_requests_are_as_the_spool_says() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = recovered(folder.path());
    assert_eq!((nothing.position, nothing.next_segment), (Position::START, 1));
    let mut spool = spool(folder.path());
    let (first, mut rows) = block(0, 0, 20);
    rows.extend(open_row(50, 3, "/slow"));
    rows.extend(open_row(51, 4, "/slower"));
    spool.append(&first, &rows).unwrap();
    let mut rows = done_row(50, 3, 5, "/slow");
    let mut cut = open_row(52, 3, "/cut");
    assert!(row::write_cut(&mut cut));
    rows.extend(cut);
    spool.append(&head(1, 0, 20, 2), &rows).unwrap();
    drop(spool);
    let recovered = recovered(folder.path());
    assert!(recovered.is_use_complete() && recovered.problems.is_empty());
    assert_eq!((recovered.rows, recovered.books.len()), (22, 10));
    // Twice of the first block, 5, and 1 of the request that was cut off; what is open is not in the books.
    assert_eq!((units(&recovered.books, 3), units(&recovered.books, 4)), (8, 2));
    let stream = Stream { epoch: 1, shard: 0 };
    assert_eq!(recovered.streams[&stream], StreamEnd { next_seq: 22, ring_position: 22 });
    let open: Vec<_> = recovered.open.into_iter().collect();
    assert_eq!(open, [(OpenRequest { stream, opened_at: 51 }, open_row(51, 4, "/slower"))]);
}

/// A spool of 3 segments of 10 rows each, and a checkpoint at the start of each.
fn checkpointed(folder: &Path) -> Spool {
    let mut spool = spool(folder);
    for segment in 0..3 {
        let (head, rows) = block(0, segment * 10, 10);
        spool.append(&head, &rows).unwrap();
        let position = spool.rotate([]).unwrap();
        let now = recovered(folder);
        let streams = now.streams.into_iter().collect();
        checkpoint::write(folder, &Checkpoint { position, streams, books: now.books }).unwrap();
        spool.checkpointed(position);
    }
    let (head, rows) = block(0, 30, 10);
    spool.append(&head, &rows).unwrap();
    spool
}

#[test]
fn a_restart_replays_what_came_after_the_checkpoint_alone() {
    let folder = tempfile::tempdir().unwrap();
    let spool = checkpointed(folder.path());
    let end = spool.position();
    drop(spool);
    let check = |replayed: u64, problems: usize| {
        let recovered = recovered(folder.path());
        assert_eq!((recovered.rows, recovered.problems.len()), (replayed, problems));
        assert!(recovered.is_use_complete());
        for entitlement in 0..10 {
            assert_eq!(units(&recovered.books, entitlement), 4);
        }
        let stream = Stream { epoch: 1, shard: 0 };
        assert_eq!(recovered.streams[&stream], StreamEnd { next_seq: 40, ring_position: 40 });
        assert_eq!((recovered.position, recovered.next_segment), (end, 4));
    };
    check(10, 0);
    fs::write(folder.path().join(checkpoint::FILE), b"?").unwrap();
    check(20, 1);
    fs::write(folder.path().join(checkpoint::FILE_OLD), b"?").unwrap();
    check(40, 2);
}

#[test]
fn what_cannot_be_known_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = checkpointed(folder.path());
    spool.drop_before(Position::start_of(3)).unwrap();
    drop(spool);
    let full = recover(folder.path(), folder.path(), 9).unwrap();
    let said: Vec<_> = full.problems.iter().map(ToString::to_string).collect();
    assert!(!full.is_use_complete() && said.len() == 4, "{said:?}");
    assert_eq!(said[2], "without a checkpoint, use before 3:256 of the journal is not known");
    assert_eq!(said[3], "the books of use are full: 2 charges were not entered");
    // The checkpoint's segment is damaged: what was in it is missing.
    let path = folder.path().join("0000000000000004.spool");
    let mut bytes = fs::read(&path).unwrap();
    bytes[400] ^= 1;
    bytes.extend(vec![0; 100]);
    fs::write(&path, bytes).unwrap();
    let damaged = recovered(folder.path());
    assert!(!damaged.is_use_complete());
    assert_eq!((damaged.problems.len(), damaged.rows), (1, 0));
    // The spool is gone or begun anew, the checkpoint is not: nothing is counted twice, and positions go on.
    fs::remove_file(path).unwrap();
    for _ in 0..2 {
        let alone = recovered(folder.path());
        let said: Vec<_> = alone.problems.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["the journal from 4:256 on is gone, reading goes on at 4:256"]);
        assert_eq!((units(&alone.books, 3), alone.next_segment), (3, 4 + SEGMENTS_SKIPPED));
    }
    let config = Config { first_segment: 4 + SEGMENTS_SKIPPED, ..config(folder.path()) };
    drop(Spool::open(config, "n1").unwrap());
    let alone = recovered(folder.path());
    assert!(!alone.is_use_complete());
    assert_eq!((units(&alone.books, 3), alone.next_segment), (3, 4 + SEGMENTS_SKIPPED));
}

/// What is done to a spool, at random.
#[derive(Clone, Debug)]
enum Op {
    /// Requests begin, of which some end at once; the others stay open.
    Block {
        shard: u16,
        done: u8,
        open: u8,
    },
    /// The oldest open requests end.
    End {
        shard: u16,
        rows: u8,
    },
    Sync,
    Rotate,
    /// A rotation and a checkpoint.
    Checkpoint,
    /// The process ends, and of what is not durable so much is lost: 0 nothing, 255 all.
    Crash {
        lost: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u16..3, 0_u8..4, 0_u8..3).prop_map(|(shard, done, open)| Op::Block { shard, done, open }),
        4 => (0_u16..3, 1_u8..4).prop_map(|(shard, rows)| Op::End { shard, rows }),
        2 => Just(Op::Sync),
        1 => Just(Op::Rotate),
        1 => Just(Op::Checkpoint),
        2 => any::<u8>().prop_map(|lost| Op::Crash { lost }),
    ]
}

/// What should be known after each block: a naive copy of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    next_seq: BTreeMap<Stream, u64>,
    used: BTreeMap<u128, u64>,
    open: BTreeSet<(OpenRequest, u128)>,
}

/// A node that writes a spool and knows what it wrote.
struct Node {
    folder: PathBuf,
    spool: Option<Spool>,
    epoch: u64,
    requests: u64,
    model: Model,
    /// The model after each block of the current segment, by the block's end.
    history: Vec<(Position, Model)>,
}

impl Node {
    fn start(folder: &Path) -> Self {
        let mut node = Self {
            folder: folder.to_owned(),
            spool: None,
            epoch: 0,
            requests: 0,
            model: Model::default(),
            history: Vec::new(),
        };
        node.restart();
        node
    }

    fn restart(&mut self) {
        let recovered = recovered(&self.folder);
        assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
        self.check(&recovered);
        let config = Config { first_segment: recovered.next_segment, ..config(&self.folder) };
        let (spool, opened) = Spool::open(config, "n1").unwrap();
        assert_eq!(opened.losses, []);
        assert!(spool.position() >= recovered.position);
        self.epoch += 1;
        self.history = vec![(spool.position(), self.model.clone())];
        self.spool = Some(spool);
    }

    fn check(&self, recovered: &Recovered) {
        let next_seq: BTreeMap<_, _> =
            recovered.streams.iter().map(|(stream, end)| (*stream, end.next_seq)).collect();
        assert_eq!(next_seq, self.model.next_seq);
        let open: BTreeSet<_> = recovered.open.keys().copied().collect();
        assert_eq!(open, self.model.open.iter().map(|(request, _)| *request).collect());
        for (entitlement, used) in &self.model.used {
            assert_eq!(units(&recovered.books, *entitlement), *used);
        }
        let all: u64 = recovered.books.iter().map(|(_, charged)| charged.units).sum();
        assert_eq!(all, self.model.used.values().sum::<u64>());
    }

    fn append(&mut self, stream: Stream, rows: &[u8], numbered: u32) {
        let next = self.model.next_seq.entry(stream).or_default();
        let block = head(stream.epoch, stream.shard, *next, numbered);
        *next += u64::from(numbered);
        let end = self.spool.as_mut().unwrap().append(&block, rows).unwrap();
        self.history.push((end, self.model.clone()));
    }

    fn begin(&mut self, shard: u16, done: u8, open: u8) {
        let stream = Stream { epoch: self.epoch, shard };
        let mut rows = Vec::new();
        for at in 0..done + open {
            self.requests += 1;
            let (opened_at, entitlement) = (self.requests, u128::from(self.requests % 5));
            let request = OpenRequest { stream, opened_at };
            if at < done {
                rows.extend(done_row(opened_at, entitlement, u64::from(at), "/now"));
                *self.model.used.entry(entitlement).or_default() += u64::from(at);
            } else {
                rows.extend(open_row(opened_at, entitlement, "/slow"));
                self.model.open.insert((request, entitlement));
            }
        }
        self.append(stream, &rows, u32::from(done));
    }

    fn end(&mut self, shard: u16, count: u8) {
        let of_shard = self.model.open.iter().filter(|(request, _)| request.stream.shard == shard);
        let mut ending: Vec<_> = of_shard.take(usize::from(count)).copied().collect();
        let Some((OpenRequest { stream, .. }, _)) = ending.first().copied() else { return };
        ending.retain(|(request, _)| request.stream == stream);
        let mut rows = Vec::new();
        for (request, entitlement) in &ending {
            rows.extend(done_row(request.opened_at, *entitlement, 3, "/slow"));
            *self.model.used.entry(*entitlement).or_default() += 3;
            self.model.open.remove(&(*request, *entitlement));
        }
        self.append(stream, &rows, ending.len() as u32);
    }

    fn rotate(&mut self) -> Position {
        let rows: Vec<(BlockHead, Vec<u8>)> = self
            .model
            .open
            .iter()
            .map(|(OpenRequest { stream, opened_at }, entitlement)| {
                let next_seq = self.model.next_seq[stream];
                let head = head(stream.epoch, stream.shard, next_seq, 0);
                (head, open_row(*opened_at, *entitlement, "/slow"))
            })
            .collect();
        let spool = self.spool.as_mut().unwrap();
        let start = spool.rotate(rows.iter().map(|(head, rows)| (*head, rows.as_slice()))).unwrap();
        self.history = vec![(spool.position(), self.model.clone())];
        start
    }

    fn checkpoint(&mut self) {
        let position = self.rotate();
        let now = recovered(&self.folder);
        let streams = now.streams.into_iter().collect();
        let checkpoint = Checkpoint { position, streams, books: now.books };
        checkpoint::write(&self.folder, &checkpoint).unwrap();
        let spool = self.spool.as_mut().unwrap();
        spool.checkpointed(position);
        spool.drop_before(position).unwrap();
    }

    fn crash(&mut self, lost: u8) {
        let spool = self.spool.take().unwrap();
        let (synced, end) = (spool.synced(), spool.position());
        drop(spool);
        let lost = (end.offset - synced.offset) * u64::from(lost) / 255;
        let length = end.offset - lost;
        let path = self.folder.join(format!("{:016}.spool", end.segment));
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        let kept = self.history.iter().rfind(|(end, _)| end.offset <= length).unwrap();
        assert!(kept.0 >= synced);
        self.model = kept.1.clone();
        self.restart();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn after_any_crash_all_that_was_durable_holds_and_what_holds_was_written(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::start(folder.path());
        for op in ops {
            match op {
                Op::Block { shard, done, open } => node.begin(shard, done, open),
                Op::End { shard, rows } => node.end(shard, rows),
                Op::Sync => { node.spool.as_mut().unwrap().sync().unwrap(); }
                Op::Rotate => { node.rotate(); }
                Op::Checkpoint => node.checkpoint(),
                Op::Crash { lost } => node.crash(lost),
            }
            let recovered = recovered(folder.path());
            node.check(&recovered);
            prop_assert!(recovered.problems.is_empty());
        }
    }
}
