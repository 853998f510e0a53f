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
    let mut reader = Reader::open(spool_folder, from);
    for (stream, end) in &streams {
        reader.expect(stream.epoch, stream.shard, end.next_seq);
    }
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
    let mut refused = 0;
    // The first segment of all has number 1.
    if let Some(oldest) = spool::oldest(spool_folder)?.filter(|oldest| *oldest > 1)
        && !has_checkpoint
    {
        recovered.problems.push(Problem::NoCheckpoint(Position::start_of(oldest)));
    }
    while let Some(item) = reader.next()? {
        match item {
            Item::Block(block) => {
                refused += recovered.replay(&block);
            }
            Item::Lost(loss) => recovered.problems.push(loss.into()),
        }
    }
    recovered.position = reader.position();
    recovered.next_segment = recovered.next_segment.max(recovered.position.segment);
    if refused > 0 {
        recovered.problems.push(Problem::BooksFull(refused));
    }
    for problem in &recovered.problems {
        tracing::warn!(%problem, "found on reading the journal");
    }
    Ok(recovered)
}

impl Recovered {
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
