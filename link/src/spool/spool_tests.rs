//! The spool written, filled, cut off and opened again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fixture::*;
use super::*;
use crate::disk::fixture::FaultyDisk;
use crate::row;

#[test]
fn what_was_appended_is_read_over_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut seq = 0;
    for _ in 0..3 {
        let small = Config { segment_bytes: 4 << 10, ..config(folder.path()) };
        let mut spool = Spool::open(small, "n1").unwrap().0;
        for _ in 0..50 {
            let (head, rows) = block(0, seq, 7);
            let before = spool.position();
            let after = spool.append(&head, &rows).unwrap();
            assert!(before < after && after == spool.position());
            seq += 7;
            if spool.needs_rotation() {
                let start = spool.rotate([]).unwrap();
                assert_eq!((start, spool.synced()), (spool.position(), start));
            }
        }
    }
    let (seqs, losses) = read_all(&mut Reader::open(folder.path(), Position::START));
    assert_eq!(seqs, (0..seq).collect::<Vec<_>>());
    assert_eq!(losses, []);
    assert!(segments::list(folder.path()).unwrap().len() > 5);
}

/// A spool on a disk that is told when to fail.
fn spool_on(disk: &FaultyDisk, config: Config) -> Result<(Spool, Opened), Error> {
    Spool::open_on(Arc::new(disk.clone()), config, "n1")
}

fn read(folder: &Path) -> (Vec<u64>, Vec<Loss>) {
    read_all(&mut Reader::open(folder, Position::START))
}

fn upto(seq: u64) -> (Vec<u64>, Vec<Loss>) {
    ((0..seq).collect(), Vec::new())
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_after_the_last_whole_block() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (mut spool, opened) = spool_on(&disk, config(folder.path())).unwrap();
    assert_eq!(opened, Opened::default());
    let mut ends = vec![(SEGMENT_HEAD_BYTES, 0)];
    for seq in [0, 2, 4] {
        let (head, rows) = block(0, seq, 2);
        ends.push((spool.append(&head, &rows).unwrap().offset, seq + 2));
    }
    drop(spool);
    let path = path_of(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let (mut spool, opened) = spool_on(&disk, config(folder.path())).unwrap();
        let Some((end, seq)) = ends.iter().rfind(|(end, _)| *end <= length as u64) else {
            // Not even its head is whole: it is left, and named.
            let at = Position { segment: 1, offset: 0 };
            let loss = Loss::Damaged { at, bytes: length as u64, rows: None };
            assert_eq!((opened.losses, spool.position()), (vec![loss], Position::start_of(2)));
            drop(spool);
            fs::remove_file(path_of(folder.path(), 2)).unwrap();
            continue;
        };
        let at = Position { segment: 1, offset: *end };
        let torn = (length as u64 > *end).then_some(Torn { at, bytes: length as u64 - end });
        assert_eq!((opened.torn, opened.losses, spool.position()), (torn, vec![], at));
        let (head, rows) = block(0, *seq, 3);
        spool.append(&head, &rows).unwrap();
        assert_eq!(read(folder.path()), upto(seq + 3), "cut at {length}");
    }
}

#[test]
fn whole_blocks_after_a_damaged_one_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = spool(folder.path());
    for seq in [0, 2, 4] {
        let (head, rows) = block(0, seq, 2);
        first.append(&head, &rows).unwrap();
    }
    let end = first.position();
    drop(first);
    let path = path_of(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[SEGMENT_HEAD_BYTES as usize + 100] ^= 4;
    fs::write(&path, bytes).unwrap();
    let (spool, opened) = Spool::open(config(folder.path()), "n1").unwrap();
    let (seqs, losses) = read(folder.path());
    assert_eq!((spool.position(), opened.torn, &opened.losses), (end, None, &losses));
    assert_eq!((seqs, losses.len(), losses[0].rows()), (vec![2, 3, 4, 5], 1, 2));
}

#[test]
fn whatever_step_fails_no_block_is_half_there_and_all_can_be_tried_again() {
    let mut failures = 0;
    for step in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::failing_at(step);
        let Ok((mut spool, _)) = spool_on(&disk, config(folder.path())) else { continue };
        let mut reader = Reader::open(folder.path(), Position::START);
        let mut seen = Vec::new();
        for seq in (0..40).step_by(2) {
            let (head, rows) = block(0, seq, 2);
            if let Err(error) = spool.append(&head, &rows) {
                assert!(error.is_no_space(), "{error}");
                failures += 1;
                spool.append(&head, &rows).unwrap();
            }
            let (seqs, losses) = read_all(&mut reader);
            seen.extend(seqs);
            assert_eq!((&seen, losses), (&(0..seq + 2).collect(), vec![]), "step {step}");
            if seq % 6 == 4 && spool.sync().is_err() {
                failures += 1;
                assert!(spool.synced() < spool.position());
                spool.sync().unwrap();
                assert_eq!(spool.synced(), spool.position());
            }
            if seq % 10 == 8 {
                let open = open_row(9, 9, "/slow");
                let item = || [(fixture::head(1, 0, seq + 2, 0), open.as_slice())];
                if spool.rotate(item()).is_err() {
                    failures += 1;
                    spool.rotate(item()).unwrap();
                }
            }
        }
        drop(spool);
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(read(folder.path()), upto(40));
        assert!((6..8).contains(&left), "{left} files");
        if disk.steps() <= step {
            assert!(failures > 30, "{failures}");
            return;
        }
    }
}

