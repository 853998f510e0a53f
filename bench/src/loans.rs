//! What counting one request costs: at the shard that owns the entitlement, and at one that borrows.
//!
//! In: two shards and a ledger in this thread, whose messages are carried at once. Out: nanoseconds to admit and settle.
//! Always holds: messages are carried within the timed pass, so a loan's renewal is part of the figure.

use anyhow::{Result, ensure};
use policy::budget::{
    Admission, Calendar, Config, Decided, Destination, EntitlementId, Ledger, Now, Overage,
    RateTerms, Settle, ShardBudgets, ShardId, Terms, Unit,
};

use crate::micro::{nanoseconds, row};
use crate::record::Row;

const NODE: u64 = 1;
const SHARDS: u16 = 2;

struct Node {
    shards: Vec<ShardBudgets>,
    ledger: Ledger,
    now: Now,
}

impl Node {
    fn new() -> Self {
        let shard = |shard| ShardBudgets::new(ShardId(shard), SHARDS, Config::default());
        let now = Now { mono_us: 1_000_000, unix_s: 1_800_000_000 };
        Self { shards: (0..SHARDS).map(shard).collect(), ledger: Ledger::new(), now }
    }

    fn carry(&mut self) {
        loop {
            let mut mail = Vec::new();
            for (from, shard) in (0..SHARDS).zip(&mut self.shards) {
                mail.extend(shard.drain_outbox().map(|(to, message)| (from, to, message)));
            }
            if mail.is_empty() {
                return;
            }
            for (from, to, message) in mail {
                let from = ShardId(from);
                match to {
                    Destination::Ledger => self.ledger.on_message(NODE, from, &message),
                    Destination::Shard(to) => {
                        let from = Destination::Shard(from);
                        self.shards[usize::from(to.0)].on_message(self.now, from, message);
                    }
                }
            }
            for (_, to, message) in self.ledger.drain_outbox().collect::<Vec<_>>() {
                let to = &mut self.shards[usize::from(to.0)];
                to.on_message(self.now, Destination::Ledger, message);
            }
        }
    }

    /// Admits and settles one request; whether it was admitted at once.
    fn one(&mut self, shard: usize, id: EntitlementId, terms: &Terms) -> bool {
        let now = self.now;
        let admission = self.shards[shard].admit(now, id, terms, 1);
        let at_once = if let Admission::Decided(Decided::Admitted(admitted)) = admission {
            let _ = self.shards[shard].settle(now, admitted.ticket, Settle::Keep);
            true
        } else {
            false
        };
        if self.shards[shard].has_outgoing() {
            self.carry();
            while let Some((_, outcome)) = self.shards[shard].poll_resolved() {
                if let policy::budget::Outcome::Decided(Decided::Admitted(admitted)) = outcome {
                    let _ = self.shards[shard].settle(now, admitted.ticket, Settle::Keep);
                }
            }
        }
        at_once
    }
}

/// Adds the figures.
pub fn measure(rows: &mut Vec<Row>) -> Result<()> {
    let plain = Terms {
        version: 1,
        limit: Some(900_000_000_000),
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Year, anchor_s: None },
        rate: None,
        concurrency: None,
    };
    let rate = RateTerms { requests: 1_000_000_000, unit: Unit::Second, burst: 1_000_000_000 };
    let all = Terms { rate: Some(rate), concurrency: Some(1_000), ..plain };
    for (limits, terms) in [("quota", plain), ("quota, rate and concurrency", all)] {
        for (who, shard) in [("owner", 0), ("borrower", 1)] {
            let mut node = Node::new();
            // An even id is the first shard's.
            let id = EntitlementId(0x1000);
            let owner = usize::from(shard_of(id));
            let shard = if owner == 0 { shard } else { 1 - shard };
            let mut at_once = 0;
            let calls = 100_000;
            let ns = nanoseconds(calls, |_| {
                node.now.mono_us += 10;
                node.now.unix_s = 1_800_000_000 + (node.now.mono_us / 1_000_000).cast_signed();
                at_once += usize::from(node.one(shard, id, &terms));
            });
            ensure!(at_once > calls, "{who}: only {at_once} requests were admitted at once");
            rows.push(row(format!("admit and settle at the {who}: {limits}"), ns, "ns"));
        }
    }
    Ok(())
}

/// The owner: hash of the id, here the id itself (it is a hash already).
fn shard_of(id: EntitlementId) -> u16 {
    u16::try_from(id.0 % u128::from(SHARDS)).unwrap_or(0)
}
