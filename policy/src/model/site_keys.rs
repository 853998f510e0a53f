//! The keys of `[[sites]]` and `[[sites.resources]]`.
//!
//! In: their tables. Out: a [`Site`] without plans and subscriptions, and where its resources stand in the file.
//! Always holds: names and values of headers that a site sets can be written as they are; rules that contradict each
//! other are a fault here, so the matcher that a snapshot builds cannot fail.

use std::collections::HashMap;

use super::diagnostic::Sink;
use super::header::{self, VALUE_BYTES_MAX};
use super::table::{Table, expected, header_text, text};
use super::{
    ACCESS_WORDS, CONNECT_TIMEOUT_MS_DEFAULT, COST_MAX, HostName, OnLedgerLoss, Origin,
    RESPONSE_TIMEOUT_MS_DEFAULT, Resource, Scheme, Site, TOKEN_HEADER_DEFAULT, address, tls_keys,
};
use crate::matcher::{Access, Matcher, Pattern, Rule, Settings};
use crate::method::MethodSet;

/// Keys of `[[sites]]`.
pub(super) const KEYS: &[&str] = &[
    "slug",
    "name",
    "origin",
    "origin_ca",
    "origin_pins",
    "origin_client_cert",
    "origin_client_key",
    "hosts",
    "hsts",
    "upgrade_url",
    "default",
    "case_sensitive",
    "forward_token",
    "foreign_tokens",
    "token_header",
    "token_query",
    "origin_headers",
    "preserve_host",
    "allow_override_headers",
    "cors_origins",
    "connect_timeout_ms",
    "response_timeout_ms",
    "on_ledger_loss",
    "resources",
    "plans",
    "subscriptions",
];
pub(super) const RESOURCE_KEYS: &[&str] = &["pattern", "methods", "access", "cost"];

const HOSTS_MAX: usize = 1_000;
const CORS_ORIGINS_MAX: usize = 1_000;
const ORIGIN_HEADERS_MAX: usize = 64;
const URL_BYTES_MAX: usize = 2_000;
const RESOURCES_MAX: usize = 10_000;
const METHODS_MAX: usize = 32;
const CONNECT_TIMEOUT_MS_MAX: u64 = 600_000;
const RESPONSE_TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Reads all of a site but its plans and subscriptions.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink<'_>) -> Site {
    let slug = slug(table, sink).unwrap_or_default();
    let nowhere = Origin {
        scheme: Scheme::Http,
        host: HostName::Name(String::new()),
        port: 80,
        path_prefix: String::new(),
    };
    let origin = origin(table, sink);
    let origin_tls = tls_keys::read_origin(table, origin.as_ref(), sink);
    let flag = |name: &str, sink: &mut Sink<'_>| table.boolean(name, sink).unwrap_or_default();
    let connect_timeout_ms = timeout_ms(table, "connect_timeout_ms", CONNECT_TIMEOUT_MS_MAX, sink);
    let response_timeout_ms =
        timeout_ms(table, "response_timeout_ms", RESPONSE_TIMEOUT_MS_MAX, sink);
    Site {
        name: table.read("name", sink, text).unwrap_or_else(|| slug.clone()),
        slug,
        origin: origin.unwrap_or(nowhere),
        origin_tls,
        hsts: tls_keys::read_hsts(table, sink),
        hosts: table
            .list("hosts", HOSTS_MAX, sink, HostName::parse)
            .map(|hosts| hosts.into_iter().map(|(host, _)| host).collect())
            .unwrap_or_default(),
        upgrade_url: upgrade_url(table, sink),
        default_paid: table
            .word("default", &[("free", false), ("paid", true)], sink)
            .unwrap_or_default(),
        case_sensitive: flag("case_sensitive", sink),
        forward_token: flag("forward_token", sink),
        foreign_tokens: flag("foreign_tokens", sink),
        token_header: token_header(table, sink),
        token_query: token_query(table, sink),
        origin_headers: origin_headers(table, sink),
        preserve_host: flag("preserve_host", sink),
        allow_override_headers: flag("allow_override_headers", sink),
        cors_origins: table
            .list("cors_origins", CORS_ORIGINS_MAX, sink, |text| {
                address::check_cors_origin(text).map(|()| text.to_owned())
            })
            .map(|origins| origins.into_iter().map(|(origin, _)| origin).collect())
            .unwrap_or_default(),
        connect_timeout_ms: connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS_DEFAULT),
        response_timeout_ms: response_timeout_ms.unwrap_or(RESPONSE_TIMEOUT_MS_DEFAULT),
        on_ledger_loss: table.word("on_ledger_loss", LEDGER_LOSS_WORDS, sink).unwrap_or_default(),
        resources: Vec::new(),
        plans: Vec::new(),
        subscriptions: Vec::new(),
    }
}

