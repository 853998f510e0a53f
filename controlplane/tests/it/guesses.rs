//! Admin keys and node tokens that nobody has: the database is asked for a bounded number of them, and for good ones always.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use http::{Request, StatusCode, header};
use link::wire::{NodeToken, PROTOCOL, PROTOCOL_HEADER};
use serde_json::json;
use tower::ServiceExt as _;

use super::place::Place;
use super::story::Stopped;
use super::sync_node::issue;
use crate::init::new_admin_key;
use crate::storage::Retention;
use crate::sync::Sync;
use crate::world::System;

/// Look-ups that may fail at once, as the product has it.
const FAILED: usize = 200;

fn stopped(place: &Place) -> (Arc<Stopped>, Place) {
    let clock = Arc::new(Stopped(AtomicI64::new(1_800_000_000_000)));
    (clock.clone(), place.in_time_of(clock))
}

pub async fn keys_that_nobody_has_are_bounded(place: Place) {
    let (clock, place) = stopped(&place);
    let owner = place.owner().await;
    let body = json!({ "label": "gone", "role": "viewer" });
    let gone = owner.post("/v1/admin_keys", body.clone()).await.expect(201);
    owner.delete(&format!("/v1/admin_keys/{}", gone.id())).await.expect(200);
    let gone = owner.with_key(gone.json["secret"].as_str().unwrap().to_owned());
    let unknown = || owner.with_key(new_admin_key(&System).0);
    for at in 0..FAILED {
        // One that was revoked is no better than one that never was.
        let guess = if at % 3 == 0 { gone.clone() } else { unknown() };
        guess.get("/v1/sites").await.expect(401);
    }
    for guess in [unknown(), gone.clone(), unknown()] {
        let refused = guess.get("/v1/sites").await.expect(429);
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(refused.json["type"], "urn:payfence:problem:rate_limited");
    }
    // Who has a key notices nothing, but for one that is younger than a second.
    let young = owner.post("/v1/admin_keys", body).await.expect(201);
    let young = owner.with_key(young.json["secret"].as_str().unwrap().to_owned());
    young.get("/v1/sites").await.expect(429);
    // The database is not asked.
    place.store.raw("ALTER TABLE admin_keys RENAME TO away").await;
    unknown().get("/v1/sites").await.expect(429);
    owner.get("/v1/sites").await.expect(500);
    place.store.raw("ALTER TABLE away RENAME TO admin_keys").await;
    owner.get("/v1/sites").await.expect(200);
    // A second later there are twenty more.
    clock.0.fetch_add(1_000, Ordering::Relaxed);
    for _ in 0..20 {
        unknown().get("/v1/sites").await.expect(401);
    }
    unknown().get("/v1/sites").await.expect(429);
    young.get("/v1/sites").await.expect(200);
    owner.get("/v1/sites").await.expect(200);
}

pub async fn node_tokens_that_nobody_has_are_bounded(place: Place) {
    let (_clock, place) = stopped(&place);
    let owner = place.owner().await;
    let issued = issue(&owner, &place, "n1").await;
    let folder = tempfile::tempdir().unwrap();
    let (store, keyring) = (place.store.clone(), place.keyring.clone());
    let sync = Sync::new(store, keyring, folder.path().to_owned(), Retention::default());
    let router = sync.router();
    let ask = async |token: &NodeToken| {
        let request = Request::get("/node/v1/decisions/0000000000000001")
            .header(PROTOCOL_HEADER, PROTOCOL.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()))
            .body(Body::empty())
            .unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let unknown = || NodeToken::make(getrandom::fill).unwrap();
    for _ in 0..FAILED {
        assert_eq!(ask(&unknown()).await.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = ask(&unknown()).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(ask(&issued.token).await.status(), StatusCode::OK);
}
