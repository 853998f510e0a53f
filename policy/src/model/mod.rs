//! The validated model of a policy: what the policy file, or later the control plane's rows, say.
//!
//! In: TOML text (see `file`). Out: a [`Policy`] that the compiler turns into a snapshot.
//! Always holds of a policy that `file::parse` returned: slugs, hosts and token hashes are unique over the policy; ids
//! are unique within their site; every index points into its own site; every number is within the bounds given here.
//! Whoever builds one otherwise (the control plane) calls the same constructors of the parts; the compiler checks again.

pub mod address;
pub mod diagnostic;
pub mod file;
pub(crate) mod header;
mod plan_keys;
mod site_keys;
mod subscription_keys;
mod table;
pub(crate) mod tls;
mod tls_keys;

use ipnet::IpNet;

pub use self::address::{HostName, Origin, Scheme};
#[cfg(test)]
pub(crate) use self::site_keys::{rules_of, settings_of};
pub use self::tls::{ClientFiles, Hsts, OriginTls, PINS_MAX, Pin, pin_text};
pub use crate::budget::{Overage, Unit};
use crate::matcher::{Access, Pattern};
use crate::method::MethodSet;
use crate::token::TokenHash;

/// The largest number of units that a quota may have, or an overage cap: the largest integer of a structured field
/// (RFC 9651 §3.3.1), so that every figure fits the RateLimit header.
pub const UNITS_MAX: u64 = 999_999_999_999_999;
/// The largest cost of a resource, rate or burst, and the largest correction an origin may send.
pub const COST_MAX: u64 = 1_000_000_000;
/// The largest number of requests of one entitlement at the same time.
pub const CONCURRENCY_MAX: u64 = 1_000_000;
/// The longest grace, days.
pub const GRACE_DAYS_MAX: u64 = 366;
/// Earlier terms of a plan at most.
pub const EARLIER_MAX: usize = 200;
/// Adjustments of one subscription at most.
pub const ADJUSTMENTS_MAX: usize = 50;
/// The grace when a plan does not say, days.
pub const GRACE_DAYS_DEFAULT: u32 = 3;
/// How long a connection to an origin may take when a site does not say, milliseconds.
pub const CONNECT_TIMEOUT_MS_DEFAULT: u32 = 5_000;
/// How long an origin may take to its response head when a site does not say, milliseconds.
pub const RESPONSE_TIMEOUT_MS_DEFAULT: u32 = 60_000;
/// The header that carries tokens when a site does not say.
pub const TOKEN_HEADER_DEFAULT: &str = "X-API-Key";

/// All that a data plane needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// At least one.
    pub sites: Vec<Site>,
}

/// One API or MCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the policy file")]
pub struct Site {
    /// A DNS label in lower case; unique.
    pub slug: String,
    /// For people; the slug where the file does not say.
    pub name: String,
    /// Where requests go.
    pub origin: Origin,
    /// How the origin is known, and what it is shown; empty where it is spoken to in the clear.
    pub origin_tls: OriginTls,
    /// What browsers are to remember of its HTTPS.
    pub hsts: Option<Hsts>,
    /// Custom hosts.
    pub hosts: Vec<HostName>,
    /// Where a customer can buy more.
    pub upgrade_url: Option<String>,
    /// Whether what no resource names is paid.
    pub default_paid: bool,
    /// Whether the origin tells `/A` from `/a`.
    pub case_sensitive: bool,
    /// Whether the origin receives the token.
    pub forward_token: bool,
    /// Whether keys of other systems are taken.
    pub foreign_tokens: bool,
    /// The header for tokens besides `Authorization`.
    pub token_header: String,
    /// The query parameter for tokens.
    pub token_query: Option<String>,
    /// Headers added to every request to the origin, in place of the client's of the same name.
    pub origin_headers: Vec<(String, String)>,
    /// Whether the origin receives the client's Host.
    pub preserve_host: bool,
    /// Whether headers that override path or method pass.
    pub allow_override_headers: bool,
    /// Origins that may read the gateway's own answers; `*` for any.
    pub cors_origins: Vec<String>,
    /// Until a connection to the origin stands, milliseconds.
    pub connect_timeout_ms: u32,
    /// Until the origin's response head, milliseconds.
    pub response_timeout_ms: u32,
    /// Whether requests pass while it cannot be known whether units are left.
    pub on_ledger_loss: OnLedgerLoss,
    /// Path patterns.
    pub resources: Vec<Resource>,
    /// Plans.
    pub plans: Vec<Plan>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// What happens to a request while it cannot be known whether units are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLedgerLoss {
    /// 503 `ledger_unreachable`.
    #[default]
    Closed,
    /// Forwarded as `unmetered`.
    Open,
}

