//! The spool, checkpoints and leases on a disk that is really full.
//!
//! In: a tmpfs of one megabyte, which takes the right to mount. Out: the same as with room, later. Always holds: without that right
//! the test says so and passes; the same rules are tested everywhere on a disk that pretends.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use link::books::Books;
use link::checkpoint::{self, Checkpoint};
use link::lease_log::{self, Lease, LeaseLog, Record};
use link::recover::recover;
use link::row::{self, Account, Ended, Opened, Protocol, Texts};
use link::spool::{BlockHead, Config, Item, Position, Reader, Spool};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

/// A small tmpfs, until it is dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { folder }),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                eprintln!("SKIPPED: mounting a small tmpfs needs root: {}", why.trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: no `mount`: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all space but so much.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.path().join("ballast");
        let mut bytes = 1 << 20;
        while fs::write(&path, vec![1; bytes]).is_err() {
            bytes -= 4096;
        }
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len((bytes as u64).saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

fn rows(first_seq: u64, rows: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seq in first_seq..first_seq + rows {
        let start = bytes.len();
        let opened = Opened {
            opened_at: seq,
            time_ns: 0,
            request_id: 1,
            account: None,
            reason: Reason::Ok,
            charge: 0,
            remaining: None,
            protocol: Protocol::Http11,
            client: None,
            texts: Texts { site: "weather", method: "GET", path: "/now", ..Texts::default() },
        };
        row::write_open(&mut bytes, &opened);
        let ended = Ended {
            reason: Reason::Ok,
            status: Some(200),
            charge: 0,
            remaining: None,
            request_bytes: 0,
            response_bytes: 0,
            origin_us: None,
            total_us: 1,
        };
        assert!(row::write_end(&mut bytes[start..], &ended));
    }
    bytes
}

fn seqs(folder: &Path) -> Vec<u64> {
    let mut reader = Reader::open(folder, Position::START);
    let mut seqs = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        let Item::Block(block) = item else { panic!("{item:?}") };
        seqs.extend(block.rows().filter_map(|(seq, _)| seq));
    }
    seqs
}

#[test]
fn a_full_disk_takes_nothing_away_and_is_gone_on_with_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = disk.path().join("spool");
    let config = Config {
        folder: folder.clone(),
        segment_bytes: 100 << 10,
        bytes_max: 600 << 10,
        first_segment: 0,
    };
    let (mut spool, _) = Spool::open(config, "n1").unwrap();
    let leases = disk.path().join("leases");
    let mut log = LeaseLog::create(&leases, 1).unwrap();
    let ballast = disk.fill(150 << 10);
    let mut next = 0;
    let mut append = |spool: &mut Spool| {
        let head = BlockHead {
            epoch: 1,
            shard: 0,
            first_seq: next,
            rows: 30,
            ring_position: next,
            time_ns: 0,
        };
        spool.append(&head, &rows(next, 30)).map(|_| next += 30)
    };
    let error = loop {
        match append(&mut spool) {
            Ok(()) if spool.needs_rotation() => drop(spool.rotate([])),
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert!(error.to_string().contains("give the disk space, or the journal a lower cap"));
    let written = seqs(&folder);
    assert!(written.len() > 300);
    assert!(append(&mut spool).is_err());
    // Space for leases was taken before.
    let period = Period { id: PeriodId(1), start_s: 0, end_s: 9 };
    let lease = Lease { period, granted: 5, returned: 1, used: 2, unlimited: false };
    let record = |index| Record { entitlement: EntitlementId(index), lease };
    for index in 0..400 {
        log.append(&[record(index)]).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(lease_log::read_all(&leases).unwrap()[0].leases.len(), 400);
    let mut books = Books::new(1_000);
    for index in 0..1_000 {
        assert!(books.add(&Account { entitlement: EntitlementId(index), period }, 1));
    }
    let checkpoint = Checkpoint { position: spool.position(), streams: Vec::new(), books };
    assert!(checkpoint::write(disk.path(), &checkpoint).unwrap_err().is_no_space());
    assert_eq!(seqs(&folder), written);
    spool.sync().unwrap();
    fs::remove_file(ballast).unwrap();
    append(&mut spool).unwrap();
    spool.rotate([]).unwrap();
    append(&mut spool).unwrap();
    checkpoint::write(disk.path(), &checkpoint).unwrap();
    drop(spool);
    assert_eq!(seqs(&folder).len(), written.len() + 60);
    let recovered = recover(disk.path(), &folder, 1_000).unwrap();
    assert_eq!((recovered.rows, recovered.problems.len()), (60, 0));
}
