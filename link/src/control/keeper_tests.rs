use std::fs;
use std::io::Read as _;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::control::{ControlConfig, Pace};
use crate::disk::fixture::FaultyDisk;
use crate::disk::{Disk, FileSystem};

/// A policy is the sum of its changes; a base is its first number.
#[derive(Debug, Default)]
struct Sums(Mutex<Vec<(u64, u64)>>);

impl PolicySink for Sums {
    type Snapshot = u64;

    fn load_base(&self, mut file: File, _sequence: u64) -> Result<u64, String> {
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("`{text}` is no number"))
    }

    fn apply(&self, snapshot: &u64, delta: &[u8]) -> Result<u64, String> {
        let add = delta.first().filter(|add| **add < 100).ok_or("too much")?;
        Ok(snapshot + u64::from(*add))
    }

    fn publish(&self, snapshot: &u64, sequence: u64) {
        self.0.lock().push((sequence, *snapshot));
    }

    fn refused(&self, _reason: &str) {}
}

struct Bench {
    folder: tempfile::TempDir,
    sink: Arc<Sums>,
    state: Arc<LinkState>,
}

impl Bench {
    fn new() -> Self {
        let config = ControlConfig {
            urls: Vec::new(),
            token_file: PathBuf::new(),
            ca_file: None,
            folder: PathBuf::new(),
            epoch: 1,
            version: String::new(),
            pace: Pace::default(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, sink: Arc::default(), state: Arc::new(LinkState::new(&config)) }
    }

    fn boot_on(&self, disk: Arc<dyn Disk>) -> Keeper<Sums> {
        let store = Store::open_on(disk, self.folder.path()).expect("a folder");
        Keeper::boot(Arc::clone(&self.sink), store, Arc::clone(&self.state))
    }

    fn boot(&self) -> Keeper<Sums> {
        self.boot_on(Arc::new(FileSystem))
    }

    /// The log that is there.
    fn log(&self) -> PathBuf {
        self.file("deltas")
    }

    fn file(&self, extension: &str) -> PathBuf {
        let files = fs::read_dir(self.folder.path()).expect("a folder");
        let mut files = files.map(|entry| entry.expect("an entry").path());
        files.find(|path| path.extension().is_some_and(|it| it == extension)).expect("one is there")
    }
}

fn offer(sequence: u64, text: &str) -> BaseOffer {
    let sha256 = Sha256::digest(text).into();
    BaseOffer { history: 1, sequence, bytes: text.len() as u64, sha256 }
}

/// As if it had been fetched.
fn take_base(keeper: &mut Keeper<Sums>, sequence: u64, text: &str) -> Result<bool, String> {
    let offer = offer(sequence, text);
    fs::write(keeper.store().part(&offer), text).expect("it is written");
    let prepared = keeper.preparation(offer)()?;
    keeper.adopt(prepared)
}

/// The change to `to`, which adds `to`.
fn change(keeper: &mut Keeper<Sums>, to: u64) -> Took {
    keeper.take(DeltaHead { from: to - 1, to }, &[u8::try_from(to).expect("it is small")])
}

fn in_force(keeper: &Keeper<Sums>) -> Option<(u64, u64)> {
    keeper.held.as_ref().map(|held| (held.sequence, held.snapshot))
}

/// The sum of a base of 1,000 at 10 and the changes to `to`.
fn sum(to: u64) -> u64 {
    1_000 + (11..=to).sum::<u64>()
}

#[test]
fn a_log_cut_or_damaged_anywhere_is_believed_to_its_last_whole_change() {
    let bench = Bench::new();
    let mut keeper = bench.boot();
    assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
    (11..=14).for_each(|to| assert_eq!(change(&mut keeper, to), Took::Applied));
    drop(keeper);
    let whole = fs::read(bench.log()).expect("a log");
    let head = head_end(&bench.log()).expect("a log") as usize;
    let each = (whole.len() - head) / 4;
    for cut in head..=whole.len() {
        for flip in [false, true] {
            let mut bytes = whole.clone();
            match bytes.get_mut(cut) {
                Some(byte) if flip => *byte ^= 1,
                _ => bytes.truncate(cut),
            }
            fs::write(bench.log(), bytes).expect("it is written");
            let mut keeper = bench.boot();
            let reached = 10 + ((cut - head) / each) as u64;
            assert_eq!(in_force(&keeper), Some((reached, sum(reached))), "{cut} {flip}");
            assert_eq!(keeper.query(1).from, reached);
            (reached + 1..=15).for_each(|to| assert_eq!(change(&mut keeper, to), Took::Applied));
            drop(keeper);
            assert_eq!(in_force(&bench.boot()), Some((15, sum(15))), "{cut} {flip}, and on");
        }
    }
}

#[test]
fn a_base_that_is_not_what_was_written_is_refused() {
    for (what, base) in [("cut", "100"), ("longer", "10000"), ("rubbish", "abcd"), ("empty", "")] {
        let bench = Bench::new();
        assert_eq!(take_base(&mut bench.boot(), 10, "1000"), Ok(true));
        fs::write(bench.file("base"), base).expect("it is written");
        let mut keeper = bench.boot();
        assert_eq!(in_force(&keeper), None, "{what}");
        assert_eq!(keeper.query(1), StreamQuery { epoch: 1, ..StreamQuery::default() }, "{what}");
        assert_eq!(bench.state.status().rejected, 1, "{what}");
        assert_eq!(change(&mut keeper, 11), Took::Awaits);
        assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true), "{what}");
    }
}

