//! That a call is the same call after a restart, and that other parameters are found.

use serde_json::json;

use super::{CallError, done, forget, once};
use crate::it::Place;

#[tokio::test]
async fn a_call_keeps_its_key_and_its_parameters() {
    let place = Place::sqlite();
    place.prepare().await;
    let request = json!({ "name": "Pro", "active": null });
    let first = once(&place.store, "acct_1", "product/plan_1/test", &request).await.unwrap();
    assert!(!first.is_again);
    // Another process, with the same parameters written otherwise.
    let another = place.another_store();
    let same = json!({ "name": "Pro" });
    let again = once(&another, "acct_1", "product/plan_1/test", &same);
    let again = again.await.unwrap();
    assert_eq!((again.key, again.is_again), (first.key.clone(), true));
    let changed = once(&another, "acct_1", "product/plan_1/test", &json!({ "name": "Max" })).await;
    assert!(matches!(changed, Err(CallError::Changed(_))), "{changed:?}");
    // Whose and what for tells calls apart.
    for (account, purpose) in [("acct_2", "product/plan_1/test"), ("acct_1", "product/plan_1/live")]
    {
        let other = once(&place.store, account, purpose, &request).await.unwrap();
        assert!(!other.is_again && other.key != first.key);
    }
    done(&place.store, "acct_1", "product/plan_1/test", "prod_1").await.unwrap();
    let answered = once(&another, "acct_1", "product/plan_1/test", &request).await.unwrap();
    assert_eq!(answered.object_id.as_deref(), Some("prod_1"));
    forget(&place.store, "acct_1", "product/plan_1/test").await.unwrap();
    let anew = once(&another, "acct_1", "product/plan_1/test", &request).await.unwrap();
    assert!(!anew.is_again && anew.key != first.key);
}
