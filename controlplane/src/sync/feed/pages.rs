//! Changes made again of the outbox's rows, for nodes that need what is no longer kept.
//!
//! In: after which sequence. Out: the changes of one page of entries.
//! Always holds: so few pages are made at once as there are lanes, so that nodes that catch up leave the database to everybody else; a page is
//! made once for nodes that need it at about the same time, since those that fetched one base all go through the same ones; each lane
//! remembers pages up to a bound.

use std::collections::VecDeque;

use tokio::sync::Mutex;

use super::Feed;
use crate::storage::{StorageResult, answered};
use crate::sync::bounds::Bounds;
use crate::sync::changes::{self, Encoded};

/// Pages that a lane remembers, however small they are.
const REMEMBERED_MAX: usize = 64;

/// What makes pages.
#[derive(Debug)]
pub(super) struct Pages {
    lanes: Vec<Mutex<Lane>>,
    bytes_max: usize,
}

/// Makes one page at a time.
#[derive(Debug, Default)]
struct Lane {
    made: VecDeque<Page>,
    bytes: usize,
}

#[derive(Debug)]
struct Page {
    history: u64,
    from: u64,
    changes: Vec<Encoded>,
    bytes: usize,
}

impl Pages {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let lanes = (0..bounds.lanes).map(|_| Mutex::default()).collect();
        Self { lanes, bytes_max: bounds.lane_bytes }
    }

    /// The lane of whoever needs this page.
    fn lane(&self, from: u64) -> Option<&Mutex<Lane>> {
        let lanes = u64::try_from(self.lanes.len()).ok()?;
        self.lanes.get(usize::try_from(from.checked_rem(lanes)?).ok()?)
    }
}

impl Lane {
    fn remember(&mut self, page: Page, bytes_max: usize) {
        self.bytes += page.bytes;
        self.made.push_back(page);
        while self.bytes > bytes_max || self.made.len() > REMEMBERED_MAX {
            let Some(oldest) = self.made.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }
}

impl Feed {
    /// The next changes after a sequence that is before what is kept; none where the outbox does not have them any more. It takes as long as
    /// the pages before it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn page_after(&self, sequence: u64) -> StorageResult<Vec<Encoded>> {
        let Some(lane) = self.pages.lane(sequence) else { return std::future::pending().await };
        let mut lane = lane.lock().await;
        let history = self.history();
        let known = lane.made.iter().find(|page| (page.history, page.from) == (history, sequence));
        if let Some(page) = known {
            return Ok(page.changes.clone());
        }
        let changes = answered(self.make_page(sequence)).await?;
        if !changes.is_empty() {
            let bytes = changes.iter().map(|change| change.bytes.len()).sum();
            let page = Page { history, from: sequence, changes: changes.clone(), bytes };
            lane.remember(page, self.pages.bytes_max);
        }
        Ok(changes)
    }

    async fn make_page(&self, sequence: u64) -> StorageResult<Vec<Encoded>> {
        let after = i64::try_from(sequence).unwrap_or(i64::MAX);
        let entries = self.store.outbox().read_after(after).await?;
        let next = entries.first().map(|entry| entry.sequence);
        if next != Some(after.saturating_add(1)) {
            return Ok(Vec::new());
        }
        changes::of_entries(&self.store, &self.keyring, sequence, &entries).await
    }
}
