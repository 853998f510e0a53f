//! Random walks by seed: whatever is done in whatever order, what must always hold does.
//!
//! In: a seed. Out: the first step after which something does not add up.
//! Always holds: the walk asks and moves time; it never looks at how the sandbox does its work.

use crate::world::{DAY_S, START, World, id, period};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stripe_sandbox::{Card, Config, Exhausted, Outcome};

/// Seeds of a run; `PAYFENCE_SANDBOX_SEEDS` makes it longer.
const SEEDS: u64 = 12;
const STEPS: usize = 40;

/// SplitMix64: the walk's own chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).expect("below a usize")
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

struct Walk {
    world: World,
    chance: Chance,
    prices: Vec<String>,
    ended: BTreeSet<String>,
}

#[tokio::test]
async fn what_must_always_hold_holds_after_every_step() {
    let seeds = std::env::var("PAYFENCE_SANDBOX_SEEDS").map_or(Ok(SEEDS), |seeds| seeds.parse());
    for seed in 0..seeds.expect("PAYFENCE_SANDBOX_SEEDS is a number") {
        let mut chance = Chance(seed);
        let exhausted = chance.of(&[Exhausted::Cancel, Exhausted::Unpaid, Exhausted::PastDue]);
        let world = World::with(Config { exhausted, ..Config::fixed(START, seed) }).await;
        let mut prices = Vec::new();
        for form in [
            "1000&recurring[interval]=month",
            "3333&recurring[interval]=month",
            "29999&recurring[interval]=year",
        ] {
            prices.push(world.price(&format!("unit_amount={form}")).await);
        }
        let mut walk = Walk { world, chance, prices, ended: BTreeSet::new() };
        for step in 0..STEPS {
            let done = walk.step().await;
            let found = walk.faults();
            assert!(found.is_empty(), "seed {seed}, step {step} ({done}): {found:#?}");
        }
    }
}

impl Walk {
    async fn step(&mut self) -> String {
        let subscriptions = self.world.sandbox.objects("", "subscription");
        if subscriptions.is_empty() || self.chance.below(8) == 0 {
            return self.buy().await;
        }
        let subscription = &subscriptions[self.chance.below(subscriptions.len())];
        let path = format!("/v1/subscriptions/{}", id(subscription));
        let item = id(&subscription["items"]["data"][0]);
        let price = self.chance.below(self.prices.len());
        let price = self.prices[price].clone();
        let (proration, behavior) = (
            self.chance.of(&["always_invoice", "create_prorations", "none"]),
            self.chance.of(&["allow_incomplete", "pending_if_incomplete", "error_if_incomplete"]),
        );
        let form = match self.chance.below(12) {
            0 => format!(
                "items[0][id]={item}&items[0][price]={price}&proration_behavior={proration}&payment_behavior={behavior}"
            ),
            1 => format!(
                "items[0][id]={item}&items[0][quantity]=3&proration_behavior={proration}&payment_behavior={behavior}"
            ),
            2 => format!("billing_cycle_anchor[type]=now&proration_behavior={proration}"),
            3 => format!("cancel_at_period_end={}", self.chance.of(&[true, false])),
            4 => format!(
                "pause_collection[behavior]={}",
                self.chance.of(&["void", "keep_as_draft", "mark_uncollectible"])
            ),
            5 => "pause_collection=".to_owned(),
            6 => return self.other(subscription).await,
            _ => {
                let days = self.chance.of(&[1, 3, 10, 29, 45, 400]);
                self.world.pass(days * DAY_S + 3600);
                return format!("{days} days");
            }
        };
        let answered = self.world.send("POST", &path, &form, &[]).await;
        format!("{path} {form}: {} {}", answered.status, answered.body["error"])
    }

    async fn buy(&mut self) -> String {
        let price = self.chance.below(self.prices.len());
        let more = self.chance.of(&[
            "",
            "subscription_data[trial_period_days]=14",
            "payment_method_collection=if_required",
        ]);
        let session = id(&self.world.session(&self.prices[price], more).await);
        let outcome = self.chance.of(&[
            Outcome::Paid,
            Outcome::PaidOnce,
            Outcome::Asynchronous,
            Outcome::NeedsAction,
        ]);
        self.world.sandbox.pay(&session, outcome).expect("an open session");
        if self.chance.below(2) == 0 {
            // A session that waits for nothing says so.
            let _ = self.world.sandbox.resolve(&session, self.chance.below(2) == 0);
        }
        format!("bought {more} {outcome:?}")
    }

