//! Every status of Stripe's, reached as it is in life: what it is here, and what a node then decides.
//!
//! In: cards, time, what owners and buyers press. Out: a table: Stripe's word, ours, the gateway's reason; on the way there
//! and on the way back.
//! Always holds: no status is set by hand; after each step everything that Stripe tells is told, and nothing is left dead.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use stripe_sandbox::{Card, Config, Exhausted, Outcome};

use super::front::Front;
use super::money::DAY;
use super::place::Place;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many days pass.
    Days(u32),
    /// So many hours pass.
    Hours(u32),
    /// The buyer's card changes.
    Card(Card),
    /// The buyer takes their card away.
    NoCard,
    /// The buyer pays the newest invoice on its page.
    PayInvoice,
    /// The bank speaks on the payment of the session.
    Bank(bool),
    /// The owner changes the subscription in their dashboard.
    Dashboard(&'static str),
    /// The owner lets a paused one go on.
    Resume,
    /// The owner finalises a draft that was kept.
    FinalizeDraft,
    /// Our API ends it.
    Cancel(&'static str),
    /// Our API takes that back.
    TakeBack,
}

/// What it then is: Stripe's word, ours (none where there is no subscription here), what a node says of its key.
type Is = (&'static str, Option<&'static str>, &'static str);

/// A way through statuses.
struct Way {
    name: &'static str,
    trial_days: Option<u32>,
    exhausted: Exhausted,
    /// How the session is paid.
    outcome: Outcome,
    /// Whether a subscription is active while its first payment is under way.
    is_active_while_processing: bool,
    bought: Is,
    steps: &'static [(Step, Is)],
}

const PLAIN: Way = Way {
    name: "",
    trial_days: None,
    exhausted: Exhausted::Cancel,
    outcome: Outcome::Paid,
    is_active_while_processing: true,
    bought: ("active", Some("active"), "ok"),
    steps: &[],
};
const TRIAL: Way =
    Way { trial_days: Some(14), bought: ("trialing", Some("trialing"), "ok"), ..PLAIN };

const ACTIVE: Is = ("active", Some("active"), "ok");
const TRIALING: Is = ("trialing", Some("trialing"), "ok");
const GRACE: Is = ("past_due", Some("past_due"), "grace");
const AFTER_GRACE: Is = ("past_due", Some("past_due"), "subscription_inactive");
const UNPAID: Is = ("unpaid", Some("unpaid"), "subscription_inactive");
const PAUSED: Is = ("paused", Some("paused"), "subscription_inactive");
const CANCELED: Is = ("canceled", Some("canceled"), "subscription_inactive");
/// A month and the hour of a draft.
const MONTH: Step = Step::Hours(31 * 24 + 2);

#[rustfmt::skip]
const WAYS: &[Way] = &[
    Way { name: "renewed", steps: &[(MONTH, ACTIVE), (MONTH, ACTIVE)], ..PLAIN },
    Way {
        name: "past due, in grace, after it, paid by a retry",
        steps: &[
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE),
            // The second retry; grace is three days from the invoice.
            (Step::Days(2), GRACE), (Step::Days(1), AFTER_GRACE),
            (Step::Card(Card::Good), AFTER_GRACE), (Step::Days(2), ACTIVE), (MONTH, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "past due, paid on the invoice's page",
        steps: &[
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE), (Step::PayInvoice, ACTIVE), (MONTH, ACTIVE),
            // Another failure begins another grace.
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE),
        ],
        ..PLAIN
    },
    Way {
        name: "confirmation wanted at the renewal",
        steps: &[
            (Step::Card(Card::NeedsAction), ACTIVE), (MONTH, GRACE), (Step::Days(3), AFTER_GRACE),
            (Step::PayInvoice, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "retries used up, canceled",
        steps: &[(Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE), (Step::Days(8), CANCELED), (MONTH, CANCELED)],
        ..PLAIN
    },
    Way {
        name: "retries used up, unpaid, paid later",
        exhausted: Exhausted::Unpaid,
        steps: &[
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE), (Step::Days(8), UNPAID), (MONTH, UNPAID),
            (Step::Card(Card::Good), UNPAID), (Step::FinalizeDraft, UNPAID), (Step::PayInvoice, ACTIVE), (MONTH, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "retries used up, left past due",
        exhausted: Exhausted::PastDue,
        steps: &[
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE), (Step::Days(8), AFTER_GRACE),
            // The next renewal fails, too: no grace is had twice.
            (MONTH, AFTER_GRACE), (Step::PayInvoice, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "canceled with the period, taken back, then at once",
        steps: &[
            (Step::Cancel("period_end"), ACTIVE), (Step::TakeBack, ACTIVE), (MONTH, ACTIVE),
            (Step::Cancel("now"), CANCELED),
        ],
        ..PLAIN
    },
    Way {
        name: "canceled with the period",
        steps: &[(Step::Cancel("period_end"), ACTIVE), (Step::Days(26), ACTIVE), (Step::Days(6), CANCELED)],
        ..PLAIN
    },
    Way { name: "trial, converted", steps: &[(Step::Days(13), TRIALING), (Step::Hours(26), ACTIVE), (MONTH, ACTIVE)], ..TRIAL },
    Way {
        name: "trial, first payment refused",
        steps: &[(Step::Card(Card::Declined), TRIALING), (Step::Hours(14 * 24 + 2), GRACE), (Step::PayInvoice, ACTIVE)],
        ..TRIAL
    },
    Way {
        name: "trial, canceled within",
        steps: &[(Step::Cancel("period_end"), TRIALING), (Step::Days(13), TRIALING), (Step::Days(1), CANCELED)],
        ..TRIAL
    },
    Way { name: "trial, canceled at once", steps: &[(Step::Days(1), TRIALING), (Step::Cancel("now"), CANCELED)], ..TRIAL },
    Way {
        name: "trial, ends without a card: as our sessions have it",
        steps: &[(Step::NoCard, TRIALING), (Step::Days(14), CANCELED)],
        ..TRIAL
    },
    Way {
        name: "trial, ends without a card: paused, as the owner had it",
        steps: &[
            (Step::Dashboard("trial_settings[end_behavior][missing_payment_method]=pause"), TRIALING),
            (Step::NoCard, TRIALING), (Step::Days(14), PAUSED), (MONTH, PAUSED),
            (Step::Card(Card::Good), PAUSED), (Step::Resume, ACTIVE), (MONTH, ACTIVE),
        ],
        ..TRIAL
    },
    Way {
        name: "trial, ended by the owner",
        steps: &[(Step::Days(3), TRIALING), (Step::Dashboard("trial_end=now"), ACTIVE)],
        ..TRIAL
    },
    Way {
        name: "collection paused, invoices void",
        steps: &[
            (Step::Dashboard("pause_collection[behavior]=void"), ACTIVE), (MONTH, ACTIVE),
            (Step::Dashboard("pause_collection="), ACTIVE), (MONTH, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "collection paused, invoices uncollectible",
        steps: &[
            (Step::Dashboard("pause_collection[behavior]=mark_uncollectible"), ACTIVE), (MONTH, ACTIVE),
            (Step::Dashboard("pause_collection="), ACTIVE), (MONTH, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "collection paused, invoices kept as drafts, collected afterwards",
        steps: &[
            (Step::Dashboard("pause_collection[behavior]=keep_as_draft"), ACTIVE), (MONTH, ACTIVE),
            (Step::Dashboard("pause_collection="), ACTIVE), (Step::FinalizeDraft, ACTIVE),
            (Step::PayInvoice, ACTIVE), (MONTH, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "collection paused while it is past due",
        steps: &[
            (Step::Card(Card::Declined), ACTIVE), (MONTH, GRACE),
            (Step::Dashboard("pause_collection[behavior]=void"), GRACE), (Step::PayInvoice, ACTIVE),
        ],
        ..PLAIN
    },
    Way {
        name: "first payment at a bank, which pays: active meanwhile",
        outcome: Outcome::Asynchronous,
        bought: ("active", None, "token_missing"),
        steps: &[(Step::Days(3), ("active", None, "token_missing")), (Step::Bank(true), ACTIVE), (MONTH, ACTIVE)],
        ..PLAIN
    },
    Way {
        name: "first payment at a bank, which pays: incomplete meanwhile",
        outcome: Outcome::Asynchronous,
        is_active_while_processing: false,
        bought: ("incomplete", None, "token_missing"),
        steps: &[(Step::Days(3), ("incomplete", None, "token_missing")), (Step::Bank(true), ACTIVE)],
        ..PLAIN
    },
    Way {
        name: "first payment at a bank, which refuses: incomplete, expired",
        outcome: Outcome::Asynchronous,
        is_active_while_processing: false,
        bought: ("incomplete", None, "token_missing"),
        steps: &[
            (Step::Bank(false), ("incomplete", None, "token_missing")),
            (Step::Days(1), ("incomplete_expired", None, "token_missing")),
        ],
        ..PLAIN
    },
    Way {
        name: "first payment at a bank, which refuses; paid on the invoice's page",
        outcome: Outcome::Asynchronous,
        is_active_while_processing: false,
        bought: ("incomplete", None, "token_missing"),
        steps: &[(Step::Bank(false), ("incomplete", None, "token_missing")), (Step::PayInvoice, ACTIVE)],
        ..PLAIN
    },
];

/// A subscription on its way.
struct Walker<'a> {
    front: &'a Front,
    session: String,
    /// Stripe's.
    subscription: String,
    customer: String,
    /// The key, once it could be had.
    key: Option<String>,
    /// What of all that happened is told. Stripe forgets events after 30 days, so they are not counted.
    told: HashSet<String>,
}

pub async fn each_is_what_stripe_says_and_the_gateway_decides_by_it(place: Place) {
    let mut failed = Vec::new();
    for (number, way) in WAYS.iter().enumerate() {
        let place = place.beside(number).await;
        place.prepare().await;
        walk(&place, way, &mut failed).await;
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn walk(place: &Place, way: &Way, failed: &mut Vec<String>) {
    let configure = |config: &mut Config| {
        config.exhausted = way.exhausted;
        config.active_while_processing = way.is_active_while_processing;
    };
    let price = way.trial_days.map_or(json!({}), |days| json!({ "trial_days": days }));
    let front = Front::with(place, configure, price).await;
    let (session, _) = front.begin().await;
    let paid = front.shop.sandbox.pay(&session, way.outcome).unwrap();
    let (subscription, customer) = (paid.subscription, paid.customer);
    let mut walker =
        Walker { front: &front, session, subscription, customer, key: None, told: HashSet::new() };
    let mut check = async |walker: &mut Walker<'_>, after: String, expected: Is| {
        let (stripe, ours, reason) = walker.is().await;
        let is = (stripe.as_str(), ours.as_deref(), reason);
        if is != expected {
            failed.push(format!("{}: {after}: {is:?}, expected {expected:?}", way.name));
        }
    };
    check(&mut walker, "bought".to_owned(), way.bought).await;
    for (number, (step, expected)) in way.steps.iter().enumerate() {
        walker.take(*step).await;
        check(&mut walker, format!("step {number}, {step:?}"), *expected).await;
    }
    assert_eq!(place.store.inbox_state().await.unwrap().dead, 0, "{}", way.name);
}

impl Walker<'_> {
    async fn take(&self, step: Step) {
        let (shop, account) = (&self.front.shop, &self.front.shop.stripe_account);
        match step {
            Step::Days(days) => shop.sandbox.advance(DAY * days),
            Step::Hours(hours) => {
                shop.sandbox.advance(Duration::from_secs(3_600 * u64::from(hours)));
            }
            Step::Card(card) => shop.sandbox.set_card(account, &self.customer, card).unwrap(),
            Step::NoCard => {
                for method in self.front.objects("payment_method") {
                    let path =
                        format!("/v1/payment_methods/{}/detach", method["id"].as_str().unwrap());
                    shop.dashboard(&path, "").await;
                }
            }
            Step::PayInvoice => {
                let invoice = self.newest_invoice();
                let url = invoice["hosted_invoice_url"].as_str().unwrap();
                assert_eq!(self.front.at_stripe(url, "choice=pay").await.0, 200);
            }
            Step::Bank(pays) => drop(shop.sandbox.resolve(&self.session, pays).unwrap()),
            Step::Dashboard(form) => {
                let path = format!("/v1/subscriptions/{}", self.subscription);
                shop.dashboard(&path, form).await;
            }
            Step::Resume => {
                let path = format!("/v1/subscriptions/{}/resume", self.subscription);
                shop.dashboard(&path, "billing_cycle_anchor=now").await;
            }
            Step::FinalizeDraft => {
                let invoice = self.newest_invoice();
                let path = format!("/v1/invoices/{}/finalize", invoice["id"].as_str().unwrap());
                shop.dashboard(&path, "").await;
            }
            Step::Cancel(when) => self.ours("cancel", json!({ "when": when })).await,
            Step::TakeBack => self.ours("resume", json!({})).await,
        }
    }

    /// What our API is asked to do with the subscription.
    async fn ours(&self, what: &str, body: serde_json::Value) {
        let row = self.front.shop.subscription().await;
        let path = format!("/v1/subscriptions/{}/{what}", row.id);
        self.front.owner.post(&path, body).await.expect(200);
    }

    fn newest_invoice(&self) -> serde_json::Value {
        let subscription = self.front.object("subscription", &self.subscription);
        self.front.object("invoice", subscription["latest_invoice"].as_str().unwrap())
    }

    /// What it is at Stripe, here and at the gateway, once all is told.
    async fn is(&mut self) -> (String, Option<String>, &'static str) {
        let shop = &self.front.shop;
        // What settling changes at Stripe is told, too.
        for _ in 0..2 {
            for event in shop.events() {
                if self.told.insert(event["id"].as_str().unwrap().to_owned()) {
                    shop.tell(&event).await;
                }
            }
            shop.settle().await;
        }
        let stripe = self.front.object("subscription", &self.subscription);
        let stripe = stripe["status"].as_str().unwrap().to_owned();
        let rows = shop.subscriptions().await;
        assert!(rows.len() < 2, "{rows:?}");
        let Some(row) = rows.into_iter().next() else {
            assert_eq!(shop.claims().await, 0);
            return (stripe, None, "token_missing");
        };
        let entitlement = self.front.owner.get(&format!("/v1/entitlements/{}", row.id)).await;
        assert_eq!(entitlement.expect(200).json["status"], row.status);
        if self.key.is_none() {
            self.key = Some(self.front.claim(&self.session).await);
        }
        let reason = self.front.verdict(self.key.as_deref().unwrap()).await;
        (stripe, Some(row.status), reason)
    }
}

/// A renewal fails, is paid, and the next one fails; all that is heard of it is heard at the end, from events or from a sweep
/// that finds it past due as it was.
pub async fn each_failure_has_a_grace_of_its_own(place: Place) {
    for is_swept in [false, true] {
        let place = place.beside(usize::from(is_swept)).await;
        place.prepare().await;
        let front = Front::open(&place).await;
        let sold = front.buy("choice=once").await;
        front.shop.sandbox.advance(DAY * 32);
        front.shop.tell_all().await;
        let since_ms = front.shop.subscription().await.past_due_since_ms.unwrap();
        assert_eq!(front.verdict(&sold.key).await, "grace");

        let invoice = front.objects("invoice").pop().unwrap();
        let page = invoice["hosted_invoice_url"].as_str().unwrap();
        assert_eq!(front.at_stripe(page, "choice=pay").await.0, 200);
        let customer = front.session(&sold.session)["customer"].as_str().unwrap().to_owned();
        let account = &front.shop.stripe_account;
        front.shop.sandbox.set_card(account, &customer, Card::Declined).unwrap();
        front.shop.sandbox.advance(DAY * 30);
        match is_swept {
            true => front.shop.sweep().await,
            false => front.shop.tell_all().await,
        }
        let row = front.shop.subscription().await;
        assert_eq!(row.status, "past_due");
        let since_again_ms = row.past_due_since_ms.unwrap();
        assert!(since_again_ms > since_ms + 29 * 86_400_000, "swept: {is_swept}");
        assert_eq!(front.verdict(&sold.key).await, "grace", "swept: {is_swept}");
        // A retry of the same invoice begins no other.
        front.shop.sandbox.advance(DAY);
        front.shop.tell_all().await;
        let row = front.shop.subscription().await;
        assert_eq!(row.past_due_since_ms, Some(since_again_ms), "swept: {is_swept}");
    }
}
