//! Rows, blocks and spools for tests.

use std::path::Path;

use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::Reason;

use super::*;
use crate::row::{self, Account, Ended, Opened as OpenedRow, Protocol, Texts};

pub(crate) fn account(entitlement: u128) -> Account {
    Account {
        // Spread as hashes are.
        entitlement: EntitlementId(
            entitlement.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        ),
        period: Period { id: PeriodId(7), start_s: 0, end_s: 1_000 },
    }
}

/// An open row.
pub(crate) fn open_row(opened_at: u64, entitlement: u128, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let opened = OpenedRow {
        opened_at,
        time_ns: 5,
        request_id: u128::from(opened_at),
        account: Some(account(entitlement)),
        reason: Reason::Ok,
        charge: 1,
        remaining: None,
        protocol: Protocol::Http11,
        client: None,
        texts: Texts { site: "weather", method: "GET", path, ..Texts::default() },
    };
    row::write_open(&mut bytes, &opened);
    bytes
}

/// The row of a request that has ended, charged so many units.
pub(crate) fn done_row(opened_at: u64, entitlement: u128, charge: u64, path: &str) -> Vec<u8> {
    let mut bytes = open_row(opened_at, entitlement, path);
    let ended = Ended {
        reason: Reason::Ok,
        status: Some(200),
        charge,
        remaining: None,
        request_bytes: 0,
        response_bytes: 3,
        origin_us: None,
        total_us: 9,
    };
    assert!(row::write_end(&mut bytes, &ended));
    bytes
}

pub(crate) fn head(epoch: u64, shard: u16, first_seq: u64, rows: u32) -> BlockHead {
    let ring_position = first_seq + u64::from(rows);
    BlockHead { epoch, shard, first_seq, rows, ring_position, time_ns: 11 }
}

/// A block of rows that have ended: one unit each, of entitlements 0 to 9.
pub(crate) fn block(shard: u16, first_seq: u64, rows: u32) -> (BlockHead, Vec<u8>) {
    let mut bytes = Vec::new();
    for seq in first_seq..first_seq + u64::from(rows) {
        bytes.extend(done_row(seq, u128::from(seq % 10), 1, "/now"));
    }
    (head(1, shard, first_seq, rows), bytes)
}

pub(crate) fn config(folder: &Path) -> Config {
    Config {
        folder: folder.to_owned(),
        segment_bytes: 16 << 10,
        bytes_max: 1 << 20,
        first_segment: 0,
    }
}

pub(crate) fn spool(folder: &Path) -> Spool {
    Spool::open(config(folder), "n1").unwrap().0
}

/// All that a reader gives: numbers of rows by block, and losses.
pub(crate) fn read_all(reader: &mut Reader) -> (Vec<u64>, Vec<Loss>) {
    let (mut seqs, mut losses) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Block(block) => seqs.extend(block.rows().filter_map(|(seq, _)| seq)),
            Item::Lost(loss) => losses.push(loss),
        }
    }
    (seqs, losses)
}
