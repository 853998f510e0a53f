//! What the node counts.
//!
//! In: each shard adds to its own [`ShardMetrics`] and to the [`SiteCells`] of the site at hand. Out: sums over the
//! shards, as Prometheus text ([`render`]) and in `/status`.
//! Always holds: a cell is written by one shard only, without locks; looking sites up takes a lock and happens when a
//! snapshot is swapped, never per request; no total goes back on a reload, a site that is removed and returns counts on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use policy::decision::Reason;

mod cell;
mod handshakes;
mod render;

pub use cell::{
    Counter, DURATION_BOUNDS_NS, DURATION_BUCKETS, Gauge, Histogram, LABELS_MAX, Labelled,
};
pub use handshakes::Handshakes;
pub use render::{NodeFigures, render};

/// How many sites that are no longer in the policy keep their counts, per shard. Beyond it the counts of all removed
/// sites go, which Prometheus sees as series that end.
pub const REMOVED_SITES_MAX: usize = 10_000;

/// What one shard counts about one site.
#[derive(Debug)]
pub struct SiteCells {
    slug: Arc<str>,
    decisions: [Counter; Reason::COUNT],
    /// Answers to `/.payfence/usage`, which are counted and not decisions.
    pub usage_answers: Counter,
}

impl SiteCells {
    fn new(slug: Arc<str>) -> Self {
        Self {
            slug,
            decisions: std::array::from_fn(|_| Counter::new()),
            usage_answers: Counter::new(),
        }
    }

    /// The site's slug; empty for decisions that know no site.
    #[must_use]
    pub fn slug(&self) -> &str {
        &self.slug
    }

    /// Counts one decision.
    pub fn decided(&self, reason: Reason) {
        self.decisions[reason as usize].inc();
    }
}

/// What one shard counts. Every field is written by that shard alone.
#[derive(Debug)]
#[repr(align(128))] // Two cache lines, so that neighbours' cells never share one.
pub struct ShardMetrics {
    /// Decisions that know no site (`site_unknown`, some of `draining`).
    pub no_site: SiteCells,
    sites: Mutex<HashMap<Arc<str>, Arc<SiteCells>>>,
    /// From the first byte of a request to the last byte of its answer.
    pub request_duration: Histogram,
    /// The same, less the time the origin took.
    pub gateway_overhead: Histogram,
    /// Requests that could not be understood one way only, by cause.
    pub malformed: Labelled,
    /// Client connections open.
    pub connections: Gauge,
    /// Client connections accepted.
    pub connections_accepted: Counter,
    /// Client connections handed to an emptier shard before they were read from.
    pub connections_handed_over: Counter,
    /// Client connections closed at once because a limit was reached.
    pub connections_refused: Counter,
    /// Tunnels (WebSocket) open.
    pub tunnels: Gauge,
    /// Body bytes received from clients.
    pub request_bytes: Counter,
    /// Body bytes sent to clients.
    pub response_bytes: Counter,
    /// Upstream connections open, in use or idle.
    pub upstream_connections: Gauge,
    /// Upstream connections opened.
    pub upstream_opened: Counter,
    /// Requests sent on an upstream connection that had served another before.
    pub upstream_reused: Counter,
    /// Upstream connections that could not be opened.
    pub upstream_failed: Counter,
    /// Requests sent a second time after a reused connection failed before any response byte.
    pub upstream_retries: Counter,
    /// Charges corrected by `PayFence-Cost`.
    pub cost_corrections: Counter,
    /// `PayFence-Cost` values that were no integer up to 10⁹, and so ignored.
    pub cost_ignored: Counter,
    /// Charges given back.
    pub refunds: Counter,
    /// Deadlines that passed, by which one (head, idle, connect, response, stall).
    pub timeouts: Labelled,
    /// Bounded queues that were full when something was to go in, by queue.
    pub queue_full: Labelled,
    /// TLS handshakes with clients.
    pub client_handshakes: Handshakes,
    /// TLS handshakes with origins.
    pub origin_handshakes: Handshakes,
    /// Entitlements this shard has counters of.
    pub budget_entitlements: Gauge,
    /// Quota units in loans this shard holds and has not used, about a second old.
    pub budget_loaned_units: Gauge,
    /// Loans this shard was granted.
    pub budget_loans: Counter,
    /// Loans this shard, as owner, called back before it refused.
    pub budget_recalls: Counter,
    /// Requests that waited for a loan.
    pub budget_waits: Counter,
    /// Requests that got no loan: their wait ran out, or too many waited already.
    pub budget_wait_timeouts: Counter,
}

impl ShardMetrics {
    fn new() -> Self {
        Self {
            no_site: SiteCells::new("".into()),
            sites: Mutex::default(),
            request_duration: Histogram::default(),
            gateway_overhead: Histogram::default(),
            malformed: Labelled::default(),
            connections: Gauge::new(),
            connections_accepted: Counter::new(),
            connections_handed_over: Counter::new(),
            connections_refused: Counter::new(),
            tunnels: Gauge::new(),
            request_bytes: Counter::new(),
            response_bytes: Counter::new(),
            upstream_connections: Gauge::new(),
            upstream_opened: Counter::new(),
            upstream_reused: Counter::new(),
            upstream_failed: Counter::new(),
            upstream_retries: Counter::new(),
            cost_corrections: Counter::new(),
            cost_ignored: Counter::new(),
            refunds: Counter::new(),
            timeouts: Labelled::default(),
            queue_full: Labelled::default(),
            client_handshakes: Handshakes::default(),
            origin_handshakes: Handshakes::default(),
            budget_entitlements: Gauge::new(),
            budget_loaned_units: Gauge::new(),
            budget_loans: Counter::new(),
            budget_recalls: Counter::new(),
            budget_waits: Counter::new(),
            budget_wait_timeouts: Counter::new(),
        }
    }

    /// This shard's cells of the sites named, in the order named; made where missing. Called when a snapshot is
    /// swapped in; the answer is kept beside it and indexed by site.
    #[must_use]
    pub fn site_cells<'a>(
        &self,
        slugs: impl IntoIterator<Item = &'a str>,
    ) -> Box<[Arc<SiteCells>]> {
        let mut sites = self.sites.lock();
        let cells: Box<[Arc<SiteCells>]> = slugs
            .into_iter()
            .map(|slug| {
                if let Some(cells) = sites.get(slug) {
                    return Arc::clone(cells);
                }
                let slug: Arc<str> = slug.into();
                let cells = Arc::new(SiteCells::new(Arc::clone(&slug)));
                sites.insert(slug, Arc::clone(&cells));
                cells
            })
            .collect();
        if sites.len() > cells.len() + REMOVED_SITES_MAX {
            let current: HashSet<&str> = cells.iter().map(|site| site.slug()).collect();
            sites.retain(|slug, _| current.contains(&**slug));
        }
        cells
    }

    fn all_sites(&self) -> Vec<Arc<SiteCells>> {
        self.sites.lock().values().cloned().collect()
    }
}

/// What all shards count, one [`ShardMetrics`] each.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Arc<ShardMetrics>]>,
}

impl Metrics {
    /// Zeroed cells for `shards` shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| Arc::new(ShardMetrics::new())).collect() }
    }

    /// The cells of one shard.
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> Arc<ShardMetrics> {
        Arc::clone(&self.shards[index])
    }

    /// Every shard's cells, by number.
    #[must_use]
    pub fn shards(&self) -> &[Arc<ShardMetrics>] {
        &self.shards
    }

    /// A figure summed over the shards.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).sum()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
