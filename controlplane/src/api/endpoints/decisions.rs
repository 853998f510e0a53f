//! Decisions: what their endpoint and that of use share.
//!
//! In: ids and words that a caller sent. Out: whose decisions are meant, by what nodes know them by; views.
//! Always holds: an id that is not the account's names nothing, as if there were no such decision.

pub mod list;

use policy::decision::{Reason, Verdict};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::analytics::{Decision, Subject};
use crate::api::problem::Problem;
use crate::domain::policy_text::Fault;
use crate::storage::{Customer, OwnSites, Subscription, Tenant, Token};

/// Allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// Forwarded to the origin.
    Allow,
    /// Answered by the gateway.
    Deny,
}

impl VerdictWord {
    const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
        }
    }
}

/// Whose decisions a caller asks about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The site's id.
    pub site_id: Option<&'a str>,
    /// The customer's.
    pub customer_id: Option<&'a str>,
    /// The subscription's.
    pub subscription_id: Option<&'a str>,
    /// The token's.
    pub token_id: Option<&'a str>,
    /// The pattern, as decisions have it.
    pub resource: Option<&'a str>,
}

/// Whose decisions are meant; none where nothing of the account is so.
pub async fn subject(
    tenant: &Tenant<'_>,
    asked: Asked<'_>,
    reasons: Option<Vec<Reason>>,
) -> Result<Option<(OwnSites, Subject)>, Problem> {
    let mut subject =
        Subject { resource: asked.resource.map(str::to_owned), reasons, ..Subject::default() };
    // Names of subscriptions and tokens are a site's own.
    let mut site_ids: Vec<String> = asked.site_id.map(str::to_owned).into_iter().collect();
    if let Some(id) = asked.customer_id {
        let Some(row) = tenant.get::<Customer>(id).await? else { return Ok(None) };
        subject.customer = Some(row.reference);
    }
    if let Some(id) = asked.subscription_id {
        let Some(row) = tenant.get::<Subscription>(id).await? else { return Ok(None) };
        site_ids.push(row.site_id);
        subject.subscription = Some(row.reference);
    }
    if let Some(id) = asked.token_id {
        let Some(row) = tenant.get::<Token>(id).await? else { return Ok(None) };
        site_ids.push(row.site_id);
        subject.token = Some(row.reference);
    }
    site_ids.dedup();
    match site_ids.as_slice() {
        [] => Ok(Some((tenant.own_sites(None).await?, subject))),
        [id] => Ok(Some((tenant.own_sites(Some(id)).await?, subject))),
        // Things of two sites at once: no decision is so.
        _ => Ok(None),
    }
}

/// The reasons that are meant by a word and a verdict; none for all.
pub fn reasons(
    word: Option<&str>,
    verdict: Option<VerdictWord>,
    faults: &mut Vec<Fault>,
) -> Option<Vec<Reason>> {
    if let Some(word) = word
        && !Reason::ALL.iter().any(|reason| reason.as_str() == word)
    {
        let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        faults.push(Fault::new("reason", format!("expected one of {}", words.join(", "))));
    }
    if word.is_none() && verdict.is_none() {
        return None;
    }
    let is_meant = |reason: &Reason| {
        word.is_none_or(|word| reason.as_str() == word)
            && verdict.is_none_or(|verdict| VerdictWord::of(reason.verdict()) == verdict)
    };
    Some(Reason::ALL.iter().copied().filter(is_meant).collect())
}

/// One decision, with the names that nodes, the origin and the log use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// What it is known by here.
    id: String,
    /// When it was made.
    #[schema(format = DateTime)]
    time: String,
    /// The site.
    site_id: String,
    /// The name of the node that made it.
    node: String,
    /// The customer's reference; null without a known token.
    customer: Option<String>,
    /// The subscription's reference.
    subscription: Option<String>,
    /// The number of the quota period that was charged.
    period: Option<i64>,
    /// The token's reference.
    token: Option<String>,
    /// The plan's reference.
    plan: Option<String>,
    /// The pattern that decided; `*` for what none names on a site that is paid by default.
    resource: Option<String>,
    /// The request's method.
    method: String,
    /// Its path as received, without the query.
    path: String,
    /// `http/1.0` or `http/1.1`.
    protocol: String,
    /// Allowed or denied.
    verdict: VerdictWord,
    /// Why, by the stable word.
    #[schema(example = "quota_exhausted")]
    reason: String,
    /// The status sent; null where the node ended before.
    status: Option<i64>,
    /// Units charged, after a refund or correction.
    charge: i64,
    /// Units left after it; null where unlimited or not known.
    remaining: Option<i64>,
    /// Bytes of the request's body.
    request_bytes: i64,
    /// Bytes of the answer's body.
    response_bytes: i64,
    /// Microseconds until the origin's answer began; null where it was not asked.
    origin_us: Option<i64>,
    /// Microseconds from the first byte received to the last byte sent.
    total_us: i64,
    /// As in `PayFence-Request-Id`.
    request_id: String,
    /// The client's address, where nodes log it.
    client: Option<String>,
}

/// A decision as it is shown.
pub fn view_of(row: Decision) -> DecisionView {
    let time = jiff::Timestamp::from_microsecond(row.id.time_us);
    DecisionView {
        id: row.id.to_string(),
        time: time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
        site_id: row.site_id,
        node: row.node,
        customer: row.customer,
        subscription: row.subscription,
        period: row.period,
        token: row.token,
        plan: row.plan,
        resource: row.resource,
        method: row.method,
        path: row.path,
        protocol: row.protocol,
        verdict: VerdictWord::of(row.reason.verdict()),
        reason: row.reason.as_str().to_owned(),
        status: row.status,
        charge: row.charge,
        remaining: row.remaining,
        request_bytes: row.request_bytes,
        response_bytes: row.response_bytes,
        origin_us: row.origin_us,
        total_us: row.total_us,
        request_id: row.request_id,
        client: row.client,
    }
}
