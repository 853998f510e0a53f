//! From the text of a policy file to the model.
//!
//! In: the file's name and bytes. Out: a [`Policy`] with warnings, or every fault that was found.
//! Always holds: what comes out needs no further checks; nothing of a file with a fault comes out.

use std::collections::HashMap;

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, PolicyError, Sink};
use super::site_keys::{self, PatternNames};
use super::subscription_keys::{self, Surroundings};
use super::table::{Table, quote};
use super::{Policy, Site, plan_keys};
use crate::token::TokenHash;

/// The largest file that is read, bytes: room for a few hundred thousand tokens.
pub const FILE_BYTES_MAX: usize = 64 << 20;
const SITES_MAX: usize = 10_000;
/// Of plans, subscriptions and tokens.
pub(super) const UNIQUE_ID: &str = "ids are unique within a site";

/// A policy and what is worth saying about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The policy.
    pub policy: Policy,
    /// What is allowed but unwise, in order of lines.
    pub warnings: Vec<Diagnostic>,
}

/// Parses a policy file. `file` is the name that messages give it.
///
/// # Errors
/// Every fault found, up to a bound.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Parsed, PolicyError> {
    let refuse = |line, message: String| PolicyError {
        file: file.to_owned(),
        faults: vec![Diagnostic { line, key: String::new(), message }],
        further: 0,
    };
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes; at most {FILE_BYTES_MAX} are allowed", bytes.len());
        return Err(refuse(1, message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        refuse(line, "not UTF-8 text, which TOML must be".to_owned())
    })?;
    let mut sink = Sink::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let span = error.span().unwrap_or_default();
            // Only here is what the span covers known to be a key, and never a secret.
            let is_about_a_key = error.message().contains("duplicate key");
            let key = if is_about_a_key { text.get(span.clone()) } else { None };
            let message = format!("not valid TOML: {}", error.message());
            sink.fault(span.start, key.unwrap_or_default().to_owned(), message);
        }
        return Err(sink
            .finish(file)
            .err()
            .unwrap_or_else(|| refuse(1, "not valid TOML".to_owned())));
    }
    let root = Table::open("", 0, document.get_ref(), &["sites"], &mut sink);
    let policy = read(&root, &mut sink);
    let warnings = sink.finish(file)?;
    Ok(Parsed { policy, warnings })
}

fn read(root: &Table<'_>, sink: &mut Sink<'_>) -> Policy {
    let tables = root.tables("sites", "sites", site_keys::KEYS, SITES_MAX, sink);
    if !root.has("sites") || root.is_empty_list("sites") {
        root.fault("sites", "no site at all; expected at least one [[sites]] table", sink);
    }
    let (mut slugs, mut hosts) = (Names::default(), Names::default());
    let mut hashes = TokenHashes::default();
    let mut sites = Vec::with_capacity(tables.len());
    for table in tables {
        let mut site = site_keys::read(&table, sink);
        slugs.claim(&site.slug, &table, "slug", "a slug names one site", sink);
        for host in &site.hosts {
            hosts.claim(&host.to_string(), &table, "hosts", "a host belongs to one site", sink);
        }
        site_keys::read_resources(&table, &mut site, sink);
        read_customers(&table, &mut site, &mut hashes, sink);
        sites.push(site);
    }
    Policy { sites }
}

fn read_customers(
    table: &Table<'_>,
    site: &mut Site,
    hashes: &mut TokenHashes,
    sink: &mut Sink<'_>,
) {
    let patterns = PatternNames::of(&site.resources);
    site.plans = plan_keys::read(table, &patterns, sink);
    let surroundings = Surroundings {
        plans: &site.plans,
        patterns: &patterns,
        takes_foreign_tokens: site.foreign_tokens,
    };
    site.subscriptions = subscription_keys::read(table, &surroundings, hashes, sink);
}

/// Names that may stand only once, with the places where they stand.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// Takes `name`; a fault if it is taken. An empty name was a fault before and is not taken.
    pub(super) fn claim(
        &mut self,
        name: &str,
        table: &Table<'_>,
        key: &str,
        rule: &str,
        sink: &mut Sink<'_>,
    ) {
        if name.is_empty() {
            return;
        }
        let offset = table.offset_of(key);
        if let Some(first) = self.0.get(name) {
            let line = sink.line_of(*first);
            let message = format!("{} stands in line {line} already; {rule}", quote(name));
            table.fault(key, message, sink);
        } else {
            self.0.insert(name.to_owned(), offset);
        }
    }
}

/// Token hashes, which may stand only once in the whole policy.
#[derive(Default)]
pub(super) struct TokenHashes(HashMap<TokenHash, usize>);

impl TokenHashes {
    /// Takes `hash`; a fault if it is taken.
    pub(super) fn claim(
        &mut self,
        hash: TokenHash,
        table: &Table<'_>,
        key: &str,
        sink: &mut Sink<'_>,
    ) {
        let offset = table.offset_of(key);
        if let Some(first) = self.0.get(&hash) {
            let line = sink.line_of(*first);
            let message = format!(
                "the same token stands in line {line} already; a token belongs to one subscription"
            );
            table.fault(key, message, sink);
        } else {
            self.0.insert(hash, offset);
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
