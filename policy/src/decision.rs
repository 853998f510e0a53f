//! The verdict on one request: its reason, what it costs whom, and the row that is logged of it.
//!
//! In: what `decide` found. Out: small values that the exchange acts on and the log is written from.
//! Always holds: a reason's word and number never change their meaning; words are in the log, in answers and in metrics.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::ids::{PlanIndex, ResourceIndex, SiteIndex, SubscriptionIndex, TokenIndex};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:expr, $title:literal;)*) => {
        /// Why a request was decided as it was: the stable machine words of PRODUCT.md's decision table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, by its number.
            pub const ALL: &[Self] = &[$(Self::$name),*];
            /// How many reasons there are: the size of an array indexed by `reason as usize`.
            pub const COUNT: usize = Self::ALL.len();

            /// The word in log, answers and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The status of the gateway's own answer; `None` where the request is forwarded.
            #[must_use]
            pub const fn status(self) -> Option<u16> {
                match self { $(Self::$name => $status,)* }
            }

            /// One short sentence for people, the `title` of a problem document.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

reasons! {
    /// All well.
    Ok = "ok", None, "OK";
    /// Past due, but within the plan's grace.
    Grace = "grace", None, "OK, payment is past due";
    /// Past the limit, and the plan allows it.
    Overage = "overage", None, "OK, over the quota";
    /// It could not be known whether units are left, and the site lets such requests through.
    Unmetered = "unmetered", None, "OK, not metered";
    /// Not a paid resource.
    Unprotected = "unprotected", None, "OK, not a paid resource";
    /// A CORS preflight.
    Preflight = "preflight", None, "OK, a CORS preflight";
    /// Not HTTP that can be understood one way only; other statuses than 400 are the parser's to say.
    RequestMalformed = "request_malformed", Some(400), "The request is malformed";
    /// The request's head did not arrive in time.
    RequestTimeout = "request_timeout", Some(408), "The request took too long to arrive";
    /// The address names no site.
    SiteUnknown = "site_unknown", Some(404), "No API is served at this address";
    /// The resource is blocked.
    ResourceBlocked = "resource_blocked", Some(403), "This resource is blocked";
    /// A paid resource without a token.
    TokenMissing = "token_missing", Some(401), "An API key is needed";
    /// Malformed, a bad checksum, unknown, or of another site.
    TokenUnknown = "token_unknown", Some(401), "The API key is not known";
    /// Revoked.
    TokenRevoked = "token_revoked", Some(401), "The API key was revoked";
    /// Past its expiry.
    TokenExpired = "token_expired", Some(401), "The API key has expired";
    /// The client's address is outside the token's `allow_from`.
    AddressForbidden = "address_forbidden", Some(403), "The API key may not be used from this address";
    /// The subscription is neither active, trialing nor past due within its grace.
    SubscriptionInactive = "subscription_inactive", Some(402), "The subscription is not active";
    /// The plan, or the token's own narrower list, does not include the resource.
    PlanExcludesResource = "plan_excludes_resource", Some(403), "The plan does not include this resource";
    /// The rate limit.
    RateLimited = "rate_limited", Some(429), "Too many requests in a short time";
    /// The concurrency limit.
    ConcurrencyLimited = "concurrency_limited", Some(429), "Too many requests at the same time";
    /// No units are left.
    QuotaExhausted = "quota_exhausted", Some(429), "The quota is used up";
    /// It cannot be known whether units are left.
    LedgerUnreachable = "ledger_unreachable", Some(503), "The quota cannot be checked at the moment";
    /// Shutting down.
    Draining = "draining", Some(503), "The gateway is shutting down";
    /// The journal is full, and the operator chose to refuse then.
    JournalFull = "journal_full", Some(503), "The gateway cannot record requests at the moment";
    /// No byte of an answer came from the origin.
    OriginUnreachable = "origin_unreachable", Some(502), "The API cannot be reached";
    /// The origin sent something that is no answer, or a 101 nobody asked for.
    OriginInvalid = "origin_invalid", Some(502), "The API sent an invalid response";
    /// The origin did not answer in time.
    OriginTimeout = "origin_timeout", Some(504), "The API did not answer in time";
    /// Nothing is there under the gateway's own `/.payfence/`.
    NotFound = "not_found", Some(404), "There is nothing at this address";
}

