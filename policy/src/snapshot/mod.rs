//! The compiled, immutable, checksummed form of a policy, as a node holds it.
//!
//! In: bytes from [`crate::compile::compile`], or a file with them. Out: a [`Snapshot`] that shards share in an `Arc` and
//! read in place; sites, plans, subscriptions and tokens as borrowed views.
//! A [`Delta`](crate::delta::Delta) makes the next snapshot of one: new sites, or subscriptions over those of the base.
//! Always holds of a loaded snapshot: its checksum fits, every index in it points where it may, every pattern parses and
//! every site's matcher was built. Bytes that fail any check are refused whole; nothing of them is ever read again.

mod check;
pub(crate) mod header;
mod holder_views;
pub(crate) mod layout;
mod map;
mod overlay;
pub(crate) mod token_table;
mod translation;
mod views;

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

pub use self::check::Invalid;
pub use self::header::{FORMAT_VERSION, HeaderError};
pub use self::holder_views::{SubscriptionView, TokenView};
use self::layout::ArchivedBody;
use self::overlay::{OVERLAY, Overlay};
use self::translation::Translation;
pub(crate) use self::views::to_v6;
pub use self::views::{
    ClientFilesView, OriginTlsView, OriginView, PlanView, ResourceView, SiteView,
};
use crate::budget::{EntitlementId, Terms};
use crate::decide::calendar_of;
use crate::delta::{Change, Delta};
use crate::ids::{PlanIndex, ResourceIndex, SiteIndex, SubscriptionIndex, TokenIndex};
use crate::matcher::Matcher;
use crate::model::{Quota, UNITS_MAX};
use crate::token::TokenHash;

/// Bits of a version of terms that say how many earlier terms of a plan, and adjustments, are over.
const VERSION_BITS: u32 = 8;

