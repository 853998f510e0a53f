//! One simulated node: its shards, its clocks, what its journal will tell the next start.
//!
//! In: the seed. Out: a node that can be run, crashed and started again. Always holds: a start is numbered higher than
//! those before it.

use std::sync::Arc;

use super::super::super::{Carried, Config, LedgerClock, Now, Past, ShardBudgets, ShardId};
use super::super::Random;
use super::truth::Truth;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) shards: Vec<ShardBudgets>,
    pub(super) start: u64,
    pub(super) is_up: bool,
    /// Its monotonic clock less the world's.
    pub(super) base_us: u64,
    /// Its wall clock less the world's monotonic one.
    pub(super) wall_offset_ms: i64,
    pub(super) clock: LedgerClock,
    /// No message comes through until then.
    pub(super) cut_until_us: u64,
    pub(super) ticking: Vec<Option<u64>>,
    /// The journal since its last loss.
    pub(super) journal: u64,
}

impl Node {
    pub(super) fn new(random: &mut Random, skewed: bool, offset_ms: i64) -> Self {
        let skew_ms = if skewed { random.below(1_200_000) as i64 - 600_000 } else { 0 };
        let mut node = Self {
            shards: Vec::new(),
            start: 0,
            is_up: false,
            base_us: 0,
            wall_offset_ms: offset_ms + skew_ms,
            clock: LedgerClock::default(),
            cut_until_us: 0,
            ticking: Vec::new(),
            journal: 0,
        };
        node.restart(random, &[], 0);
        node
    }

    /// Starts again with what the journal says.
    pub(super) fn restart(&mut self, random: &mut Random, truths: &[Truth], at: usize) {
        let shards = random.between(1, 3) as u16;
        let mut carried = Carried::default();
        carried.set_journal(self.journal);
        for truth in truths {
            for (period, used) in truth.journal_of(at) {
                carried.add(truth.id, Past { period, used });
            }
        }
        let carried = Arc::new(carried);
        let config = Config { shared: true, ..Config::default() };
        let fresh = |shard| ShardBudgets::new(ShardId(shard), shards, config);
        let fresh = |shard| fresh(shard).carrying(Arc::clone(&carried));
        self.shards = (0..shards).map(fresh).collect();
        self.ticking = vec![None; usize::from(shards)];
        self.start += 1;
        self.is_up = true;
        self.base_us = random.below(1_000_000_000);
        self.clock = LedgerClock::default();
    }

    pub(super) fn now(&self, world_us: u64) -> Now {
        let mono_us = world_us + self.base_us;
        let wall_ms = self.wall_offset_ms + i64::try_from(world_us / 1_000).unwrap_or(0);
        let unix_s = self.clock.unix_s(mono_us).unwrap_or(wall_ms.div_euclid(1_000));
        Now { mono_us, unix_s }
    }
}
