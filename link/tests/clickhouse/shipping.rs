//! Decisions that are made up, brought into ClickHouse, and compared with what is there.
//!
//! In: how many. Out: rows of two sites, some customers, two months, all ended in different ways. Always holds: what the server has
//! is compared row by row and sum by sum.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use link::row::{self, Account, Ended, Opened, Protocol, Subscriber, Texts};
use link::ship::{Export, Limits, Position, Shipper, Source, SourceBlock, SourceError};
use link::sink::clickhouse::{ClickHouseConfig, ClickHouseSink, Password};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

use super::engine::{Engine, Kind};

pub const NODE: &str = "node'a\\1";
/// 2026-11-30T23:59:00Z: rows go on into December.
const BEGIN_NS: i64 = 1_796_083_140_000_000_000;

/// Rows in memory.
#[derive(Clone, Default)]
pub struct Decisions {
    all: Arc<Mutex<Vec<SourceBlock>>>,
    at: usize,
}

impl Decisions {
    pub fn made(&self) -> u64 {
        let all = self.all.lock().unwrap();
        let rows = |block: &SourceBlock| {
            let (mut count, mut at) = (0, 0);
            while at < block.rows.len() {
                at += row::length(&block.rows[at..]).unwrap();
                count += 1;
            }
            count
        };
        all.iter().map(rows).sum()
    }

    /// Adds a block of `count` decisions of a shard.
    pub fn make(&self, epoch: u64, shard: u16, count: u64) {
        let mut all = self.all.lock().unwrap();
        let of_stream = all.iter().rev().find(|block| (block.epoch, block.shard) == (epoch, shard));
        let first_seq = of_stream.map_or(0, |block| {
            let mut at = 0;
            let mut seq = block.first_seq;
            while at < block.rows.len() {
                at += row::length(&block.rows[at..]).unwrap();
                seq += 1;
            }
            seq
        });
        let mut rows = Vec::new();
        for seq in first_seq..first_seq + count {
            push_row(&mut rows, epoch, shard, seq);
        }
        let end = Position { segment: 0, offset: all.len() as u64 + 1 };
        all.push(SourceBlock { epoch, shard, first_seq, rows, end });
    }
}

impl Source for Decisions {
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError> {
        let block = self.all.lock().unwrap().get(self.at).cloned();
        self.at += usize::from(block.is_some());
        Ok(block)
    }

    fn seek(&mut self, position: Position) -> Result<(), SourceError> {
        self.at = usize::try_from(position.offset).unwrap();
        Ok(())
    }
}

fn push_row(rows: &mut Vec<u8>, epoch: u64, shard: u16, seq: u64) {
    let is_denied = seq.is_multiple_of(10);
    let reason = if is_denied { Reason::QuotaExhausted } else { Reason::Ok };
    let customer = format!("customer {}'s \\ {}", shard, seq % 7);
    let path = format!("/v1/{epoch:x}/{seq}");
    let opened = Opened {
        opened_at: 0,
        // Rows near the end of the month come in both orders.
        time_ns: BEGIN_NS + i64::try_from(seq % 1_000 * 100).unwrap() * 1_000_000 + 1_234,
        request_id: u128::from(seq),
        account: (!seq.is_multiple_of(5)).then_some(Account {
            entitlement: EntitlementId(1),
            period: Period { id: PeriodId(seq % 3), start_s: 0, end_s: 1 },
        }),
        reason,
        charge: 0,
        remaining: None,
        protocol: Protocol::Http11,
        client: (seq.is_multiple_of(4)).then(|| "2001:db8::7".parse().unwrap()),
        texts: Texts {
            site: if seq.is_multiple_of(2) { "weather" } else { "maps" },
            subscriber: (!seq.is_multiple_of(6)).then_some(Subscriber {
                customer: &customer,
                subscription: "sub",
                token_id: "tok",
            }),
            plan: Some("pro"),
            resource: (!seq.is_multiple_of(9)).then_some("/v1/*"),
            method: "GET",
            path: &path,
        },
    };
    let start = rows.len();
    row::write_open(rows, &opened);
    let ended = Ended {
        reason,
        status: (seq % 50 != 1).then_some(if is_denied { 429 } else { 200 }),
        charge: if is_denied { 0 } else { 1 + seq % 3 },
        remaining: (seq.is_multiple_of(3)).then_some(seq),
        request_bytes: seq % 100,
        response_bytes: 500 + seq % 1_000,
        origin_us: (!is_denied).then_some(900 + seq % 1_000),
        total_us: 1_000 + seq % 1_000,
    };
    assert!(row::write_end(&mut rows[start..], &ended));
}

pub fn config(engine: &Engine, url: &str) -> ClickHouseConfig {
    let mut config = ClickHouseConfig::new(url);
    config.is_compressed = engine.kind == Kind::Old;
    config.insert_timeout = Duration::from_secs(3);
    config.query_timeout = Duration::from_secs(3);
    if engine.kind == Kind::Old {
        config.user = "shipper".into();
        config.password = Some(Password::new("it's \\ secret".into()));
    }
    config
}

pub fn limits() -> Limits {
    Limits {
        rows_max: 500,
        age_max: Duration::from_millis(20),
        poll_interval: Duration::from_millis(5),
        retry_first: Duration::from_millis(20),
        retry_longest: Duration::from_millis(500),
        ..Limits::default()
    }
}

