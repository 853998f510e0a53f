//! Readers beside a writer, behind damage, and behind the cap.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::fixture::*;
use super::super::*;

/// Three segments of three blocks of five rows each, and one of nothing.
fn written(folder: &std::path::Path) -> Spool {
    let mut spool = spool(folder);
    for seq in (0..45).step_by(5) {
        let (head, rows) = block(0, seq, 5);
        spool.append(&head, &rows).unwrap();
        if seq % 15 == 10 {
            spool.rotate([]).unwrap();
        }
    }
    spool
}

fn read_from(folder: &std::path::Path, from: Position) -> (Vec<u64>, Vec<Loss>) {
    read_all(&mut Reader::open(folder, from))
}

#[test]
fn reading_goes_on_where_a_block_ended() {
    let folder = tempfile::tempdir().unwrap();
    let spool = written(folder.path());
    let mut reader = Reader::open(folder.path(), Position::START);
    let mut ends = vec![(0, Position::START)];
    while let Some(Item::Block(block)) = reader.next().unwrap() {
        assert_eq!((block.node, block.head.epoch), ("n1", 1));
        assert_eq!(block.rows().count(), 5);
        ends.push((block.rows().last().unwrap().0.unwrap() + 1, block.end));
    }
    assert_eq!((ends.len(), reader.position()), (10, spool.position()));
    for (seq, end) in ends {
        let (seqs, losses) = read_from(folder.path(), end);
        assert_eq!((seqs, losses), ((seq..45).collect(), vec![]));
    }
    assert_eq!(read_from(&folder.path().join("none"), Position::START), (vec![], vec![]));
}

#[test]
fn each_flipped_byte_of_a_segment_costs_what_is_said_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    drop(written(folder.path()));
    let path = segments::path_of(folder.path(), 2);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        let (seqs, losses) = read_from(folder.path(), Position::START);
        let lost: u64 = losses.iter().map(Loss::rows).sum();
        assert_eq!(seqs.len() as u64 + lost, 45, "byte {at}: {losses:?}");
        assert!(seqs.is_sorted() && seqs.len() >= 30, "byte {at}");
        let at_place = |loss: &Loss| matches!(loss, Loss::Damaged { at, .. } if at.segment == 2);
        assert!(losses.iter().any(at_place), "byte {at}: {losses:?}");
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (seqs, losses) = read_from(folder.path(), Position::START);
        let lost: u64 = losses.iter().map(Loss::rows).sum();
        assert_eq!(seqs.len() as u64 + lost, 45, "cut at {length}: {losses:?}");
    }
}

#[test]
fn a_block_that_is_not_whole_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    drop(written(folder.path()));
    let path = segments::path_of(folder.path(), 3);
    let whole = fs::read(&path).unwrap();
    fs::remove_file(segments::path_of(folder.path(), 4)).unwrap();
    let mut reader = Reader::open(folder.path(), Position::start_of(3));
    let mut ends = Vec::new();
    while let Some(Item::Block(block)) = reader.next().unwrap() {
        ends.push(block.end.offset as usize);
    }
    let mut reader = Reader::open(folder.path(), Position::start_of(3));
    let mut seqs = Vec::new();
    for length in (SEGMENT_HEAD_BYTES as usize)..=whole.len() {
        // What a failed write leaves behind is no harm, and may be written over.
        let mut bytes = whole[..length].to_vec();
        let end = ends.iter().find(|end| **end >= length).unwrap();
        bytes.resize((length + length % 100).min(*end), b'x');
        fs::write(&path, bytes).unwrap();
        let (more, losses) = read_all(&mut reader);
        seqs.extend(more);
        assert_eq!(losses, []);
    }
    assert_eq!(seqs, (30..45).collect::<Vec<_>>());
}

