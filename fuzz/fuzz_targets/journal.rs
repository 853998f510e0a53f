//! What a node finds on disk of its decision journal: no bytes panic, neither as a row nor as a segment; a segment that was taken
//! over can be appended to, and what is appended is read back.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use link::row::{self, Ended, Opened, Origin, Protocol, Texts};
use link::spool::{BlockHead, Config, Item, Position, Reader, Spool};
use policy::decision::Reason;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Row(&'a [u8]),
    /// A good row with some bytes changed.
    ChangedRow(Vec<(u16, u8)>),
    Segment(&'a [u8]),
    /// A good segment with some bytes changed, and cut off somewhere.
    ChangedSegment(Vec<(u16, u8)>, u16),
}

const ENDED: Ended = Ended {
    reason: Reason::Ok,
    status: Some(200),
    charge: 1,
    remaining: Some(9),
    request_bytes: 2,
    response_bytes: 3,
    origin_us: Some(4),
    total_us: 5,
};

static ROW: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let texts = Texts {
        site: "shop",
        subscriber: None,
        plan: Some("pro"),
        resource: Some("/paid/*"),
        method: "GET",
        path: "/paid/x",
    };
    let opened = Opened {
        opened_at: 0,
        time_ns: 1_800_000_000_000_000_000,
        request_id: 7,
        account: None,
        reason: Reason::Ok,
        charge: 1,
        remaining: None,
        protocol: Protocol::Http11,
        client: None,
        texts,
    };
    let mut row = Vec::new();
    row::write_open(&mut row, &opened);
    assert!(row::write_end(&mut row, &ENDED));
    row
});

/// In memory, and of this process alone.
static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/payfence-fuzz-{}", std::process::id())));

static SEGMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let _ = fs::remove_dir_all(&*FOLDER);
    let (mut spool, _) = open(&FOLDER);
    for seq in 0..3 {
        append(&mut spool, seq);
    }
    drop(spool);
    fs::read(segment()).expect("a segment")
});

fn segment() -> PathBuf {
    FOLDER.join("0000000000000001.spool")
}

fn open(folder: &Path) -> (Spool, u64) {
    let config = Config {
        folder: folder.to_owned(),
        segment_bytes: Config::SEGMENT_BYTES,
        bytes_max: 1 << 30,
        first_segment: 0,
    };
    let (spool, _) = Spool::open(config, "node").expect("whatever is there, a node can go on");
    let position = spool.position();
    (spool, position.segment)
}

fn append(spool: &mut Spool, seq: u64) {
    let head =
        BlockHead { epoch: 1, shard: 0, first_seq: seq, rows: 1, ring_position: 0, time_ns: 1 };
    spool.append(&head, &ROW).expect("room");
}

fuzz_target!(|input: Input<'_>| {
    let changed = |good: &[u8], changes: Vec<(u16, u8)>| {
        let mut bytes = good.to_vec();
        for (at, value) in changes {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        bytes
    };
    match input {
        Input::Row(bytes) => read_row(bytes),
        Input::ChangedRow(changes) => read_row(&changed(&ROW, changes)),
        Input::Segment(bytes) => take_over(bytes),
        Input::ChangedSegment(changes, end) => {
            let bytes = changed(&SEGMENT, changes);
            take_over(&bytes[..usize::from(end).min(bytes.len())]);
        }
    }
});

fn read_row(bytes: &[u8]) {
    let _ = (row::length(bytes), row::gist(bytes), row::opened_at(bytes));
    if let Ok((row, rest)) = row::read(bytes) {
        let origin = Origin { node: "n", epoch: 1, shard: 0, seq: 0 };
        let _ = row.record(origin, &mut [0; 32]);
        assert!(rest.len() < bytes.len());
    }
    let mut bytes = bytes.to_vec();
    let _ = row::write_end(&mut bytes, &ENDED);
    let _ = row::write_cut(&mut bytes);
    let _ = (row::read(&bytes), row::gist(&bytes));
}

fn take_over(bytes: &[u8]) {
    LazyLock::force(&SEGMENT);
    for entry in fs::read_dir(&*FOLDER).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "spool") {
            fs::remove_file(path).expect("a file");
        }
    }
    fs::write(segment(), bytes).expect("memory");
    let before = numbered_one_hundred();
    let (mut spool, _) = open(&FOLDER);
    append(&mut spool, 100);
    assert_eq!(numbered_one_hundred(), before + 1, "what is appended is read back");
}

/// How many rows with number 100 a reader finds.
fn numbered_one_hundred() -> usize {
    let mut reader = Reader::open(FOLDER.clone(), Position::START);
    let mut found = 0;
    for _ in 0..10_000 {
        match reader.next() {
            Ok(Some(Item::Block(block))) => {
                found += block.rows().filter(|(seq, _)| *seq == Some(100)).count();
                block.rows().for_each(|(_, bytes)| read_row(bytes));
            }
            Ok(Some(Item::Lost(_))) => {}
            Ok(None) | Err(_) => return found,
        }
    }
    panic!("a reader goes on without end");
}
