//! Lease logs written, cut short, damaged and written anew.

use std::fs;

use super::*;
use crate::disk::fixture::FaultyDisk;
use crate::spool::fixture::account;

fn record(entitlement: u128, granted: u64) -> Record {
    let account = account(entitlement);
    // No zeros at the end of a slot, where free space is zeros.
    Record {
        entitlement: account.entitlement,
        lease: Lease {
            period: account.period,
            granted,
            returned: 1,
            used: !granted,
            unlimited: false,
        },
    }
}

fn granted(leases: &Leases) -> Vec<u64> {
    let mut granted: Vec<_> = leases.values().map(|lease| lease.granted).collect();
    granted.sort_unstable();
    granted
}

fn read_one(folder: &Path) -> LeaseFile {
    let mut files = read_all(folder).unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

#[test]
fn the_last_record_of_a_period_holds_in_each_start() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read_all(&folder.path().join("none")).unwrap().is_empty());
    for epoch in [7, u64::MAX] {
        let mut log = LeaseLog::create(folder.path(), epoch).unwrap();
        log.append(&[record(1, 10), record(2, 20)]).unwrap();
        log.append(&[record(1, 30)]).unwrap();
        log.sync().unwrap();
        let one = record(1, 30);
        assert_eq!(log.lease(one.entitlement, one.lease.period.id), Some(&one.lease));
    }
    let files = read_all(folder.path()).unwrap();
    assert_eq!(files.iter().map(|file| file.epoch).collect::<Vec<_>>(), [7, u64::MAX]);
    for file in &files {
        assert_eq!((granted(&file.leases), file.damaged), (vec![20, 30], 0));
    }
    let one = record(1, 30);
    let lease = files[0].leases[&(one.entitlement, one.lease.period.id)];
    assert_eq!((lease, lease.held()), (one.lease, 29));
    remove(folder.path(), 7).unwrap();
    remove(folder.path(), 7).unwrap();
    assert_eq!(read_one(folder.path()).epoch, u64::MAX);
}

#[test]
fn cut_at_any_byte_all_records_before_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = LeaseLog::create(folder.path(), 1).unwrap();
    for entitlement in 0..4 {
        log.append(&[record(entitlement, 10 + entitlement as u64)]).unwrap();
    }
    let path = file::path_of(folder.path(), 1);
    let whole = fs::read(&path).unwrap();
    for length in SLOT_BYTES..5 * SLOT_BYTES {
        let records = length / SLOT_BYTES - 1;
        for zeros in [0, 3 * SLOT_BYTES] {
            let mut torn = whole[..length].to_vec();
            torn.resize(length + zeros, 0);
            fs::write(&path, torn).unwrap();
            let found = read_one(folder.path());
            assert_eq!((found.leases.len(), found.damaged), (records, 0), "cut at {length}");
        }
    }
    for at in 0..4 * SLOT_BYTES {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, damaged).unwrap();
        let found = read_one(folder.path());
        let lost = usize::from(at >= SLOT_BYTES);
        assert_eq!((found.leases.len(), found.damaged), (4 - lost, 1), "byte {at} flipped");
    }
}

#[test]
fn another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(LeaseLog::create(folder.path(), 1).unwrap());
    let path = file::path_of(folder.path(), 1);
    fs::write(&path, file::head_of(1, 2)).unwrap();
    let error = read_all(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is in format 2, and this version reads format 1 alone"), "{error}");
}

#[test]
fn a_long_log_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = LeaseLog::create(folder.path(), 1).unwrap();
    let mut longest = 0;
    for granted in 0..20_000 {
        log.append(&[record(u128::from(granted % 10), granted)]).unwrap();
        longest = longest.max(log.bytes());
    }
    assert!(longest < 2 * COMPACT_BYTES_MIN, "{longest}");
    log.sync().unwrap();
    assert_eq!(granted(&read_one(folder.path()).leases), (19_990..20_000).collect::<Vec<_>>());
    log.forget(i64::MAX);
    log.compact().unwrap();
    assert!(read_one(folder.path()).leases.is_empty());
}

#[test]
fn a_full_disk_is_met_only_when_what_was_taken_ahead_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut log = LeaseLog::create_on(Arc::new(disk.clone()), folder.path(), 1).unwrap();
    let mut appended = 0;
    let error = loop {
        // Taking space fails, and nothing else.
        let takes = log.length + SLOT_BYTES as u64 + RESERVE_BYTES / 2 > log.reserved;
        disk.fail_next(u64::from(takes));
        match log.append(&[record(appended, 1)]) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space() && appended > 400, "{appended}: {error}");
    log.append(&[record(appended, 1)]).unwrap();
    log.sync().unwrap();
    let found = read_one(folder.path());
    assert_eq!((found.leases.len() as u128, found.damaged), (appended + 1, 0));
}

#[test]
fn whatever_step_fails_what_was_synced_is_there() {
    for step in 0.. {
        for disk in [FaultyDisk::failing_at(step), FaultyDisk::ending_at(step)] {
            let folder = tempfile::tempdir().unwrap();
            let shared = Arc::new(disk.clone());
            let log = LeaseLog::create_on(shared, folder.path(), 1);
            let Ok(mut log) = log else { continue };
            let (mut appended, mut synced) = (0, 0);
            for granted in 1..=8 {
                match log.append(&[record(1, granted)]) {
                    Ok(()) => appended = granted,
                    Err(_) => assert!(disk.steps() > step),
                }
                if granted == 6 && log.compact().is_ok() {
                    synced = appended;
                }
                if log.sync().is_ok() {
                    synced = appended;
                }
            }
            let files = read_all(folder.path()).unwrap();
            let found = files.first().map_or(0, |file| {
                file.leases.values().map(|lease| lease.granted).next().unwrap_or(0)
            });
            assert!(found >= synced, "step {step}: {found} of {synced}");
            if !disk.has_ended() {
                assert!(found <= appended, "step {step}: {found} of {appended}");
            }
            if disk.steps() <= step {
                assert!(step > 20);
                return;
            }
        }
    }
}