#[test]
fn another_version_and_other_files() {
    let folder = tempfile::tempdir().unwrap();
    drop(written(folder.path()));
    for name in ["1.spool", "000000000000000x.spool", "0000000000000009.spool.old", "checkpoint"] {
        fs::write(folder.path().join(name), b"?").unwrap();
    }
    assert_eq!(read_from(folder.path(), Position::START).0.len(), 45);
    let path = segments::path_of(folder.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    bytes[12..16].fill(0);
    let checksum = crc32fast::hash(&bytes[..SEGMENT_HEAD_BYTES as usize]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(folder.path(), Position::start_of(2));
    let error = reader.next().unwrap_err().to_string();
    assert!(error.contains("2.spool is in format 9, and this version reads format 2"), "{error}");
    for segment in 3..=4 {
        fs::remove_file(segments::path_of(folder.path(), segment)).unwrap();
    }
    let error = Spool::open(config(folder.path()), "n1").unwrap_err();
    assert!(matches!(error, Error::Version { found: 9, .. }), "{error}");
}

#[test]
fn what_was_dropped_is_said_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = written(folder.path());
    let mut within = Reader::open(folder.path(), Position::START);
    assert!(matches!(within.next(), Ok(Some(Item::Block(_)))));
    spool.checkpointed(Position::start_of(4));
    spool.drop_before(Position::start_of(3)).unwrap();
    let dropped = spool.take_dropped();
    let rows: Vec<_> =
        dropped.iter().map(|dropped| (dropped.segment, dropped.ranges[0].rows)).collect();
    assert_eq!(rows, [(1, 15), (2, 15)]);
    // The segment that is being read is read to its end.
    let (seqs, losses) = read_all(&mut within);
    assert_eq!(seqs, (5..15).chain(30..45).collect::<Vec<_>>());
    let range = RowRange { epoch: 1, shard: 0, first_seq: 15, rows: 15 };
    let gone = Loss::Gone { from: Position::start_of(2), to: Position::start_of(3) };
    assert_eq!(losses, [gone, Loss::Rows(range)]);
    let mut told = Reader::open(folder.path(), Position::start_of(1));
    told.expect(1, 0, 7);
    let (seqs, losses) = read_all(&mut told);
    let range = RowRange { first_seq: 7, rows: 23, ..range };
    let gone = Loss::Gone { from: Position::start_of(1), to: Position::start_of(3) };
    assert_eq!((seqs.len(), losses), (15, vec![gone, Loss::Rows(range)]));
    // A position of another spool: everything that is there.
    let from = Position { segment: 70, offset: 4_000 };
    let (seqs, losses) = read_from(folder.path(), from);
    let gone = Loss::Gone { from, to: Position::start_of(3) };
    assert_eq!((seqs.len(), losses), (15, vec![gone]));
}

#[test]
fn readers_beside_a_writer_see_each_row_once() {
    const ROWS: u64 = 6_000;
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: 64 << 20, ..config(folder.path()) };
    let (mut spool, _) = Spool::open(config, "n1").unwrap();
    let tail = spool.tail();
    let advances = Arc::new(AtomicU64::new(0));
    let hooked = Arc::clone(&advances);
    tail.on_advance(move || {
        hooked.fetch_add(1, Ordering::Relaxed);
    });
    let follow = |is_durable_only: bool| {
        let (tail, folder) = (Arc::clone(&tail), folder.path().to_owned());
        move || {
            let mut reader = Reader::open(folder, Position::START);
            let mut seqs = Vec::new();
            while (seqs.len() as u64) < ROWS {
                let limit = tail.wait_past(reader.position(), Duration::from_secs(20));
                assert!(limit > reader.position(), "nothing came in 20 s");
                while let Some(item) = if is_durable_only {
                    reader.next_within(limit).unwrap()
                } else {
                    reader.next().unwrap()
                } {
                    let Item::Block(block) = item else { panic!("{item:?}") };
                    assert!(!is_durable_only || block.end <= limit);
                    seqs.extend(block.rows().filter_map(|(seq, _)| seq));
                }
            }
            assert_eq!(seqs, (0..ROWS).collect::<Vec<_>>());
        }
    };
    let (durable, all) = (follow(true), follow(false));
    std::thread::scope(|scope| {
        scope.spawn(durable);
        scope.spawn(all);
        for seq in (0..ROWS).step_by(3) {
            let (head, rows) = block(0, seq, 3);
            spool.append(&head, &rows).unwrap();
            if seq % 90 == 0 {
                spool.sync().unwrap();
            }
            if spool.needs_rotation() {
                spool.rotate([]).unwrap();
            }
        }
        spool.sync().unwrap();
    });
    assert!(advances.load(Ordering::Relaxed) > 60);
    assert_eq!((tail.position(), tail.appended()), (spool.synced(), spool.position()));
    drop(spool);
    assert!(tail.is_closed());
    // Who waits for what will never come is woken.
    assert!(tail.wait_past(tail.position(), Duration::from_secs(20)) == tail.position());
}

