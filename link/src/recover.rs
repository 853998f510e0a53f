//! What holds after a restart: the last checkpoint, and the spool replayed from there.
//!
//! In: the folders of the checkpoint and the spool. Out: where each stream goes on, use by entitlement and period, the requests that
//! had not ended. Always holds: each row is counted once; what could not be read is named, and then use is not called complete.

use std::collections::HashMap;
use std::path::Path;

use crate::books::Books;
use crate::checkpoint::{self, Stream, StreamEnd, Unusable};
use crate::row::{self, Stage};
use crate::spool::{self, Block, Error, Item, Loss, Position, Reader};

/// Losses that are listed one by one.
const PROBLEMS_MAX: usize = 1_000;
/// Where the spool is gone and its checkpoint is not, segments get numbers so much higher: more than were ever written after it,
/// so that a position kept elsewhere means none of them.
const SEGMENTS_SKIPPED: u64 = 1 << 20;

/// A request that had not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenRequest {
    /// Where it ran.
    pub stream: Stream,
    /// Its place in the shard's ring: see [`row::Opened::opened_at`].
    pub opened_at: u64,
}

/// What was found amiss.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A checkpoint could not be used; an older one was, or the whole spool.
    #[error("a checkpoint could not be used: {0}")]
    Checkpoint(#[from] Unusable),
    /// Rows are missing from the spool.
    #[error(transparent)]
    Spool(#[from] Loss),
    /// There is no checkpoint, and the spool's first segments are gone.
    #[error("without a checkpoint, use before {0} of the journal is not known")]
    NoCheckpoint(Position),
    /// There are more losses than are listed.
    #[error("{0} more places of the journal are damaged or missing")]
    More(u64),
    /// The books are full.
    #[error("the books of use are full: {0} charges were not entered")]
    BooksFull(u64),
}

/// What holds.
#[derive(Debug)]
pub struct Recovered {
    /// Where replay began: the checkpoint's place.
    pub from: Position,
    /// Where it ended: the end of the last whole block.
    pub position: Position,
    /// For [`Config::first_segment`](crate::spool::Config): positions stay ahead of all that were ever given.
    pub next_segment: u64,
    /// Where each stream goes on.
    pub streams: HashMap<Stream, StreamEnd>,
    /// Charges of finished rows.
    pub books: Books,
    /// Rows of requests that had not ended; their charges are not in the books.
    pub open: HashMap<OpenRequest, Vec<u8>>,
    /// Finished rows that were replayed.
    pub rows: u64,
    /// What was amiss.
    pub problems: Vec<Problem>,
}

impl Recovered {
    /// Whether the books hold every row. Where not, what was leased counts as used.
    #[must_use]
    pub fn is_use_complete(&self) -> bool {
        self.problems.iter().all(|problem| matches!(problem, Problem::Checkpoint(_)))
    }
}

/// Reads the checkpoint and what the spool holds after it; changes nothing on disk. To be called before the spool is opened, so
/// that it gets [`Recovered::next_segment`]. Books hold at most `entries_max` entries.
///
/// # Errors
/// When the disk fails, or a segment is of another version.
pub fn recover(
    checkpoints: &Path,
    spool_folder: &Path,
    entries_max: usize,
) -> Result<Recovered, Error> {
    let (checkpoint, unusable) = checkpoint::read(checkpoints, entries_max);
    let has_checkpoint = checkpoint.is_some();
    let (from, streams, books) = match checkpoint {
        Some(checkpoint) => (checkpoint.position, checkpoint.streams, checkpoint.books),
        None => (Position::START, Vec::new(), Books::new(entries_max)),
    };
    let expected = streams.clone();
    let mut recovered = Recovered {
        from,
        position: from,
        next_segment: from.segment.max(1),
        streams: streams.into_iter().collect(),
        books,
        open: HashMap::new(),
        rows: 0,
        problems: unusable.into_iter().map(Problem::from).collect(),
    };
    match (has_checkpoint, spool::extent(spool_folder)?) {
        // The first segment of all has number 1.
        (false, Some((oldest, _))) if oldest > 1 => {
            recovered.problems.push(Problem::NoCheckpoint(Position::start_of(oldest)));
        }
        // The checkpoint's own segment was durable before it: what is there is another spool's, or was counted.
        (true, extent) if extent.is_none_or(|(_, newest)| newest < from.segment) => {
            recovered.problems.push(Loss::Gone { from, to: from }.into());
            recovered.next_segment = from.segment.saturating_add(SEGMENTS_SKIPPED);
            recovered.tell();
            return Ok(recovered);
        }
        _ => {}
    }
    let mut reader = Reader::open(spool_folder, from);
    for (stream, end) in expected {
        reader.expect(stream.epoch, stream.shard, end.next_seq);
    }
    let (mut refused, mut untold) = (0, 0);
    while let Some(item) = reader.next()? {
        match item {
            Item::Block(block) => refused += recovered.replay(&block),
            Item::Lost(loss) if recovered.problems.len() < PROBLEMS_MAX => {
                recovered.problems.push(loss.into());
            }
            Item::Lost(_) => untold += 1,
        }
    }
    recovered.position = reader.position();
    recovered.next_segment = recovered.next_segment.max(recovered.position.segment);
    if untold > 0 {
        recovered.problems.push(Problem::More(untold));
    }
    if refused > 0 {
        recovered.problems.push(Problem::BooksFull(refused));
    }
    recovered.tell();
    Ok(recovered)
}

impl Recovered {
    fn tell(&self) {
        for problem in &self.problems {
            tracing::warn!(%problem, "found on reading the journal");
        }
    }

    /// Counts a block's rows; how many charges the books had no room for.
    fn replay(&mut self, block: &Block<'_>) -> u64 {
        let head = &block.head;
        let stream = Stream { epoch: head.epoch, shard: head.shard };
        let end = self.streams.entry(stream).or_default();
        let counted_until = end.next_seq;
        end.next_seq = end.next_seq.max(head.first_seq.saturating_add(u64::from(head.rows)));
        end.ring_position = end.ring_position.max(head.ring_position);
        let mut refused = 0;
        for (seq, bytes) in block.rows() {
            let Ok(gist) = row::gist(bytes) else { continue };
            let request = OpenRequest { stream, opened_at: gist.opened_at };
            if gist.stage == Stage::Open {
                self.open.insert(request, bytes.to_vec());
                continue;
            }
            if !self.open.is_empty() {
                self.open.remove(&request);
            }
            if seq.is_none_or(|seq| seq < counted_until) {
                continue;
            }
            self.rows += 1;
            if let Some(account) = gist.account
                && !self.books.add(&account, gist.charge)
            {
                refused += 1;
            }
        }
        refused
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
