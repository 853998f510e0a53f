//! Borrowed views of a snapshot's rows.
//!
//! In: rows of a checked archive. Out: their fields as plain values.
//! Always holds: a view is small and `Copy`; reading it allocates nothing. Codes were checked at load, so where one of
//! them could mean nothing the strictest value stands in and is never seen.

use std::net::{IpAddr, Ipv6Addr};

use super::layout::{
    ArchivedBody, ArchivedOriginRow, ArchivedPlanRow, ArchivedResourceRow, ArchivedSiteRow,
    access_of, unit_of,
};
use crate::budget::RateTerms;
use crate::facts::TokenPlaces;
use crate::ids::{PlanIndex, ResourceIndex, SiteIndex};
use crate::matcher::{Access, Matcher, RuleRef};
use crate::model::{OnLedgerLoss, Overage, Pin, Quota, Scheme, Unit};

/// A site.
#[derive(Clone, Copy, Debug)]
pub struct SiteView<'a> {
    pub(super) index: SiteIndex,
    pub(super) row: &'a ArchivedSiteRow,
    pub(super) matcher: &'a Matcher,
    pub(super) body: &'a ArchivedBody,
}

impl std::fmt::Debug for ArchivedSiteRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Site({})", self.slug.as_str())
    }
}

impl std::fmt::Debug for ArchivedBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Body({} sites, {} tokens)", self.sites.len(), self.tokens.len())
    }
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> bool {
                self.row.$name
            }
        )*
    };
}

impl<'a> SiteView<'a> {
    flags! {
        /// Whether what no resource names is paid.
        default_paid;
        /// Whether letter case matters to paths.
        case_sensitive;
        /// Whether the origin receives the token.
        forward_token;
        /// Whether keys of other systems are taken.
        foreign_tokens;
        /// Whether the origin receives the client's Host.
        preserve_host;
        /// Whether headers that override path or method pass.
        allow_override_headers;
    }

    /// Its position.
    #[must_use]
    pub fn index(&self) -> SiteIndex {
        self.index
    }

