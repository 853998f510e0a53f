//! The bytes of one row of the decision log, as they lie in a shard's ring and in the spool.
//!
//! In: what was decided on a request, and later how it ended. Out: bytes that hold all of it, readable without the policy that
//! was in force. Always holds: a row can be read whatever becomes of the rest of the file; what is read is checked, since files
//! outlive programs; the end of a request changes the row's bytes in place and never their number.
//!
//! Layout, little-endian: a fixed part of [`FIXED_BYTES`] bytes whose first four are the row's whole length, then the texts,
//! one after the other, whose lengths stand in the fixed part.

use std::net::{IpAddr, Ipv6Addr};

use policy::budget::{EntitlementId, Period, PeriodId};
use policy::decision::{Reason, Record};

/// Bytes before the texts.
pub const FIXED_BYTES: usize = 168;
/// Longer texts are cut, and end in [`CUT_MARK`] then.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The end of a text that was cut.
pub const CUT_MARK: &str = "…";
/// No row is longer.
pub const ROW_BYTES_MAX: usize = FIXED_BYTES + TEXTS * TEXT_BYTES_MAX;

const TEXTS: usize = 8;

mod at {
    pub(super) const LENGTH: usize = 0;
    pub(super) const STAGE: usize = 4;
    pub(super) const REASON: usize = 5;
    pub(super) const PROTOCOL: usize = 6;
    pub(super) const FLAGS: usize = 7;
    pub(super) const OPENED_AT: usize = 8;
    pub(super) const TIME: usize = 16;
    pub(super) const REQUEST_ID: usize = 24;
    pub(super) const PERIOD_ID: usize = 40;
    pub(super) const PERIOD_START: usize = 48;
    pub(super) const PERIOD_END: usize = 56;
    pub(super) const CHARGE: usize = 64;
    pub(super) const REMAINING: usize = 72;
    pub(super) const REQUEST_BYTES: usize = 80;
    pub(super) const RESPONSE_BYTES: usize = 88;
    pub(super) const ORIGIN_US: usize = 96;
    pub(super) const TOTAL_US: usize = 104;
    pub(super) const CLIENT: usize = 112;
    pub(super) const ENTITLEMENT: usize = 128;
    pub(super) const STATUS: usize = 144;
    /// Eight lengths of two bytes. Six bytes after them are zero.
    pub(super) const TEXTS: usize = 146;
}

mod flag {
    pub(super) const SUBSCRIPTION: u8 = 1;
    pub(super) const ACCOUNT: u8 = 2;
    pub(super) const REMAINING: u8 = 4;
    pub(super) const STATUS: u8 = 8;
    pub(super) const ORIGIN: u8 = 16;
    pub(super) const CLIENT: u8 = 32;
    pub(super) const RESOURCE: u8 = 64;
    pub(super) const PLAN: u8 = 128;
    pub(super) const ALL: u8 = 255;
}

/// How far the request of a row has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Decided and on its way: a later row with the same `opened_at` will end it.
    Open,
    /// Ended.
    Done,
    /// Cut off by the end of the process.
    Cut,
}

/// The version of HTTP a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Protocol {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
        }
    }
}

/// What is known of a request when it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Where the shard's ring has its record: names the request within (epoch, shard).
    pub opened_at: u64,
    /// When it was decided, Unix nanoseconds.
    pub time_ns: i64,
    /// The number whose hex form is `PayFence-Request-Id`.
    pub request_id: u128,
    /// What is charged; `None` where the request is free or was refused before it was known.
    pub account: Option<Account>,
    /// Why, so far.
    pub reason: Reason,
    /// Units charged before forwarding.
    pub charge: u64,
    /// Units left after that; `None` where unlimited or not known.
    pub remaining: Option<u64>,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// The client's address, where the operator has it logged.
    pub client: Option<IpAddr>,
    /// The texts.
    pub texts: Texts<'a>,
}

