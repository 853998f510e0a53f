//! The link by which whoever has an address fetches the key of a free plan that was asked for with it.
//!
//! In: the event of a request. Out: a link, and until when it is good.
//! Always holds: its secret is made here, when the letter is written, and only its hash is kept; the newest link alone is
//! good; a request whose link was spent, or that was asked for anew since, gets none.

use crate::billing::claims::{link_url, new_link};
use crate::billing::free::LINK_MS;
use crate::storage::{StorageResult, Store};

/// Makes a request's link; the inner error where there is none to be made.
pub(super) async fn make(
    store: &Store,
    event_id: &str,
    public_url: &str,
) -> StorageResult<Result<(String, i64), String>> {
    let (secret, link_hash) = new_link(&**store.world());
    let until_ms = store.world().now_ms().saturating_add(LINK_MS);
    if store.keep_free_link(event_id, &link_hash, until_ms).await? {
        return Ok(Ok((link_url(public_url, &secret), until_ms)));
    }
    Ok(Err("the key was fetched already, or the request is over".to_owned()))
}
