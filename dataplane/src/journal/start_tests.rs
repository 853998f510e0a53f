//! Starts after every kind of end: drained, crashed, without rings, with damaged ones, with another number of shards.

use std::path::{Path, PathBuf};

use link::row::{self, Ended, Opened, Protocol, Texts};
use link::spool::{Item, Position};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

use super::*;
use crate::net::SharedMemory;

const PERIOD: Period = Period { id: PeriodId(7), start_s: 0, end_s: i64::MAX / 2 };

fn account(number: u128) -> Account {
    Account { entitlement: EntitlementId(number), period: PERIOD }
}

fn opened(number: u128, path: &str) -> Opened<'_> {
    Opened {
        opened_at: 0,
        time_ns: 1,
        request_id: 2,
        account: Some(account(number)),
        reason: Reason::Ok,
        charge: 1,
        remaining: None,
        protocol: Protocol::Http11,
        client: None,
        texts: Texts { site: "s", method: "GET", path, ..Texts::default() },
    }
}

fn ended(charge: u64) -> Ended {
    Ended {
        reason: Reason::Ok,
        status: Some(200),
        charge,
        remaining: None,
        request_bytes: 0,
        response_bytes: 0,
        origin_us: None,
        total_us: 1,
    }
}

/// Directories of a node.
struct Node {
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn start(&self, shards: u16) -> Result<(Started, Arc<JournalState>), JournalError> {
        let state = Arc::new(JournalState::default());
        let options = Options {
            data_dir: self.folder.path(),
            ring_dir: Some(&self.rings()),
            node: "n",
            shards,
            spool_bytes: 64 << 20,
        };
        Ok((start(&options, Clock::start(), &state)?, state))
    }

    fn rings(&self) -> PathBuf {
        self.folder.path().join("rings")
    }

    fn ring_files(&self) -> Vec<PathBuf> {
        let Ok(folders) = fs::read_dir(self.rings()) else { return Vec::new() };
        folders.flat_map(|folder| files(&folder.unwrap().path()).unwrap()).collect()
    }

    /// Numbered rows: path, charge, whether the request was cut off.
    fn rows(&self) -> Vec<(String, u64, bool)> {
        let mut reader =
            spool::Reader::open(crate::journal::spool_folder(self.folder.path()), Position::START);
        let mut rows = Vec::new();
        while let Some(item) = reader.next().unwrap() {
            let Item::Block(block) = item else { panic!("rows are missing: {item:?}") };
            for (seq, bytes) in block.rows() {
                let (row, _) = row::read(bytes).unwrap();
                if seq.is_some() {
                    let is_cut = row.ended.status.is_none();
                    rows.push((row.opened.texts.path.to_owned(), row.ended.charge, is_cut));
                }
            }
        }
        rows.sort();
        rows
    }
}

/// Ends as a process does that is killed: nothing is written, removed or drained.
fn crash(started: Started) {
    drop(started);
}

fn used(started: &Started, number: u128) -> Option<u64> {
    started.carried.get(EntitlementId(number)).map(|past| past.used)
}

#[test]
fn a_crash_loses_nothing_that_was_recorded() {
    let node = Node::new();
    let (mut started, _) = node.start(2).unwrap();
    let [first, second] = started.writers.as_mut_slice() else { panic!("two shards") };
    let at = first.begin(&opened(1, "/done")).unwrap();
    first.end(at, &ended(5));
    first.begin(&opened(1, "/cut")).unwrap();
    assert!(second.whole(&opened(2, "/refused"), &ended(0)));
    crash(started);
    let (started, state) = node.start(1).unwrap();
    assert_eq!((used(&started, 1), used(&started, 2)), (Some(6), None));
    assert_eq!(state.status()["recovered"], serde_json::Value::Null);
    let rows = node.rows();
    let expected = [("/cut", 1, true), ("/done", 5, false), ("/refused", 0, false)];
    assert_eq!(rows, expected.map(|(path, charge, is_cut)| (path.to_owned(), charge, is_cut)));
    assert_eq!(node.ring_files().len(), 1, "those of the first start are gone");
    crash(started);
    let (started, _) = node.start(3).unwrap();
    assert_eq!((used(&started, 1), node.rows().len()), (Some(6), 3), "counted once");
}

