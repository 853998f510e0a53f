//! Stripe's limits, kept by several control planes over one database.
//!
//! In: much to settle at once, a Stripe that refuses what is too much in a second. Out: all of it settled.
//! Always holds: each control plane has its own connections and its own client of Stripe, with the limit of a release.

use std::sync::Arc;
use std::time::Duration;

use crate::billing::sharers::Sharer;
use crate::billing::stripe::BucketLimit;
use crate::billing::worker::Worker;

use super::money::{Shop, billing_within};
use super::place::Place;
use super::sync_node::until;

/// What Stripe takes in a second in test mode.
const STRIPE_PER_S: u32 = 25;
/// Fewer than are fetched together, as a crowd.
const SALES: usize = 40;
/// What may be refused: a call that waited for the processor comes into the next one's second.
const HANDFUL: u64 = 5;

pub async fn control_planes_share_what_stripe_takes(place: Place) {
    let shop = Shop::open(&place).await;
    for _ in 0..SALES {
        shop.sold().await;
    }
    for event in shop.events() {
        shop.tell(&event).await;
    }
    let planes: Vec<_> = (0..2)
        .map(|_| {
            let (store, limit) = (place.another_store(), BucketLimit::default());
            billing_within(store, &shop.sandbox, Duration::from_secs(30), limit)
        })
        .collect();
    let mut sharers: Vec<Sharer> = planes.iter().map(Sharer::new).collect();
    for (sharer, expected) in sharers.iter_mut().zip(1..) {
        assert_eq!(sharer.beat().await.unwrap(), expected);
    }
    for sharer in &mut sharers {
        assert_eq!(sharer.beat().await.unwrap(), 2, "who was there before is counted once");
    }
    shop.sandbox.set_rate_limit(STRIPE_PER_S);
    shop.sandbox.take_load();
    let workers = planes.iter().map(|plane| Worker::new(plane.settler.clone(), Arc::default()));
    let [one, other] = workers.collect::<Vec<_>>().try_into().unwrap();
    let is_settled = until(async || {
        let (mine, others) = tokio::join!(one.work_once(), other.work_once());
        mine.and(others).unwrap();
        let state = place.store.inbox_state().await.unwrap();
        assert_eq!(state.dead, 0, "nothing is given up");
        state.waiting == 0
    });
    assert!(is_settled.await, "what waits is not settled");
    assert_eq!(shop.subscriptions().await.len(), SALES);
    let load = shop.sandbox.take_load();
    assert!(load.calls > u64::from(STRIPE_PER_S) * 3, "{load:?} is no load");
    assert!(load.refused <= HANDFUL, "{load:?}");

    // One that is gone leaves its part to the other.
    place.store.raw("UPDATE stripe_leases SET until_ms = 0").await;
    assert_eq!(sharers[0].beat().await.unwrap(), 1);
}