/// One period of one entitlement: what units are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The entitlement.
    pub entitlement: EntitlementId,
    /// The period.
    pub period: Period,
}

/// The texts of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Texts<'a> {
    /// The site's slug; empty where none was found.
    pub site: &'a str,
    /// Whose token it was.
    pub subscriber: Option<Subscriber<'a>>,
    /// The plan's id.
    pub plan: Option<&'a str>,
    /// The pattern that decided.
    pub resource: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The path as received, without the query.
    pub path: &'a str,
}

/// Whose token a request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber<'a> {
    /// The customer's id.
    pub customer: &'a str,
    /// The subscription's id.
    pub subscription: &'a str,
    /// The token's id; never the token.
    pub token_id: &'a str,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why, finally.
    pub reason: Reason,
    /// The status sent; `None` when none was.
    pub status: Option<u16>,
    /// Units charged, after refund or correction.
    pub charge: u64,
    /// Units left after that; `None` where unlimited or not known.
    pub remaining: Option<u64>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// From the first byte sent to the origin to its response head, microseconds; `None` when it was not asked.
    pub origin_us: Option<u64>,
    /// From the first byte received to the last byte sent, microseconds.
    pub total_us: u64,
}

/// One row, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// How far it has come.
    pub stage: Stage,
    /// What was decided; reason, charge and remaining are as the request stands now.
    pub opened: Opened<'a>,
    /// How it ended; zeros while it is open.
    pub ended: Ended,
}

/// Bytes that are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a row of the decision log: {0}")]
pub struct Malformed(&'static str);

/// Appends an open row to `out`.
pub fn write_open(out: &mut Vec<u8>, opened: &Opened<'_>) {
    let start = out.len();
    out.resize(start + FIXED_BYTES, 0);
    let texts = &opened.texts;
    let subscriber = texts.subscriber.as_ref();
    let all: [&str; TEXTS] = [
        texts.site,
        texts.method,
        texts.path,
        subscriber.map_or("", |subscriber| subscriber.customer),
        subscriber.map_or("", |subscriber| subscriber.subscription),
        subscriber.map_or("", |subscriber| subscriber.token_id),
        texts.plan.unwrap_or_default(),
        texts.resource.unwrap_or_default(),
    ];
    let mut lengths = [0_u16; TEXTS];
    for (length, text) in lengths.iter_mut().zip(all) {
        *length = append(out, text);
    }
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    let Some(fixed) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) else { return };
    let mut fixed = Fixed(fixed);
    fixed.put(at::LENGTH, length.to_le_bytes());
    fixed.put(at::PROTOCOL, [opened.protocol as u8]);
    fixed.put(at::OPENED_AT, opened.opened_at.to_le_bytes());
    fixed.put(at::TIME, opened.time_ns.to_le_bytes());
    fixed.put(at::REQUEST_ID, opened.request_id.to_le_bytes());
    let mut flags = 0;
    if subscriber.is_some() {
        flags |= flag::SUBSCRIPTION;
    }
    if texts.plan.is_some() {
        flags |= flag::PLAN;
    }
    if texts.resource.is_some() {
        flags |= flag::RESOURCE;
    }
    if let Some(Account { entitlement, period }) = &opened.account {
        flags |= flag::ACCOUNT;
        fixed.put(at::ENTITLEMENT, entitlement.0.to_le_bytes());
        fixed.put(at::PERIOD_ID, period.id.0.to_le_bytes());
        fixed.put(at::PERIOD_START, period.start_s.to_le_bytes());
        fixed.put(at::PERIOD_END, period.end_s.to_le_bytes());
    }
    if let Some(client) = opened.client {
        flags |= flag::CLIENT;
        let client = match client {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        fixed.put(at::CLIENT, client.octets());
    }
    for (index, length) in lengths.into_iter().enumerate() {
        fixed.put(at::TEXTS + 2 * index, length.to_le_bytes());
    }
    fixed.put(at::FLAGS, [flags]);
    fixed.put_state(Stage::Open, opened.reason, opened.charge, opened.remaining);
}

/// Appends a text, cut where it is too long; its length then.
fn append(out: &mut Vec<u8>, text: &str) -> u16 {
    let before = out.len();
    if text.len() <= TEXT_BYTES_MAX {
        out.extend_from_slice(text.as_bytes());
    } else {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX - CUT_MARK.len());
        out.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
        out.extend_from_slice(CUT_MARK.as_bytes());
    }
    u16::try_from(out.len() - before).unwrap_or(u16::MAX)
}

