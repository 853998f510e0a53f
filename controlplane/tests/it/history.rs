//! A database that was brought back from a backup, found out by a node while changes of it are on their way.
//!
//! In: changes that another control plane has published, a node that knows more. Out: what streams are served from then on.

use std::sync::Arc;

use serde_json::json;

use super::place::Place;
use super::samples;
use super::sync_node::until;
use crate::sync::bounds::Bounds;
use crate::sync::feed::{After, Feed};

/// How much further the node is than the database.
const AHEAD: u64 = 1_000;

/// The feed still follows the old numbers when a node begins a history that goes on past them: they lead nowhere any more, and a change from
/// the new number back to one of them would never be.
pub async fn changes_of_before_a_new_history_lead_nowhere(place: Place) {
    let owner = place.owner().await;
    samples::make(&owner).await;
    let store = &place.store;
    store.outbox().publish_once().await.unwrap();
    let (keyring, folder) = (place.keyring.clone(), std::env::temp_dir());
    let feed = Arc::new(Feed::new(store.clone(), keyring, folder, Bounds::default()));
    let following = tokio::spawn(Arc::clone(&feed).follow());
    assert!(until(async || feed.head() > 0).await, "nothing is followed");
    let (head, history) = (feed.head(), feed.history());

    // Numbered by another control plane, of which this one hears with its next look.
    let generation = feed.nodes_generation();
    owner.post("/v1/customers", json!({})).await.expect(201);
    owner.post("/v1/nodes", json!({ "name": "n1" })).await.expect(201);
    let other = place.another_store();
    other.outbox().publish_once().await.unwrap();
    let published = other.outbox().head().unsigned_abs();
    assert!(published > head);
    let from = published + AHEAD;
    let renewed = feed.meet(history, from).await.unwrap();
    assert_ne!(renewed, history);
    assert_eq!((feed.history(), feed.head()), (renewed, from));
    // Whoever comes next with the old name learns the new one, and begins none again.
    assert_eq!(feed.meet(history, from).await.unwrap(), renewed);
    assert_eq!(feed.meet(renewed, from).await.unwrap(), renewed);

    // Now it hears of the old numbers; that one was about a node tells that it has.
    store.outbox().publish_once().await.unwrap();
    assert!(until(async || feed.nodes_generation() > generation).await, "it does not follow");
    assert_eq!(feed.head(), from);

    let resource = json!({ "slug": "later", "origin": "https://api.example.com" });
    owner.post("/v1/sites", resource).await.expect(201);
    store.outbox().publish_once().await.unwrap();
    let last = store.outbox().head().unsigned_abs();
    assert!(last > from, "numbers go on after what the node knew: {last}");
    assert!(until(async || feed.head() >= last).await, "{} and not {last}", feed.head());
    let After::Changes(changes) = feed.after(from) else { panic!("a gap") };
    let mut at = from;
    for change in &changes {
        assert_eq!(change.head.from, at, "a change that does not go on from the one before");
        assert!(change.head.to > at, "a change that leads backwards");
        at = change.head.to;
    }
    assert_eq!(at, last);
    following.abort();
}
