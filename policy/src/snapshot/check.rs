//! The checks of a snapshot's meaning, after those of its checksum and structure.
//!
//! In: an archive that is well-formed. Out: each site's matcher and the tables of names, or the first contradiction.
//! Always holds of what passes: every position is in range and of the right site, every code means something, every name
//! is unique where it must be. So views need no checks, and `decide` cannot be led from one site into another.

use std::collections::HashSet;

use super::SiteNames;
use super::layout::{
    ArchivedBody, ArchivedEarlierRow, ArchivedOriginRow, ArchivedPlanRow, ArchivedResourceRow,
    ArchivedSiteRow, ArchivedSpan, ArchivedTokenRow, NO_INDEX, access_of, are_adjustments,
    status_of, unit_of,
};
use super::overlay::OVERLAY;
use super::token_table;
use crate::ids::SiteIndex;
use crate::matcher::{Access, Matcher, Pattern, Rule, Settings};
use crate::method::MethodSet;
use crate::model::{EARLIER_MAX, HostName, address, header, tls};

/// A contradiction within a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot contradicts itself: {what} of {of} number {row}; compile it anew")]
pub struct Invalid {
    /// Which field.
    pub what: &'static str,
    /// Of which kind of row.
    pub of: &'static str,
    /// Of which row, from 0.
    pub row: usize,
}

/// Shorthand for a check of one row.
fn ensure(holds: bool, what: &'static str, of: &'static str, row: usize) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { what, of, row }) }
}

/// Checks everything and builds what is built at load.
pub(super) fn check(body: &ArchivedBody) -> Result<(Vec<Matcher>, SiteNames), Invalid> {
    let (mut resources_end, mut plans_end) = (0, 0);
    let mut names = SiteNames::default();
    let mut matchers = Vec::with_capacity(body.sites.len());
    for (row, site) in body.sites.iter().enumerate() {
        let spans = [
            (&site.resources, &mut resources_end, body.resources.len(), "resources"),
            (&site.plans, &mut plans_end, body.plans.len(), "plans"),
        ];
        for (span, end, len, what) in spans {
            // Each span begins where the one before ended: no row belongs to two sites.
            let range = span.range();
            ensure(
                range.start == *end && range.end >= range.start && range.end <= len,
                what,
                "site",
                row,
            )?;
            *end = range.end;
        }
        check_names(site, row, &mut names)?;
        matchers.push(matcher_of(body, site, row)?);
        check_plans(body, site)?;
    }
    let is_complete = resources_end == body.resources.len() && plans_end == body.plans.len();
    ensure(is_complete, "the end", "site", body.sites.len())?;
    check_subscriptions(body)?;
    check_tokens(body)?;
    Ok((matchers, names))
}

fn check_names(site: &ArchivedSiteRow, row: usize, names: &mut SiteNames) -> Result<(), Invalid> {
    let index = SiteIndex(u32::try_from(row).unwrap_or(NO_INDEX));
    let is_new = names.slugs.insert(site.slug.as_bytes().into(), index).is_none();
    ensure(address::is_slug(&site.slug) && is_new, "the slug", "site", row)?;
    for host in site.hosts.iter() {
        let is_new = match HostName::parse(host) {
            Ok(HostName::Name(name)) => {
                names.hosts.insert(name.into_bytes().into(), index).is_none()
            }
            Ok(HostName::Address(address)) => names.addresses.insert(address, index).is_none(),
            Err(_) => false,
        };
        ensure(is_new, "a host", "site", row)?;
    }
    let origin = &site.origin;
    let origin_is_good = HostName::parse(&origin.host).is_ok()
        && origin.port.to_native() > 0
        && header::is_value(&origin.authority)
        && (origin.path_prefix.is_empty() || origin.path_prefix.starts_with('/'))
        && origin.path_prefix.bytes().all(|byte| byte.is_ascii_graphic());
    ensure(origin_is_good, "the origin", "site", row)?;
    ensure(is_good_tls(origin), "TLS with the origin", "site", row)?;
    let hsts_is_good = site.hsts.as_ref().is_none_or(|value| tls::is_hsts_value(value));
    ensure(hsts_is_good, "hsts", "site", row)?;
    ensure(header::check_token_header(&site.token_header).is_ok(), "token_header", "site", row)?;
    for header in site.origin_headers.iter() {
        let is_good = header::check_name(&header.name).is_ok() && header::is_value(&header.value);
        ensure(is_good, "an origin header", "site", row)?;
    }
    for origin in site.cors_origins.iter() {
        ensure(address::check_cors_origin(origin).is_ok(), "a CORS origin", "site", row)?;
    }
    Ok(())
}

