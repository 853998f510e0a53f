//! Settles what nodes held that were declared dead.
//!
//! In: rows of nodes. Out: accounts of the ledger in which their leases count as used, and others told.
//! Always holds: a node is done with only once all accounts were; whoever is interrupted begins again.

use std::time::Duration;

use super::Sync;
use crate::storage::StorageResult;

/// How often it is looked whether there is one.
const LOOK: Duration = Duration::from_secs(1);

/// For ever.
pub async fn run(sync: Sync) {
    let mut is_away = false;
    loop {
        tokio::time::sleep(LOOK).await;
        match round(&sync).await {
            Ok(()) => is_away = false,
            Err(error) => {
                if !is_away {
                    tracing::warn!(%error, "what dead nodes held cannot be settled; trying again until it can");
                }
                is_away = true;
            }
        }
    }
}

async fn round(sync: &Sync) -> StorageResult<()> {
    for key in sync.store.unburied().await? {
        let taken = sync.store.declare_dead(u64::try_from(key).unwrap_or_default()).await?;
        let told = taken.posted.len();
        sync.mailboxes.post(&sync.store, taken.posted).await;
        sync.store.bury(key).await?;
        tracing::info!(node = key, told, "what a dead node held counts as used now");
    }
    Ok(())
}
