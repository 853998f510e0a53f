//! What befalls two subscriptions of a shop in a year and a half, step by step.
//!
//! In: a shop whose clock stands still. Out: a [`Life`] that goes on by one step each time.
//! Always holds: a step is done at Stripe alone, as buyers, banks and the owner's dashboard do it; what follows here is left to
//! whoever calls. Both clocks, Stripe's and ours, move together.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use stripe_sandbox::{Card, ClockStart, Outcome};

use crate::world::{System, World};

use super::money::{DAY, MONTH, Shop};
use super::place::Place;

/// When it begins, Unix seconds: long ago, so that all of it is over by every database's clock.
const BEGAN_S: i64 = 1_700_000_000;
/// Units past the quota that the first subscriber uses.
pub const OVER: i64 = 37;
/// An invoice is a draft for an hour.
const FINAL: Duration = Duration::from_secs(2 * 3_600);

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct Stopped(pub AtomicI64);

impl World for Stopped {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }
}

/// Which subscription: the first is of the small plan, with a trial and overage; the second of the large one, paid by a bank.
#[derive(Clone, Copy, Debug)]
enum Who {
    First,
    Second,
}
use Who::{First, Second};

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Act {
    Days(u32),
    /// Until its period is over, and its invoice final.
    Renewal,
    Month,
    Buys,
    /// The bank's word, and that on a checkout which is never paid.
    BankAnswers,
    Uses,
    Upgrades,
    Downgrades,
    CardIs(Card),
    Disputes,
    IsDecided {
        is_won: bool,
    },
    /// The owner's dashboard, with a form.
    Is(&'static str),
    IsRefunded {
        is_full: bool,
    },
}
use Act::{
    BankAnswers, Buys, CardIs, Days, Disputes, Downgrades, Is, IsDecided, IsRefunded, Month,
    Renewal, Upgrades, Uses,
};

const STORY: &[(Who, Act)] = &[
    (First, CardIs(Card::Good)),
    // A checkout that nobody paid expires; the trial's end is told of.
    (First, Days(12)),
    (Second, Buys),
    (First, Days(3)),
    (Second, BankAnswers),
    (First, Uses),
    (First, Days(1)),
    (First, Month),
    (First, Upgrades),
    (Second, Disputes),
    (First, Days(5)),
    (Second, IsDecided { is_won: true }),
    (First, CardIs(Card::Declined)),
    (First, Renewal),
    (First, CardIs(Card::Good)),
    (First, Days(5)),
    (First, Is("pause_collection[behavior]=void")),
    (First, Month),
    (First, Is("pause_collection=")),
    (First, Downgrades),
    (First, Month),
    (First, IsRefunded { is_full: false }),
    (First, Is("cancel_at_period_end=true")),
    (First, Days(2)),
    (First, Is("cancel_at_period_end=false")),
    (Second, Disputes),
    (First, Month),
    (Second, IsDecided { is_won: false }),
    (Second, Renewal),
    (First, Is("cancel_at_period_end=true")),
    (First, Month),
    (Second, IsRefunded { is_full: true }),
];

/// How far it is.
pub struct Life {
    pub shop: Shop,
    clock: Arc<Stopped>,
    /// Ids at Stripe: the first's, and the second's once there is one.
    ids: Vec<String>,
    /// Sessions of the two, and of one that the bank will refuse.
    pub sessions: Vec<String>,
    dispute: String,
    done: usize,
}

impl Life {
    /// A shop in which the first has just paid, and somebody else has not.
    pub async fn begin(place: &Place) -> Self {
        let clock = Arc::new(Stopped(AtomicI64::new(BEGAN_S * 1_000)));
        let place = place.in_time_of(clock.clone());
        let price = json!({ "trial_days": 14,
            "overage": { "unit_amount_decimal": "0.5", "per": 10 } });
        let shop = Shop::with(&place, |config| config.clock = ClockStart::Fixed(BEGAN_S), price);
        let shop = shop.await;
        shop.checkout().await;
        let session = shop.checkout().await.session_id.unwrap();
        let id = shop.sandbox.pay(&session, Outcome::Paid).unwrap().subscription;
        Self {
            shop,
            clock,
            ids: vec![id],
            sessions: vec![session],
            dispute: String::new(),
            done: 0,
        }
    }

    /// Goes on by one step; says what it was, or that it is over.
    pub async fn step(&mut self) -> Option<String> {
        let (who, act) = *STORY.get(self.done)?;
        self.done += 1;
        self.act(who, act).await;
        Some(format!("{who:?} {act:?}"))
    }

    async fn act(&mut self, who: Who, act: Act) {
        let shop = &self.shop;
        let account = shop.stripe_account.as_str();
        match act {
            Days(days) => self.pass(DAY * days),
            Month => self.pass(MONTH),
            Renewal => self.renew(who),
            Buys => self.buy().await,
            BankAnswers => {
                shop.sandbox.resolve(&self.sessions[1], true).unwrap();
                shop.sandbox.resolve(&self.sessions[2], false).unwrap();
            }
            Uses => self.use_more(who).await,
            Upgrades => shop.move_to(self.id(who), &shop.large).await,
            Downgrades => shop.move_to(self.id(who), &shop.small).await,
            CardIs(card) => shop.sandbox.set_card(account, &self.customer(who), card).unwrap(),
            Disputes => {
                let charge = self.charge(who);
                self.dispute = shop.sandbox.dispute(account, &charge, "fraudulent").unwrap();
            }
            IsDecided { is_won } => {
                shop.sandbox.decide_dispute(account, &self.dispute, is_won).unwrap();
            }
            Is(form) => {
                shop.dashboard(&format!("/v1/subscriptions/{}", self.id(who)), form).await;
            }
            IsRefunded { is_full } => {
                let amount = if is_full { "" } else { "&amount=50" };
                shop.dashboard("/v1/refunds", &format!("charge={}{amount}", self.charge(who)))
                    .await;
            }
        }
    }

    fn pass(&self, time: Duration) {
        self.shop.sandbox.advance(time);
        self.clock.0.store(self.shop.sandbox.now() * 1_000, Ordering::Relaxed);
    }

    fn renew(&self, who: Who) {
        let item = &self.fetched(who)["items"]["data"][0];
        let end_s = item["current_period_end"].as_i64().unwrap();
        let left_s = u64::try_from(end_s - self.shop.sandbox.now()).unwrap();
        self.pass(Duration::from_secs(left_s) + FINAL);
    }

    /// Two that a bank pays: one will be good.
    async fn buy(&mut self) {
        for _ in 0..2 {
            let checkout = self.shop.checkout_of(&self.shop.large).await;
            let session = checkout.session_id.unwrap();
            let paid = self.shop.sandbox.pay(&session, Outcome::Asynchronous).unwrap();
            self.ids.push(paid.subscription);
            self.sessions.push(session);
        }
    }

    /// Whoever uses has a key, so what they bought is known here.
    async fn use_more(&self, who: Who) {
        let (shop, store) = (&self.shop, &self.shop.place.store);
        shop.sweep().await;
        store.name_entitlements().await.unwrap();
        let now_s = self.shop.sandbox.now();
        let sql = format!(
            "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, \
             over_units, told_units, told_at_ms, retry_at_ms) SELECT entitlement, 1, {}, {}, 100, {}, {OVER}, 0, 0, 0 \
             FROM entitlement_names n JOIN stripe_subscriptions s ON s.subscription_id = n.subscription_id \
             WHERE s.stripe_id = '{}'",
            now_s - 86_400,
            now_s + 30 * 86_400,
            100 + OVER,
            self.id(who)
        );
        store.raw(&sql).await;
        assert_eq!(store.raw_number("SELECT COUNT(*) AS n FROM overage_books").await, 1);
    }

    fn id(&self, who: Who) -> &str {
        &self.ids[who as usize]
    }

    fn fetched(&self, who: Who) -> Json {
        let shop = &self.shop;
        shop.sandbox.object(&shop.stripe_account, "subscription", self.id(who)).unwrap()
    }

    fn customer(&self, who: Who) -> String {
        self.fetched(who)["customer"].as_str().unwrap().to_owned()
    }

    /// The newest payment.
    fn charge(&self, who: Who) -> String {
        let charges = self.shop.sandbox.objects(&self.shop.stripe_account, "charge");
        let customer = self.customer(who);
        let is_theirs = |charge: &&Json| charge["customer"] == customer && charge["paid"] == true;
        let charge = charges.iter().rev().find(is_theirs).unwrap();
        charge["id"].as_str().unwrap().to_owned()
    }

    /// What the meter was told, in units.
    pub fn metered(&self) -> i64 {
        let events = self.shop.sandbox.objects(&self.shop.stripe_account, "billing.meter_event");
        let value = |event: &Json| event["payload"]["value"].as_str().unwrap().parse::<i64>();
        events.iter().map(|event| value(event).unwrap()).sum()
    }
}
