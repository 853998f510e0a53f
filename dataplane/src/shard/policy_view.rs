//! A shard's view of the policy in force: the snapshot, and what the shard keeps beside each site.
//!
//! In: the node's `ArcSwap`. Out: an `Rc` that a request holds from beginning to end. Always holds: a request sees one
//! snapshot; taking the view costs no atomic write.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use policy::ids::SiteIndex;
use policy::snapshot::{SiteView, Snapshot};
use rustls::pki_types::ServerName;

use crate::message::{Asker, Problem, Repeats};
use crate::metrics::{ShardMetrics, SiteCells};
use crate::tls::{OriginTls, OriginTlsKey};

use super::again::Again;
use super::upstream::{OriginSession, Pool, Pools};

/// One snapshot with what this shard keeps for it.
pub struct PolicyView {
    snapshot: Arc<Snapshot>,
    cells: Rc<[Arc<SiteCells>]>,
    pools: Rc<[Rc<Pool>]>,
    repeats: RefCell<Repeats>,
    again: RefCell<Again>,
}

impl PolicyView {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        metrics: &ShardMetrics,
        pools: &mut Pools,
        (origin_tls, folder): (&OriginTls, &Path),
    ) -> Self {
        let session_of = |site: &SiteView<'_>| {
            let config = origin_tls.get(&OriginTlsKey::new(site.origin_tls()?, folder))?;
            let host = site.origin().host().trim_matches(['[', ']']).to_owned();
            Some(OriginSession { config, name: ServerName::try_from(host).ok()? })
        };

        let cells = metrics.site_cells(snapshot.sites().map(|site| site.slug())).into();
        let site_pools =
            snapshot.sites().map(|site| pools.of(site.origin(), session_of(&site))).collect();
        Self {
            snapshot,
            cells,
            pools: site_pools,
            repeats: RefCell::default(),
            again: RefCell::default(),
        }
    }

    /// The view of a snapshot that has the same sites: what is kept beside them stays.
    pub(super) fn with(&self, snapshot: Arc<Snapshot>) -> Self {
        let (cells, pools) = (Rc::clone(&self.cells), Rc::clone(&self.pools));
        Self { snapshot, cells, pools, repeats: RefCell::default(), again: RefCell::default() }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(super) fn is(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    /// A site that a decision on this snapshot named.
    pub fn site(&self, site: SiteIndex) -> SiteView<'_> {
        self.snapshot.site(site).expect("a decision names sites of its own snapshot")
    }

    /// The counters of a site.
    pub fn cells(&self, site: SiteIndex) -> &SiteCells {
        &self.cells[site.index()]
    }

    /// Appends the answer for a problem. The bytes of the body.
    pub fn problem(&self, out: &mut Vec<u8>, asker: &Asker<'_>, problem: &Problem<'_>) -> usize {
        self.repeats.borrow_mut().problem(out, asker, problem)
    }

    /// Requests that were decided on under it.
    pub(super) const fn again(&self) -> &RefCell<Again> {
        &self.again
    }

    /// Connections to a site's origin.
    pub fn pool(&self, site: SiteIndex) -> &Rc<Pool> {
        &self.pools[site.index()]
    }
}