/// Why a snapshot is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be mapped.
    #[error("cannot map the snapshot into memory: {0}")]
    Map(#[from] std::io::Error),
    /// The header or the checksum is wrong.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The archive's own structure is broken.
    #[error("the snapshot's structure is broken: {0}")]
    Structure(#[from] rkyv::rancor::Error),
    /// It contradicts itself.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A policy in force: sites, a base of subscriptions and tokens, and what changed of these since.
///
/// A policy file's is one archive that is both. Cloning one, and applying a delta to it, costs nothing that grows with the base.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of its archive sites, resources and plans count.
    sites: Arc<Part>,
    /// Of its archive subscriptions and tokens count, where the overlay says nothing else.
    base: Arc<Part>,
    /// From the base's positions of sites, plans and resources to those of `sites`; none where they are the same archive.
    translation: Option<Arc<Translation>>,
    overlay: Overlay,
    sequence: u64,
}

/// One archive and what is built of it.
#[derive(Debug)]
struct Part {
    map: map::Map,
    sequence: u64,
    runtimes: Vec<SiteRuntime>,
    names: SiteNames,
}

/// Why a delta is not applied; the snapshot it was for stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Changes between the two are missing.
    #[error("the change applies to sequence {from}, and this is {sequence}")]
    Gap {
        /// What it applies to.
        from: u64,
        /// What is in force.
        sequence: u64,
    },
    /// Its sites are no good.
    #[error("the sites of the change are refused: {0}")]
    Sites(#[from] LoadError),
    /// There is no room for more changes over this base.
    #[error("too much has changed since the base: a new one is needed")]
    Full,
}

/// What is built of a site at load.
#[derive(Debug)]
struct SiteRuntime {
    matcher: Matcher,
}

/// Seeded, and a quarter of SipHash's time for a host. Who could choose names that collide are those who name sites, not those
/// who ask for them: a client's name is looked up and never kept.
type NameHasher = foldhash::fast::RandomState;

/// Sites by the names that addresses give them.
#[derive(Debug, Default)]
pub(crate) struct SiteNames {
    /// By slug.
    pub(crate) slugs: HashMap<Box<[u8]>, SiteIndex, NameHasher>,
    /// By custom host, lower-case.
    pub(crate) hosts: HashMap<Box<[u8]>, SiteIndex, NameHasher>,
    /// By custom host that is an address.
    pub(crate) addresses: HashMap<IpAddr, SiteIndex>,
}

impl Snapshot {
    /// Loads a snapshot from bytes, which are copied.
    ///
    /// # Errors
    /// [`LoadError`] on bytes that are not a snapshot that `compile` could have made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::load(map::Backing::copy_of(bytes)?)
    }

    /// Maps a snapshot file, which must never be written to afterwards: replace it by renaming another over it.
    ///
    /// # Errors
    /// [`LoadError`] when it cannot be mapped, or its bytes are not a snapshot that `compile` could have made.
    pub fn from_file(file: &File) -> Result<Self, LoadError> {
        Self::load(map::Backing::map(file)?)
    }

    fn load(backing: map::Backing) -> Result<Self, LoadError> {
        let part = Arc::new(Part::load(backing)?);
        Ok(Self {
            sequence: part.sequence,
            sites: Arc::clone(&part),
            base: part,
            translation: None,
            overlay: Overlay::default(),
        })
    }

    /// The snapshot with the changes of a delta. One that was applied already changes nothing.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing of the delta is then in force.
    pub fn apply(&self, delta: &Delta) -> Result<Self, ApplyError> {
        if delta.to <= self.sequence {
            return Ok(self.clone());
        }
        if delta.from > self.sequence {
            return Err(ApplyError::Gap { from: delta.from, sequence: self.sequence });
        }
        let mut next = Self { sequence: delta.to, ..self.clone() };
        for change in &delta.changes {
            match change {
                Change::Sites(bytes) => {
                    let copy = map::Backing::copy_of(bytes).map_err(LoadError::Map)?;
                    next.sites = Arc::new(Part::load(copy)?);
                    let translation = Translation::new(next.base.body(), &next.sites);
                    next.translation = Some(Arc::new(translation));
                }
                Change::Subscription(state) => {
                    next.overlay.put(state.clone()).map_err(|_| ApplyError::Full)?;
                }
                Change::Gone(id) => next.overlay.remove(EntitlementId(*id)),
            }
        }
        Ok(next)
    }

    /// The number that orders snapshots: the higher is the newer.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The sequence of the base, before any changes.
    #[must_use]
    pub fn base_sequence(&self) -> u64 {
        self.base.sequence
    }

    /// Subscriptions and tokens that changed since the base, those counted that were replaced again.
    #[must_use]
    pub fn overlay_len(&self) -> usize {
        self.overlay.len()
    }

    /// Whether sites, plans and resources are the very same, so that what was made for them stays good.
    #[must_use]
    pub fn has_sites_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sites, &other.sites)
    }

    /// Bytes of the base, header included.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.base.map.len_bytes()
    }

    /// Every site.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = SiteView<'_>> {
        let body = self.sites.body();
        let rows = body.sites.iter().zip(&self.sites.runtimes);
        rows.enumerate().map(move |(position, (row, runtime))| {
            let index = SiteIndex(u32::try_from(position).unwrap_or(u32::MAX));
            SiteView { index, row, matcher: &runtime.matcher, body }
        })
    }

    /// A site.
    #[must_use]
    pub fn site(&self, index: SiteIndex) -> Option<SiteView<'_>> {
        let body = self.sites.body();
        let row = body.sites.get(index.index())?;
        let matcher = &self.sites.runtimes.get(index.index())?.matcher;
        Some(SiteView { index, row, matcher, body })
    }

    /// A site by its slug.
    #[must_use]
    pub fn site_by_slug(&self, slug: &str) -> Option<SiteView<'_>> {
        self.site(*self.sites.names.slugs.get(slug.as_bytes())?)
    }

    /// A resource.
    #[must_use]
    pub fn resource(&self, index: ResourceIndex) -> Option<ResourceView<'_>> {
        self.sites.body().resources.get(index.index()).map(|row| ResourceView { index, row })
    }

    /// A plan.
    #[must_use]
    pub fn plan(&self, index: PlanIndex) -> Option<PlanView<'_>> {
        self.sites.body().plans.get(index.index()).map(|row| PlanView { index, row })
    }

    /// A subscription; none where its site or its plan is no more.
    #[must_use]
    pub fn subscription(&self, index: SubscriptionIndex) -> Option<SubscriptionView<'_>> {
        if index.0 & OVERLAY != 0 {
            let changed = self.overlay.subscription(index.0 & !OVERLAY)?;
            let site = self.site_by_slug(&changed.state.slug)?;
            let plan = site.plans().find(|plan| plan.id() == changed.state.plan)?.index();
            return Some(SubscriptionView::changed(index, changed, site.index(), plan));
        }
        let row = self.base.body().subscriptions.get(index.index())?;
        let (site, plan) = (SiteIndex(row.site.to_native()), PlanIndex(row.plan.to_native()));
        let (site, plan) = match &self.translation {
            None => (site, plan),
            Some(translation) => (translation.site(site)?, translation.plan(plan)?),
        };
        Some(SubscriptionView::of_base(index, row, site, plan))
    }

    /// Every subscription that counts and whose site and plan are there.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionView<'_>> {
        let of_base = (0..self.base.body().subscriptions.len())
            .filter_map(|position| u32::try_from(position).ok())
            .filter_map(|position| self.subscription(SubscriptionIndex(position)))
            .filter(|view| !self.overlay.supersedes(view.entitlement()));
        let changed = self
            .overlay
            .slots()
            .filter_map(|slot| self.subscription(SubscriptionIndex(slot | OVERLAY)));
        of_base.chain(changed)
    }

    /// A token.
    #[must_use]
    pub fn token(&self, index: TokenIndex) -> Option<TokenView<'_>> {
        if index.0 & OVERLAY != 0 {
            let state = self.overlay.token(index.0 & !OVERLAY)?;
            return Some(TokenView::changed(index, state, self.sites.body()));
        }
        let body = self.base.body();
        let row = body.tokens.get(index.index())?;
        Some(TokenView::of_base(index, row, body, self.sites.body()))
    }

    /// How many tokens the base has.
    #[must_use]
    pub fn tokens_len(&self) -> usize {
        self.base.body().tokens.len()
    }

    /// How many subscriptions the base has.
    #[must_use]
    pub fn subscriptions_len(&self) -> usize {
        self.base.body().subscriptions.len()
    }

    /// Finds a token by its hash; the subscription it belongs to may be of any site.
    #[must_use]
    pub fn find_token(&self, hash: &TokenHash) -> Option<(TokenIndex, SubscriptionIndex)> {
        let body = self.base.body();
        let in_base = || token_table::find(&body.slots, body.slot_homes.to_native(), hash);
        if self.overlay.is_empty() {
            return in_base();
        }
        self.overlay.find(hash).or_else(|| {
            let (token, subscription) = in_base()?;
            let row = body.subscriptions.get(subscription.index())?;
            let id = EntitlementId(row.entitlement.to_native());
            (!self.overlay.supersedes(id)).then_some((token, subscription))
        })
    }

    /// The plan of a subscription with what it says for the period that runs at `now_s` (Unix seconds): earlier terms, where the period
    /// began before they ended. And how many earlier terms are over.
    fn plan_at(
        &self,
        subscription: &SubscriptionView<'_>,
        now_s: i64,
    ) -> Option<(PlanView<'_>, u64)> {
        let plan = self.plan(subscription.plan())?;
        let earlier = plan.earlier();
        let count = earlier.len() as u64;
        for ((until_s, index), over) in earlier.zip(0..) {
            let terms = self.plan(index)?;
            if calendar_of(subscription, &terms).span(now_s).0 < until_s {
                return Some((terms, over));
            }
        }
        Some((plan, count))
    }

    /// What the plan of a subscription says for the period that runs at `now_s`, Unix seconds.
    #[must_use]
    pub fn plan_of(&self, subscription: &SubscriptionView<'_>, now_s: i64) -> Option<PlanView<'_>> {
        self.plan_at(subscription, now_s).map(|(plan, _)| plan)
    }

    /// What limits a subscription in the period that runs at `now_s` (Unix seconds), for the budget.
    #[must_use]
    pub fn terms(&self, index: SubscriptionIndex, now_s: i64) -> Option<Terms> {
        let subscription = self.subscription(index)?;
        let (plan, plans_over) = self.plan_at(&subscription, now_s)?;
        let (units, adjustments_over) = subscription.adjusted(now_s);
        let adjusted = |quota: Quota| quota.requests.saturating_add_signed(units).min(UNITS_MAX);
        Some(Terms {
            // Of one snapshot, later terms have the higher number.
            version: (self.sequence << VERSION_BITS) | (plans_over + adjustments_over),
            limit: plan.quota().map(adjusted),
            overage: plan.overage(),
            calendar: calendar_of(&subscription, &plan),
            rate: plan.rate_limit(),
            concurrency: plan.concurrency(),
        })
    }

    pub(crate) fn names(&self) -> &SiteNames {
        &self.sites.names
    }
}

impl Part {
    fn load(backing: map::Backing) -> Result<Self, LoadError> {
        let sequence = header::check(backing.bytes())?;
        let map = map::Map::new(backing)?;
        let (matchers, names) = check::check(map.body())?;
        let runtimes = matchers.into_iter().map(|matcher| SiteRuntime { matcher }).collect();
        Ok(Self { map, sequence, runtimes, names })
    }

    fn body(&self) -> &ArchivedBody {
        self.map.body()
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