    async fn other(&mut self, subscription: &Value) -> String {
        let customer = subscription["customer"].as_str().expect("a customer");
        match self.chance.below(4) {
            0 => {
                let answered = self
                    .world
                    .send("DELETE", &format!("/v1/subscriptions/{}", id(subscription)), "", &[])
                    .await;
                format!("canceled at once: {}", answered.status)
            }
            1 => {
                let charges = self.world.sandbox.objects("", "charge");
                let Some(charge) = charges.last() else { return "no charge".to_owned() };
                let form = format!("charge={}&amount=500", id(charge));
                format!(
                    "refunded: {}",
                    self.world.send("POST", "/v1/refunds", &form, &[]).await.status
                )
            }
            _ => {
                let card = self.chance.of(&[Card::Good, Card::Declined, Card::NeedsAction]);
                self.world.sandbox.set_card("", customer, card).expect("a customer");
                format!("{card:?}")
            }
        }
    }

    /// All that does not add up.
    fn faults(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let charges = self.world.sandbox.objects("", "charge");
        for invoice in self.world.sandbox.objects("", "invoice") {
            invoice_faults(&invoice, &mut found);
        }
        for charge in &charges {
            let amount = |name: &str| charge[name].as_i64().unwrap_or(0);
            if amount("amount_refunded") > amount("amount_captured") {
                found.push(format!("refunded more than was paid: {charge}"));
            }
        }
        self.payments(&charges, &mut found);
        self.subscriptions(&mut found);
        found
    }

    /// Each invoice that was paid with money has one charge that succeeded.
    fn payments(&self, charges: &[Value], found: &mut Vec<String>) {
        for payment in self.world.sandbox.objects("", "invoice_payment") {
            let intent = &payment["payment"]["payment_intent"];
            let paid: Vec<i64> = charges
                .iter()
                .filter(|charge| charge["payment_intent"] == *intent && charge["paid"] == true)
                .filter_map(|charge| charge["amount"].as_i64())
                .collect();
            let expected: Vec<i64> = payment["amount_paid"].as_i64().into_iter().collect();
            if paid != expected {
                found.push(format!("charges {paid:?} for a payment of {expected:?}: {payment}"));
            }
        }
    }

    fn subscriptions(&mut self, found: &mut Vec<String>) {
        let now = self.world.sandbox.now();
        // Events are forgotten after 30 days; what is still there must be the latest word.
        let mut told: BTreeMap<String, Value> = BTreeMap::new();
        for event in self.world.sandbox.objects("", "event") {
            if event["type"].as_str().is_some_and(|kind| kind.starts_with("customer.subscription."))
            {
                let object = event["data"]["object"].clone();
                told.insert(id(&object), object);
            }
        }
        for subscription in self.world.sandbox.objects("", "subscription") {
            let (name, status) =
                (id(&subscription), subscription["status"].as_str().expect("a status"));
            let ended = matches!(status, "canceled" | "incomplete_expired");
            if self.ended.contains(&name) && !ended {
                found.push(format!("{name} rose again as {status}"));
            }
            if ended {
                self.ended.insert(name.clone());
            }
            let (start, end) = period(&subscription);
            if start >= end
                || (matches!(status, "active" | "trialing" | "past_due" | "unpaid") && now >= end)
            {
                found.push(format!("{name} is {status} at {now} with a period {start} to {end}"));
            }
            for member in [
                "status",
                "items",
                "cancel_at",
                "cancel_at_period_end",
                "pause_collection",
                "pending_update",
            ] {
                if told.get(&name).is_some_and(|last| last[member] != subscription[member]) {
                    found
                        .push(format!("{name}: nothing told of {member} {}", subscription[member]));
                }
            }
        }
    }
}

fn invoice_faults(invoice: &Value, found: &mut Vec<String>) {
    let int = |name: &str| invoice[name].as_i64().unwrap_or(i64::MIN);
    let lines = invoice["lines"]["data"].as_array().expect("lines");
    let sum: i64 = lines.iter().filter_map(|line| line["amount"].as_i64()).sum();
    let settled = matches!(invoice["status"].as_str(), Some("paid" | "void"));
    for (holds, what) in [
        (sum == int("subtotal") && sum == int("total"), "its lines do not add up"),
        (
            int("amount_due") >= 0 && int("amount_due") <= int("total").max(0),
            "it asks for more than it costs",
        ),
        (!settled || int("amount_remaining") == 0, "something remains of it"),
        (
            invoice["status"] != "paid" || int("amount_paid") == int("amount_due"),
            "it was paid in part",
        ),
        (
            (invoice["status"] == "draft") == invoice["number"].is_null(),
            "a number comes with finalisation",
        ),
    ] {
        if !holds {
            found.push(format!("{what}: {invoice}"));
        }
    }
}