    /// Its slug.
    #[must_use]
    pub fn slug(&self) -> &'a str {
        &self.row.slug
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.row.name
    }

    /// Where its requests go.
    #[must_use]
    pub fn origin(&self) -> OriginView<'a> {
        OriginView { row: &self.row.origin }
    }

    /// How its origin is known over TLS, and what it is shown; `None` where it is spoken to in the clear.
    #[must_use]
    pub fn origin_tls(&self) -> Option<OriginTlsView<'a>> {
        let origin = &self.row.origin;
        origin.is_https.then(|| OriginTlsView {
            ca: origin.tls.ca.as_ref().map(|file| file.as_str()),
            pins: &origin.tls.pins,
            client: origin
                .tls
                .client
                .as_ref()
                .map(|files| ClientFilesView { cert: &files.cert, key: &files.key }),
        })
    }

    /// The value of `Strict-Transport-Security` on what is sent to its clients over TLS.
    #[must_use]
    pub fn hsts(&self) -> Option<&'a str> {
        self.row.hsts.as_ref().map(|value| value.as_str())
    }

    /// Its custom hosts, normal form; IPv6 in brackets.
    pub fn hosts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.row.hosts.iter().map(|host| host.as_str())
    }

    /// Where a customer can buy more.
    #[must_use]
    pub fn upgrade_url(&self) -> Option<&'a str> {
        self.row.upgrade_url.as_ref().map(|url| url.as_str())
    }

    /// Where its clients put their tokens.
    #[must_use]
    pub fn token_places(&self) -> TokenPlaces<'a> {
        TokenPlaces {
            header: &self.row.token_header,
            query: self.row.token_query.as_ref().map(|name| name.as_str()),
            foreign: self.row.foreign_tokens,
        }
    }

    /// Headers added to every request to the origin, name and value.
    pub fn origin_headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.row.origin_headers.iter().map(|header| (header.name.as_str(), header.value.as_str()))
    }

    /// Origins that may read the gateway's own answers; `*` for any.
    pub fn cors_origins(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.row.cors_origins.iter().map(|origin| origin.as_str())
    }

    /// The value of `Access-Control-Allow-Origin` for a request from `origin`; `None` where it may not read the answer.
    #[must_use]
    pub fn allowed_cors_origin(&self, origin: &[u8]) -> Option<&'a str> {
        self.cors_origins().find(|allowed| *allowed == "*" || allowed.as_bytes() == origin)
    }

    /// Until a connection to the origin stands, milliseconds.
    #[must_use]
    pub fn connect_timeout_ms(&self) -> u32 {
        self.row.connect_timeout_ms.to_native()
    }

    /// Until the origin's response head, milliseconds.
    #[must_use]
    pub fn response_timeout_ms(&self) -> u32 {
        self.row.response_timeout_ms.to_native()
    }

    /// Whether requests pass while it cannot be known whether units are left.
    #[must_use]
    pub fn on_ledger_loss(&self) -> OnLedgerLoss {
        if self.row.is_open_on_ledger_loss { OnLedgerLoss::Open } else { OnLedgerLoss::Closed }
    }

    /// The matcher of its resources.
    #[must_use]
    pub fn matcher(&self) -> &'a Matcher {
        self.matcher
    }

    /// The resource that the matcher speaks of.
    #[must_use]
    pub fn resource_of(&self, rule: RuleRef) -> ResourceIndex {
        let span = &self.row.resources;
        match rule {
            RuleRef::Rule(position) => {
                ResourceIndex(span.start.to_native().saturating_add(position))
            }
            RuleRef::Default => ResourceIndex(span.end.to_native().saturating_sub(1)),
        }
    }

    /// Its resources.
    pub fn resources(&self) -> impl Iterator<Item = ResourceView<'a>> + use<'a> {
        let range = self.row.resources.range();
        let rows = self.body.resources.get(range).unwrap_or_default();
        (self.row.resources.start.to_native()..)
            .zip(rows)
            .map(|(index, row)| ResourceView { index: ResourceIndex(index), row })
    }

    /// Its plans.
    pub fn plans(&self) -> impl Iterator<Item = PlanView<'a>> + use<'a> {
        let rows = self.body.plans.get(self.row.plans.range()).unwrap_or_default();
        (self.row.plans.start.to_native()..)
            .zip(rows)
            .filter(|(_, row)| !row.is_earlier)
            .map(|(index, row)| PlanView { index: PlanIndex(index), row })
    }
}

/// Where a site's requests go.
#[derive(Clone, Copy)]
pub struct OriginView<'a> {
    row: &'a ArchivedOriginRow,
}

impl<'a> OriginView<'a> {
    /// http or https.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.row.is_https { Scheme::Https } else { Scheme::Http }
    }

    /// A name in lower case, an IPv4 address, or an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &'a str {
        &self.row.host
    }

    /// The address, where the host is one and nothing needs to be resolved.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let host = self.host();
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.row.port.to_native()
    }

    /// What stands before every path: empty, or `/` and more, not ending in `/`.
    #[must_use]
    pub fn path_prefix(&self) -> &'a str {
        &self.row.path_prefix
    }

    /// The value of `Host`.
    #[must_use]
    pub fn authority(&self) -> &'a str {
        &self.row.authority
    }
}

/// How an origin is known over TLS, and what it is shown. Two that are equal can share connections to one address.
/// Files are named as in the policy: absolute, or relative to the policy file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginTlsView<'a> {
    /// A PEM file with the certificate authorities that are trusted; `None` for the public ones.
    pub ca: Option<&'a str>,
    /// Where there are any, the origin must show one of them too; at most [`PINS_MAX`](crate::model::PINS_MAX).
    pub pins: &'a [Pin],
    /// What the gateway shows.
    pub client: Option<ClientFilesView<'a>>,
}

