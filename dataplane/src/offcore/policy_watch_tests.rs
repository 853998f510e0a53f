//! Reloads of real files: each change once, refusals, demands, a file half written, a change every few milliseconds.

use std::fs;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Far longer than any step takes, so that only a real failure meets it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    directory: TempDir,
    state: Arc<NodeState>,
    published: Receiver<String>,
    thread: WatchThread,
}

/// A file is good when it ends in a full stop; its snapshot is its text with the sequence number.
fn compile(path: &Path, bytes: &[u8], sequence: u64) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes);
    match text.strip_suffix('.') {
        Some(good) => Ok(format!("{sequence}:{good}")),
        None => Err(format!("{}: `{text}` does not end in a full stop", path.display())),
    }
}

fn state() -> Arc<NodeState> {
    Arc::new(NodeState::new(Clock::start(), Arc::new(Metrics::new(1))))
}

impl Bench {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.toml");
        fs::write(&path, "one.").unwrap();
        let state = state();
        let (file, first) = PolicyFile::open(&path, Box::new(compile), state.clone()).unwrap();
        assert_eq!(*first, "1:one");
        let (publish, published) = channel();
        let thread =
            file.watch(move |snapshot| publish.send((*snapshot).clone()).unwrap()).unwrap();
        Self { directory, state, published, thread }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("p.toml")
    }

    fn expect(&self, snapshot: &str) {
        assert_eq!(self.published.recv_timeout(DEADLINE).as_deref(), Ok(snapshot));
    }

    /// Waits until a number of refusals was counted.
    fn expect_refusals(&self, count: u64) {
        let clock = Clock::start();
        while self.state.snapshot_rejected() < count {
            assert!(clock.now().mono_ns < DEADLINE.as_nanos() as u64, "no refusal number {count}");
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

#[test]
fn written_and_replaced_files_are_loaded_with_growing_sequence() {
    let bench = Bench::start();
    fs::write(bench.path(), "two.").unwrap();
    bench.expect("2:two");
    fs::write(bench.directory.path().join("new"), "three.").unwrap();
    fs::rename(bench.directory.path().join("new"), bench.path()).unwrap();
    bench.expect("3:three");
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    let bench = Bench::start();
    fs::write(bench.path(), "bad").unwrap();
    bench.expect_refusals(1);
    assert!(bench.state.snapshot_error().unwrap().contains("does not end in a full stop"));
    assert_eq!(bench.state.snapshot_sequence(), 1);
    // Asked again on demand, and refused again.
    bench.thread.reloader().reload();
    bench.expect_refusals(2);
    fs::write(bench.path(), "good.").unwrap();
    bench.expect("2:good");
}

#[test]
fn the_running_text_ends_a_refusal_without_a_reload() {
    let bench = Bench::start();
    fs::write(bench.path(), "bad").unwrap();
    bench.expect_refusals(1);
    fs::write(bench.path(), "one.").unwrap();
    fs::write(bench.directory.path().join("ignored"), "x").unwrap();
    let clock = Clock::start();
    while bench.state.snapshot_error().is_some() {
        assert!(clock.now().mono_ns < DEADLINE.as_nanos() as u64);
        thread::park_timeout(Duration::from_millis(1));
    }
    fs::write(bench.path(), "two.").unwrap();
    bench.expect("2:two");
}

#[test]
fn a_demand_reloads_an_unchanged_file_and_an_event_does_not() {
    let bench = Bench::start();
    bench.thread.reloader().reload();
    bench.expect("2:one");
    fs::write(bench.path(), "one.").unwrap();
    bench.thread.reloader().reload();
    bench.expect("3:one");
    // Loads come in order: had one of the writes of unchanged bytes been a reload, this would not be the fourth.
    fs::write(bench.path(), "two.").unwrap();
    bench.expect("4:two");
    assert_eq!(bench.state.snapshot_error(), None);
}

#[test]
fn a_file_half_written_is_not_read() {
    let bench = Bench::start();
    let mut writer = File::create(bench.path()).unwrap();
    // Good as it stands, but its writer has not finished.
    writer.write_all(b"half.").unwrap();
    fs::write(bench.directory.path().join("other"), "x").unwrap();
    assert_eq!(
        bench.published.recv_timeout(Duration::from_millis(100)),
        Err(RecvTimeoutError::Timeout)
    );
    writer.write_all(b" whole.").unwrap();
    drop(writer);
    bench.expect("2:half. whole");
}

#[test]
fn an_emptied_file_is_refused_in_the_end() {
    let bench = Bench::start();
    drop(File::create(bench.path()).unwrap());
    bench.expect_refusals(1);
    fs::write(bench.path(), "two.").unwrap();
    bench.expect("2:two");
}

#[test]
fn a_demand_reads_the_file_even_while_it_is_open_for_writing() {
    let bench = Bench::start();
    let mut writer = File::create(bench.path()).unwrap();
    writer.write_all(b"open.").unwrap();
    bench.thread.reloader().reload();
    bench.expect("2:open");
}

#[test]
fn a_missing_file_is_refused_on_demand_and_loaded_on_return() {
    let bench = Bench::start();
    fs::remove_file(bench.path()).unwrap();
    bench.thread.reloader().reload();
    bench.expect_refusals(1);
    assert!(bench.state.snapshot_error().unwrap().contains("--policy"));
    fs::write(bench.path(), "back.").unwrap();
    bench.expect("2:back");
}

#[test]
fn the_last_of_many_quick_changes_always_arrives_and_none_is_half_read() {
    let bench = Bench::start();
    let long = "x".repeat(100_000);
    for round in 0..200 {
        let text = format!("{round}-{long}-{round}.");
        if round % 2 == 0 {
            fs::write(bench.path(), text).unwrap();
        } else {
            fs::write(bench.directory.path().join("new"), text).unwrap();
            fs::rename(bench.directory.path().join("new"), bench.path()).unwrap();
        }
    }
    loop {
        let snapshot = bench.published.recv_timeout(DEADLINE).unwrap();
        let (_, text) = snapshot.split_once(':').unwrap();
        let (round, rest) = text.split_once('-').unwrap();
        assert_eq!(rest, format!("{long}-{round}"));
        if round == "199" {
            break;
        }
    }
    assert_eq!((bench.state.snapshot_rejected(), bench.state.snapshot_error()), (0, None));
}

#[test]
fn a_start_without_a_good_file_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: &str| {
        let error = PolicyFile::open(path, Box::new(compile), state()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&directory.path().join("none.toml"), "--policy");
    check(directory.path(), "it is no regular file");
    let bad = directory.path().join("bad.toml");
    fs::write(&bad, "bad").unwrap();
    check(&bad, "does not end in a full stop");
}