#[test]
fn a_reader_that_the_cap_overtakes_knows_what_it_missed() {
    const ROWS: u64 = 8_000;
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: 48 << 10, segment_bytes: 4 << 10, ..config(folder.path()) };
    let (mut spool, _) = Spool::open(config, "n1").unwrap();
    let tail = spool.tail();
    let reading = {
        let (tail, folder) = (Arc::clone(&tail), folder.path().to_owned());
        move || {
            let mut reader = Reader::open(folder, Position::start_of(1));
            reader.expect(1, 0, 0);
            let (mut next, mut read, mut missed) = (0, 0, 0);
            while next < ROWS {
                // Slow, by looking only when the cap has passed it, or nothing more comes.
                let at = Position { segment: reader.position().segment + 40, offset: 0 };
                let limit = tail.wait_past(at, Duration::from_secs(20));
                while let Some(item) = reader.next_within(limit).unwrap() {
                    match item {
                        Item::Lost(Loss::Gone { from, to }) => assert!(from < to),
                        Item::Lost(Loss::Rows(range)) => {
                            assert_eq!(range.first_seq, next);
                            next = range.end_seq();
                            missed += range.rows;
                        }
                        Item::Lost(loss) => panic!("{loss}"),
                        Item::Block(block) => {
                            for (seq, _) in block.rows() {
                                assert_eq!(seq, Some(next));
                                (next, read) = (next + 1, read + 1);
                            }
                        }
                    }
                }
            }
            (read, missed)
        }
    };
    let (read, missed, dropped) = std::thread::scope(|scope| {
        let reading = scope.spawn(reading);
        for seq in (0..ROWS).step_by(4) {
            let (head, rows) = block(0, seq, 4);
            spool.append(&head, &rows).unwrap();
            if spool.needs_rotation() {
                let start = spool.rotate([]).unwrap();
                spool.checkpointed(start);
            }
        }
        spool.sync().unwrap();
        let dropped = spool.take_dropped();
        drop(spool);
        let (read, missed) = reading.join().unwrap();
        (read, missed, dropped)
    });
    assert_eq!(read + missed, ROWS);
    let dropped: u64 =
        dropped.iter().flat_map(|dropped| &dropped.ranges).map(|range| range.rows).sum();
    assert!(missed > 0 && missed <= dropped, "{missed} of {dropped}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        heads in proptest::collection::vec(
            (proptest::num::u64::ANY, 0_u16..3, 0_u32..4, 0_u32..4),
            0..6,
        ),
        junk in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        has_successor in proptest::bool::ANY,
    ) {
        // Heads that say anything, with checksums that say they are right.
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = format::segment_head(1, "n1").to_vec();
        for (first_seq, shard, said, rows) in heads {
            let found = BlockHead { first_seq, ..head(1, shard, 0, rows) };
            let rows = block(shard, 0, rows).1;
            let mut packer = format::Packer::default();
            let stored = packer.pack(&rows);
            for head in [head(1, shard, 0, said), found] {
                bytes.extend_from_slice(&format::block_head(1, &head, stored));
                bytes.extend_from_slice(stored.bytes());
            }
        }
        bytes.extend_from_slice(&junk);
        fs::write(segments::path_of(folder.path(), 1), &bytes).unwrap();
        if has_successor {
            fs::write(segments::path_of(folder.path(), 2), &junk).unwrap();
        }
        read_from(folder.path(), Position::START);
        read_from(folder.path(), Position { segment: 1, offset: 300 });
        crate::recover::recover(folder.path(), folder.path(), 10).unwrap();
        drop(Spool::open(config(folder.path()), "n1").unwrap());
    }
}