/// A path pattern and what applies to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The pattern.
    pub pattern: Pattern,
    /// The methods it covers.
    pub methods: MethodSet,
    /// Paid, free or blocked.
    pub access: Access,
    /// Units a request costs; 1 to [`COST_MAX`].
    pub cost: u64,
}

/// Units of time with the words of the policy file.
pub const UNIT_WORDS: &[(&str, Unit)] = &[
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("year", Unit::Year),
];

/// What a resource asks, with the words of the policy file.
pub const ACCESS_WORDS: &[(&str, Access)] =
    &[("paid", Access::Paid), ("free", Access::Free), ("blocked", Access::Blocked)];

/// So many units in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units; at most [`UNITS_MAX`].
    pub requests: u64,
    /// The length of a period.
    pub per: Unit,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that flow in per unit; 1 to [`COST_MAX`].
    pub requests: u64,
    /// The unit of time.
    pub per: Unit,
    /// The bucket's whole capacity; 1 to [`COST_MAX`].
    pub burst: u64,
}

/// Price and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Unique within the site.
    pub id: String,
    /// `None` for unlimited.
    pub quota: Option<Quota>,
    /// `None` for none.
    pub rate_limit: Option<RateLimit>,
    /// Requests at the same time; `None` for any number.
    pub concurrency: Option<u32>,
    /// What happens when the quota is used up.
    pub overage: Overage,
    /// How long a past-due subscription is served, days.
    pub grace_days: u32,
    /// Positions in [`Site::resources`], ascending; `None` for all paid ones.
    pub resources: Option<Vec<u32>>,
    /// What it said before, for periods that run still; earliest first, at most [`EARLIER_MAX`].
    pub earlier: Vec<EarlierTerms>,
}

/// What a plan said until some time: subscriptions keep it until the period ends that they were in then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierTerms {
    /// Periods that began before this go on with it, Unix seconds.
    pub until_s: i64,
    /// What it said. Its id is not looked at, and it has no earlier terms itself.
    pub terms: Plan,
}

/// Where a subscription stands, in Stripe's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Waiting for its first payment.
    Incomplete,
    /// The first payment never came.
    IncompleteExpired,
    /// In its trial.
    Trialing,
    /// Paid.
    Active,
    /// A renewal was not paid.
    PastDue,
    /// Ended.
    Canceled,
    /// Given up on.
    Unpaid,
    /// Paused.
    Paused,
}

impl Status {
    /// All of them with Stripe's words.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("incomplete", Self::Incomplete),
        ("incomplete_expired", Self::IncompleteExpired),
        ("trialing", Self::Trialing),
        ("active", Self::Active),
        ("past_due", Self::PastDue),
        ("canceled", Self::Canceled),
        ("unpaid", Self::Unpaid),
        ("paused", Self::Paused),
    ];

    /// Stripe's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, status)| *status == self).map_or("", |(word, _)| word)
    }
}

/// A customer on a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Unique within the site.
    pub id: String,
    /// Position in [`Site::plans`].
    pub plan: u32,
    /// Who pays.
    pub customer: String,
    /// Where it stands.
    pub status: Status,
    /// Since when it is past due, Unix seconds; `None` for the period's start.
    pub past_due_since_s: Option<i64>,
    /// An instant at which a period begins, Unix seconds; `None` for the calendar's.
    pub period_anchor_s: Option<i64>,
    /// Units given or taken by hand; at most [`ADJUSTMENTS_MAX`].
    pub adjustments: Vec<Adjustment>,
    /// API keys.
    pub tokens: Vec<Token>,
}

/// Units that a subscription has beside its plan's quota. They count where the plan has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// Until when they count, Unix seconds: the end of a period; `i64::MAX` for every period.
    pub until_s: i64,
    /// Units, negative ones taken.
    pub units: i64,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Unique within the site.
    pub id: String,
    /// All that is known of the key itself; unique over the policy.
    pub hash: TokenHash,
    /// From when on it is refused, Unix seconds.
    pub expires_at_s: Option<i64>,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Networks it may be used from; empty for any.
    pub allow_from: Vec<IpNet>,
    /// Patterns of resources that it is narrowed to, as written, in order, each once; `None` for all its plan includes. One that no
    /// resource has includes nothing, until one has it again.
    pub resources: Option<Vec<String>>,
}
