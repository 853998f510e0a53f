//! Files of JSON: rotation, torn ends, what is read back.

use super::*;
use crate::ship::fixture::{Blocks, DAY_NS, push_row};
use crate::ship::{Export, Limits, Position, Shipper};

fn batch(rows: &[(i64, &str)]) -> Batch {
    let mut bytes = Vec::new();
    for (time_ns, path) in rows {
        push_row(&mut bytes, path, *time_ns);
    }
    let end = Position { segment: 1, offset: 1 };
    let block = crate::ship::SourceBlock { epoch: 5, shard: 0, first_seq: 0, rows: bytes, end };
    Batch::of_block("n", block)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn sink(folder: &Path) -> NdjsonSink {
    let mut sink = NdjsonSink::new(NdjsonConfig::new(folder.to_owned()));
    run(sink.prepare()).unwrap();
    sink
}

#[test]
fn a_line_is_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(&[(DAY_NS + 1_500, "/a")]);
    run(sink(folder.path()).send(&batch, &batch.rows)).unwrap();
    let path = folder.path().join("decisions-20261124T000000.000001Z.ndjson");
    let text = fs::read_to_string(path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(line["time"], "2026-11-24T00:00:00.000001Z");
    assert_eq!(
        (&line["node"], &line["epoch"], &line["path"]),
        (&"n".into(), &5.into(), &"/a".into())
    );
}

#[test]
fn wherever_a_crash_cut_the_file_the_rest_is_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let before = batch(&[(DAY_NS, "/before")]);
    let batch = {
        let mut rows = vec![(DAY_NS, "/before")];
        rows.extend([(DAY_NS, "/x"); 4]);
        batch(&rows)
    };
    run(sink(folder.path()).send(&batch, &batch.rows)).unwrap();
    let path = sink(folder.path()).files().unwrap().pop().unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(before.rows.len(), 1);
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut sink = sink(folder.path());
        let held = run(sink.held(&batch)).unwrap();
        let missing: Vec<RowAt> = batch
            .rows
            .iter()
            .filter(|row| !held.contains(batch.stream_of(row), row.seq))
            .copied()
            .collect();
        run(sink.send(&batch, &missing)).unwrap();
        assert!(fs::read(&path).unwrap() == whole, "cut at {cut}");
    }
}

#[test]
fn files_are_changed_by_size_and_age_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NdjsonConfig::new(folder.path().to_owned());
    (config.file_bytes_max, config.files_max) = (1_500, 2);
    config.file_age_max = Duration::from_secs(60);
    let mut sink = NdjsonSink::new(config);
    run(sink.prepare()).unwrap();
    let minute = 60_001_000_000;
    let mut names = Vec::new();
    for time_ns in [DAY_NS, DAY_NS, DAY_NS, DAY_NS, DAY_NS, DAY_NS + minute, DAY_NS + minute + 1] {
        let batch = batch(&[(time_ns, "/a")]);
        run(sink.send(&batch, &batch.rows)).unwrap();
        names.push(sink.current.as_ref().unwrap().path.clone());
    }
    assert_eq!(names[0], names[1]);
    assert!(names[0] < names[4], "by size: {names:?}");
    assert!(names[4] < names[5] && names[5] == names[6], "by age: {names:?}");
    assert_eq!(sink.files().unwrap().len(), 2);
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&names[6]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn rows_of_long_ago_are_found_when_the_position_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let source = Blocks::default();
    for block in 0..50 {
        source.push(block / 20, 0, (block % 20) * 100, 100);
    }
    for _ in 0..2 {
        let sink = NdjsonSink::new(NdjsonConfig::new(folder.path().join("files")));
        let limits = Limits { rows_max: 700, ..Limits::default() };
        let export = Export::new("files", limits, sink, source.clone());
        let shipper = Shipper::start(folder.path(), "n", vec![export]).unwrap();
        assert!(shipper.flush(Duration::from_secs(20)));
        fs::remove_file(folder.path().join("sinks/files.position")).unwrap();
    }
    let files = fs::read_dir(folder.path().join("files")).unwrap();
    let lines: usize =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum();
    assert_eq!(lines, 5_000);
}
