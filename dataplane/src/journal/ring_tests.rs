//! Rings written, drained, filled, left behind, damaged.

use std::sync::atomic::Ordering::Relaxed;

use link::row::{Protocol, Texts};
use proptest::prelude::*;

use super::*;

const ID: RingId = RingId { node: u128::MAX - 7, epoch: 5, shard: 3 };
const SMALL: u64 = 64 << 10;

fn opened(path: &str) -> Opened<'_> {
    Opened {
        opened_at: 0,
        time_ns: 1,
        request_id: 2,
        account: None,
        reason: Reason::Ok,
        charge: 1,
        remaining: None,
        protocol: Protocol::Http11,
        client: None,
        texts: Texts { site: "s", method: "GET", path, ..Texts::default() },
    }
}

fn ended(total_us: u64) -> Ended {
    Ended {
        reason: Reason::OriginInvalid,
        status: Some(502),
        charge: 0,
        remaining: Some(9),
        request_bytes: 1,
        response_bytes: 2,
        origin_us: None,
        total_us,
    }
}

fn ring(bytes: u64) -> (tempfile::TempDir, std::path::PathBuf, Writer, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    let (writer, reader) = create(&path, ID, bytes).unwrap();
    (folder, path, writer, reader)
}

/// The position of the record that comes next, which begins a request: its row says the same.
fn begun(reader: &mut Reader) -> Option<u64> {
    let mut rows = vec![1, 2, 3];
    let Some(Record::Begin { opened_at, bytes }) = reader.next(&mut rows).unwrap() else {
        return None;
    };
    assert!(reader.copy_begun((opened_at, bytes), &mut rows));
    assert_eq!((&rows[..3], rows.len()), (&[1, 2, 3][..], 3 + bytes));
    let opened = row::read(&rows[3..]).unwrap().0.opened;
    assert_eq!(opened, Opened { opened_at, ..self::opened(opened.texts.path) });
    Some(opened_at)
}

#[test]
fn records_come_out_as_they_went_in() {
    let (_folder, _path, mut writer, mut reader) = ring(SMALL);
    let mut row = Vec::new();
    assert_eq!(reader.next(&mut row).unwrap(), None);
    let at = writer.begin(&opened("/a")).unwrap();
    assert!(writer.whole(&opened("/b"), &ended(7)));
    writer.end(at, &ended(8));
    assert_eq!(begun(&mut reader), Some(at));
    assert_eq!(reader.next(&mut row).unwrap(), Some(Record::Whole));
    assert_eq!(row::read(&row).unwrap().0.ended, ended(7));
    assert_eq!(reader.next(&mut row).unwrap(), Some(Record::End(at, ended(8))));
    assert_eq!(
        row::read(&row).unwrap().0.opened.texts.path,
        "/b",
        "only rows of answered requests are appended"
    );
    assert_eq!(reader.next(&mut row).unwrap(), None);
    assert_eq!((writer.lost(), reader.lost(), reader.waiting_bytes()), (0, 0, 0));
}

#[test]
fn a_full_ring_loses_requests_but_never_the_end_of_one_it_holds() {
    let (_folder, _path, mut writer, mut reader) = ring(SMALL);
    let mut open = Vec::new();
    while let Some(at) = writer.begin(&opened("/path")) {
        open.push(at);
    }
    assert!(!writer.has_room());
    let mut wholes = 0;
    while writer.whole(&opened("/b"), &ended(7)) {
        wholes += 1;
    }
    assert_eq!(writer.lost(), 2);
    for at in &open {
        writer.end(*at, &ended(*at));
    }
    assert_eq!(writer.lost(), 2, "each end had its room");
    let mut row = Vec::new();
    for at in &open {
        assert_eq!(begun(&mut reader), Some(*at));
    }
    for _ in 0..wholes {
        assert_eq!(reader.next(&mut row).unwrap(), Some(Record::Whole));
    }
    assert!(writer.begin(&opened("/path")).is_none(), "taken, but not on disk");
    for at in &open {
        assert_eq!(reader.next(&mut row).unwrap(), Some(Record::End(*at, ended(*at))));
    }
    reader.release();
    assert!(writer.has_room() && writer.begin(&opened("/path")).is_some());
    assert_eq!((reader.lost(), writer.lost()), (3, 3));
}

#[test]
fn the_next_process_finds_what_was_not_released() {
    let (_folder, path, mut writer, mut reader) = ring(SMALL);
    let mut row = Vec::new();
    let first = writer.begin(&opened("/1")).unwrap();
    assert_eq!(begun(&mut reader), Some(first));
    reader.release();
    let bytes = (reader.position() - first) as usize - 16;
    assert!(!reader.copy_begun((first, bytes), &mut row), "the shard may write over it");
    let released = reader.position();
    let second = writer.begin(&opened("/2")).unwrap();
    writer.end(first, &ended(1));
    drop((writer, reader));
    let mut left = open(&path).unwrap();
    assert_eq!((left.id(), left.position()), (ID, released));
    assert_eq!(begun(&mut left), Some(second));
    let mut again = open(&path).unwrap();
    assert!(again.skip_to(left.position()), "the disk knows more than the ring says");
    assert_eq!(again.next(&mut row).unwrap(), Some(Record::End(first, ended(1))));
    assert_eq!(again.next(&mut row).unwrap(), None);
    assert!(!again.skip_to(u64::MAX));
}