/// Ends an open row, in place. False where `row` is too short to be one.
#[must_use]
pub fn write_end(row: &mut [u8], ended: &Ended) -> bool {
    let Some(fixed) = row.first_chunk_mut() else { return false };
    let mut fixed = Fixed(fixed);
    fixed.put_state(Stage::Done, ended.reason, ended.charge, ended.remaining);
    fixed.put(at::REQUEST_BYTES, ended.request_bytes.to_le_bytes());
    fixed.put(at::RESPONSE_BYTES, ended.response_bytes.to_le_bytes());
    fixed.put(at::TOTAL_US, ended.total_us.to_le_bytes());
    fixed.put(at::ORIGIN_US, ended.origin_us.unwrap_or(0).to_le_bytes());
    fixed.put(at::STATUS, ended.status.unwrap_or(0).to_le_bytes());
    fixed.flag(flag::ORIGIN, ended.origin_us.is_some());
    fixed.flag(flag::STATUS, ended.status.is_some());
    true
}

/// Marks an open row as cut off by the end of the process: it counts as charged, and its status is not known.
#[must_use]
pub fn write_cut(row: &mut [u8]) -> bool {
    let Some(fixed) = row.first_chunk_mut::<FIXED_BYTES>() else { return false };
    fixed[at::STAGE] = Stage::Cut as u8;
    true
}

/// The fixed part of a row that is written.
struct Fixed<'a>(&'a mut [u8; FIXED_BYTES]);

impl Fixed<'_> {
    /// `at` is one of the offsets above, so that this always fits.
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(place) = self.0.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
    }

    fn flag(&mut self, flag: u8, is_set: bool) {
        let flags = self.0[at::FLAGS] & !flag;
        self.0[at::FLAGS] = if is_set { flags | flag } else { flags };
    }

    fn put_state(&mut self, stage: Stage, reason: Reason, charge: u64, remaining: Option<u64>) {
        self.put(at::STAGE, [stage as u8]);
        self.put(at::REASON, [reason as u8]);
        self.put(at::CHARGE, charge.to_le_bytes());
        self.put(at::REMAINING, remaining.unwrap_or(0).to_le_bytes());
        self.flag(flag::REMAINING, remaining.is_some());
    }
}

/// The length of the row that `bytes` begin with, where they hold it whole.
///
/// # Errors
/// When they begin with no row.
pub fn length(bytes: &[u8]) -> Result<usize, Malformed> {
    let length = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    match length {
        Some(length)
            if (FIXED_BYTES..=ROW_BYTES_MAX).contains(&length) && length <= bytes.len() =>
        {
            Ok(length)
        }
        _ => Err(Malformed("its length does not fit")),
    }
}

/// Writes where a row stands in its ring, which is known only when its length is. False where `row` is too short to be one.
#[must_use]
pub fn write_opened_at(row: &mut [u8], position: u64) -> bool {
    let Some(fixed) = row.first_chunk_mut() else { return false };
    Fixed(fixed).put(at::OPENED_AT, position.to_le_bytes());
    true
}

