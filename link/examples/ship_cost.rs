//! What shipping costs: CPU seconds of this process for a million rows, into a ClickHouse server or into files.
//!
//! In: an address (`http://127.0.0.1:8123`), or a folder; how many million rows. Out: one line. Always holds: rows are made before the
//! measurement begins, and the server is another process.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use link::row::{self, Account, Ended, Opened, Protocol, Subscriber, Texts};
use link::ship::{Export, Limits, Position, Shipper, Source, SourceBlock, SourceError};
use link::sink::clickhouse::{ClickHouseConfig, ClickHouseSink};
use link::sink::ndjson::{NdjsonConfig, NdjsonSink};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

const BLOCK_ROWS: u64 = 500;
const BLOCKS_MADE: u64 = 200;

/// The same blocks again and again, with new numbers.
struct Made {
    blocks: Arc<Vec<Vec<u8>>>,
    at: u64,
    count: u64,
}

impl Source for Made {
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError> {
        if self.at >= self.count {
            return Ok(None);
        }
        let rows = self.blocks[(self.at % BLOCKS_MADE) as usize].clone();
        let (shard, first_seq) = ((self.at % 2) as u16, self.at / 2 * BLOCK_ROWS);
        self.at += 1;
        let end = Position { segment: 0, offset: self.at };
        Ok(Some(SourceBlock { epoch: 1, shard, first_seq, rows, end }))
    }

    fn seek(&mut self, position: Position) -> Result<(), SourceError> {
        self.at = position.offset;
        Ok(())
    }
}

fn block(number: u64) -> Vec<u8> {
    let mut rows = Vec::new();
    for index in 0..BLOCK_ROWS {
        let mixed = (number * BLOCK_ROWS + index).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (customer, path) =
            (format!("cus_{}", mixed % 997), format!("/v1/forecast/{}", mixed >> 44));
        let opened = Opened {
            opened_at: index,
            time_ns: 1_795_478_400_000_000_000
                + i64::try_from(number * 100_000_000 + index * 200_000).unwrap_or(0),
            request_id: u128::from(mixed) << 64 | u128::from(mixed.rotate_left(32)),
            account: Some(Account {
                entitlement: EntitlementId(7),
                period: Period { id: PeriodId(3), start_s: 0, end_s: 1 },
            }),
            reason: Reason::Ok,
            charge: 1,
            remaining: Some(1_000_000 - index),
            protocol: Protocol::Http11,
            client: None,
            texts: Texts {
                site: "weather",
                subscriber: Some(Subscriber {
                    customer: &customer,
                    subscription: "sub_1NXwq2",
                    token_id: "tok_8Fq2mZ",
                }),
                plan: Some("pro"),
                resource: Some("/v1/forecast/*"),
                method: "GET",
                path: &path,
            },
        };
        let start = rows.len();
        row::write_open(&mut rows, &opened);
        let ended = Ended {
            reason: Reason::Ok,
            status: Some(200),
            charge: 1,
            remaining: Some(1_000_000 - index),
            request_bytes: 0,
            response_bytes: 900 + mixed % 400,
            origin_us: Some(800 + mixed % 3_000),
            total_us: 900 + mixed % 3_000,
        };
        assert!(row::write_end(&mut rows[start..], &ended), "the row was just made");
    }
    rows
}

/// CPU time of this process, seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, to, millions] = arguments.as_slice() else {
        return Err("usage: ship_cost ADDRESS|FOLDER MILLIONS".into());
    };
    let rows = millions.parse::<u64>()? * 1_000_000;
    let blocks: Arc<Vec<Vec<u8>>> = Arc::new((0..BLOCKS_MADE).map(block).collect());
    let data = std::env::temp_dir().join(format!("ship-cost-{}", std::process::id()));
    let node = format!("bench-{}", std::process::id());
    let start = |count| -> Result<Shipper, Box<dyn std::error::Error>> {
        let (limits, source) =
            (Limits::default(), Made { blocks: Arc::clone(&blocks), at: 0, count });
        let export = if to.starts_with("http") {
            Export::new("cost", limits, ClickHouseSink::new(ClickHouseConfig::new(to))?, source)
        } else {
            Export::new("cost", limits, NdjsonSink::new(NdjsonConfig::new(to.into())), source)
        };
        Ok(Shipper::start(&data, &node, vec![export])?)
    };
    // A new sink looks for each row before it is sent; that is over after the first start.
    if !start(2)?.flush(Duration::from_secs(60)) {
        return Err("the first rows did not arrive: does the address answer?".into());
    }
    let before = cpu_s();
    let shipper = start(2 + rows / BLOCK_ROWS)?;
    let state = Arc::clone(&shipper.states()[0]);
    let is_complete = shipper.flush(Duration::from_secs(600));
    let used = cpu_s() - before;
    std::fs::remove_dir_all(&data)?;
    let failed = state.last_error().unwrap_or_default();
    let per_million = used * 1_000_000.0 / state.exported().max(1) as f64;
    writeln!(
        std::io::stdout(),
        "{} rows, all of them: {is_complete}; {per_million:.2} CPU seconds a million rows {failed}",
        state.exported()
    )?;
    Ok(())
}
