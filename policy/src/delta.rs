//! What changed of a policy since a snapshot, as it is sent to nodes and kept on their disks.
//!
//! In: changes by value. Out: checked bytes, and back; [`Snapshot::apply`](crate::snapshot::Snapshot::apply) takes them.
//! A subscription always comes whole, with all its tokens: what it had before is gone. Sites come all together, compiled.
//! Always holds: bytes that decode were encoded by this format's version and have not changed; every count and text is
//! bounded, and what a delta may say of a subscription a base may hold.

use std::collections::HashSet;

use rkyv::rancor::Error;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::budget::EntitlementId;
use crate::ids::entitlement_id;
use crate::matcher::Pattern;
use crate::model::{Site, Status, Subscription, address, header};
use crate::snapshot::header::{DELTA_MAGIC, HEADER_BYTES, HeaderError, check_as, seal_as};
use crate::snapshot::layout::{
    AdjustmentRow, NetworkRow, adjustment_rows, are_adjustments, network_row, status_code,
    status_of,
};

/// The largest encoded delta, bytes.
pub const DELTA_BYTES_MAX: usize = 16 << 20;
/// Changes of one delta.
pub const CHANGES_MAX: usize = 64 * 1024;
/// Tokens of one subscription in a delta.
pub const TOKENS_MAX: usize = 64 * 1024;
/// Networks of one token, as in a policy file.
const NETWORKS_MAX: usize = 1_000;
/// Patterns that one token is narrowed to, as in a policy file.
const RESOURCES_MAX: usize = 10_000;

/// A subscription as it now is.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionState {
    /// The slug of its site.
    pub slug: String,
    /// Unique within the site.
    pub id: String,
    /// Who pays.
    pub customer: String,
    /// The id of its plan within the site.
    pub plan: String,
    /// See `layout::status_of`.
    status: u8,
    /// Since when it is past due, Unix seconds; `None` for the period's start.
    pub past_due_since_s: Option<i64>,
    /// An instant at which a period begins, Unix seconds; `None` for the calendar's.
    pub period_anchor_s: Option<i64>,
    /// Units given or taken by hand.
    pub(crate) adjustments: Vec<AdjustmentRow>,
    /// All its tokens.
    pub tokens: Vec<TokenState>,
}

/// A token as it now is.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Unique within the site; never the token itself; at most 255 bytes.
    pub id: String,
    /// SHA-256 of the token; once in a subscription. Of two subscriptions that both have it the one told of last does.
    pub hash: [u8; 32],
    /// From when on it is refused, Unix seconds; `i64::MAX` for never.
    pub expires_at_s: i64,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Networks it may be used from; empty for any.
    pub(crate) networks: Vec<NetworkRow>,
    /// Patterns of the resources it is narrowed to, as written; `None` for all its plan includes.
    pub resources: Option<Vec<String>>,
}

impl SubscriptionState {
    /// A subscription of `site` as the model has it. Where the model does not have its plan it is of none, and answers as an unknown
    /// token.
    #[must_use]
    pub fn new(site: &Site, subscription: &Subscription) -> Self {
        let plan = site.plans.get(subscription.plan as usize);
        let tokens = subscription.tokens.iter().map(|token| TokenState {
            id: token.id.clone(),
            hash: token.hash.0,
            expires_at_s: token.expires_at_s.unwrap_or(i64::MAX),
            is_revoked: token.is_revoked,
            networks: token.allow_from.iter().map(network_row).collect(),
            resources: token.resources.clone(),
        });
        Self {
            slug: site.slug.clone(),
            id: subscription.id.clone(),
            customer: subscription.customer.clone(),
            plan: plan.map(|plan| plan.id.clone()).unwrap_or_default(),
            status: status_code(subscription.status),
            past_due_since_s: subscription.past_due_since_s,
            period_anchor_s: subscription.period_anchor_s,
            adjustments: adjustment_rows(&subscription.adjustments),
            tokens: tokens.collect(),
        }
    }