/// Where an open row stands in its ring, without reading all of it.
#[must_use]
pub fn opened_at(row: &[u8]) -> Option<u64> {
    row.get(at::OPENED_AT..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// How far the row has come, where its stage is one.
#[must_use]
pub fn stage(row: &[u8]) -> Option<Stage> {
    match row.get(at::STAGE) {
        Some(0) => Some(Stage::Open),
        Some(1) => Some(Stage::Done),
        Some(2) => Some(Stage::Cut),
        _ => None,
    }
}

/// What counting needs of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gist {
    /// How far it has come.
    pub stage: Stage,
    /// Names the request within (epoch, shard).
    pub opened_at: u64,
    /// What is charged.
    pub account: Option<Account>,
    /// Units charged, as the request stands now.
    pub charge: u64,
}

/// Reads of one row what counting needs; its texts are not looked at.
///
/// # Errors
/// When `row` is shorter than the fixed part, or its stage is none.
pub fn gist(row: &[u8]) -> Result<Gist, Malformed> {
    let fixed = Read(row.first_chunk().ok_or(Malformed("it is shorter than its fixed part"))?);
    Ok(Gist {
        stage: stage(row).ok_or(Malformed("its stage is none"))?,
        opened_at: fixed.u64(at::OPENED_AT),
        account: (fixed.0[at::FLAGS] & flag::ACCOUNT != 0).then(|| fixed.account()),
        charge: fixed.u64(at::CHARGE),
    })
}

/// When a row was decided, Unix nanoseconds, without reading all of it.
#[must_use]
pub fn time_ns(row: &[u8]) -> Option<i64> {
    row.get(at::TIME..)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

/// Whether the row that `bytes` begin with is open: without reading all of it.
#[must_use]
pub fn is_open(bytes: &[u8]) -> bool {
    bytes.get(at::STAGE) == Some(&(Stage::Open as u8))
}

/// Reads the row that `bytes` begin with, and what follows it.
///
/// # Errors
/// When they begin with no row.
pub fn read(bytes: &[u8]) -> Result<(Row<'_>, &[u8]), Malformed> {
    let length = length(bytes)?;
    let (row, rest) = bytes.split_at(length);
    let (fixed, texts) =
        row.split_first_chunk().ok_or(Malformed("it is shorter than its fixed part"))?;
    let fixed = Read(fixed);
    let flags = fixed.0[at::FLAGS] & flag::ALL;
    let has = |flag| flags & flag != 0;
    let stage = stage(row).ok_or(Malformed("its stage is none"))?;
    let protocol = match fixed.0[at::PROTOCOL] {
        0 => Protocol::Http10,
        1 => Protocol::Http11,
        _ => return Err(Malformed("its protocol is none")),
    };
    let reason = usize::from(fixed.0[at::REASON]);
    let reason = *Reason::ALL.get(reason).ok_or(Malformed("its reason is none"))?;
    let texts = read_texts(fixed, texts, flags)?;
    let remaining = has(flag::REMAINING).then(|| fixed.u64(at::REMAINING));
    let charge = fixed.u64(at::CHARGE);
    let opened = Opened {
        opened_at: fixed.u64(at::OPENED_AT),
        time_ns: fixed.u64(at::TIME).cast_signed(),
        request_id: u128::from_le_bytes(fixed.array(at::REQUEST_ID)),
        account: has(flag::ACCOUNT).then(|| fixed.account()),
        reason,
        charge,
        remaining,
        protocol,
        client: has(flag::CLIENT)
            .then(|| Ipv6Addr::from_octets(fixed.array(at::CLIENT)).to_canonical()),
        texts,
    };
    let ended = Ended {
        reason,
        status: has(flag::STATUS).then(|| u16::from_le_bytes(fixed.array(at::STATUS))),
        charge,
        remaining,
        request_bytes: fixed.u64(at::REQUEST_BYTES),
        response_bytes: fixed.u64(at::RESPONSE_BYTES),
        origin_us: has(flag::ORIGIN).then(|| fixed.u64(at::ORIGIN_US)),
        total_us: fixed.u64(at::TOTAL_US),
    };
    Ok((Row { stage, opened, ended }, rest))
}

fn read_texts<'a>(fixed: Read<'_>, bytes: &'a [u8], flags: u8) -> Result<Texts<'a>, Malformed> {
    // All at once: each is UTF-8 where the whole is and none begins within a character.
    let mut rest = std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))?;
    let mut all = [""; TEXTS];
    for (index, text) in all.iter_mut().enumerate() {
        let length = u16::from_le_bytes(fixed.array(at::TEXTS + 2 * index));
        (*text, rest) = rest
            .split_at_checked(usize::from(length))
            .ok_or(Malformed("a text is longer than the row, or ends within a character"))?;
    }
    if !rest.is_empty() {
        return Err(Malformed("it is longer than its texts"));
    }
    let [site, method, path, customer, subscription, token_id, plan, resource] = all;
    let has = |flag| flags & flag != 0;
    Ok(Texts {
        site,
        subscriber: has(flag::SUBSCRIPTION).then_some(Subscriber {
            customer,
            subscription,
            token_id,
        }),
        plan: has(flag::PLAN).then_some(plan),
        resource: has(flag::RESOURCE).then_some(resource),
        method,
        path,
    })
}

