//! Measures a restart: `recovery make DIR` writes ten million rows of a million entitlements with a checkpoint a million rows
//! before the end, `recovery measure DIR` recovers from them.
//!
//! In: a folder with 3 GB of space. Out: seconds and rates on standard output. Always holds: rows are as long as those of a plain
//! API, and lie in blocks as small as a drain under light load writes them.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

use std::path::Path;
use std::time::Instant;

use link::books::Books;
use link::checkpoint::{self, Checkpoint, Stream, StreamEnd};
use link::recover::recover;
use link::row::{self, Account, Ended, Opened, Protocol, Subscriber, Texts};
use link::spool::{BlockHead, Config, Error, Spool};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

const ROWS: u64 = 10_000_000;
const ROWS_AFTER_CHECKPOINT: u64 = 1_000_000;
const ENTITLEMENTS: u64 = 1_000_000;
const ROWS_PER_BLOCK: u32 = 50;
const SHARDS: u64 = 4;
const ENTRIES_MAX: usize = 2_000_000;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1..).unwrap_or_default() {
        [verb, folder] if verb == "make" => make(Path::new(folder)),
        [verb, folder] if verb == "measure" => measure(Path::new(folder)),
        _ => {
            println!("usage: recovery make DIR | recovery measure DIR");
            Ok(())
        }
    }
}

/// The account of a row: spread over all entitlements as hashes are.
fn account(seq: u64) -> Account {
    let index = u128::from(seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ENTITLEMENTS) + 1;
    Account {
        entitlement: EntitlementId(index.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        period: Period { id: PeriodId(20_000), start_s: 1_790_000_000, end_s: 1_800_000_000 },
    }
}

fn append_row(out: &mut Vec<u8>, seq: u64) {
    let start = out.len();
    let subscriber =
        Subscriber { customer: "acme", subscription: "sub_acme_pro", token_id: "tok_1" };
    let opened = Opened {
        opened_at: seq,
        time_ns: 1_795_000_000_000_000_000,
        request_id: u128::from(seq),
        account: Some(account(seq)),
        reason: Reason::Ok,
        charge: 1,
        remaining: Some(100),
        protocol: Protocol::Http11,
        client: None,
        texts: Texts {
            site: "weather",
            subscriber: Some(subscriber),
            plan: Some("pro"),
            resource: Some("/api/v1/*"),
            method: "GET",
            path: "/api/v1/forecast/berlin",
        },
    };
    row::write_open(out, &opened);
    let ended = Ended {
        reason: Reason::Ok,
        status: Some(200),
        charge: 1,
        remaining: Some(100),
        request_bytes: 0,
        response_bytes: 512,
        origin_us: Some(900),
        total_us: 1_000,
    };
    let row = out.get_mut(start..).unwrap_or_default();
    assert!(row::write_end(row, &ended));
}

fn make(folder: &Path) -> Result<(), Error> {
    let config = Config {
        folder: folder.to_owned(),
        segment_bytes: Config::SEGMENT_BYTES,
        bytes_max: 1 << 40,
        first_segment: 0,
    };
    let (mut spool, _) = Spool::open(config, "node")?;
    let mut books = Books::new(ENTRIES_MAX);
    let mut rows = Vec::new();
    let (mut appending, mut counting_max, mut first_seq) = (0.0, 0.0_f64, 0);
    let mut copy = None;
    while first_seq < ROWS {
        rows.clear();
        for seq in first_seq..first_seq + u64::from(ROWS_PER_BLOCK) {
            append_row(&mut rows, seq);
        }
        let start = Instant::now();
        for seq in first_seq..first_seq + u64::from(ROWS_PER_BLOCK) {
            assert!(books.add(&account(seq), 1));
        }
        if copy.is_some() {
            counting_max = counting_max.max(start.elapsed().as_secs_f64());
        }
        let turn = first_seq / u64::from(ROWS_PER_BLOCK);
        let head = BlockHead {
            epoch: 1,
            shard: (turn % SHARDS) as u16,
            first_seq: turn / SHARDS * u64::from(ROWS_PER_BLOCK),
            rows: ROWS_PER_BLOCK,
            ring_position: first_seq,
            time_ns: 0,
        };
        let start = Instant::now();
        spool.append(&head, &rows)?;
        appending += start.elapsed().as_secs_f64();
        first_seq += u64::from(ROWS_PER_BLOCK);
        if spool.needs_rotation() {
            let position = spool.rotate([])?;
            if copy.is_none() && first_seq + ROWS_AFTER_CHECKPOINT >= ROWS {
                copy = Some(books.clone());
                write_checkpoint(folder, position, &books, first_seq)?;
            }
        }
    }
    spool.sync()?;
    println!("beside a copy of the books, a block was counted in {counting_max:.4} s at most");
    println!("appended {ROWS} rows, {} bytes, in {appending:.2} s", spool.bytes());
    Ok(())
}

fn write_checkpoint(
    folder: &Path,
    position: link::spool::Position,
    books: &Books,
    seq: u64,
) -> Result<(), Error> {
    let start = Instant::now();
    let end = StreamEnd { next_seq: seq, ring_position: seq };
    let streams = vec![(Stream { epoch: 0, shard: 0 }, end)];
    checkpoint::write(folder, &Checkpoint { position, streams, books: books.clone() })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("wrote the checkpoint at row {seq} in {seconds:.3} s");
    Ok(())
}

fn measure(folder: &Path) -> Result<(), Error> {
    let start = Instant::now();
    let recovered = recover(folder, folder, ENTRIES_MAX)?;
    let seconds = start.elapsed().as_secs_f64();
    let units: u64 = recovered.books.iter().map(|(_, charged)| charged.units).sum();
    println!(
        "recovered in {seconds:.3} s: {} rows replayed, {} entries, {units} units, {} problems",
        recovered.rows,
        recovered.books.len(),
        recovered.problems.len()
    );
    let start = Instant::now();
    let (found, _) = checkpoint::read(folder, ENTRIES_MAX);
    let entries = found.map_or(0, |found| found.books.len());
    println!("of that the checkpoint: {entries} entries in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}
