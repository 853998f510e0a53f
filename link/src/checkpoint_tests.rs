//! Checkpoints written, cut short and damaged.

use std::fs;

use super::*;
use crate::disk::fixture::FaultyDisk;
use crate::spool::fixture::account;

fn checkpoint(segment: u64) -> Checkpoint {
    let mut books = Books::new(100);
    for entitlement in 0..u128::from(segment) {
        assert!(books.add(&account(entitlement), segment));
    }
    let end = StreamEnd { next_seq: segment * 10, ring_position: segment * 100 };
    Checkpoint {
        position: Position::start_of(segment),
        streams: vec![
            (Stream { epoch: 1, shard: 0 }, end),
            (Stream { epoch: u64::MAX, shard: 9 }, end),
        ],
        books,
    }
}

/// The segment of the checkpoint that is believed, and how many are not; what it holds is checked.
fn believed(folder: &Path) -> (Option<u64>, usize) {
    let (found, unusable) = read(folder, 100);
    if let Some(found) = &found {
        let expected = checkpoint(found.position.segment);
        assert_eq!((found.position, &found.streams), (expected.position, &expected.streams));
        assert_eq!(found.books.len(), expected.books.len());
        for (entitlement, charged) in expected.books.iter() {
            assert_eq!(found.books.units(entitlement, charged.period.id), charged.units);
        }
    }
    (found.map(|found| found.position.segment), unusable.len())
}

#[test]
fn the_last_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(believed(folder.path()), (None, 0));
    for segment in [3, 4, 5] {
        write(folder.path(), &checkpoint(segment)).unwrap();
        assert_eq!(believed(folder.path()), (Some(segment), 0));
    }
    let (found, unusable) = read(folder.path(), 2);
    assert!(found.is_none());
    assert!(unusable[0].to_string().ends_with("its books hold more than is allowed"));
}

#[test]
fn at_every_step_of_writing_one_whole_checkpoint_is_there() {
    let mut step = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        write_on(&disk, folder.path(), &checkpoint(1)).unwrap();
        write_on(&disk, folder.path(), &checkpoint(2)).unwrap();
        for dying in [FaultyDisk::failing_at(step), FaultyDisk::ending_at(step)] {
            let written = write_on(&dying, folder.path(), &checkpoint(3));
            let found = believed(folder.path());
            if written.is_ok() {
                assert_eq!(found, (Some(3), 0));
            } else {
                assert!(found.0.is_some_and(|segment| segment >= 2), "step {step}: {found:?}");
                assert_eq!(found.1, 0);
            }
            // Whatever was left over, the next one is written.
            write_on(&disk, folder.path(), &checkpoint(4)).unwrap();
            assert_eq!(believed(folder.path()), (Some(4), 0));
            if dying.steps() <= step {
                assert!(step > 4);
                return;
            }
        }
        step += 1;
    }
}

#[test]
fn a_damaged_one_falls_back_to_the_old_one_and_then_to_none() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &checkpoint(1)).unwrap();
    write(folder.path(), &checkpoint(2)).unwrap();
    let last = folder.path().join(FILE);
    let whole = fs::read(&last).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&last, &damaged).unwrap();
        assert_eq!(believed(folder.path()), (Some(1), 1), "byte {at} flipped");
        fs::write(&last, &whole[..at]).unwrap();
        assert_eq!(believed(folder.path()), (Some(1), 1), "cut at {at}");
    }
    fs::write(folder.path().join(FILE_OLD), b"PAYCHECK").unwrap();
    assert_eq!(believed(folder.path()), (None, 2));
    fs::remove_file(&last).unwrap();
    assert_eq!(believed(folder.path()), (None, 1));
}