/// Whether names of files can be names, and whether what is not spoken has no settings.
fn is_good_tls(origin: &ArchivedOriginRow) -> bool {
    let tls = &origin.tls;
    let ca = tls.ca.as_ref();
    let client = tls.client.as_ref();
    let mut files = ca.into_iter().chain(client.into_iter().flat_map(|of| [&of.cert, &of.key]));
    let is_distinct =
        |(position, pin): (usize, &_)| !tls.pins.iter().take(position).any(|other| other == pin);
    let is_empty = ca.is_none() && client.is_none() && tls.pins.is_empty();
    files.all(|file| tls::check_file_name(file).is_ok())
        && tls.pins.len() <= tls::PINS_MAX
        && tls.pins.iter().enumerate().all(is_distinct)
        && (origin.is_https || is_empty)
}

fn matcher_of(body: &ArchivedBody, site: &ArchivedSiteRow, row: usize) -> Result<Matcher, Invalid> {
    let start = site.resources.range().start;
    let mut rows = body.resources.get(site.resources.range()).unwrap_or_default();
    if site.default_paid {
        let Some((last, others)) = rows.split_last() else {
            return Err(Invalid { what: "the default resource", of: "site", row });
        };
        let is_default = last.pattern == "*" && access_of(last.access) == Some(Access::Paid);
        ensure(is_default, "the default resource", "site", row)?;
        rows = others;
    }
    let mut parts = Vec::with_capacity(rows.len());
    for (position, resource) in rows.iter().enumerate() {
        let parsed = parse_resource(resource);
        parts.push(parsed.ok_or(Invalid {
            what: "the pattern",
            of: "resource",
            row: start + position,
        })?);
    }
    let rules: Vec<Rule<'_>> = parts
        .iter()
        .zip(rows.iter())
        .map(|((pattern, methods, access), row)| Rule {
            pattern,
            methods,
            access: *access,
            cost: row.cost.to_native(),
        })
        .collect();
    let settings =
        Settings { default_paid: site.default_paid, case_sensitive: site.case_sensitive };
    Matcher::new(&rules, settings).map_err(|conflict| Invalid {
        what: "a pattern that contradicts another",
        of: "resource",
        row: start + conflict.second,
    })
}

fn parse_resource(row: &ArchivedResourceRow) -> Option<(Pattern, MethodSet, Access)> {
    let pattern = Pattern::parse(&row.pattern).ok()?;
    let methods = MethodSet::new(row.methods.iter().map(|method| method.as_str()));
    Some((pattern, methods, access_of(row.access)?))
}

fn check_plans(body: &ArchivedBody, site: &ArchivedSiteRow) -> Result<(), Invalid> {
    let start = site.plans.range().start;
    let plans = body.plans.get(site.plans.range()).unwrap_or_default();
    let mut ids = HashSet::with_capacity(plans.len());
    for (position, plan) in plans.iter().enumerate() {
        let row = start + position;
        // Changes of subscriptions name their plan by its id.
        let is_new = plan.is_earlier || ids.insert(plan.id.as_str());
        ensure(header::is_value(&plan.id) && is_new, "the id", "plan", row)?;
        ensure(units_are_known(plan), "a unit of time", "plan", row)?;
        let has_good_rate = match plan.rate.as_ref() {
            Some(rate) => rate.requests.to_native() > 0 && plan.burst.to_native() > 0,
            None => true,
        };
        ensure(has_good_rate, "the rate limit", "plan", row)?;
        if let Some(resources) = plan.resources.as_ref() {
            ensure(is_list_of(resources, &site.resources), "a resource", "plan", row)?;
        }
        ensure(has_good_past(body, site, plan), "the earlier terms", "plan", row)?;
    }
    Ok(())
}

/// Whether a plan's earlier terms are in order, of the same site and under the same name; earlier ones have none themselves.
fn has_good_past(body: &ArchivedBody, site: &ArchivedSiteRow, plan: &ArchivedPlanRow) -> bool {
    let is_good = |row: &ArchivedEarlierRow| {
        let position = row.plan.to_native();
        let terms = body.plans.get(position as usize);
        site.plans.contains(position)
            && terms.is_some_and(|terms| terms.is_earlier && terms.id == plan.id)
    };
    plan.earlier.len() <= EARLIER_MAX
        && (!plan.is_earlier || plan.earlier.is_empty())
        && plan.earlier.iter().all(is_good)
        && plan.earlier.is_sorted_by_key(|row| row.until_s.to_native())
}

