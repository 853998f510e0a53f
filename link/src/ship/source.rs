//! What the shipper reads rows from: the spool, or anything that keeps rows in the order they were numbered.
//!
//! In: a position. Out: blocks of rows after it. Always holds: a block read again from the same position has the same rows with
//! the same numbers, for as long as it is there at all.

pub use crate::spool::Position;

/// Rows of one shard, one after the other in the bytes of [`crate::row`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceBlock {
    /// Random number of the start that decided them.
    pub epoch: u64,
    /// The shard that decided them.
    pub shard: u16,
    /// The number of the first finished row; open ones have none and are passed over.
    pub first_seq: u64,
    /// The rows.
    pub rows: Vec<u8>,
    /// Where the block ends.
    pub end: Position,
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Rows in the order they were numbered.
pub trait Source {
    /// The next block after the position last returned; `None` when there is none yet. Cheap reads from files are well: this is
    /// called on a thread that may block.
    ///
    /// # Errors
    /// When the files cannot be read; it is asked again later.
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError>;

    /// Goes on from `position`, or from the oldest block that is left where that is later.
    ///
    /// # Errors
    /// When the files cannot be read.
    fn seek(&mut self, position: Position) -> Result<(), SourceError>;
}