#[test]
fn wherever_the_process_ends_what_was_synced_is_there_and_nothing_else() {
    for step in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::ending_at(step);
        let (mut appended, mut synced) = (0, 0);
        if let Ok((mut spool, _)) = spool_on(&disk, config(folder.path())) {
            for seq in (0..40).step_by(2) {
                let (head, rows) = block(0, seq, 2);
                if spool.append(&head, &rows).is_err() {
                    break;
                }
                appended = seq + 2;
                if seq % 6 == 4 && spool.sync().is_ok() {
                    synced = appended;
                }
                let job = if seq % 6 == 2 { spool.begin_sync() } else { None };
                if job.is_some_and(|job| spool.end_sync(job.run()).is_ok()) {
                    synced = appended;
                }
                if seq % 10 == 8 && spool.rotate([]).is_ok() {
                    synced = appended;
                }
            }
        }
        let (mut spool, opened) = spool_on(&FaultyDisk::new(), config(folder.path())).unwrap();
        let (seqs, losses) = read(folder.path());
        let next = seqs.len() as u64;
        assert_eq!((opened.losses, (seqs, losses)), (vec![], upto(next)), "step {step}");
        assert!((synced..=appended).contains(&next), "step {step}: {synced} {next} {appended}");
        let (head, rows) = block(0, next, 2);
        spool.append(&head, &rows).unwrap();
        assert_eq!(read(folder.path()), upto(next + 2));
        if !disk.has_ended() {
            return;
        }
    }
}

#[test]
fn a_disk_that_takes_its_time_holds_up_nobody_who_appends() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (mut spool, _) = spool_on(&disk, config(folder.path())).unwrap();
    spool.sync().unwrap();
    assert!(spool.begin_sync().is_none(), "nothing is to be done");
    let append = |spool: &mut Spool, seq| {
        let (head, rows) = block(0, seq, 2);
        spool.append(&head, &rows).unwrap()
    };
    let (start, first) = (spool.synced(), append(&mut spool, 0));
    let syncs = Arc::clone(&disk.syncs);
    let held = syncs.lock();
    let job = spool.begin_sync().unwrap();
    let disk_at_work = std::thread::spawn(|| job.run());
    let second = append(&mut spool, 2);
    assert_eq!((spool.synced(), spool.position()), (start, second));
    assert_eq!(spool.unsynced_bytes(), second.offset - start.offset);
    drop(held);
    let done = disk_at_work.join().unwrap();
    assert_eq!(
        spool.end_sync(done).unwrap(),
        first,
        "what came meanwhile is not known to be durable"
    );
    assert_eq!((spool.synced(), spool.unsynced_bytes()), (first, second.offset - first.offset));
    let done = spool.begin_sync().unwrap().run();
    assert_eq!(spool.end_sync(done).unwrap(), second);
    assert_eq!(read(folder.path()), upto(4));
}

#[test]
fn after_a_job_that_failed_rows_are_written_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (mut spool, _) = spool_on(&disk, config(folder.path())).unwrap();
    spool.sync().unwrap();
    let (head, rows) = block(0, 0, 2);
    let end = spool.append(&head, &rows).unwrap();
    let job = spool.begin_sync().unwrap();
    disk.fail_next(1);
    assert!(spool.end_sync(job.run()).is_err());
    assert!(spool.synced() < end);
    assert!(spool.begin_sync().is_none(), "to make durable what the system forgot is not enough");
    let before = disk.steps();
    assert_eq!(spool.sync().unwrap(), end);
    assert!(disk.steps() > before + 2, "read, written and made durable");
    assert_eq!((spool.synced(), read(folder.path())), (end, upto(2)));
}

#[test]
fn rows_that_the_disk_loses_before_they_are_durable_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let (mut spool, _) = spool_on(&disk, config(folder.path())).unwrap();
    let mut ends = Vec::new();
    for (shard, seq) in [(0, 0), (1, 0), (0, 3), (1, 3)] {
        let (head, rows) = block(shard, seq, 3);
        ends.push(spool.append(&head, &rows).unwrap());
    }
    disk.fail_next(1);
    assert!(spool.sync().is_err());
    let path = path_of(folder.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[ends[1].offset as usize + 90..].fill(0);
    fs::write(&path, bytes).unwrap();
    spool.sync().unwrap();
    assert_eq!((spool.position(), spool.synced()), (ends[1], ends[1]));
    let [dropped] = spool.take_dropped().try_into().unwrap();
    let range = |shard| RowRange { epoch: 1, shard, first_seq: 3, rows: 3 };
    assert_eq!((dropped.ranges, dropped.incomplete), (vec![range(0), range(1)], true));
    let (head, rows) = block(0, 6, 1);
    spool.append(&head, &rows).unwrap();
    let (seqs, losses) = read(folder.path());
    assert_eq!((seqs, losses), (vec![0, 1, 2, 0, 1, 2, 6], vec![Loss::Rows(range(0))]));
}

