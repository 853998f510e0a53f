//! What would be decided on a request, by which rule, in which spellings: `payfence policy explain`.
//!
//! In: a snapshot, method, URL, a token if any, the time. Out: an [`Explanation`] to print as JSON.
//! Always holds: the verdict is `decide`'s own, never worked out anew. Rate, concurrency and quota depend on use and are
//! not explained; the reason then says what holds while units are left.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use crate::decide::{decide, decide_usage};
use crate::decision::{Decision, Outcome, Reason};
use crate::facts::{Facts, GatewayPath, Presented, RequestLine};
use crate::matcher::{Access, Scratch};
use crate::snapshot::{SiteView, Snapshot};
use crate::token::TokenHash;

/// What would be decided on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The method as given.
    pub method: String,
    /// The path as the site sees it.
    pub path: String,
    /// The site's slug.
    pub site: Option<String>,
    /// `refuse`, `forward` (free of charge; the gateway's own usage page is answered so too) or `meter` (forwarded while units are left).
    pub outcome: &'static str,
    /// The machine word.
    pub reason: Reason,
    /// The row of the decision table; none for the gateway's own paths where nothing is.
    pub row: Option<u8>,
    /// The gateway's own status; none where the request is forwarded.
    pub status: Option<u16>,
    /// The resource that decides.
    pub resource: Option<String>,
    /// Units it costs.
    pub cost: u64,
    /// The token's id.
    pub token_id: Option<String>,
    /// The subscription's id.
    pub subscription: Option<String>,
    /// Its customer.
    pub customer: Option<String>,
    /// Its plan.
    pub plan: Option<String>,
    /// Every way in which an origin might read the path, and what applies to each; the strictest decides.
    pub spellings: Vec<ExplainedSpelling>,
    /// What was assumed or left out.
    pub notes: Vec<String>,
}

/// A spelling of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedSpelling {
    /// The path so read.
    pub path: String,
    /// The resource that it names.
    pub resource: Option<String>,
    /// `free`, `paid` or `blocked`.
    pub access: &'static str,
    /// What that resource costs; 0 unless it is paid.
    pub cost: u64,
}

/// A request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The method.
    pub method: &'a str,
    /// A full URL, or a path for the gateway's own address.
    pub url: &'a str,
    /// A token, as if sent as `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// The gateway's domain.
    pub gateway_domain: &'a str,
    /// Unix seconds.
    pub now_s: i64,
}

impl<'a> Question<'a> {
    /// The host (none for a path alone) and the target, as a client sends them.
    #[must_use]
    pub fn target(&self) -> (Option<&'a str>, String) {
        let (host, path, query) = split_url(self.url);
        (host, query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
    }
}

impl Explanation {
    /// A request that is none (row 0), answered with `status`; `why` says what is wrong with it.
    #[must_use]
    pub fn malformed(question: &Question<'_>, status: u16, why: String) -> Self {
        let (_, path, _) = split_url(question.url);
        let refused = Self::refused(question, path, Reason::RequestMalformed);
        Self { status: Some(status), notes: vec![why], ..refused }
    }

