//! Rows of the decision log on their way to a control plane.
//!
//! In: rows with their numbers. Out: one frame, and back. Always holds: what was decoded has passed every bound below; each number that a
//! frame names has a row's bytes in it; nothing is unpacked before its length was found to be allowed.
//!
//! `POST /node/v1/decisions` carries one [`Decisions`], `GET /node/v1/decisions/EPOCH` (16 hex digits) asks; both are answered with one
//! [`Positions`]. Rows are the bytes of [`crate::row`], packed by LZ4. Which node they are of says its token.

use serde::{Deserialize, Serialize};

use super::frame::{self, Kind, PAYLOAD_BYTES_MAX, REPORT_BYTES_MAX};
use super::message::{WireError, expect, get, put, serialise};
use crate::row;

/// Rows in one frame at most.
pub const ROWS_MAX: usize = 20_000;
/// Their bytes at most, unpacked.
pub const ROWS_BYTES_MAX: usize = 6 << 20;
/// Runs in one frame at most.
pub const RUNS_MAX: usize = 4_096;
/// No body is longer: LZ4 makes of what it cannot pack a little more.
pub const BODY_BYTES_MAX: usize = 7 << 20;
/// Positions in one answer at most: more than any node has shards.
pub const POSITIONS_MAX: usize = 1 << 16;

/// Rows of one shard in one start of the node, with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Random number of the start.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
    /// The first row's number.
    pub first: u64,
    /// How many rows; at least one.
    pub rows: u32,
}

/// Rows, run after run. Within (epoch, shard) numbers rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Whose numbers they have.
    pub runs: Vec<Run>,
    /// Their bytes, one after the other.
    pub rows: Vec<u8>,
}

/// Up to where the control plane has the rows of one shard in one start of the node that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Random number of the start.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
    /// The next number: rows before it are taken, and would be passed over if they came again.
    pub next: u64,
}

/// Where the control plane is; what is not named has not begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// In any order.
    pub positions: Vec<Position>,
}

/// What stands before the packed bytes; after those, newer ends may put more.
#[derive(Serialize, Deserialize)]
struct Head {
    runs: Vec<Run>,
    unpacked_bytes: u32,
    packed_bytes: u32,
}

impl Decisions {
    /// As a body.
    ///
    /// # Errors
    /// When it is past a bound.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let packed = lz4_flex::block::compress(&self.rows);
        let bad = |_| WireError::Message { kind: Kind::Decisions as u8, what: "it is too long" };
        let head = Head {
            runs: self.runs.clone(),
            unpacked_bytes: u32::try_from(self.rows.len()).map_err(bad)?,
            packed_bytes: u32::try_from(packed.len()).map_err(bad)?,
        };
        let head = serialise(Kind::Decisions, &head)?;
        Ok(frame::encode(Kind::Decisions, &[&head, &packed])?)
    }

    /// From a body.
    ///
    /// # Errors
    /// When it is anything else, or past a bound. Rows are looked at for their lengths alone.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let frame = frame::only(body, BODY_BYTES_MAX.min(PAYLOAD_BYTES_MAX))?;
        expect(&frame, Kind::Decisions)?;
        let bad = |what| WireError::Message { kind: frame.kind, what };
        let (head, rest): (Head, &[u8]) =
            postcard::take_from_bytes(&frame.payload).map_err(|_| bad("its head is cut"))?;
        let rows: usize = head.runs.iter().map(|run| run.rows as usize).sum();
        if head.runs.len() > RUNS_MAX || rows > ROWS_MAX {
            return Err(bad("too many rows"));
        }
        let fits = |run: &Run| run.rows > 0 && run.first.checked_add(run.rows.into()).is_some();
        if !head.runs.iter().all(fits) {
            return Err(bad("a run has no rows, or numbers that there are not"));
        }
        let unpacked_bytes = head.unpacked_bytes as usize;
        if unpacked_bytes > ROWS_BYTES_MAX {
            return Err(bad("its rows are too long"));
        }
        let packed = rest.get(..head.packed_bytes as usize).ok_or(bad("its rows are cut"))?;
        let bytes = lz4_flex::block::decompress(packed, unpacked_bytes)
            .map_err(|_| bad("its rows cannot be unpacked"))?;
        if bytes.len() != unpacked_bytes || count(&bytes) != Some(rows) {
            return Err(bad("its rows are others than it says"));
        }
        Ok(Self { runs: head.runs, rows: bytes })
    }

    /// Each row's bytes with its run and its number.
    pub fn each(&self) -> impl Iterator<Item = (&Run, u64, &[u8])> {
        let numbers =
            self.runs.iter().flat_map(|run| (0..run.rows).map(move |at| (run, at.into())));
        let mut rest = self.rows.as_slice();
        numbers.map_while(move |(run, at): (&Run, u64)| {
            let (row, after) = rest.split_at_checked(row::length(rest).ok()?)?;
            rest = after;
            Some((run, run.first + at, row))
        })
    }
}

/// How many rows bytes are; none where they are something else.
fn count(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = bytes.get(row::length(bytes).ok()?..)?;
        count += 1;
    }
    Some(count)
}

impl Positions {
    /// As a body.
    ///
    /// # Errors
    /// When it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        put(Kind::Positions, self)
    }

    /// From a body.
    ///
    /// # Errors
    /// When it is anything else, or past a bound.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let frame = frame::only(body, REPORT_BYTES_MAX)?;
        expect(&frame, Kind::Positions)?;
        let positions: Self = get(&frame)?;
        let bad = WireError::Message { kind: frame.kind, what: "too many positions" };
        (positions.positions.len() <= POSITIONS_MAX).then_some(positions).ok_or(bad)
    }
}

#[cfg(test)]
#[path = "decisions_tests.rs"]
mod tests;