    /// What is counted.
    #[must_use]
    pub fn entitlement(&self) -> EntitlementId {
        entitlement_id(&self.slug, &self.id)
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        status_of(self.status).unwrap_or(Status::Unpaid)
    }

    /// Whether a base could hold it too, where its plan and resources are there.
    fn is_sound(&self) -> bool {
        let mut hashes = HashSet::with_capacity(self.tokens.len().min(TOKENS_MAX));
        address::is_slug(&self.slug)
            && header::is_value(&self.id)
            && header::is_value(&self.customer)
            && (self.plan.is_empty() || header::is_value(&self.plan))
            && status_of(self.status).is_some()
            && are_adjustments(self.adjustments.iter().map(|row| row.units))
            && self.tokens.len() <= TOKENS_MAX
            && self.tokens.iter().all(|token| token.is_sound() && hashes.insert(token.hash))
    }
}

impl TokenState {
    fn is_sound(&self) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let patterns = self.resources.as_deref().unwrap_or_default();
        (1..=usize::from(u8::MAX)).contains(&self.id.len())
            && self.id.bytes().all(is_plain)
            && self.networks.len() <= NETWORKS_MAX
            && self.networks.iter().all(|network| network.prefix_bits <= 128)
            && patterns.len() <= RESOURCES_MAX
            && patterns.iter().all(|pattern| Pattern::parse(pattern).is_ok())
    }
}

/// One change.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All sites with their resources and plans: what [`compile_sites`](crate::compile::compile_sites) made.
    Sites(Vec<u8>),
    /// A subscription that is new, or no longer as it was.
    Subscription(SubscriptionState),
    /// A subscription that is no more, by its entitlement.
    Gone(u128),
}

/// The changes between two snapshots.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The sequence of the snapshot it applies to.
    pub from: u64,
    /// The sequence of the snapshot it makes.
    pub to: u64,
    /// In order: a later one of the same subscription wins.
    pub changes: Vec<Change>,
}

/// Why a delta is refused.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The header or the checksum is wrong.
    #[error("a change of the policy cannot be read: {0}")]
    Header(#[from] HeaderError),
    /// Its structure is broken.
    #[error("the structure of a change of the policy is broken: {0}")]
    Structure(#[from] Error),
    /// Something in it can mean nothing, or is past a bound.
    #[error("a change of the policy contradicts itself: {0}")]
    Invalid(&'static str),
}

impl Delta {
    /// Its bytes.
    ///
    /// # Errors
    /// When it is past a bound: send a new base instead.
    pub fn encode(&self) -> Result<Vec<u8>, DeltaError> {
        self.check()?;
        let mut bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, vec![0; HEADER_BYTES])?;
        seal_as(DELTA_MAGIC, &mut bytes, self.to);
        if bytes.len() > DELTA_BYTES_MAX {
            return Err(DeltaError::Invalid("it is too long"));
        }
        Ok(bytes)
    }

    /// From bytes, which need not be aligned.
    ///
    /// # Errors
    /// [`DeltaError`] on bytes that `encode` did not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, DeltaError> {
        if bytes.len() > DELTA_BYTES_MAX {
            return Err(DeltaError::Invalid("it is too long"));
        }
        check_as(DELTA_MAGIC, bytes)?;
        let mut aligned = AlignedVec::<16>::new();
        aligned.extend_from_slice(bytes.get(HEADER_BYTES..).unwrap_or_default());
        let delta = rkyv::from_bytes::<Self, Error>(&aligned)?;
        delta.check()?;
        Ok(delta)
    }

    fn check(&self) -> Result<(), DeltaError> {
        if self.from >= self.to {
            return Err(DeltaError::Invalid("it leads nowhere"));
        }
        if self.changes.len() > CHANGES_MAX {
            return Err(DeltaError::Invalid("it has too many changes"));
        }
        let is_sound = |change: &Change| match change {
            Change::Sites(_) | Change::Gone(_) => true,
            Change::Subscription(state) => state.is_sound(),
        };
        if !self.changes.iter().all(is_sound) {
            return Err(DeltaError::Invalid("a subscription"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
