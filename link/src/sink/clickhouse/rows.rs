//! Rows in ClickHouse's RowBinary, the columns of `decisions` in the order of [`columns`].
//!
//! In: rows of a batch. Out: bytes. Always holds: texts that are not known are empty, numbers that are not known are NULL.

use super::groups::time_us;
use super::schema::Dialect;
use crate::row::{Origin, Row};

const REST: &str = "node, epoch, shard, seq, site, customer, subscription, period, token_id, plan, resource, method, path, protocol, verdict, reason, status, charge, remaining, request_bytes, response_bytes, origin_us, total_us, request_id_bytes, client, valid_until, roll_ups";

/// What [`write`] writes.
pub(super) fn columns(dialect: Dialect) -> String {
    match dialect {
        Dialect::Full => format!("time, {REST}"),
        Dialect::Plain => format!("time, time_us, {REST}"),
    }
}

/// What is the same in all rows of an INSERT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    pub dialect: Dialect,
    /// The server stores nothing once its clock is past this, Unix seconds.
    pub valid_until_s: u32,
    /// The roll-ups that take the rows, a bit each.
    pub roll_ups: u8,
}

/// Appends one row.
pub(super) fn write(out: &mut Vec<u8>, row: &Row<'_>, origin: Origin<'_>, common: Common) {
    let (opened, ended) = (&row.opened, &row.ended);
    let time_us = time_us(opened.time_ns);
    match common.dialect {
        Dialect::Full => out.extend_from_slice(&time_us.to_le_bytes()),
        Dialect::Plain => {
            let seconds = u32::try_from(time_us / 1_000_000).unwrap_or(u32::MAX);
            let rest = u32::try_from(time_us % 1_000_000).unwrap_or(0);
            out.extend_from_slice(&seconds.to_le_bytes());
            out.extend_from_slice(&rest.to_le_bytes());
        }
    }
    text(out, origin.node);
    out.extend_from_slice(&origin.epoch.to_le_bytes());
    out.extend_from_slice(&origin.shard.to_le_bytes());
    out.extend_from_slice(&origin.seq.to_le_bytes());
    let texts = &opened.texts;
    let subscriber = texts.subscriber.as_ref();
    text(out, texts.site);
    text(out, subscriber.map_or("", |subscriber| subscriber.customer));
    text(out, subscriber.map_or("", |subscriber| subscriber.subscription));
    nullable(out, opened.account.map(|account| account.period.id.0.to_le_bytes()));
    text(out, subscriber.map_or("", |subscriber| subscriber.token_id));
    text(out, texts.plan.unwrap_or_default());
    text(out, texts.resource.unwrap_or_default());
    text(out, texts.method);
    text(out, texts.path);
    text(out, opened.protocol.as_str());
    text(out, verdict(row));
    text(out, opened.reason.as_str());
    nullable(out, ended.status.map(u16::to_le_bytes));
    out.extend_from_slice(&ended.charge.to_le_bytes());
    nullable(out, ended.remaining.map(u64::to_le_bytes));
    out.extend_from_slice(&ended.request_bytes.to_le_bytes());
    out.extend_from_slice(&ended.response_bytes.to_le_bytes());
    nullable(out, ended.origin_us.map(u64::to_le_bytes));
    out.extend_from_slice(&ended.total_us.to_le_bytes());
    out.extend_from_slice(&opened.request_id.to_be_bytes());
    match opened.client {
        Some(client) => text(out, &client.to_string()),
        None => out.push(0),
    }
    out.extend_from_slice(&common.valid_until_s.to_le_bytes());
    out.push(common.roll_ups);
}

fn verdict(row: &Row<'_>) -> &'static str {
    match row.opened.reason.verdict() {
        policy::decision::Verdict::Allow => "allow",
        policy::decision::Verdict::Deny => "deny",
    }
}

/// A length as LEB128, then the bytes.
fn text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(text.as_bytes());
}

fn nullable<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    match value {
        Some(bytes) => {
            out.push(0);
            out.extend_from_slice(&bytes);
        }
        None => out.push(1),
    }
}
