//! The same end, whatever becomes of the events: doubled, lost, in any order, with workers that die.
//!
//! In: seeds. Out: the state after each, compared with that of a run in which nothing went wrong.
//! `PAYFENCE_SHUFFLES=1000` runs so many seeds instead of [`SEEDS`] (a tenth of them on PostgreSQL).

use std::collections::HashSet;

use serde_json::{Value as Json, json};
use stripe_sandbox::Card;

use super::money::{DAY, MONTH, Shop, killed};
use super::place::Place;

/// Seeds where nobody says.
const SEEDS: u64 = 50;

/// A sequence that a seed gives (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

/// The life of one subscription, step by step.
async fn step(shop: &Shop, number: usize, id: &str) -> bool {
    let account = &shop.stripe_account;
    let customer = || async {
        shop.billing.stripe.subscription(&shop.scope(), id).await.unwrap().customer.unwrap()
    };
    match number {
        0 => shop.sandbox.advance(MONTH),
        1 => shop.move_to(id, &shop.large).await,
        2 => shop.sandbox.set_card(account, &customer().await, Card::Declined).unwrap(),
        3 => shop.sandbox.advance(MONTH),
        4 => shop.sandbox.set_card(account, &customer().await, Card::Good).unwrap(),
        5 => shop.sandbox.advance(DAY * 5),
        6 => shop.move_to(id, &shop.small).await,
        7 => shop.sandbox.advance(MONTH),
        8 => {
            let charges = shop.sandbox.objects(account, "charge");
            let charge = charges.last().unwrap()["id"].as_str().unwrap().to_owned();
            shop.dashboard("/v1/refunds", &format!("charge={charge}&amount=50")).await;
        }
        9 => drop(
            shop.dashboard(&format!("/v1/subscriptions/{id}"), "cancel_at_period_end=true").await,
        ),
        10 => shop.sandbox.advance(MONTH),
        _ => return false,
    }
    true
}

async fn ordered(shop: &Shop) -> Json {
    let id = shop.sold().await;
    shop.tell_all().await;
    let mut number = 0;
    while step(shop, number, &id).await {
        shop.tell_all().await;
        number += 1;
    }
    shop.outcome().await
}

async fn shuffled(shop: &Shop, chance: &mut Chance) -> Json {
    let id = shop.sold().await;
    let (mut seen, mut pool) = (HashSet::new(), Vec::new());
    let mut number = 0;
    loop {
        // Stripe forgets events after thirty days.
        for event in shop.events() {
            if !seen.insert(event["id"].to_string()) {
                continue;
            }
            match chance.below(10) {
                // Never told.
                0 | 1 => {}
                2 | 3 => pool.extend([event.clone(), event.clone()]),
                _ => pool.push(event),
            }
        }
        let told = chance.below(pool.len() + 1);
        for _ in 0..told {
            let event = pool.swap_remove(chance.below(pool.len()));
            shop.tell(&event).await;
        }
        // A worker that mostly dies before it is done; what it held is free again some time later.
        killed(shop.mortal(), chance.below(60)).await;
        if chance.below(3) == 0 {
            shop.place.store.raw("UPDATE stripe_leases SET until_ms = 0").await;
        }
        // What is due every quarter of an hour was done at least once in a month.
        shop.hint().await;
        if !step(shop, number, &id).await {
            break;
        }
        number += 1;
    }
    while !pool.is_empty() {
        let event = pool.swap_remove(chance.below(pool.len()));
        shop.tell(&event).await;
    }
    shop.settle().await;
    shop.sweep().await;
    shop.outcome().await
}

/// Takes away what the run before left, but for the shop itself.
async fn clear(place: &Place) {
    for table in [
        "claims",
        "stripe_reversals",
        "stripe_subscriptions",
        "checkouts",
        "stripe_calls",
        "stripe_events",
        "stripe_sweeps",
        "stripe_leases",
        "webhook_deliveries",
        "mails",
        "events",
        "subscriptions",
        "stripe_customers",
        "customers",
        "plan_prices",
        "plans",
        "site_hosts",
        "sites",
        "stripe_accounts",
        "admin_keys",
        "members",
        "audit_log",
        "outbox",
        "idempotency_keys",
        "accounts",
    ] {
        place.store.raw(&format!("DELETE FROM {table}")).await;
    }
}

/// Without what differs between two sandboxes.
fn comparable(mut outcome: Json) -> Json {
    for row in outcome["known"].as_array_mut().unwrap() {
        for name in ["stripe", "price"] {
            row[name] = Json::Null;
        }
    }
    for row in outcome["reversals"].as_array_mut().unwrap() {
        row["id"] = Json::Null;
    }
    outcome
}

pub async fn the_end_is_the_same_in_any_order(place: Place) {
    let seeds = std::env::var("PAYFENCE_SHUFFLES").ok().and_then(|text| text.parse().ok());
    let seeds: u64 = seeds.unwrap_or(SEEDS);
    let seeds = if place.url.starts_with("sqlite") { seeds } else { seeds / 10 };
    let began_s = i64::from(u32::MAX) / 2;
    let open = || {
        Shop::with(
            &place,
            |config| config.clock = stripe_sandbox::ClockStart::Fixed(began_s),
            json!({}),
        )
    };
    let expected = comparable(ordered(&open().await).await);
    assert_eq!(expected["subscriptions"][0]["status"], "canceled", "{expected}");
    assert_eq!(expected["claims"], 1, "{expected}");
    for seed in 1..=seeds {
        clear(&place).await;
        let shop = open().await;
        let outcome = comparable(shuffled(&shop, &mut Chance(seed)).await);
        assert_eq!(outcome, expected, "seed {seed}");
    }
}
