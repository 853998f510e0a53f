//! Numbers that name things: positions in a snapshot, and the identity of what is counted.
//!
//! In: positions and ids. Out: newtypes that cannot be confused with each other.
//! Always holds: an index is meaningful only with the snapshot it came from; an entitlement's id is the same on every
//! node and in every snapshot, for it is made of the site's slug and the subscription's id alone.

use sha2::{Digest, Sha256};

pub use crate::budget::EntitlementId;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position as an array index.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// A site's position in its snapshot.
    SiteIndex
);
index!(
    /// A plan's position among all plans of its snapshot.
    PlanIndex
);
index!(
    /// A subscription's position among all subscriptions of its snapshot.
    SubscriptionIndex
);
index!(
    /// A token's position among all tokens of its snapshot.
    TokenIndex
);
index!(
    /// A resource's position among all resources of its snapshot. A site with `default = "paid"` has one more than it
    /// names: `*`, the last of its resources.
    ResourceIndex
);

/// The identity of an entitlement: the first 16 bytes (big-endian) of SHA-256 over the site's slug, a zero byte and the
/// subscription's id.
#[must_use]
pub fn entitlement_id(slug: &str, subscription_id: &str) -> EntitlementId {
    let mut hasher = Sha256::new();
    hasher.update(slug.as_bytes());
    hasher.update([0]);
    hasher.update(subscription_id.as_bytes());
    let digest = hasher.finalize();
    EntitlementId(digest.iter().take(16).fold(0, |id, byte| (id << 8) | u128::from(*byte)))
}