impl Reason {
    /// Whether the request was let through to the origin. What the origin then made of it does not matter: a request
    /// that was forwarded and failed there was still allowed.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::OriginUnreachable | Self::OriginInvalid | Self::OriginTimeout => Verdict::Allow,
            _ if self.status().is_none() => Verdict::Allow,
            _ => Verdict::Deny,
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Allowed or denied, as the log says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Forwarded to the origin.
    Allow,
    /// Answered by the gateway.
    Deny,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answer it with the reason's status.
    Refuse,
    /// Forward it, free of charge.
    Forward,
    /// Ask the budget (rows 11–15); the reason is `ok` or `grace` and stands if the budget admits.
    Meter,
}

/// What was decided on one request from policy alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The site.
    pub site: SiteIndex,
    /// What to do.
    pub outcome: Outcome,
    /// Why; provisional where the budget has yet to be asked.
    pub reason: Reason,
    /// The resource that decided; `None` where no pattern applies.
    pub resource: Option<ResourceIndex>,
    /// The token, as soon as it is known to be one of this site.
    pub token: Option<TokenIndex>,
    /// The token's subscription.
    pub subscription: Option<SubscriptionIndex>,
    /// The subscription's plan.
    pub plan: Option<PlanIndex>,
    /// Units to charge; 0 unless the outcome is [`Outcome::Meter`].
    pub cost: u64,
    /// Whether the value looked up was a key of another system: it is then kept from the origin.
    pub foreign_looked_up: bool,
}

/// One row of the decision log, with the fields and names of `payfence journal cat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Record<'a> {
    /// When the decision was made; Unix nanoseconds here, RFC 3339 in JSON.
    #[serde(rename = "time", serialize_with = "as_rfc3339")]
    pub time_ns: i64,
    /// The node's name.
    pub node: &'a str,
    /// Random number of this start of the node.
    pub epoch: u64,
    /// The shard that decided.
    pub shard: u16,
    /// Number of the row within (node, epoch, shard).
    pub seq: u64,
    /// The site's slug.
    pub site: &'a str,
    /// The subscription's customer.
    pub customer: Option<&'a str>,
    /// The subscription's id.
    pub subscription: Option<&'a str>,
    /// The id of the quota period that was charged.
    pub period: Option<u64>,
    /// The token's id; never the token.
    pub token_id: Option<&'a str>,
    /// The plan's id.
    pub plan: Option<&'a str>,
    /// The pattern that decided, as written; `*` for what no pattern names on a site that is paid by default.
    pub resource: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The path as received, without the query.
    pub path: &'a str,
    /// `http/1.0`, `http/1.1`.
    pub protocol: &'a str,
    /// Allowed or denied.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The status sent to the client; `None` when a crash cut the request off.
    pub status: Option<u16>,
    /// Units charged, after refund or correction.
    pub charge: u64,
    /// Units left after this request; `None` where unlimited or not known.
    pub remaining: Option<u64>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// From the first byte sent to the origin to its response head, microseconds; `None` when it was not asked.
    pub origin_us: Option<u64>,
    /// From the first byte received to the last byte sent, microseconds.
    pub total_us: u64,
    /// As in the `PayFence-Request-Id` header.
    pub request_id: &'a str,
    /// The client's address, whole or its network, where the operator has it logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// Unix nanoseconds as RFC 3339 in UTC, with microseconds.
fn as_rfc3339<S: Serializer>(time_ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(*time_ns))
        .map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