const LEDGER_LOSS_WORDS: &[(&str, OnLedgerLoss)] =
    &[("closed", OnLedgerLoss::Closed), ("open", OnLedgerLoss::Open)];

fn slug(table: &Table<'_>, sink: &mut Sink<'_>) -> Option<String> {
    table.require("slug", SLUG, sink, |value| {
        let text = value.as_str().ok_or_else(|| expected(SLUG, value))?;
        let is_slug = address::is_slug(text);
        is_slug.then(|| text.to_owned()).ok_or_else(|| format!("expected {SLUG}"))
    })
}

fn origin(table: &Table<'_>, sink: &mut Sink<'_>) -> Option<Origin> {
    table.require("origin", "the URL of the API", sink, |value| {
        let text = value.as_str().ok_or_else(|| expected("a URL", value))?;
        if text.len() > URL_BYTES_MAX {
            return Err(format!("a URL of at most {URL_BYTES_MAX} bytes is allowed"));
        }
        Origin::parse(text)
    })
}

fn upgrade_url(table: &Table<'_>, sink: &mut Sink<'_>) -> Option<String> {
    table.read("upgrade_url", sink, |value| {
        let text = value.as_str().ok_or_else(|| expected("a URL", value))?;
        let is_good = text.len() <= URL_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && (text.starts_with("https://") || text.starts_with("http://"));
        is_good.then(|| text.to_owned()).ok_or_else(|| {
            "expected a URL that begins https:// or http://, in visible ASCII".to_owned()
        })
    })
}

fn token_query(table: &Table<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let name = table.read("token_query", sink, |value| {
        let text = value.as_str().ok_or_else(|| expected("a string", value))?;
        let is_good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        is_good.then(|| text.to_owned()).ok_or_else(|| {
            "expected the name of a query parameter: 1 to 64 letters, digits, `-`, `.`, `_`, `~`"
                .to_owned()
        })
    })?;
    sink.warn(
        table.offset_of("token_query"),
        table.key("token_query"),
        "tokens in the query end up in logs and browser histories; prefer a header",
    );
    Some(name)
}

const SLUG: &str =
    "1 to 63 lower-case letters, digits and `-` (not first or last), as in \"weather\"";

fn timeout_ms(
    table: &Table<'_>,
    name: &str,
    timeout_ms_max: u64,
    sink: &mut Sink<'_>,
) -> Option<u32> {
    table
        .number(name, 1..=timeout_ms_max, sink)
        .and_then(|timeout_ms| u32::try_from(timeout_ms).ok())
}

fn token_header(table: &Table<'_>, sink: &mut Sink<'_>) -> String {
    let name = table.read("token_header", sink, |value| {
        let name = value.as_str().ok_or_else(|| expected("the name of a header", value))?;
        header::check_token_header(name)?;
        Ok(name.to_owned())
    });
    name.unwrap_or_else(|| TOKEN_HEADER_DEFAULT.to_owned())
}

fn origin_headers(table: &Table<'_>, sink: &mut Sink<'_>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let Some(entries) = table.entries("origin_headers", sink) else { return headers };
    for (name, value) in entries {
        let key = format!("{}.{name}", table.key("origin_headers"));
        let offset = value.span().start;
        if headers.len() == ORIGIN_HEADERS_MAX {
            sink.fault(offset, key, format!("at most {ORIGIN_HEADERS_MAX} headers are allowed"));
            return headers;
        }
        let text = value.get_ref().as_str();
        if let Err(message) = header::check_name(name) {
            sink.fault(offset, key, message);
        } else if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            sink.fault(offset, key, "the same header twice; names compare without case");
        } else if let Some(text) = text.filter(|text| header::is_value(text)) {
            headers.push((name.to_owned(), text.to_owned()));
        } else {
            let message = format!(
                "expected a string of 1 to {VALUE_BYTES_MAX} printable ASCII characters, \
                 no space first or last"
            );
            sink.fault(offset, key, message);
        }
    }
    headers
}

