//! From entries of the outbox to the changes that nodes apply.
//!
//! In: entries in order, the rows they name as they now are. Out: deltas that follow one another.
//! Always holds: what a delta says of a row is as new as its last entry, or newer; a delta that would be too long is cut
//! in two, and one subscription that cannot be told holds nobody else up.

use std::collections::BTreeSet;

use bytes::Bytes;
use link::wire::DeltaHead;
use policy::compile::compile_sites;
use policy::delta::{Change, Delta, SubscriptionState};
use policy::ids::entitlement_id;

use super::model::Sites;
use crate::secrets::Keyring;
use crate::storage::{OutboxEntry, PolicyReader, StorageError, StorageResult, Store};

/// Kinds of rows that a site's part of the policy is made of.
const OF_SITES: &[&str] = &["site", "resource", "plan", "plan_revision"];
/// Kinds of rows that say which nodes may come in.
const OF_NODES: &[&str] = &["node", "node_token"];

/// One change, encoded.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Between which sequences.
    pub head: DeltaHead,
    /// The delta's own bytes.
    pub bytes: Bytes,
    /// Subscriptions and tokens in it.
    pub weight: usize,
}

/// Whether any of the entries concerns the nodes' own tokens.
pub fn concern_nodes(entries: &[OutboxEntry]) -> bool {
    entries.iter().any(|entry| OF_NODES.contains(&entry.kind.as_str()))
}

/// The changes that these entries make after `from`, as the rows now are.
pub async fn of_entries(
    store: &Store,
    keyring: &Keyring,
    from: u64,
    entries: &[OutboxEntry],
) -> StorageResult<Vec<Encoded>> {
    let reader = store.policy_reader().await?;
    let touches_policy = entries
        .iter()
        .any(|entry| OF_SITES.contains(&entry.kind.as_str()) || entry.kind == "subscription");
    // Most changes of other kinds need nothing of the sites.
    let sites = match touches_policy {
        true => Sites::new(reader.sites().await?, keyring, store.world().now_ms()),
        false => Sites::default(),
    };
    let mut made = Vec::new();
    let mut from = from;
    // Cut in two where a delta would be too long: first in, first out.
    let mut parts = vec![entries];
    while let Some(part) = parts.pop() {
        let Some(to) = part.last().and_then(|entry| u64::try_from(entry.sequence).ok()) else {
            continue;
        };
        let (changes, weight) = changes(&reader, &sites, part, to).await?;
        match (Delta { from, to, changes }.encode(), part.len()) {
            (Ok(bytes), _) => {
                made.push(Encoded { head: DeltaHead { from, to }, bytes: bytes.into(), weight });
                from = to;
            }
            (Err(_), 2..) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            (Err(error), _) => {
                tracing::error!(sequence = to, %error, "a change cannot be told to nodes; they keep what they have of it");
                let empty = Delta { from, to, changes: Vec::new() };
                let bytes =
                    empty.encode().map_err(|error| StorageError::Broken(error.to_string()))?;
                let head = DeltaHead { from, to };
                made.push(Encoded { head, bytes: bytes.into(), weight: 0 });
                from = to;
            }
        }
    }
    Ok(made)
}

async fn changes(
    reader: &PolicyReader,
    sites: &Sites,
    entries: &[OutboxEntry],
    to: u64,
) -> StorageResult<(Vec<Change>, usize)> {
    let mut changes = Vec::new();
    if entries.iter().any(|entry| OF_SITES.contains(&entry.kind.as_str())) {
        match compile_sites(&sites.sites, to) {
            Ok(bytes) => changes.push(Change::Sites(bytes)),
            Err(error) => {
                tracing::error!(%error, "the sites cannot be compiled; nodes keep those they have")
            }
        }
    }
    let keys = entries.iter().filter(|entry| entry.kind == "subscription");
    let keys: BTreeSet<i64> = keys.map(|entry| entry.row_key).collect();
    let keys: Vec<i64> = keys.into_iter().collect();
    let rows = reader.subscriptions(&keys).await?;
    let site_ids: BTreeSet<&str> =
        rows.iter().map(|rows| rows.subscription.site_id.as_str()).collect();
    let site_ids: Vec<&str> = site_ids.into_iter().collect();
    let slugs = reader.slugs(&site_ids).await?;
    let mut weight = 0;
    for rows in &rows {
        let row = &rows.subscription;
        let placed = sites.subscription(rows).filter(|_| row.archived_at_ms.is_none());
        let site = placed.as_ref().and_then(|(site, _)| sites.sites.get(*site as usize));
        weight += 1 + rows.tokens.len();
        match (placed.as_ref(), site, slugs.get(&row.site_id)) {
            (Some((_, subscription)), Some(site), _) => {
                changes.push(Change::Subscription(SubscriptionState::new(site, subscription)));
            }
            (_, _, Some(slug)) => {
                changes.push(Change::Gone(entitlement_id(slug, &row.reference).0))
            }
            (_, _, None) => {}
        }
    }
    Ok((changes, weight))
}