#[test]
fn what_is_no_ring_is_refused_and_what_is_damaged_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    for bytes in [Vec::new(), vec![0; 8], vec![0; 10_000], vec![0xff; 10_000]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(open(&path).is_err());
    }
    let (_folder, path, mut writer, _) = ring(SMALL);
    writer.begin(&opened("/1")).unwrap();
    let at = writer.begin(&opened("/2")).unwrap();
    let memory = SharedMemory::open(&path).unwrap();
    let word = &memory.words()[HEADER_WORDS + at as usize / 8 + 4];
    word.store(word.load(Relaxed) ^ 1, Relaxed);
    let (mut left, mut row) = (open(&path).unwrap(), Vec::new());
    assert_eq!(begun(&mut left), Some(0));
    assert_eq!(left.next(&mut row).unwrap_err().0, at);
    for at in [at::EPOCH, 5, at::CHECKSUM] {
        let before = memory.words()[at].fetch_add(1, Relaxed);
        assert!(open(&path).is_err(), "{at}");
        memory.words()[at].store(before, Relaxed);
    }
    memory.words()[at::TAIL].store(u64::MAX, Relaxed);
    assert!(open(&path).is_err());
}

#[test]
fn a_ring_that_is_there_is_not_made_anew() {
    let (_folder, path, _writer, _) = ring(SMALL);
    assert!(create(&path, ID, SMALL).is_err());
}

#[test]
fn a_thread_takes_what_another_writes() {
    let (_folder, _path, mut writer, mut reader) = ring(SMALL);
    let rows = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut open = std::collections::VecDeque::new();
            let mut written = 0_u64;
            while written < rows {
                if let Some(at) = writer.begin(&opened("/some/path")) {
                    open.push_back(at);
                    written += 1;
                } else {
                    std::thread::yield_now();
                }
                if open.len() > 16
                    && let Some(at) = open.pop_front()
                {
                    writer.end(at, &ended(at));
                }
            }
            open.into_iter().for_each(|at| writer.end(at, &ended(at)));
        });
        let (mut row, mut open, mut done) = (Vec::new(), std::collections::HashSet::new(), 0);
        while done < rows {
            match reader.next(&mut row).unwrap() {
                Some(Record::Begin { opened_at, bytes }) => {
                    row.clear();
                    assert!(reader.copy_begun((opened_at, bytes), &mut row));
                    assert_eq!(row::opened_at(&row), Some(opened_at));
                    assert!(open.insert(opened_at));
                }
                Some(Record::End(at, how)) => {
                    assert!(open.remove(&at) && how == ended(at));
                    done += 1;
                }
                Some(Record::Whole) => unreachable!("none was written"),
                None => {
                    reader.release();
                    std::thread::yield_now();
                }
            }
        }
    });
}

proptest! {
    /// Any lengths, any order of ends, any rhythm of draining: what comes out is what went in.
    #[test]
    fn a_ring_is_a_queue(steps in proptest::collection::vec((0_u8..4, 0_usize..900), 1..400)) {
        let (_folder, path, mut writer, mut reader) = ring(16 << 10);
        let (mut expected, mut open) = (std::collections::VecDeque::new(), Vec::new());
        let mut row = Vec::new();
        for (step, size) in steps {
            let text = "/".repeat(size);
            match step {
                0 => if let Some(at) = writer.begin(&opened(&text)) {
                    let bytes = row::FIXED_BYTES + "sGET".len() + size;
                    expected.push_back(Record::Begin { opened_at: at, bytes });
                    open.push(at);
                },
                1 => if writer.whole(&opened(&text), &ended(3)) {
                    expected.push_back(Record::Whole);
                },
                2 if !open.is_empty() => {
                    let at = open.swap_remove(size % open.len());
                    writer.end(at, &ended(at));
                    expected.push_back(Record::End(at, ended(at)));
                }
                _ => {
                    for _ in 0..size % 8 {
                        row.clear();
                        let taken = reader.next(&mut row).unwrap();
                        if let Some(Record::Begin { opened_at, bytes }) = taken {
                            prop_assert!(reader.copy_begun((opened_at, bytes), &mut row));
                            prop_assert_eq!(row::opened_at(&row), Some(opened_at));
                        }
                        prop_assert_eq!(taken, expected.pop_front());
                    }
                    reader.release();
                }
            }
        }
        drop((writer, reader));
        let mut left = super::open(&path).unwrap();
        for record in expected {
            prop_assert_eq!(left.next(&mut row).unwrap(), Some(record));
        }
        prop_assert_eq!(left.next(&mut row).unwrap(), None);
    }
}
