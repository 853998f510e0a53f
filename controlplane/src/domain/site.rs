//! What a caller may say of a site and its parts, in the words of the policy file.
//!
//! In: JSON. Out: types whose fields are known; bounds are the policy reader's business ([`super::policy_text`]).
//! Always holds: what is stored as `settings` is one of these types as JSON, without what is secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::object;
use super::price::{OveragePrice, PriceDraft};
use super::shapes::{HostName, MethodName, OriginPin, PatternName, WebOrigin};

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the policy file")]
pub enum Per {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// What applies to paths that no resource names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the policy file")]
pub enum DefaultAccess {
    Free,
    Paid,
}

/// What happens while it cannot be known whether units are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerLoss {
    /// 503.
    Closed,
    /// Forwarded, and settled later.
    Open,
}

/// `Strict-Transport-Security`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// 0 to 315360000.
    #[schema(maximum = 315_360_000)]
    pub max_age_seconds: u64,
    /// For every name below, too.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Onto the lists that browsers come with.
    #[serde(default)]
    pub preload: bool,
}

/// What follows from a dispute about a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDispute {
    /// It is written down.
    Flag,
    /// The subscription is refused until it is decided for the owner.
    Suspend,
}

/// What follows from giving a whole payment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFullRefund {
    /// It is written down.
    Keep,
    /// The subscription is ended.
    Cancel,
}

/// What can be said of a site. A field that is left out has the default of the policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteDraft {
    /// A DNS label in lower case; unique over all sites; cannot be changed.
    #[schema(max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", example = "weather")]
    pub slug: String,
    /// For people; the slug where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub name: Option<String>,
    /// The URL of the API; http or https, with a path prefix if wanted.
    #[schema(max_length = 2000, pattern = "^https?://", example = "https://api.example.com/v2")]
    pub origin: String,
    /// Keys that the origin must show: `sha256/BASE64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 8, value_type = Option<Vec<OriginPin>>)]
    pub origin_pins: Option<Vec<String>>,
    /// Custom hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000, value_type = Option<Vec<HostName>>)]
    pub hosts: Option<Vec<String>>,
    /// What browsers are to remember of its HTTPS.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub hsts: Option<Hsts>,
    /// Where a customer can buy more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 2000,
        pattern = "^https?://",
        example = "https://weather.example/pricing"
    )]
    pub upgrade_url: Option<String>,
    /// What applies to paths that no resource names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultAccess>,
    /// Whether the origin tells `/A` from `/a`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case_sensitive: Option<bool>,
    /// Whether the origin receives the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_token: Option<bool>,
    /// Whether keys of other systems are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign_tokens: Option<bool>,
    /// The header for tokens besides `Authorization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9-]{1,64}$", example = "X-API-Key")]
    pub token_header: Option<String>,
    /// The query parameter for tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,64}$")]
    pub token_query: Option<String>,
    /// Headers set on every request to the origin. Encrypted at rest and never shown again: an answer has their names
    /// in `origin_header_names`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_headers: Option<BTreeMap<String, String>>,
    /// Whether the origin receives the client's Host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_host: Option<bool>,
    /// Whether headers that override path or method pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_override_headers: Option<bool>,
    /// Web origins that may read the gateway's own answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1000, value_type = Option<Vec<WebOrigin>>)]
    pub cors_origins: Option<Vec<String>>,
    /// 1 to 600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 600_000)]
    pub connect_timeout_ms: Option<u32>,
    /// 1 to 86400000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 86_400_000)]
    pub response_timeout_ms: Option<u32>,
    /// What happens while it cannot be known whether units are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_ledger_loss: Option<LedgerLoss>,
    /// What follows from a dispute about a payment, `flag` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_dispute: Option<OnDispute>,
    /// What follows from giving a whole payment back, `keep` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_full_refund: Option<OnFullRefund>,
    /// Whether Stripe computes taxes for what is bought on the pricing page; the Stripe account must be set up for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automatic_tax: Option<bool>,
}