/// A certificate and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientFilesView<'a> {
    /// A PEM file with the certificate, and those of its issuers after it.
    pub cert: &'a str,
    /// A PEM file with its private key.
    pub key: &'a str,
}

/// A resource.
#[derive(Clone, Copy)]
pub struct ResourceView<'a> {
    pub(super) index: ResourceIndex,
    pub(super) row: &'a ArchivedResourceRow,
}

impl<'a> ResourceView<'a> {
    /// Its position.
    #[must_use]
    pub fn index(&self) -> ResourceIndex {
        self.index
    }

    /// The pattern as written; `*` for what no pattern names.
    #[must_use]
    pub fn pattern(&self) -> &'a str {
        &self.row.pattern
    }

    /// Its methods, upper-case; none for every method.
    pub fn methods(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.row.methods.iter().map(|method| method.as_str())
    }

    /// Paid, free or blocked.
    #[must_use]
    pub fn access(&self) -> Access {
        access_of(self.row.access).unwrap_or(Access::Blocked)
    }

    /// Units a request costs.
    #[must_use]
    pub fn cost(&self) -> u64 {
        self.row.cost.to_native()
    }
}

/// A plan.
#[derive(Clone, Copy)]
pub struct PlanView<'a> {
    pub(super) index: PlanIndex,
    pub(super) row: &'a ArchivedPlanRow,
}

impl<'a> PlanView<'a> {
    /// Its position.
    #[must_use]
    pub fn index(&self) -> PlanIndex {
        self.index
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &'a str {
        &self.row.id
    }

    /// Units per period; `None` for unlimited.
    #[must_use]
    pub fn quota(&self) -> Option<Quota> {
        let quota = self.row.quota.as_ref()?;
        Some(Quota {
            requests: quota.requests.to_native(),
            per: unit_of(quota.per).unwrap_or(Unit::Year),
        })
    }

    /// The rate limit.
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateTerms> {
        let rate = self.row.rate.as_ref()?;
        Some(RateTerms {
            requests: rate.requests.to_native(),
            unit: unit_of(rate.per).unwrap_or(Unit::Year),
            burst: self.row.burst.to_native(),
        })
    }

    /// Requests at the same time.
    #[must_use]
    pub fn concurrency(&self) -> Option<u32> {
        self.row.concurrency.as_ref().map(|slots| slots.to_native())
    }

    /// What happens when the quota is used up.
    #[must_use]
    pub fn overage(&self) -> Overage {
        if self.row.allows_overage {
            Overage::Allow { cap: self.row.overage_cap.as_ref().map(|cap| cap.to_native()) }
        } else {
            Overage::Deny
        }
    }

    /// How long a past-due subscription is served, days.
    #[must_use]
    pub fn grace_days(&self) -> u32 {
        self.row.grace_days.to_native()
    }

    /// Its earlier terms: until when they were in force, Unix seconds, and where they are.
    pub(super) fn earlier(&self) -> impl ExactSizeIterator<Item = (i64, PlanIndex)> + use<'a> {
        let rows = self.row.earlier.iter();
        rows.map(|row| (row.until_s.to_native(), PlanIndex(row.plan.to_native())))
    }

    /// Whether the plan includes a paid resource.
    #[must_use]
    pub fn includes(&self, resource: ResourceIndex) -> bool {
        match self.row.resources.as_ref() {
            None => true,
            Some(list) => is_listed(list, resource),
        }
    }
}

/// Whether an ascending list holds a resource.
pub(super) fn is_listed(list: &[rkyv::rend::u32_le], resource: ResourceIndex) -> bool {
    list.binary_search_by(|index| index.to_native().cmp(&resource.0)).is_ok()
}

/// An address in the form that networks are kept in: IPv4 as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2).
pub(crate) fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