pub fn ship(
    data: &Path,
    decisions: &Decisions,
    config: ClickHouseConfig,
    limits: Limits,
) -> Shipper {
    let sink = ClickHouseSink::new(config).unwrap();
    let export = Export::new("clickhouse", limits, sink, decisions.clone());
    Shipper::start(data, NODE, vec![export]).unwrap()
}

/// What is there is what was decided: each row once, and the sums of the roll-ups are the rows'.
pub fn assert_exact(engine: &Engine, decisions: &Decisions) {
    compare(engine, decisions);
    for view in ["minute", "day"] {
        engine.ask(&format!("OPTIMIZE TABLE decisions_per_{view}_rows FINAL"));
    }
    compare(engine, decisions);
}

fn compare(engine: &Engine, decisions: &Decisions) {
    let made = decisions.made();
    let rows = engine.ask("SELECT count(), uniqExact(epoch, shard, seq) FROM decisions");
    assert_eq!(rows, format!("{made}\t{made}"), "rows, different rows");
    for (view, bucket) in [("minute", "toStartOfMinute(time)"), ("day", "toDate(time, 'UTC')")] {
        let key = "site, customer, subscription, plan, resource, verdict, reason";
        let from_rows = engine.ask(&format!(
            "SELECT toUInt32(toDateTime({bucket}, 'UTC')) AS t, ifNull(period, 0) AS p, {key}, toUInt64(count()), sum(charge), sum(request_bytes), sum(response_bytes) \
             FROM decisions GROUP BY t, p, {key} ORDER BY t, p, {key}"
        ));
        let from_sums = engine.ask(&format!(
            "SELECT toUInt32(time) AS t, period AS p, {key}, sum(requests), sum(charge), sum(request_bytes), sum(response_bytes) \
             FROM decisions_per_{view} GROUP BY t, p, {key} ORDER BY t, p, {key}"
        ));
        let differ = from_rows.lines().zip(from_sums.lines()).find(|(rows, sums)| rows != sums);
        assert!(
            from_rows == from_sums,
            "per {view}: {} and {} lines, the first that differ: {differ:?}",
            from_rows.lines().count(),
            from_sums.lines().count()
        );
        let levels = "(0.5, 0.9, 0.99)";
        let sums = engine.ask(&format!(
            "SELECT quantilesTDigestMerge{levels}(total_us_state) FROM decisions_per_{view}"
        ));
        let rows = engine.ask(&format!("SELECT quantilesTDigest{levels}(total_us) FROM decisions"));
        let numbers = |text: &str| -> Vec<f64> {
            text.trim_matches(['[', ']']).split(',').map(|number| number.parse().unwrap()).collect()
        };
        for (sum, row) in numbers(&sums).into_iter().zip(numbers(&rows)) {
            assert!((sum / row - 1.0).abs() < 0.02, "per {view}: quantiles {sums} and {rows}");
        }
    }
}

#[test]
fn all_fields_arrive_as_they_are() {
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        decisions.make(u64::MAX, 3, 2_500);
        let shipper = ship(data.path(), &decisions, config(&engine, &engine.url()), limits());
        let state = Arc::clone(&shipper.states()[0]);
        assert!(shipper.flush(Duration::from_secs(60)), "{:?}", state.last_error());
        assert_eq!((state.exported(), state.failures()), (2_500, 0), "{:?}", state.last_error());
        assert_exact(&engine, &decisions);
        let time = if kind == Kind::Old { "time, time_us" } else { "time" };
        let fields = format!(
            "SELECT {time}, node, epoch, shard, seq, site, customer, subscription, period, token_id, plan, resource, method, path, protocol, verdict, reason, status, charge, remaining, request_bytes, response_bytes, origin_us, total_us, request_id, client FROM decisions WHERE seq IN (10, 51) ORDER BY seq FORMAT TabSeparatedRaw"
        );
        let told = engine.ask(&fields).replace("ᴺᵁᴸᴸ", "\\N");
        let when = |fraction: &str, micros: &str| {
            if kind == Kind::Old {
                format!("{fraction}\t{micros}")
            } else {
                format!("{fraction}.{micros:0>6}")
            }
        };
        let first = format!(
            "{}\tnode'a\\1\t18446744073709551615\t3\t10\tweather\tcustomer 3's \\ 3\tsub\t\\N\ttok\tpro\t/v1/*\tGET\t/v1/ffffffffffffffff/10\thttp/1.1\tdeny\tquota_exhausted\t429\t0\t\\N\t10\t510\t\\N\t1010\t0000000000000000000000000000000a\t",
            when("2026-11-30 23:59:01", "1")
        );
        let second = format!(
            "{}\tnode'a\\1\t18446744073709551615\t3\t51\tmaps\tcustomer 3's \\ 2\tsub\t0\ttok\tpro\t/v1/*\tGET\t/v1/ffffffffffffffff/51\thttp/1.1\tallow\tok\t\\N\t1\t51\t51\t551\t951\t1051\t00000000000000000000000000000033\t",
            when("2026-11-30 23:59:05", "100001")
        );
        assert_eq!(told, format!("{first}\n{second}").trim_end(), "{kind:?}");
    }
}
