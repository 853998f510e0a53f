//! The thread: several sinks at once, flushing, names.

use std::sync::Mutex;

use super::fixture::Blocks;
use super::*;
use crate::sink::SinkError;
use crate::sink::ndjson::{NdjsonConfig, NdjsonSink};

fn export(name: &str, folder: &Path, source: &Blocks) -> Export {
    let sink = NdjsonSink::new(NdjsonConfig::new(folder.join(name)));
    Export::new(name, Limits::default(), sink, source.clone())
}

fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum()
}

#[test]
fn several_sinks_get_all_rows_when_flushed_each_by_its_own_position() {
    let folder = tempfile::tempdir().unwrap();
    let source = Blocks::default();
    source.push(1, 0, 0, 1_000);
    let exports =
        vec![export("one", folder.path(), &source), export("two", folder.path(), &source)];
    let shipper = Shipper::start(folder.path(), "n", exports).unwrap();
    let states = shipper.states().to_vec();
    assert!(shipper.flush(Duration::from_secs(20)));
    source.push(1, 1, 0, 10);
    let shipper = Shipper::start(folder.path(), "n", vec![export("two", folder.path(), &source)]);
    assert!(shipper.unwrap().flush(Duration::from_secs(20)));
    assert_eq!(
        (lines(&folder.path().join("one")), lines(&folder.path().join("two"))),
        (1_000, 1_010)
    );
    assert_eq!((states[0].name(), states[0].exported()), ("one", 1_000));
}

#[test]
fn names_that_cannot_be_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = Blocks::default();
    for names in [vec![""], vec!["a/b"], vec!["A"], vec!["x", "x"]] {
        let exports = names.iter().map(|name| export(name, folder.path(), &source)).collect();
        let started = Shipper::start(folder.path(), "n", exports);
        assert!(matches!(started, Err(StartError::Name(_))), "{names:?}");
    }
}

#[test]
fn a_flush_ends_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let source = Blocks::default();
    source.push(1, 0, 0, 10);
    // A file stands where the folder should be.
    std::fs::write(folder.path().join("one"), "").unwrap();
    let shipper =
        Shipper::start(folder.path(), "n", vec![export("one", folder.path(), &source)]).unwrap();
    let state = Arc::clone(&shipper.states()[0]);
    assert!(!shipper.flush(Duration::from_millis(300)));
    assert_eq!(state.health(), Health::Stopped);
    assert!(state.last_error().unwrap().contains("cannot open files"), "{:?}", state.last_error());
}

/// Hangs in a system call, as on a disk that no longer answers, until the other end is dropped.
struct Hung(Mutex<mpsc::Receiver<()>>);

impl Sink for Hung {
    async fn prepare(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn send(&mut self, _: &Batch, _: &[RowAt]) -> Result<(), SinkError> {
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }

    async fn held(&mut self, _: &Batch) -> Result<Held, SinkError> {
        Ok(Held::new(Vec::new()))
    }
}

#[test]
fn a_sink_that_hangs_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let source = Blocks::default();
    source.push(1, 0, 0, 10);
    let (hangs, hung) = mpsc::channel();
    let hung = Export::new("hung", Limits::default(), Hung(Mutex::new(hung)), source.clone());
    let exports = vec![hung, export("well", folder.path(), &source)];
    let shipper = Shipper::start(folder.path(), "n", exports).unwrap();
    let well = Arc::clone(&shipper.states()[1]);
    assert!(!shipper.flush(Duration::from_secs(5)), "the one that hangs has not all rows");
    assert_eq!((lines(&folder.path().join("well")), well.exported()), (10, 10));
    drop(hangs);
}