/// A base, two changes, another base with one of them, another change; the number of the last change in force.
fn run(keeper: &mut Keeper<Sums>) -> u64 {
    let _ = take_base(keeper, 10, "1000");
    for to in [11, 12] {
        change(keeper, to);
    }
    let _ = take_base(keeper, 11, "1011");
    change(keeper, 13);
    keeper.sequence()
}

#[test]
fn a_disk_that_fails_at_any_step_costs_nothing_that_is_not_asked_for_again() {
    for is_end in [false, true] {
        for step in 0.. {
            let bench = Bench::new();
            let disk =
                if is_end { FaultyDisk::ending_at(step) } else { FaultyDisk::failing_at(step) };
            let mut keeper = bench.boot_on(Arc::new(disk.clone()));
            let reached = run(&mut keeper);
            let published = bench.sink.0.lock().clone();
            assert!(published.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{published:?}");
            assert!(published.iter().all(|(at, value)| *value == sum(*at)), "{published:?}");
            drop(keeper);
            let mut keeper = bench.boot();
            if let Some((at, value)) = in_force(&keeper) {
                assert_eq!(value, sum(at), "step {step}");
            }
            if keeper.held.is_none() {
                assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
            }
            (keeper.query(1).from + 1..=13)
                .for_each(|to| assert_ne!(change(&mut keeper, to), Took::Gap));
            assert_eq!(in_force(&keeper), Some((13, sum(13))), "step {step}");
            if disk.steps() <= step {
                assert!(
                    step > 10 && reached == 13,
                    "there were steps, and all is well without a fault"
                );
                break;
            }
        }
    }
}

#[test]
fn changes_the_disk_has_not_taken_are_asked_for_again() {
    let bench = Bench::new();
    let disk = FaultyDisk::new();
    let mut keeper = bench.boot_on(Arc::new(disk.clone()));
    assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
    disk.fail_next(2);
    assert_eq!(change(&mut keeper, 11), Took::Applied, "a full disk holds up no revocation");
    assert_eq!(change(&mut keeper, 12), Took::Applied);
    assert!(keeper.lags_on_disk() && bench.state.status().disk_error.is_some());
    assert_eq!((keeper.sequence(), keeper.query(1).from), (12, 10));
    assert_eq!([11, 12].map(|to| change(&mut keeper, to)), [Took::Old; 2]);
    assert!(!keeper.lags_on_disk());
    assert_eq!(bench.state.status().disk_error, None);
    drop(keeper);
    assert_eq!(in_force(&bench.boot()), Some((12, sum(12))));
}

#[test]
fn a_base_that_lacks_changes_in_force_catches_up_before_it_counts() {
    let bench = Bench::new();
    let disk = FaultyDisk::new();
    let mut keeper = bench.boot_on(Arc::new(disk.clone()));
    assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
    // The log lacks what is in force, so a base is not brought there by it.
    disk.fail_next(2);
    assert_eq!([11, 12, 13].map(|to| change(&mut keeper, to)), [Took::Applied; 3]);
    assert_eq!(take_base(&mut keeper, 12, "1023"), Ok(false));
    assert_eq!((in_force(&keeper), keeper.query(1).from), (Some((13, sum(13))), 12));
    assert_eq!(change(&mut keeper, 13), Took::Applied);
    assert_eq!((in_force(&keeper), keeper.query(1).base), (Some((13, sum(13))), 12));
    assert_eq!(change(&mut keeper, 14), Took::Applied);
    drop(keeper);
    assert_eq!(in_force(&bench.boot()), Some((14, sum(14))));
}

#[test]
fn another_history_waits_for_its_base_and_may_go_back() {
    let bench = Bench::new();
    let mut keeper = bench.boot();
    assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
    keeper.meet(2);
    assert!(keeper.awaits_base());
    assert_eq!(change(&mut keeper, 11), Took::Awaits);
    let offer = BaseOffer { history: 2, ..offer(3, "7") };
    fs::write(keeper.store().part(&offer), "7").expect("it is written");
    let prepared = keeper.preparation(offer)().expect("it is good");
    assert_eq!(keeper.adopt(prepared), Ok(true));
    assert_eq!(in_force(&keeper), Some((3, 7)));
    keeper.meet(2);
    assert!(!keeper.awaits_base());
}

/// Two control planes cut the same changes at other places; a node that goes over gets one that begins before what it has.
#[test]
fn a_change_that_begins_earlier_leads_on() {
    let bench = Bench::new();
    let mut keeper = bench.boot();
    assert_eq!(take_base(&mut keeper, 10, "1000"), Ok(true));
    assert_eq!(change(&mut keeper, 11), Took::Applied);
    let mut take = |from, to: u64| keeper.take(DeltaHead { from, to }, &[to as u8]);
    assert_eq!(take(9, 12), Took::Applied);
    assert_eq!(take(8, 12), Took::Old);
    assert_eq!(take(11, 13), Took::Applied);
    assert_eq!(take(14, 15), Took::Gap);
    assert_eq!(in_force(&keeper), Some((13, sum(13))));
    assert!(!keeper.lags_on_disk());
    drop(keeper);
    // The log has them, and a base beside it catches up by them.
    let mut keeper = bench.boot();
    assert_eq!(in_force(&keeper), Some((13, sum(13))));
    assert_eq!(keeper.query(2).from, 13);
    assert_eq!(take_base(&mut keeper, 11, "1011"), Ok(true));
    assert_eq!(in_force(&keeper), Some((13, sum(13))));
}
