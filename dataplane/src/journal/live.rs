//! Rows as they are written, for whoever watches.
//!
//! In: blocks from the drain. Out: the same to every watcher. Always holds: the drain never waits for a watcher; what a slow one
//! missed is counted for it; without watchers nothing is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crossbeam::channel::{Receiver, Sender, bounded};
use link::spool::BlockHead;
use parking_lot::Mutex;

/// Blocks that wait for one watcher at most: a few MiB.
const BLOCKS_MAX: usize = 16;
/// Watchers at most.
const WATCHERS_MAX: usize = 16;

/// Rows that were written together.
#[derive(Debug)]
pub struct LiveBlock {
    /// What the spool says of them.
    pub head: BlockHead,
    /// Their bytes.
    pub rows: Vec<u8>,
}

#[derive(Debug)]
struct Watcher {
    blocks: Sender<Arc<LiveBlock>>,
    missed: Arc<AtomicU64>,
}

/// All watchers.
#[derive(Debug, Default)]
pub struct Live {
    watchers: Mutex<Vec<Watcher>>,
    is_watched: AtomicBool,
}

/// One watcher's end.
pub struct Watch {
    blocks: Receiver<Arc<LiveBlock>>,
    missed: Arc<AtomicU64>,
}

impl Live {
    /// Begins to watch; `None` where too many do.
    #[must_use]
    pub fn watch(&self) -> Option<Watch> {
        let mut watchers = self.watchers.lock();
        if watchers.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, blocks) = bounded(BLOCKS_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        watchers.push(Watcher { blocks: sender, missed: Arc::clone(&missed) });
        self.is_watched.store(true, Relaxed);
        Some(Watch { blocks, missed })
    }

    /// Shows a block to everybody.
    pub(super) fn show(&self, head: &BlockHead, rows: &[u8]) {
        if !self.is_watched.load(Relaxed) {
            return;
        }
        let block = Arc::new(LiveBlock { head: *head, rows: rows.to_vec() });
        let mut watchers = self.watchers.lock();
        watchers.retain(|watcher| match watcher.blocks.try_send(Arc::clone(&block)) {
            Ok(()) => true,
            Err(crossbeam::channel::TrySendError::Full(_)) => {
                watcher.missed.fetch_add(u64::from(head.rows), Relaxed);
                true
            }
            Err(crossbeam::channel::TrySendError::Disconnected(_)) => false,
        });
        self.is_watched.store(!watchers.is_empty(), Relaxed);
    }
}

impl Watch {
    /// The next block, where one is there.
    #[must_use]
    pub fn next(&self) -> Option<Arc<LiveBlock>> {
        self.blocks.try_recv().ok()
    }

    /// Rows that were not shown since the last call.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: BlockHead =
        BlockHead { epoch: 1, shard: 0, first_seq: 0, rows: 3, ring_position: 0, time_ns: 0 };

    #[test]
    fn a_slow_watcher_misses_and_is_told_and_one_that_went_is_forgotten() {
        let live = Live::default();
        live.show(&HEAD, b"nobody");
        let (quick, slow) = (live.watch().unwrap(), live.watch().unwrap());
        for _ in 0..BLOCKS_MAX + 2 {
            live.show(&HEAD, b"rows");
            assert_eq!(quick.next().unwrap().rows, b"rows");
        }
        assert_eq!((quick.take_missed(), slow.take_missed(), slow.take_missed()), (0, 6, 0));
        drop((quick, slow));
        live.show(&HEAD, b"rows");
        assert!(!live.is_watched.load(Relaxed));
        let all: Vec<_> = std::iter::from_fn(|| live.watch()).collect();
        assert_eq!(all.len(), WATCHERS_MAX);
    }
}
