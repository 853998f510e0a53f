//! The same end, whatever becomes of the events: doubled, lost, withheld, in any order, with workers that die and a Stripe that
//! fails now and then.
//!
//! In: seeds. Out: the state after each, compared with that of a run in which nothing went wrong, and nothing for
//! `payfence reconcile` to find. `PAYFENCE_SHUFFLES=1000` runs so many seeds instead of [`SEEDS`] (a tenth of them on PostgreSQL),
//! `PAYFENCE_SHUFFLE_FROM=962` begins with that one.

use std::collections::HashSet;

use serde_json::{Value as Json, json};
use stripe_sandbox::{Fault, Planned};

use super::money::{Shop, broken_off, killed};
use super::place::Place;
use super::story::{Life, OVER};
use crate::billing::settle::Owner;
use crate::billing::stripe::Mode;
use crate::billing::sweep::Sweeper;
use crate::overage::OverageTeller;
use crate::reconcile::{NoDecisions, Pair, Reconciler, Report, Scope};

/// Seeds where nobody says.
const SEEDS: u64 = 8;
/// A long run says how far it is.
const SAID_EVERY: u64 = 50;

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

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

async fn ordered(life: &mut Life) -> Json {
    loop {
        life.shop.tell_all().await;
        teller(&life.shop).tell_all().await.unwrap();
        if life.step().await.is_none() {
            break;
        }
    }
    // What a full refund ended has events of its own.
    life.shop.tell_all().await;
    outcome(life).await
}

fn teller(shop: &Shop) -> OverageTeller {
    OverageTeller::new(shop.place.store.clone(), shop.billing.stripe.clone())
}

