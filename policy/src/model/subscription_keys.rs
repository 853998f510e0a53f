//! The keys of `[[sites.subscriptions]]` and of the tokens in them.
//!
//! In: their tables, the site's plans and patterns. Out: the site's subscriptions.
//! Always holds: a token's own text is hashed here and goes no further, neither into the model nor into a message.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::diagnostic::Sink;
use super::file::{Names, TokenHashes, UNIQUE_ID};
use super::site_keys::{PatternNames, read_id};
use super::table::{Table, expected, quote};
use super::{Plan, Status, Subscription, Token};
use crate::token::{self, TokenHash};

pub(super) const KEYS: &[&str] =
    &["id", "plan", "customer", "status", "past_due_since", "period_anchor", "tokens"];
pub(super) const TOKEN_KEYS: &[&str] =
    &["id", "sha256", "value", "expires_at", "revoked", "allow_from", "resources"];
const SUBSCRIPTIONS_MAX: usize = 1_000_000;
const TOKENS_MAX: usize = 10_000;
const NETWORKS_MAX: usize = 1_000;

/// What the subscriptions of one site are read against.
pub(super) struct Surroundings<'a> {
    pub(super) plans: &'a [Plan],
    pub(super) patterns: &'a PatternNames<'a>,
    pub(super) takes_foreign_tokens: bool,
}

/// Reads a site's subscriptions.
pub(super) fn read(
    site: &Table<'_>,
    surroundings: &Surroundings<'_>,
    hashes: &mut TokenHashes,
    sink: &mut Sink<'_>,
) -> Vec<Subscription> {
    let plan_positions: HashMap<&str, u32> =
        surroundings.plans.iter().map(|plan| &*plan.id).zip(0..).collect();
    let tables = site.tables("subscriptions", "sites.subscriptions", KEYS, SUBSCRIPTIONS_MAX, sink);
    let mut subscriptions = Vec::with_capacity(tables.len());
    let (mut ids, mut token_ids) = (Names::default(), Names::default());
    for table in tables {
        let id = read_id(&table, "id", sink).unwrap_or_default();
        ids.claim(&id, &table, "id", UNIQUE_ID, sink);
        let plan = table.require("plan", "the id of a plan of this site", sink, |value| {
            let name = value.as_str().ok_or_else(|| expected("the id of a plan", value))?;
            plan_positions.get(name).copied().ok_or_else(|| {
                format!("{} names no plan; {}", quote(name), list_of(surroundings.plans))
            })
        });
        let status = table.require("status", "one of Stripe's words, as \"active\"", sink, |v| {
            super::table::word(v, Status::WORDS)
        });
        let token_tables =
            table.tables("tokens", "sites.subscriptions.tokens", TOKEN_KEYS, TOKENS_MAX, sink);
        let mut tokens = Vec::with_capacity(token_tables.len());
        for table in token_tables {
            tokens.extend(read_token(&table, surroundings, &mut token_ids, hashes, sink));
        }
        subscriptions.push(Subscription {
            id,
            plan: plan.unwrap_or_default(),
            customer: read_id(&table, "customer", sink).unwrap_or_default(),
            status: status.unwrap_or(Status::Incomplete),
            past_due_since_s: table.instant_s("past_due_since", sink),
            period_anchor_s: table.instant_s("period_anchor", sink),
            adjustments: Vec::new(),
            tokens,
        });
    }
    subscriptions
}

/// The plans that could have been named, as far as a message holds them.
fn list_of(plans: &[Plan]) -> String {
    const SHOWN_MAX: usize = 10;
    if plans.is_empty() {
        return "this site has no [[sites.plans]]".to_owned();
    }
    let shown: Vec<&str> = plans.iter().map(|plan| &*plan.id).take(SHOWN_MAX).collect();
    let more = if plans.len() > SHOWN_MAX { ", …" } else { "" };
    format!("this site has: {}{more}", shown.join(", "))
}

fn read_token(
    table: &Table<'_>,
    surroundings: &Surroundings<'_>,
    ids: &mut Names,
    hashes: &mut TokenHashes,
    sink: &mut Sink<'_>,
) -> Option<Token> {
    let id = read_id(table, "id", sink).unwrap_or_default();
    ids.claim(&id, table, "id", UNIQUE_ID, sink);
    let hash = read_hash(table, surroundings.takes_foreign_tokens, sink);
    if let Some(hash) = hash {
        let key = if table.has("sha256") { "sha256" } else { "value" };
        hashes.claim(hash, table, key, sink);
    }
    let allow_from = table.list("allow_from", NETWORKS_MAX, sink, parse_network);
    if table.is_empty_list("allow_from") {
        table.fault("allow_from", "an empty list; leave the key out to allow any address", sink);
    }
    Some(Token {
        id,
        expires_at_s: table.instant_s("expires_at", sink),
        is_revoked: table.boolean("revoked", sink).unwrap_or_default(),
        allow_from: allow_from.unwrap_or_default().into_iter().map(|(net, _)| net).collect(),
        resources: surroundings.patterns.read_names(table, sink),
        hash: hash?,
    })
}

fn read_hash(
    table: &Table<'_>,
    takes_foreign_tokens: bool,
    sink: &mut Sink<'_>,
) -> Option<TokenHash> {
    let by_hash = table.read("sha256", sink, |value| {
        value
            .as_str()
            .and_then(TokenHash::from_hex)
            .ok_or_else(|| "expected the SHA-256 of the token in 64 hexadecimal digits".to_owned())
    });
    let by_value = table.read("value", sink, |value| {
        let text = value.as_str().ok_or_else(|| expected("a token", value))?;
        match token::check(text.as_bytes()) {
            Ok(_) => Ok(TokenHash::of(text.as_bytes())),
            Err(_) if takes_foreign_tokens && token::is_foreign_form(text.as_bytes()) => {
                Ok(TokenHash::of(text.as_bytes()))
            }
            Err(_) if takes_foreign_tokens => {
                Err("expected a token of 16 to 256 visible ASCII characters".to_owned())
            }
            Err(problem) => Err(format!(
                "not a token: {problem}; make one with `payfence token new`, or set \
                 foreign_tokens = true on the site for keys of another system"
            )),
        }
    });
    match (table.has("sha256"), table.has("value")) {
        (true, true) => {
            table.fault("value", "give either `sha256` or `value`, not both", sink);
        }
        (false, false) => {
            table.fault(
                "sha256",
                "missing; expected the SHA-256 of the token in 64 hexadecimal digits, or `value` \
                 with the token itself",
                sink,
            );
        }
        _ => {}
    }
    by_hash.or(by_value)
}

/// A network in CIDR form or a single address; bits beyond the prefix are cut off.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    network.ok_or_else(|| {
        "expected a network such as \"203.0.113.0/24\", \"2001:db8::/32\" or a \
             single address"
            .to_owned()
    })
}