fn units_are_known(plan: &ArchivedPlanRow) -> bool {
    [&plan.quota, &plan.rate]
        .into_iter()
        .all(|amount| amount.as_ref().is_none_or(|amount| unit_of(amount.per).is_some()))
}

fn check_subscriptions(body: &ArchivedBody) -> Result<(), Invalid> {
    ensure(body.subscriptions.len() <= OVERLAY as usize, "the number", "subscription", 0)?;
    for (row, subscription) in body.subscriptions.iter().enumerate() {
        let site = body.sites.get(subscription.site.to_native() as usize);
        let is_of_site =
            site.is_some_and(|site| site.plans.contains(subscription.plan.to_native()));
        let plan = body.plans.get(subscription.plan.to_native() as usize);
        let is_of_site = is_of_site && plan.is_some_and(|plan| !plan.is_earlier);
        ensure(is_of_site, "the site or plan", "subscription", row)?;
        ensure(status_of(subscription.status).is_some(), "the status", "subscription", row)?;
        let units = subscription.adjustments.iter().map(|row| row.units.to_native());
        ensure(are_adjustments(units), "the adjustments", "subscription", row)?;
        let is_writable =
            header::is_value(&subscription.id) && header::is_value(&subscription.customer);
        ensure(is_writable, "the id or customer", "subscription", row)?;
    }
    Ok(())
}

fn check_tokens(body: &ArchivedBody) -> Result<(), Invalid> {
    ensure(body.tokens.len() <= OVERLAY as usize, "the number", "token", 0)?;
    ensure(
        token_table::is_sound(&body.slots, body.slot_homes.to_native()),
        "the order",
        "token slot",
        0,
    )?;
    // Ids are cut out of this by position: only ASCII can be cut anywhere.
    let ids = body.token_ids.as_bytes();
    let is_writable = ids.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    ensure(is_writable, "the ids", "token", 0)?;
    for (row, network) in body.networks.iter().enumerate() {
        ensure(network.prefix_bits <= 128, "the prefix", "network", row)?;
    }
    for (row, pattern) in body.patterns.iter().enumerate() {
        ensure(Pattern::parse(pattern).is_ok(), "the text", "pattern", row)?;
    }
    let mut seen = vec![false; body.tokens.len()];
    for (row, slot) in body.slots.iter().enumerate() {
        if slot.subscription.to_native() == NO_INDEX {
            continue;
        }
        let index = slot.token.to_native() as usize;
        let is_first = seen.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true));
        ensure(is_first, "the token", "token slot", row)?;
        let subscription = body.subscriptions.get(slot.subscription.to_native() as usize);
        let (Some(token), Some(_)) = (body.tokens.get(index), subscription) else {
            return Err(Invalid { what: "the subscription", of: "token slot", row });
        };
        check_token(body, token, index)?;
    }
    match seen.iter().position(|seen| !seen) {
        Some(row) => Err(Invalid { what: "the slot", of: "token", row }),
        None => Ok(()),
    }
}

fn check_token(body: &ArchivedBody, token: &ArchivedTokenRow, row: usize) -> Result<(), Invalid> {
    let id_end = token.id_start.to_native() as usize + usize::from(token.id_len);
    ensure(id_end <= body.token_ids.len(), "the id", "token", row)?;
    let networks_end =
        token.networks_start.to_native() as usize + usize::from(token.networks_len.to_native());
    ensure(networks_end <= body.networks.len(), "the networks", "token", row)?;
    if token.is_narrowed {
        let list = body.narrower.get(narrower_range(token));
        let is_pattern =
            |index: &rkyv::rend::u32_le| body.patterns.len() > index.to_native() as usize;
        let are_patterns = list.is_some_and(|list| list.iter().all(is_pattern));
        ensure(are_patterns, "the resources", "token", row)?;
    }
    Ok(())
}

/// Whether a list names resources of one site, in strict order, as look-ups in it need.
fn is_list_of(list: &[rkyv::rend::u32_le], resources: &ArchivedSpan) -> bool {
    list.is_sorted_by(|left, right| left < right)
        && list.iter().all(|index| resources.contains(index.to_native()))
}

/// Where a token's own resources stand.
pub(super) fn narrower_range(token: &ArchivedTokenRow) -> std::ops::Range<usize> {
    let start = token.narrower_start.to_native() as usize;
    start..start + usize::from(token.narrower_len.to_native())
}
