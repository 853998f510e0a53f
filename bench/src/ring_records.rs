//! What the decision log costs a request: its records in the shard's ring.
//!
//! In: a ring of the size a shard has, on the same tmpfs. Out: nanoseconds a refusal, and a forwarded request (its begin and end).
//! Always holds: every page and place of the ring was written before; what is timed was taken by another thread meanwhile, as a
//! node's drain takes it; a run in which a record found no room fails.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result, ensure};
use dataplane::journal::SHARED_MEMORY;
use dataplane::journal::ring::{self, RING_BYTES, Reader, RingId, Writer};
use link::row::{Account, Ended, Opened, Protocol, Subscriber, Texts};
use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

use crate::clock;
use crate::micro::row;
use crate::record::{Row, median};

/// Requests between two timings. A ring holds more of any kind.
const BATCH: usize = 4_000;
/// Some ten times around the ring.
const BATCHES: usize = 100;
/// The first ones go once around the ring, which makes it warm.
const BATCHES_WARMING: usize = 12;

/// Adds the figures.
pub fn measure(rows: &mut Vec<Row>) -> Result<()> {
    for (name, record) in [
        ("decision record: a refusal", refusal as fn(&mut Writer, u64) -> bool),
        ("decision record: a forwarded request, begin and end", forwarded),
    ] {
        rows.push(row(name, one_ns(record)?, "ns"));
    }
    Ok(())
}

/// Nanoseconds of one request's records: the median of batches, between which another thread empties the ring.
fn one_ns(record: fn(&mut Writer, u64) -> bool) -> Result<f64> {
    let folder = tempfile::tempdir_in(SHARED_MEMORY)
        .with_context(|| format!("no room for a ring in {SHARED_MEMORY}"))?;
    let (mut writer, reader) = make(folder.path())?;
    let (full, is_full) = channel();
    let (empty, is_empty) = channel();
    let mut batches = Vec::new();
    std::thread::scope(|scope| {
        let draining = scope.spawn(move || drain(reader, &is_full, &empty));
        for batch in 0..BATCHES {
            let start = clock::now();
            for number in 0..BATCH {
                let number = (batch * BATCH + number) as u64;
                ensure!(record(&mut writer, number), "a record found no room");
            }
            let took_ns = start.elapsed().as_nanos() as f64;
            if batch >= BATCHES_WARMING {
                batches.push(took_ns / BATCH as f64);
            }
            full.send(())?;
            is_empty.recv().context("the thread that drains the ring has ended")?;
        }
        drop(full);
        draining.join().expect("the drain does not panic")
    })?;
    ensure!(writer.lost() == 0, "{} records were lost", writer.lost());
    Ok(median(&batches))
}

fn make(folder: &Path) -> Result<(Writer, Reader)> {
    let id = RingId { node: 1, epoch: 1, shard: 0 };
    ring::create(&folder.join("ring"), id, RING_BYTES).context("cannot make a ring")
}

/// Empties the ring whenever it is told to, until nobody tells any more.
fn drain(mut reader: Reader, is_full: &Receiver<()>, empty: &Sender<()>) -> Result<()> {
    let mut row = Vec::new();
    while is_full.recv().is_ok() {
        while reader.next(&mut row)?.is_some() {
            row.clear();
        }
        reader.release();
        empty.send(())?;
    }
    Ok(())
}

/// A token that is not there: answered at once, one record.
fn refusal(writer: &mut Writer, number: u64) -> bool {
    let texts = Texts { subscriber: None, plan: None, ..TEXTS };
    let opened = Opened { account: None, charge: 0, remaining: None, texts, ..opened(number) };
    let opened = Opened { reason: Reason::TokenMissing, ..opened };
    let ended = Ended { reason: Reason::TokenMissing, status: Some(401), charge: 0, ..ENDED };
    writer.whole(&opened, &Ended { remaining: None, origin_us: None, ..ended })
}

/// A request that is charged, forwarded and answered.
fn forwarded(writer: &mut Writer, number: u64) -> bool {
    let opened_at = writer.begin(&opened(number));
    let ended = Ended { total_us: number, ..ENDED };
    opened_at.inspect(|at| writer.end(*at, &ended)).is_some()
}

fn opened(number: u64) -> Opened<'static> {
    let period = Period { id: PeriodId(12), start_s: 1_798_761_600, end_s: 1_801_440_000 };
    Opened {
        opened_at: 0,
        time_ns: 1_800_000_000_000_000_000 + number.cast_signed(),
        request_id: u128::from(number) << 64 | 0x5eed,
        account: Some(Account { entitlement: EntitlementId(0x1000), period }),
        reason: Reason::Ok,
        charge: 1,
        remaining: Some(1_000_000 - number),
        protocol: Protocol::Http11,
        client: None,
        texts: TEXTS,
    }
}

const TEXTS: Texts<'static> = Texts {
    site: "weather",
    subscriber: Some(Subscriber {
        customer: "cus_0f6b3c1d2a",
        subscription: "sub_7a9d2e4f1b",
        token_id: "tok_3c5e8f0a6d",
    }),
    plan: Some("professional"),
    resource: Some("/api/v1/*"),
    method: "GET",
    path: "/api/v1/forecast/48.2,16.4",
};

const ENDED: Ended = Ended {
    reason: Reason::Ok,
    status: Some(200),
    charge: 1,
    remaining: Some(999_999),
    request_bytes: 0,
    response_bytes: 612,
    origin_us: Some(431),
    total_us: 502,
};