#[test]
fn at_the_cap_the_oldest_go_once_use_is_checkpointed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { bytes_max: 64 << 10, ..config(folder.path()) };
    let (mut spool, _) = Spool::open(config.clone(), "n1").unwrap();
    let mut next = 0;
    let mut fill = |spool: &mut Spool, until: u64, checkpoints: bool| {
        while next < until {
            let (head, rows) = block(0, next, 5);
            match spool.append(&head, &rows) {
                Ok(_) => next += 5,
                Err(error) => return (next, Some(error)),
            }
            assert!(spool.bytes() <= 64 << 10);
            if spool.needs_rotation() {
                let start = spool.rotate([]).unwrap();
                if checkpoints {
                    spool.checkpointed(start);
                }
            }
        }
        (next, None)
    };
    let (at, error) = fill(&mut spool, u64::MAX, false);
    let error = error.unwrap();
    assert!(matches!(error, Error::AtCap { .. }) && error.is_no_space() && at > 200, "{error}");
    assert_eq!(spool.take_dropped(), []);
    // As after a restart: what is in the segments is read from them.
    drop(spool);
    let (mut spool, _) = Spool::open(config, "n1").unwrap();
    spool.checkpointed(Position::start_of(3));
    let (at, error) = fill(&mut spool, at + 50, false);
    assert!(error.is_none());
    let (_, error) = fill(&mut spool, u64::MAX, false);
    assert!(matches!(error, Some(Error::AtCap { .. })));
    spool.checkpointed(spool.position());
    let (end, error) = fill(&mut spool, at + 1_000, true);
    assert!(error.is_none());
    let dropped = spool.take_dropped();
    let rows: u64 =
        dropped.iter().flat_map(|dropped| &dropped.ranges).map(|range| range.rows).sum();
    assert!(dropped.iter().all(|dropped| dropped.ranges.len() == 1 && !dropped.incomplete));
    assert!(dropped.iter().map(|dropped| dropped.segment).eq(1..=dropped.len() as u64));
    let (seqs, losses) = read(folder.path());
    assert_eq!((seqs, losses), ((rows..end).collect(), vec![]));
    assert_eq!(spool.segments().1, dropped.len() as u64 + 1);
}

#[test]
fn many_open_rows_do_not_ask_for_one_rotation_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let small = Config { segment_bytes: 1 << 10, ..config(folder.path()) };
    let mut spool = Spool::open(small, "n1").unwrap().0;
    let rows: Vec<u8> = (0..100).flat_map(|at| open_row(at, 1, "/slow")).collect();
    let open = (head(1, 0, 0, 0), rows.as_slice());
    let start = spool.rotate([open]).unwrap();
    assert!(spool.position().offset > 1 << 10 && !spool.needs_rotation());
    let mut reader = Reader::open(folder.path(), start);
    let Ok(Some(Item::Block(block))) = reader.next() else { panic!("no block") };
    assert!(block.rows().all(|(seq, row)| seq.is_none() && row::opened_at(row).is_some()));
    assert_eq!(block.rows().count(), 100);
}

#[test]
fn what_is_no_block_and_who_else_writes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path());
    let (one, rows) = block(0, 0, 1);
    for (head, rows, why) in [
        (head(1, 0, 0, 2), &rows[..], "does not count its numbered rows"),
        (one, &rows[1..], "are not rows"),
        (one, &rows[..rows.len() - 1], "are not rows"),
        (one, &vec![0; BLOCK_BYTES_MAX][..], "more than a block holds"),
    ] {
        let error = spool.append(&head, rows).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(spool.position(), Position::start_of(1));
    let error = Spool::open(config(folder.path()), "n1").unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(spool);
    assert!(matches!(Spool::open(config(folder.path()), ""), Err(Error::Invalid(_))));
    // Under another name, and where positions were further, a segment is begun.
    let (spool, _) = Spool::open(config(folder.path()), "n2").unwrap();
    assert_eq!(spool.position(), Position::start_of(2));
    drop(spool);
    let further = Config { first_segment: 9, ..config(folder.path()) };
    assert_eq!(Spool::open(further, "n2").unwrap().0.position(), Position::start_of(9));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path_of(folder.path(), 2)), 0o600);
    let inner = folder.path().join("a/b");
    drop(Spool::open(config(&inner), "n1").unwrap());
    assert_eq!(mode(&inner), 0o700);
}
