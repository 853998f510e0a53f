//! Who may do what: roles, and the scopes that narrow a key further.
//!
//! In: a role, a key's scopes, an area and whether it is written. Out: yes or no.
//! Always holds: scopes only take away; a key gives no key more than it has itself; roles are ordered, so the least of a
//! key's and its member's counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a member or a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything but secrets.
    Viewer,
    /// Reads everything; writes plans, customers, subscriptions and entitlements.
    Billing,
    /// Everything but accounts and members.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// All of them, with their words.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("owner", Self::Owner),
        ("admin", Self::Admin),
        ("billing", Self::Billing),
        ("viewer", Self::Viewer),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, role)| *role == self).map_or("viewer", |(word, _)| word)
    }

    /// From its word; a word that is none is the least of them.
    #[must_use]
    pub fn of(word: &str) -> Self {
        Self::WORDS.iter().find(|(known, _)| *known == word).map_or(Self::Viewer, |(_, role)| *role)
    }

    /// Whether this role may read or write in an area at all.
    #[must_use]
    pub fn may(self, area: Area, is_write: bool) -> bool {
        match (self, is_write) {
            (Self::Owner, _) | (_, false) => true,
            (Self::Admin, true) => !matches!(area, Area::Account | Area::Members),
            (Self::Billing, true) => {
                matches!(area, Area::Plans | Area::Customers | Area::Subscriptions)
            }
            (Self::Viewer, true) => false,
        }
    }

    /// Whether a holder of this role may give `other`.
    #[must_use]
    pub fn may_give(self, other: Self) -> bool {
        other <= self
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The account itself.
    Account,
    /// Its members.
    Members,
    /// Its keys for this API.
    AdminKeys,
    /// Sites and their resources.
    Sites,
    /// Plans.
    Plans,
    /// Customers.
    Customers,
    /// Subscriptions and entitlements.
    Subscriptions,
    /// Tokens.
    Tokens,
    /// Nodes and their tokens.
    Nodes,
    /// Usage and decisions.
    Usage,
    /// The audit log.
    Audit,
    /// Where the owner's programs are told of events.
    Webhooks,
}

impl Area {
    /// All of them, with their words in scopes.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("account", Self::Account),
        ("members", Self::Members),
        ("admin_keys", Self::AdminKeys),
        ("sites", Self::Sites),
        ("plans", Self::Plans),
        ("customers", Self::Customers),
        ("subscriptions", Self::Subscriptions),
        ("tokens", Self::Tokens),
        ("nodes", Self::Nodes),
        ("usage", Self::Usage),
        ("audit", Self::Audit),
        ("webhooks", Self::Webhooks),
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, area)| *area == self).map_or("", |(word, _)| word)
    }
}

/// Whether `text` is a scope: `AREA:read` or `AREA:write`.
///
/// # Errors
/// What is allowed.
pub fn check_scope(text: &str) -> Result<(), String> {
    if let Some((area, right)) = text.split_once(':')
        && Area::WORDS.iter().any(|(word, _)| *word == area)
        && matches!(right, "read" | "write")
    {
        return Ok(());
    }
    let areas: Vec<&str> = Area::WORDS.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "expected AREA:read or AREA:write (which includes read), with one of {}",
        areas.join(", ")
    ))
}

/// Whether a key with these scopes may do it; without scopes the role alone decides.
#[must_use]
pub fn scopes_allow(scopes: Option<&[String]>, area: Area, is_write: bool) -> bool {
    let Some(scopes) = scopes else { return true };
    scopes.iter().any(|scope| {
        scope
            .split_once(':')
            .is_some_and(|(word, right)| word == area.as_str() && (right == "write" || !is_write))
    })
}

#[cfg(test)]
#[path = "permission_tests.rs"]
mod tests;
