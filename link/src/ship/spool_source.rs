//! The spool as what a shipper reads from.
//!
//! In: the spool's folder, how far it is durable. Out: its blocks. Always holds: nothing leaves that could still be lost with the
//! machine's power, since its number would then be given again.

use std::path::PathBuf;
use std::sync::Arc;

use super::source::{Position, Source, SourceBlock, SourceError};
use crate::spool::{BlockHead, Item, Reader, Tail};

/// Reads one spool for one sink.
pub struct SpoolSource {
    folder: PathBuf,
    tail: Arc<Tail>,
    reader: Reader,
}

impl SpoolSource {
    /// Of the spool in `folder`, whose writer moves `tail`.
    #[must_use]
    pub fn new(folder: PathBuf, tail: Arc<Tail>) -> Self {
        let reader = Reader::open(&folder, Position::START);
        Self { folder, tail, reader }
    }
}

impl Source for SpoolSource {
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError> {
        let durable = self.tail.position();
        loop {
            let item = self.reader.next_within(durable);
            match item.map_err(|error| SourceError(error.to_string()))? {
                None => return Ok(None),
                Some(Item::Block(block)) => {
                    let (BlockHead { epoch, shard, first_seq, .. }, end) = (block.head, block.end);
                    let rows = self.reader.take_rows();
                    return Ok(Some(SourceBlock { epoch, shard, first_seq, rows, end }));
                }
                // Its numbers show what is missing to whoever counts them.
                Some(Item::Lost(loss)) => {
                    tracing::warn!(%loss, "found on reading the journal for a sink")
                }
            }
        }
    }

    fn seek(&mut self, position: Position) -> Result<(), SourceError> {
        self.reader = Reader::open(&self.folder, position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Opened, Protocol, Texts, write_cut, write_open};
    use crate::spool::{Config, Spool};
    use policy::decision::Reason;

    #[test]
    fn only_what_is_durable_leaves_and_any_place_can_be_gone_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            folder: folder.path().to_owned(),
            segment_bytes: 1 << 20,
            bytes_max: 8 << 20,
            first_segment: 0,
        };
        let (mut spool, _) = Spool::open(config, "n").unwrap();
        let mut source = SpoolSource::new(folder.path().to_owned(), spool.tail());
        let opened = Opened {
            opened_at: 0,
            time_ns: 1,
            request_id: 2,
            account: None,
            reason: Reason::Ok,
            charge: 0,
            remaining: None,
            protocol: Protocol::Http11,
            client: None,
            texts: Texts { site: "s", method: "GET", path: "/", ..Texts::default() },
        };
        let mut row = Vec::new();
        write_open(&mut row, &opened);
        assert!(write_cut(&mut row));
        let head = |first_seq| BlockHead {
            epoch: 1,
            shard: 0,
            first_seq,
            rows: 1,
            ring_position: 0,
            time_ns: 0,
        };
        spool.append(&head(0), &row).unwrap();
        assert_eq!(source.next().unwrap(), None);
        spool.sync().unwrap();
        spool.append(&head(1), &row).unwrap();
        let first = source.next().unwrap().unwrap();
        assert_eq!((first.first_seq, &first.rows), (0, &row));
        assert_eq!(source.next().unwrap(), None);
        spool.sync().unwrap();
        assert_eq!(source.next().unwrap().unwrap().first_seq, 1);
        source.seek(first.end).unwrap();
        assert_eq!(source.next().unwrap().unwrap().first_seq, 1);
        source.seek(Position::START).unwrap();
        assert_eq!(source.next().unwrap(), Some(first));
    }
}