#[test]
fn a_drain_in_the_middle_of_requests_and_a_crash_after_it() {
    let node = Node::new();
    let (mut started, _) = node.start(1).unwrap();
    let writer = &mut started.writers[0];
    let (before, over) =
        (writer.begin(&opened(1, "/before")).unwrap(), writer.begin(&opened(1, "/over")).unwrap());
    writer.end(before, &ended(1));
    let taken = started.drain.turn(Clock::start().now()).unwrap();
    assert_eq!(taken, (1, false));
    // Known to the spool only; its end to the ring only.
    started.writers[0].end(over, &ended(9));
    started.writers[0].begin(&opened(1, "/late")).unwrap();
    crash(started);
    let (started, _) = node.start(1).unwrap();
    assert_eq!(used(&started, 1), Some(11));
    assert_eq!(node.rows().len(), 3);
    assert_eq!(started.drain.sums.books.len(), 1);
}

#[test]
fn a_drained_node_leaves_nothing_but_its_log() {
    let node = Node::new();
    let (mut started, _) = node.start(2).unwrap();
    started.writers[0].begin(&opened(1, "/a")).unwrap();
    assert!(started.writers[1].whole(&opened(1, "/b"), &ended(2)));
    let Started { writers, drain, leases, .. } = started;
    drop(leases);
    let thread = drain.start().unwrap();
    thread.finish();
    drop(writers);
    assert!(node.ring_files().is_empty());
    let left = files(&crate::journal::folder(node.folder.path())).unwrap();
    let is_of_a_start = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(MANIFEST) || name.starts_with("leases")
    };
    assert!(!left.iter().any(is_of_a_start), "{left:?}");
    let (started, _) = node.start(1).unwrap();
    assert_eq!((used(&started, 1), node.rows().len()), (Some(3), 2));
}

/// What a start counts after one that leased 40 units, of which 10 came back, and recorded the use of 3.
fn after_losing(lose: impl FnOnce(&Node)) -> (u64, String) {
    let node = Node::new();
    let (mut started, _) = node.start(1).unwrap();
    for _ in 0..3 {
        assert!(started.writers[0].whole(&opened(1, "/a"), &ended(1)));
    }
    let Account { entitlement, period } = account(1);
    let lease = lease_log::Lease { period, granted: 40, returned: 10, used: 2, unlimited: false };
    started.leases.append(&[lease_log::Record { entitlement, lease }]).unwrap();
    started.leases.sync().unwrap();
    crash(started);
    lose(&node);
    let (started, state) = node.start(1).unwrap();
    (used(&started, 1).unwrap_or(0), state.status()["recovered"].to_string())
}

#[test]
fn where_decisions_are_missing_what_was_leased_counts_as_used() {
    assert_eq!(after_losing(|_| {}), (3, "null".to_owned()));
    type Lose = fn(&Node);
    let gone: Lose = |node| fs::remove_dir_all(node.rings()).unwrap();
    let emptied: Lose = |node| fs::write(&node.ring_files()[0], b"").unwrap();
    let damaged: Lose = |node| {
        let memory = SharedMemory::open(&node.ring_files()[0]).unwrap();
        let word = &memory.words()[512 + 6];
        word.fetch_xor(1, std::sync::atomic::Ordering::Relaxed);
    };
    for (lose, counted) in [(gone, 30), (emptied, 30), (damaged, 30)] {
        let (used, told) = after_losing(lose);
        assert_eq!(used, 30);
        assert!(told.contains(&format!("{counted} units")), "{told}");
    }
}

#[test]
fn one_process_works_on_a_directory() {
    let node = Node::new();
    let (started, _) = node.start(1).unwrap();
    let Err(refused) = node.start(1) else { panic!("started twice") };
    assert!(matches!(refused, JournalError::InUse(_)), "{refused}");
    crash(started);
    assert!(node.start(1).is_ok());
}

#[test]
fn what_cannot_be_used_is_named_with_its_flag() {
    let node = Node::new();
    drop(node.start(1).unwrap());
    let id = crate::journal::folder(node.folder.path()).join("node-id");
    fs::write(&id, "no number").unwrap();
    let Err(error) = node.start(1) else { panic!("started") };
    assert!(error.to_string().contains("node-id") && error.to_string().contains("--data-dir"));
    fs::remove_file(&id).unwrap();
    fs::remove_dir_all(node.rings()).unwrap();
    fs::write(node.rings(), "a file").unwrap();
    let Err(error) = node.start(1) else { panic!("started") };
    assert!(error.to_string().contains("--ring-dir"), "{error}");
    let state = Arc::new(JournalState::default());
    let options = Options {
        data_dir: Path::new("/proc/nowhere"),
        ring_dir: None,
        node: "n",
        shards: 1,
        spool_bytes: 64 << 20,
    };
    assert!(start(&options, Clock::start(), &state).is_err());
}