    /// A request that is refused before anything is known of it.
    fn refused(question: &Question<'_>, path: &str, reason: Reason) -> Self {
        Self {
            method: question.method.to_owned(),
            path: path.to_owned(),
            site: None,
            outcome: "refuse",
            reason,
            row: row_of(reason),
            status: reason.status(),
            resource: None,
            cost: 0,
            token_id: None,
            subscription: None,
            customer: None,
            plan: None,
            spellings: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Explains a request that can be read as HTTP.
#[must_use]
pub fn explain(snapshot: &Snapshot, question: &Question<'_>) -> Explanation {
    let (host, path, query) = split_url(question.url);
    let found =
        snapshot.find_site(host.map(str::as_bytes), path.as_bytes(), question.gateway_domain);
    let mut explanation = Explanation::refused(question, path, Reason::SiteUnknown);
    let Some((found, site)) =
        found.and_then(|found| snapshot.site(found.site).map(|site| (found, site)))
    else {
        explanation.notes.push(format!(
            "sites are found by their hosts, at SLUG.{0}, or at /SLUG/ on {0}",
            question.gateway_domain
        ));
        return explanation;
    };
    let rest = path.get(found.prefix_len..).unwrap_or_default();
    explanation.path = if rest.is_empty() { "/" } else { rest }.to_owned();
    explanation.site = Some(site.slug().to_owned());
    let bearer = question.token.map(|token| format!("Bearer {token}"));
    let headers = bearer.iter().map(|value| (&b"authorization"[..], value.as_bytes()));
    let line = RequestLine {
        method: question.method.as_bytes(),
        path: explanation.path.as_bytes(),
        query: query.map(str::as_bytes),
    };
    let client = client_for(snapshot, &site, &line, headers.clone(), &mut explanation.notes);
    let facts = Facts::extract(line, headers, site.token_places(), false, client);
    let (decision, spellings) = match GatewayPath::of(facts.path) {
        None => {
            let decision = decide(snapshot, &site, &facts, question.now_s, &mut Scratch::new());
            explanation.notes.extend(tls_notes(&site, decision.outcome));
            (decision, spellings(snapshot, &site, &facts))
        }
        Some(path) => (own_answer(snapshot, &site, &facts, path, question.now_s), Vec::new()),
    };
    fill(&mut explanation, snapshot, &decision);
    explanation.spellings = spellings;
    explanation
}

/// The decision on a path of the gateway's own, which it answers itself.
fn own_answer(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
    path: GatewayPath,
    now_s: i64,
) -> Decision {
    let usage = decide_usage(snapshot, site, facts, now_s);
    if path == GatewayPath::Usage && facts.method == b"GET" {
        return usage;
    }
    let nobody = Decision { token: None, subscription: None, plan: None, ..usage };
    Decision { outcome: Outcome::Refuse, reason: Reason::NotFound, ..nobody }
}

/// Splits a URL into host (none for a bare path), path and query; a fragment is never sent and is cut off.
fn split_url(url: &str) -> (Option<&str>, &str, Option<&str>) {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let (before_query, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let Some((_, rest)) = before_query.split_once("://") else {
        return (None, if before_query.is_empty() { "/" } else { before_query }, query);
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(authority_end).unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (Some(host), if path.is_empty() { "/" } else { path }, query)
}

/// An address that the token may be used from, so that the explanation does not end at row 8.
fn client_for<'a>(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    line: &RequestLine<'a>,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    notes: &mut Vec<String>,
) -> IpAddr {
    let anyone = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let facts = Facts::extract(*line, headers, site.token_places(), false, anyone);
    let Presented::Token(value) = &facts.token else { return anyone };
    let token = snapshot
        .find_token(&TokenHash::of(value.as_bytes()))
        .and_then(|(token, _)| snapshot.token(token));
    match token.and_then(|token| token.some_allowed_address()) {
        Some(address) => {
            notes.push(format!(
                "the token has allow_from: a client at {address} is assumed; others may be refused \
                 as address_forbidden"
            ));
            address
        }
        None => anyone,
    }
}

fn spellings(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
) -> Vec<ExplainedSpelling> {
    let spellings = site.matcher().spellings(facts.method, facts.path);
    let explained = spellings.into_iter().map(|spelling| {
        let resource = spelling.rule.and_then(|rule| snapshot.resource(site.resource_of(rule)));
        ExplainedSpelling {
            path: spelling.text,
            resource: resource.map(|resource| resource.pattern().to_owned()),
            access: match spelling.access {
                Access::Free => "free",
                Access::Paid => "paid",
                Access::Blocked => "blocked",
            },
            cost: match (spelling.access, resource) {
                (Access::Paid, Some(resource)) => resource.cost(),
                _ => 0,
            },
        }
    });
    explained.collect()
}

fn fill(explanation: &mut Explanation, snapshot: &Snapshot, decision: &Decision) {
    explanation.outcome = match decision.outcome {
        Outcome::Refuse => "refuse",
        Outcome::Forward => "forward",
        Outcome::Meter => "meter",
    };
    explanation.reason = decision.reason;
    explanation.row = row_of(decision.reason);
    explanation.status = decision.reason.status();
    explanation.cost = decision.cost;
    let resource = decision.resource.and_then(|index| snapshot.resource(index));
    explanation.resource = resource.map(|resource| resource.pattern().to_owned());
    let token = decision.token.and_then(|index| snapshot.token(index));
    explanation.token_id = token.map(|token| token.id().to_owned());
    let plan = decision.plan.and_then(|index| snapshot.plan(index));
    explanation.plan = plan.map(|plan| plan.id().to_owned());
    if let Some(subscription) = decision.subscription.and_then(|index| snapshot.subscription(index))
    {
        explanation.subscription = Some(subscription.id().to_owned());
        explanation.customer = Some(subscription.customer().to_owned());
    }
    if decision.outcome == Outcome::Meter {
        let note = "rate, concurrency and quota (rows 11 to 14) depend on use and are not checked";
        explanation.notes.push(note.to_owned());
    }
}

/// What the site says of TLS with the origin, where the request goes there, and with clients.
fn tls_notes(site: &SiteView<'_>, outcome: Outcome) -> Option<String> {
    let tls = site.origin_tls().filter(|_| outcome != Outcome::Refuse);
    let parts = [
        tls.and_then(|tls| tls.ca).map(|file| format!("the origin is verified by {file}")),
        tls.map(|tls| tls.pins.len())
            .filter(|pins| *pins > 0)
            .map(|pins| format!("keys pinned: {pins}")),
        tls.and_then(|tls| tls.client).map(|files| format!("it is shown {}", files.cert)),
        site.hsts()
            .map(|hsts| format!("a client over TLS is told Strict-Transport-Security: {hsts}")),
    ];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The row of the decision table that a reason of `decide` stands in.
fn row_of(reason: Reason) -> Option<u8> {
    match reason {
        Reason::RequestMalformed => Some(0),
        Reason::SiteUnknown => Some(1),
        Reason::ResourceBlocked => Some(2),
        Reason::Unprotected => Some(3),
        Reason::Preflight => Some(4),
        Reason::TokenMissing => Some(5),
        Reason::TokenUnknown => Some(6),
        Reason::TokenRevoked | Reason::TokenExpired => Some(7),
        Reason::AddressForbidden => Some(8),
        Reason::SubscriptionInactive => Some(9),
        Reason::PlanExcludesResource => Some(10),
        Reason::Ok | Reason::Grace => Some(15),
        _ => None,
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