/// The fixed part of a row that is read.
#[derive(Clone, Copy)]
struct Read<'a>(&'a [u8; FIXED_BYTES]);

impl Read<'_> {
    /// `at` is one of the offsets above, so that there are always so many bytes.
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }

    fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn account(self) -> Account {
        Account {
            entitlement: EntitlementId(u128::from_le_bytes(self.array(at::ENTITLEMENT))),
            period: Period {
                id: PeriodId(self.u64(at::PERIOD_ID)),
                start_s: self.u64(at::PERIOD_START).cast_signed(),
                end_s: self.u64(at::PERIOD_END).cast_signed(),
            },
        }
    }
}

/// Where a row is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Random number of the start that decided it.
    pub epoch: u64,
    /// The shard that decided it.
    pub shard: u16,
    /// The row's number within (node, epoch, shard).
    pub seq: u64,
}

impl<'a> Row<'a> {
    /// The row with the fields and names of the log. `request_id` holds the text of the request's id.
    #[must_use]
    pub fn record<'b>(&self, origin: Origin<'b>, request_id: &'b mut [u8; 32]) -> Record<'b>
    where
        'a: 'b,
    {
        write_hex(self.opened.request_id, request_id);
        let texts = self.opened.texts;
        let (reason, subscriber) = (self.opened.reason, texts.subscriber);
        Record {
            time_ns: self.opened.time_ns,
            node: origin.node,
            epoch: origin.epoch,
            shard: origin.shard,
            seq: origin.seq,
            site: texts.site,
            customer: subscriber.map(|subscriber| subscriber.customer),
            subscription: subscriber.map(|subscriber| subscriber.subscription),
            period: self.opened.account.map(|account| account.period.id.0),
            token_id: subscriber.map(|subscriber| subscriber.token_id),
            plan: texts.plan,
            resource: texts.resource,
            method: texts.method,
            path: texts.path,
            protocol: self.opened.protocol.as_str(),
            verdict: reason.verdict(),
            reason,
            status: self.ended.status,
            charge: self.ended.charge,
            remaining: self.ended.remaining,
            request_bytes: self.ended.request_bytes,
            response_bytes: self.ended.response_bytes,
            origin_us: self.ended.origin_us,
            total_us: self.ended.total_us,
            request_id: std::str::from_utf8(request_id).unwrap_or_default(),
            client: self.opened.client,
        }
    }
}

/// A number as 32 hex digits, and those as a number: `PayFence-Request-Id` is kept as half as many bytes.
fn write_hex(number: u128, digits: &mut [u8; 32]) {
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (number >> (4 * (31 - index))) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