async fn shuffled(life: &mut Life, chance: &mut Chance) -> Json {
    let (mut seen, mut pool) = (HashSet::new(), Vec::new());
    loop {
        // Stripe forgets events after thirty days.
        for event in life.shop.events() {
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
        for _ in 0..chance.below(pool.len() + 1) {
            let event = pool.swap_remove(chance.below(pool.len()));
            life.shop.tell(&event).await;
        }
        trouble(life, chance).await;
        // What is due every quarter of an hour was done at least once before anything else happens.
        life.shop.hint().await;
        teller(&life.shop).tell_all().await.unwrap();
        if chance.one_in(8) {
            // Once all that was found is settled, what subscribers are given is what Stripe says, disputes included.
            life.shop.settle().await;
            life.shop.settle().await;
            let report = reconciled(&life.shop).await;
            let mut found = report.differences.iter();
            assert_eq!(found.find(|found| found.pair == Pair::EntitlementStripe), None);
        }
        if life.step().await.is_none() {
            break;
        }
    }
    while !pool.is_empty() {
        let event = pool.swap_remove(chance.below(pool.len()));
        life.shop.tell(&event).await;
    }
    life.shop.settle().await;
    life.shop.sweep().await;
    outcome(life).await
}

/// Whoever works mostly dies before it is done, and is sometimes answered with an error; what it held is free again some time
/// later.
async fn trouble(life: &Life, chance: &mut Chance) {
    let shop = &life.shop;
    if chance.one_in(3) {
        let faults = [Fault::ErrorBefore, Fault::ErrorAfter, Fault::ResetAfter, Fault::Garbage];
        let fault = faults[chance.below(faults.len())].clone();
        let planned = Planned::next(fault, "/v1", 12);
        shop.sandbox.plan_fault(Planned { per_mille: 300, ..planned });
    }
    if chance.one_in(4) {
        // A buyer looks at the page that Stripe sent them to, and goes away.
        let owner = Owner {
            account_id: shop.account.clone(),
            mode: Mode::Test,
            stripe_account: shop.stripe_account.clone(),
        };
        let session = &life.sessions[chance.below(life.sessions.len())];
        let settler = shop.mortal_settler();
        let looked = async move { drop(settler.checkout_paid(&owner, session).await) };
        broken_off(looked, chance.below(60)).await;
    }
    killed(shop.mortal(), chance.below(200)).await;
    if chance.one_in(4) {
        let sweeper = Sweeper::new(shop.mortal_settler());
        broken_off(async move { drop(sweeper.pass().await) }, chance.below(60)).await;
    }
    if chance.one_in(2) {
        let store = shop.place.another_store();
        let teller = OverageTeller::new(store, shop.billing.stripe.clone());
        broken_off(async move { drop(teller.tell_all().await) }, chance.below(40)).await;
    }
    shop.sandbox.clear_faults();
    if chance.one_in(3) {
        shop.place.store.raw("UPDATE stripe_leases SET until_ms = 0").await;
    }
}

/// What there is in the end, without what differs between two sandboxes.
async fn outcome(life: &Life) -> Json {
    let mut outcome = life.shop.outcome().await;
    for (part, names) in [
        ("subscriptions", &[] as &[&str]),
        ("known", &["stripe", "price"]),
        ("reversals", &["id"]),
        ("checkouts", &[]),
    ] {
        let rows = outcome[part].as_array_mut().unwrap();
        for row in rows.iter_mut() {
            for name in names {
                row[*name] = Json::Null;
            }
        }
        rows.sort_by_key(Json::to_string);
    }
    outcome["metered"] = life.metered().into();
    outcome
}

/// What `payfence reconcile` says.
async fn reconciled(shop: &Shop) -> Report {
    let store = &shop.place.store;
    let decisions = Box::new(NoDecisions);
    let reconciler = Reconciler::new(store.clone(), Some(shop.billing.stripe.clone()), decisions);
    reconciler.run(&Scope::default()).await.unwrap()
}

/// The same in the end.
async fn differences(shop: &Shop) -> Json {
    let report = reconciled(shop).await;
    assert_eq!(report.checked, 2);
    let differences: Vec<String> =
        report.differences.iter().map(|found| format!("{found:?}")).collect();
    // No node is there that would have decided anything: what was used is reported straight to the ledger.
    let not_asked: Vec<&String> =
        report.unavailable.iter().filter(|what| !what.starts_with("the decision log:")).collect();
    json!({ "found": differences, "not_asked": not_asked })
}

pub async fn the_end_is_the_same_in_any_order(place: Place) {
    let seeds = std::env::var("PAYFENCE_SHUFFLES").ok().and_then(|text| text.parse().ok());
    let seeds: u64 = seeds.unwrap_or(SEEDS);
    let from = std::env::var("PAYFENCE_SHUFFLE_FROM").ok().and_then(|text| text.parse().ok());
    let from: u64 = from.unwrap_or(1);
    let seeds = if place.url.starts_with("sqlite") { seeds } else { seeds.div_ceil(10) };
    let clean = json!({ "found": [], "not_asked": [] });
    let mut life = Life::begin(&place).await;
    let expected = ordered(&mut life).await;
    let given = expected["subscriptions"].as_array().unwrap();
    let given: Vec<Json> = given.iter().map(|row| json!([row["status"], row["plan"]])).collect();
    assert_eq!(json!(given), json!([["canceled", "large"], ["canceled", "small"]]), "{expected}");
    let reversals = expected["reversals"].as_array().unwrap();
    let reversals: Vec<&Json> = reversals.iter().map(|row| &row["status"]).collect();
    assert_eq!(json!(reversals), json!(["lost", "won", "full", "partial"]), "{expected}");
    assert_eq!(expected["checkouts"], json!(["expired", "failed", "paid", "paid"]), "{expected}");
    assert_eq!(
        (&expected["claims"], &expected["metered"]),
        (&json!(2), &json!(OVER)),
        "{expected}"
    );
    assert_eq!(differences(&life.shop).await, clean);
    for seed in from..=seeds.max(from) {
        place.clear().await;
        let mut life = Life::begin(&place).await;
        let outcome = shuffled(&mut life, &mut Chance(seed)).await;
        assert_eq!(outcome, expected, "seed {seed}");
        assert_eq!(differences(&life.shop).await, clean, "seed {seed}");
        #[expect(clippy::print_stderr, reason = "a thousand seeds run for long")]
        if seed.is_multiple_of(SAID_EVERY) {
            eprintln!("the same after seed {seed} of {seeds}");
        }
    }
}