impl SiteDraft {
    /// The site as the policy file has it: without what is of money.
    #[must_use]
    pub fn policy_keys(&self) -> Map<String, Json> {
        let mut keys = keys_of(self);
        keys.remove("on_dispute");
        keys.remove("on_full_refund");
        keys.remove("automatic_tax");
        keys
    }

    /// Whether a dispute suspends.
    #[must_use]
    pub fn suspends_on_dispute(&self) -> bool {
        self.on_dispute == Some(OnDispute::Suspend)
    }

    /// Whether a full refund ends the subscription.
    #[must_use]
    pub fn cancels_on_full_refund(&self) -> bool {
        self.on_full_refund == Some(OnFullRefund::Cancel)
    }
}

/// What a path pattern asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the policy file")]
pub enum ResourceAccess {
    Paid,
    Free,
    Blocked,
}

/// What can be said of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceDraft {
    /// A path pattern.
    #[schema(max_length = 1024, pattern = "^/", example = "/api/v1/*")]
    pub pattern: String,
    /// The methods it covers; left out: every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 32, value_type = Option<Vec<MethodName>>)]
    pub methods: Option<Vec<String>>,
    /// `paid` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<ResourceAccess>,
    /// Units a request costs, 1 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub cost: Option<u64>,
}

/// So many units in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaDraft {
    /// Units.
    #[schema(maximum = 999_999_999_999_999_u64)]
    pub requests: u64,
    /// The length of a period.
    pub per: Per,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitDraft {
    /// Requests that flow in per unit of time.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub requests: u64,
    /// The unit of time.
    pub per: Per,
    /// The bucket's whole capacity; `requests` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub burst: Option<u64>,
}

/// What happens when a quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the policy file")]
pub enum OverageRule {
    Deny,
    Allow,
}

/// What can be said of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanDraft {
    /// The name that nodes, the origin and the log know it by; its id where it is left out; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200, pattern = "^[!-~]([ -~]*[!-~])?$", example = "pro")]
    pub reference: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub name: Option<String>,
    /// Left out: unlimited.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub quota: Option<QuotaDraft>,
    /// Left out: none.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub rate_limit: Option<RateLimitDraft>,
    /// Requests at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub concurrency: Option<u32>,
    /// `deny` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overage: Option<OverageRule>,
    /// Units past the limit at most; `price.overage.cap_amount` may allow fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 999_999_999_999_999_u64)]
    pub overage_cap: Option<u64>,
    /// How long a past-due subscription is still served, 3 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 366)]
    pub grace_days: Option<u32>,
    /// Patterns exactly as written in the site's resources; left out: all paid ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, value_type = Option<Vec<PatternName>>)]
    pub resources: Option<Vec<String>>,
    /// What it costs; left out: it is not for sale. Not part of the policy file.
    #[serde(
        default,
        deserialize_with = "object::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub price: Option<PriceDraft>,
}

impl PlanDraft {
    /// The plan as the policy file has it, by the name that nodes know it by.
    #[must_use]
    pub fn policy_keys(&self, reference: &str) -> Map<String, Json> {
        let mut keys = keys_of(self);
        keys.remove("reference");
        keys.remove("name");
        keys.remove("price");
        if let Some(cap) = self.cap_units() {
            keys.insert("overage_cap".to_owned(), cap.into());
        }
        keys.insert("id".to_owned(), reference.into());
        keys
    }

    /// Units past the limit at most: what the cap in units allows and the one in money pays for.
    #[must_use]
    pub fn cap_units(&self) -> Option<u64> {
        let overage = self.price.as_ref().and_then(|price| price.overage.as_ref());
        let paid = overage.and_then(OveragePrice::cap_units);
        [self.overage_cap, paid].into_iter().flatten().min()
    }
}

/// A draft's fields by name.
///
/// # Panics
/// Never: a draft is a plain map.
#[must_use]
pub fn keys_of<T: Serialize>(draft: &T) -> Map<String, Json> {
    match serde_json::to_value(draft) {
        Ok(Json::Object(keys)) => keys,
        _ => Map::new(),
    }
}
