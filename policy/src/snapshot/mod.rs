//! The compiled, immutable, checksummed form of a policy, as a node holds it.
//!
//! In: bytes from [`crate::compile::compile`], or a file with them. Out: a [`Snapshot`] that shards share in an `Arc` and
//! read in place; sites, plans, subscriptions and tokens as borrowed views.
//! Always holds of a loaded snapshot: its checksum fits, every index in it points where it may, every pattern parses and
//! every site's matcher was built. Bytes that fail any check are refused whole; nothing of them is ever read again.

mod check;
pub(crate) mod header;
pub(crate) mod layout;
mod map;
pub(crate) mod token_table;
mod views;

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;

pub use self::check::Invalid;
pub use self::header::{FORMAT_VERSION, HeaderError};
pub(crate) use self::views::to_v6;
pub use self::views::{
    ClientFilesView, OriginTlsView, OriginView, PlanView, ResourceView, SiteView, SubscriptionView,
    TokenView,
};
use crate::budget::Terms;
use crate::decide::calendar_of;
use crate::ids::{PlanIndex, ResourceIndex, SiteIndex, SubscriptionIndex, TokenIndex};
use crate::matcher::Matcher;
use crate::token::TokenHash;

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

/// A loaded policy.
#[derive(Debug)]
pub struct Snapshot {
    map: map::Map,
    sequence: u64,
    runtimes: Vec<SiteRuntime>,
    names: SiteNames,
}

/// What is built of a site at load.
#[derive(Debug)]
struct SiteRuntime {
    matcher: Matcher,
}

/// Sites by the names that addresses give them.
#[derive(Debug, Default)]
pub(crate) struct SiteNames {
    /// By slug.
    pub(crate) slugs: HashMap<Box<[u8]>, SiteIndex>,
    /// By custom host, lower-case.
    pub(crate) hosts: HashMap<Box<[u8]>, SiteIndex>,
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
        let sequence = header::check(backing.bytes())?;
        let map = map::Map::new(backing)?;
        let (matchers, names) = check::check(map.body())?;
        let runtimes = matchers.into_iter().map(|matcher| SiteRuntime { matcher }).collect();
        Ok(Self { map, sequence, runtimes, names })
    }

    /// The number that orders snapshots: the higher is the newer.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes of the snapshot, header included.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.map.len_bytes()
    }

    /// Every site.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = SiteView<'_>> {
        let rows = self.map.body().sites.iter().zip(&self.runtimes);
        rows.enumerate().map(|(position, (row, runtime))| {
            let index = SiteIndex(u32::try_from(position).unwrap_or(u32::MAX));
            SiteView { index, row, matcher: &runtime.matcher, body: self.map.body() }
        })
    }

    /// A site.
    #[must_use]
    pub fn site(&self, index: SiteIndex) -> Option<SiteView<'_>> {
        let body = self.map.body();
        let row = body.sites.get(index.index())?;
        let matcher = &self.runtimes.get(index.index())?.matcher;
        Some(SiteView { index, row, matcher, body })
    }

    /// A site by its slug.
    #[must_use]
    pub fn site_by_slug(&self, slug: &str) -> Option<SiteView<'_>> {
        self.site(*self.names.slugs.get(slug.as_bytes())?)
    }

    /// A resource.
    #[must_use]
    pub fn resource(&self, index: ResourceIndex) -> Option<ResourceView<'_>> {
        self.map.body().resources.get(index.index()).map(|row| ResourceView { index, row })
    }

    /// A plan.
    #[must_use]
    pub fn plan(&self, index: PlanIndex) -> Option<PlanView<'_>> {
        self.map.body().plans.get(index.index()).map(|row| PlanView { index, row })
    }

    /// A subscription.
    #[must_use]
    pub fn subscription(&self, index: SubscriptionIndex) -> Option<SubscriptionView<'_>> {
        let body = self.map.body();
        body.subscriptions.get(index.index()).map(|row| SubscriptionView { index, row })
    }

    /// A token.
    #[must_use]
    pub fn token(&self, index: TokenIndex) -> Option<TokenView<'_>> {
        let body = self.map.body();
        body.tokens.get(index.index()).map(|row| TokenView { index, row, body })
    }

    /// How many tokens there are.
    #[must_use]
    pub fn tokens_len(&self) -> usize {
        self.map.body().tokens.len()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriptions_len(&self) -> usize {
        self.map.body().subscriptions.len()
    }

    /// Finds a token by its hash; the subscription it belongs to may be of any site.
    #[must_use]
    pub fn find_token(&self, hash: &TokenHash) -> Option<(TokenIndex, SubscriptionIndex)> {
        let body = self.map.body();
        token_table::find(&body.slots, body.slot_homes.to_native(), hash)
    }

    /// What limits a subscription, for the budget.
    #[must_use]
    pub fn terms(&self, index: SubscriptionIndex) -> Option<Terms> {
        let subscription = self.subscription(index)?;
        let plan = self.plan(subscription.plan())?;
        Some(Terms {
            version: self.sequence,
            limit: plan.quota().map(|quota| quota.requests),
            overage: plan.overage(),
            calendar: calendar_of(&subscription, &plan),
            rate: plan.rate_limit(),
            concurrency: plan.concurrency(),
        })
    }

    pub(crate) fn names(&self) -> &SiteNames {
        &self.names
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
