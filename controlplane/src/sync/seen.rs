//! Which nodes have reported what, so that the database hears of each once a second and of news at once.
//!
//! In: reports. Out: whether one is worth writing down.
//! Always holds: as many entries as nodes that ever reported to this process.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::storage::NodeReport;

/// How old what the database knows of a node may become.
const AGE: Duration = Duration::from_millis(900);

/// The last report of each node that was written down.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<i64, (Instant, NodeReport)>>);

impl Seen {
    /// Whether the report is to be written down; then it is remembered as if it were.
    pub fn is_news(&self, node: i64, report: &NodeReport) -> bool {
        let now = Instant::now();
        let mut all = self.0.lock();
        let known = all.get(&node);
        if known.is_some_and(|(at, known)| now - *at < AGE && known == report) {
            return false;
        }
        all.insert(node, (now, report.clone()));
        true
    }
}
