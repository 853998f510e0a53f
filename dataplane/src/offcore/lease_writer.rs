//! Leases on their way to the node's own log of them.
//!
//! In: records. Out: whether they are written, and whether what they grant may be used. Always holds: what is granted is durable before
//! it may be used, unless the disk refuses and the operator chose to go on; a refusal is told once, and its end too.

use std::time::Duration;

use link::lease_log::{Lease, LeaseLog, Record};
use policy::budget::{EntitlementId, PeriodId};

use crate::clock::Now;
use crate::config::JournalFull;

/// How often old periods are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Periods are kept for so long after their end, seconds: longer than late refunds and corrections take.
const KEEP_S: i64 = 2 * 3_600;

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The records are in the log.
    pub is_written: bool,
    /// Replies may go out.
    pub may_deliver: bool,
}

/// The log of leases, where decisions are recorded at all.
pub(super) struct LeaseWriter {
    log: Option<LeaseLog>,
    full: JournalFull,
    is_refused: bool,
    swept: Now,
}

impl LeaseWriter {
    pub fn new(log: Option<LeaseLog>, full: JournalFull) -> Self {
        Self { log, full, is_refused: false, swept: Now::default() }
    }

    /// Whether there is a log.
    pub const fn writes(&self) -> bool {
        self.log.is_some()
    }

    /// The disk refused the last time.
    pub const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// What the log says of a lease.
    pub fn lease(&self, id: EntitlementId, period: PeriodId) -> Option<Lease> {
        self.log.as_ref()?.lease(id, period).copied()
    }

    /// Writes records down; durably, where something in them `grows`.
    pub fn write(&mut self, records: &[Record], grows: bool) -> Written {
        let Some(log) = &mut self.log else {
            return Written { is_written: true, may_deliver: true };
        };
        let written = log.append(records).and_then(|()| if grows { log.sync() } else { Ok(()) });
        let was_refused = std::mem::replace(&mut self.is_refused, written.is_err());
        match written {
            Ok(()) => {
                if was_refused {
                    tracing::info!("leases are written down again");
                }
                Written { is_written: true, may_deliver: true }
            }
            Err(error) => {
                if !was_refused {
                    tracing::error!(%error, "what is leased cannot be written down: were this machine to lose power now, \
                        units used since would be given away again");
                }
                Written { is_written: false, may_deliver: self.full == JournalFull::Continue }
            }
        }
    }

    /// Makes everything durable, at the end.
    pub fn finish(&mut self) {
        if let Some(log) = &mut self.log
            && !self.is_refused
            && let Err(error) = log.sync()
        {
            tracing::error!(%error, "what was given back of leases cannot be made durable");
        }
    }

    /// Forgets periods that are long over; to be called every now and then.
    pub fn tick(&mut self, now: Now) {
        if now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        if let Some(log) = &mut self.log {
            log.forget(now.unix_s().saturating_sub(KEEP_S));
        }
    }
}
