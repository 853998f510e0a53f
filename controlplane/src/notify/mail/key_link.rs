//! The link by which a buyer fetches a key that was paid for.
//!
//! In: a claim. Out: a link, and until when it is good.
//! Always holds: its secret is made here, when the letter is written, and only its hash is kept; the newest link alone is
//! good; a claim that was redeemed gets none.

use crate::billing::claims::{link_url, new_link};
use crate::billing::settle::checkout::LINK_CLAIM_MS;
use crate::storage::{Actor, KeyClaim, StorageResult, Store};

/// Makes a claim's link; the inner error where there is none to be made.
pub(super) async fn make(
    store: &Store,
    account_id: &str,
    claim_id: &str,
    public_url: &str,
) -> StorageResult<Result<(String, i64), String>> {
    let actor = Actor { kind: "system", id: "mail".to_owned(), request_id: None };
    let mut change = store.change(account_id, actor).await?;
    let Some(before) = change.lock::<KeyClaim>(claim_id).await? else {
        return Ok(Err("the claim is gone".to_owned()));
    };
    if before.redeemed_at_ms.is_some() {
        return Ok(Err("the key was fetched already".to_owned()));
    }
    let (secret, link_hash) = new_link(&**store.world());
    let until_ms = change.now_ms().saturating_add(LINK_CLAIM_MS);
    let after =
        KeyClaim { link_hash: Some(link_hash), link_until_ms: Some(until_ms), ..before.clone() };
    change.update(&before, after).await?;
    change.commit().await?;
    Ok(Ok((link_url(public_url, &secret), until_ms)))
}