/// Reads `[[sites.resources]]`.
pub(super) fn read_resources(table: &Table<'_>, site: &mut Site, sink: &mut Sink<'_>) {
    let mut offsets = Vec::new();
    for rule in table.tables("resources", "sites.resources", RESOURCE_KEYS, RESOURCES_MAX, sink) {
        let pattern = rule.require("pattern", "a path pattern such as /api/*", sink, |value| {
            let text = value.as_str().ok_or_else(|| expected("a path pattern", value))?;
            Pattern::parse(text).map_err(|problem| problem.to_string())
        });
        let methods = rule.list("methods", METHODS_MAX, sink, |name| {
            let is_token = (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            is_token
                .then(|| name.to_owned())
                .ok_or_else(|| "expected the name of a method, such as \"GET\"".to_owned())
        });
        if rule.is_empty_list("methods") {
            rule.fault("methods", "an empty list; leave the key out for every method", sink);
        }
        let names: Vec<String> =
            methods.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        let access = rule.word("access", ACCESS_WORDS, sink);
        let cost = rule.number("cost", 1..=COST_MAX, sink).unwrap_or(1);
        let Some(pattern) = pattern else { continue };
        offsets.push(rule.offset_of("pattern"));
        site.resources.push(Resource {
            pattern,
            methods: MethodSet::new(names.iter().map(String::as_str)),
            access: access.unwrap_or(Access::Paid),
            cost,
        });
    }
    check_rules(site, &offsets, sink);
}

/// Notes a fault where two rules of one shape share methods and neither set is a proper subset of the other.
fn check_rules(site: &Site, offsets: &[usize], sink: &mut Sink<'_>) {
    let rules = rules_of(site);
    let Err(conflict) = Matcher::new(&rules, settings_of(site)) else { return };
    let (Some(first), Some(second)) = (offsets.get(conflict.first), offsets.get(conflict.second))
    else {
        return;
    };
    let message = format!(
        "matches the same paths as the pattern in line {} for some of the same methods, and \
         neither is the more specific; name other methods, or remove one",
        sink.line_of(*first)
    );
    sink.fault(*second, "sites.resources.pattern".to_owned(), message);
}

/// A site's rules as the matcher takes them.
pub(crate) fn rules_of(site: &Site) -> Vec<Rule<'_>> {
    let rules = site.resources.iter().map(|resource| Rule {
        pattern: &resource.pattern,
        methods: &resource.methods,
        access: resource.access,
        cost: resource.cost,
    });
    rules.collect()
}

/// A site's settings as the matcher takes them.
pub(crate) fn settings_of(site: &Site) -> Settings {
    Settings { default_paid: site.default_paid, case_sensitive: site.case_sensitive }
}

/// Positions of a site's resources by their patterns as written.
pub(super) struct PatternNames<'s>(HashMap<&'s str, Vec<u32>>);

impl<'s> PatternNames<'s> {
    pub(super) fn of(resources: &'s [Resource]) -> Self {
        let mut names: HashMap<&str, Vec<u32>> = HashMap::new();
        for (position, resource) in (0..).zip(resources) {
            names.entry(resource.pattern.as_str()).or_default().push(position);
        }
        Self(names)
    }

    /// Reads a list of patterns into positions, ascending.
    pub(super) fn read(&self, table: &Table<'_>, sink: &mut Sink<'_>) -> Option<Vec<u32>> {
        let names = self.read_names(table, sink)?;
        let lists = names.iter().filter_map(|name| self.0.get(name.as_str()));
        let mut positions: Vec<u32> = lists.flatten().copied().collect();
        positions.sort_unstable();
        Some(positions)
    }

    /// Reads a list of patterns: as written, in order, each once.
    pub(super) fn read_names(&self, table: &Table<'_>, sink: &mut Sink<'_>) -> Option<Vec<String>> {
        let names = table.list("resources", RESOURCES_MAX, sink, |text| {
            self.0.contains_key(text).then(|| text.to_owned()).ok_or_else(|| {
                "names no pattern of this site's resources; write it exactly as there".to_owned()
            })
        })?;
        if table.is_empty_list("resources") {
            table.fault(
                "resources",
                "an empty list; leave the key out to include all paid resources",
                sink,
            );
        }
        let mut names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

/// A plan's, subscription's, customer's or token's id.
pub(super) fn read_id(table: &Table<'_>, name: &str, sink: &mut Sink<'_>) -> Option<String> {
    table.require(name, "a string", sink, header_text)
}
