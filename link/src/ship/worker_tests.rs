//! One sink that fails in every way, one process that dies at any moment: each row once.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use super::super::fixture::{Blocks, DAY_NS, FakeSink, Plan, Stored, push_row};
use super::*;

const NODE: &str = "node-a";

fn limits() -> Limits {
    Limits { rows_max: 40, ..Limits::default() }
}

fn worker(
    folder: &Path,
    source: &Blocks,
    sink: FakeSink,
    phase: Phase,
) -> Worker<FakeSink, Blocks> {
    let (sender, receiver) = watch::channel(phase);
    // The phase is never changed; without a sender a wait for a change would end at once.
    Box::leak(Box::new(sender));
    Worker {
        sink,
        source: source.clone(),
        limits: limits(),
        state: Arc::new(ExportState::new("fake")),
        node: NODE.into(),
        file: PositionFile::new(folder, "fake"),
        rejected: Rejected::new(folder, "fake"),
        phase: receiver,
        backoff: Backoff::new(Backoff::FIRST, Backoff::LONGEST, 1),
        progress: Progress::default(),
        is_prepared: false,
    }
}

/// Runs on this thread with time that passes as soon as everybody waits.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

fn blocks() -> Blocks {
    let source = Blocks::default();
    let mut next = [0_u64; 3];
    for block in 0..60_u64 {
        let shard = (block % 3) as u16;
        let count = block % 7;
        source.push(9, shard, next[usize::from(shard)], count);
        next[usize::from(shard)] += count;
    }
    source
}

fn total() -> u64 {
    (0..60).map(|block| block % 7).sum()
}

fn assert_each_once(stored: &Stored, rows: u64, what: &str) {
    assert_eq!(stored.rows.len() as u64, rows, "{what}: rows in the sink");
    let twice: Vec<_> = stored.rows.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{what}: {twice:?}");
}

#[test]
fn rows_arrive_once_and_nothing_is_asked_when_all_is_well() {
    let (folder, stored) = (tempfile::tempdir().unwrap(), Rc::default());
    let source = blocks();
    let first = worker(folder.path(), &source, FakeSink::new(&stored), Phase::Flushing);
    let state = Arc::clone(&first.state);
    block_on(first.run());
    assert_each_once(&stored.borrow(), total(), "all is well");
    assert_eq!((state.exported(), state.failures(), state.lost()), (total(), 0, 0));
    assert!(state.lag_seconds(DAY_NS) == 0.0 && state.health() == Health::Stopped);
    // A new sink has no position, so it is asked; one that has one is not.
    stored.borrow_mut().questions = 0;
    source.push(10, 0, 0, 5);
    block_on(worker(folder.path(), &source, FakeSink::new(&stored), Phase::Flushing).run());
    assert_each_once(&stored.borrow(), total() + 5, "after a second start");
}

#[test]
fn whatever_fails_and_whenever_the_process_dies_each_row_is_there_once() {
    for seed in 1..=60_u64 {
        let (folder, stored) = (tempfile::tempdir().unwrap(), Rc::new(RefCell::default()));
        let source = blocks();
        let random = Rc::new(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let draw = move || {
            let mut bits = random.get();
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            random.set(bits);
            (bits >> 32) as u32
        };
        let (mut starts, mut is_done) = (0, false);
        while !is_done {
            starts += 1;
            let mut sink = FakeSink::new(&stored);
            let choose = draw.clone();
            sink.plan = Rc::new(move |_| match choose() % 8 {
                0 => Plan::Refuse,
                1 | 2 => Plan::Lose(choose().to_le_bytes()[0]),
                3 => Plan::Hang(choose().to_le_bytes()[0]),
                _ => Plan::Take,
            });
            if draw() % 16 == 0 {
                // The data directory is lost, but not the sink.
                let _ = fs::remove_file(folder.path().join("fake.position"));
            }
            let run = worker(folder.path(), &source, sink, Phase::Flushing).run();
            let life = Duration::from_millis(u64::from(draw() % 2_000));
            is_done = block_on(async { tokio::time::timeout(life, run).await }).is_ok();
            assert!(starts < 2_000, "seed {seed} does not end");
        }
        assert_each_once(&stored.borrow(), total(), &format!("seed {seed}"));
    }
}

#[test]
fn bad_rows_are_set_aside_and_the_others_arrive() {
    let (folder, stored) = (tempfile::tempdir().unwrap(), Rc::default());
    let source = Blocks::default();
    source.push(1, 0, 0, 100);
    let mut rows = Vec::new();
    push_row(&mut rows, "/1/0/100", DAY_NS);
    rows[4] = 77; // no stage: it has a number and cannot be read
    source.push_bytes(1, 0, 100, rows);
    source.push(1, 0, 101, 100);
    let mut sink = FakeSink::new(&stored);
    sink.bad = Rc::new(|path| path == "/1/0/3" || path.ends_with("77"));
    let worker = worker(folder.path(), &source, sink, Phase::Flushing);
    let state = Arc::clone(&worker.state);
    block_on(worker.run());
    assert_each_once(&stored.borrow(), 201 - 4, "without the bad ones");
    assert_eq!((state.exported(), state.set_aside()), (197, 4));
    let aside = fs::read_to_string(folder.path().join("fake.rejected.ndjson")).unwrap();
    let seqs: Vec<u64> = aside
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64())
        .map(Option::unwrap)
        .collect();
    let mut sorted = seqs;
    sorted.sort_unstable();
    assert_eq!(sorted, [3, 77, 100, 177]);
    assert!(state.last_error().unwrap().contains("does not take"), "{:?}", state.last_error());
}

#[test]
fn a_sink_that_refuses_everything_is_waited_for_and_nothing_is_set_aside() {
    let (folder, stored) = (tempfile::tempdir().unwrap(), Rc::default());
    let source = Blocks::default();
    source.push(1, 0, 0, 30);
    let mut sink = FakeSink::new(&stored);
    let is_repaired = Rc::new(Cell::new(false));
    let repaired = Rc::clone(&is_repaired);
    sink.bad = Rc::new(move |_| !repaired.get());
    let worker = worker(folder.path(), &source, sink, Phase::Flushing);
    let state = Arc::clone(&worker.state);
    block_on(async {
        let mut run = std::pin::pin!(worker.run());
        let hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(hour, &mut run).await.is_err());
        assert_eq!((state.health(), state.set_aside()), (Health::Retrying, 0));
        assert!(state.lag_seconds(DAY_NS + 5_000_000_000) > 4.0);
        is_repaired.set(true);
        run.await;
    });
    assert_each_once(&stored.borrow(), 30, "once the sink is repaired");
    assert_eq!(state.set_aside(), 0);
}

#[test]
fn rows_that_are_gone_from_the_source_are_counted_as_lost() {
    let (folder, stored) = (tempfile::tempdir().unwrap(), Rc::default());
    let source = Blocks::default();
    source.push(1, 0, 0, 10);
    source.push(1, 0, 25, 5);
    source.push(1, 1, 40, 5); // of a stream that was never met: not this sink's to lose
    let worker = worker(folder.path(), &source, FakeSink::new(&stored), Phase::Flushing);
    let state = Arc::clone(&worker.state);
    block_on(worker.run());
    assert_eq!((state.exported(), state.lost()), (20, 15));
}
