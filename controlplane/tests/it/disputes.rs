//! Disputes on a site that suspends: what is held, and until when.

use stripe_sandbox::Card;

use super::money::{DAY, MONTH, Shop};
use super::place::Place;
use crate::reconcile::{NoDecisions, Reconciler, Scope};

/// The charge that was made last.
fn charge(shop: &Shop) -> String {
    let mut charges = shop.sandbox.objects(&shop.stripe_account, "charge");
    charges.sort_by_key(|charge| charge["created"].as_i64());
    charges.pop().unwrap()["id"].as_str().unwrap().to_owned()
}

/// A shop with a subscription that was paid for.
async fn sold(place: &Place) -> Shop {
    let shop = Shop::open(place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop
}

async fn dispute(shop: &Shop) -> String {
    let dispute = shop.sandbox.dispute(&shop.stripe_account, &charge(shop), "fraudulent").unwrap();
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "paused", "held while it is disputed");
    dispute
}

async fn decide(shop: &Shop, dispute: &str, is_won: bool) {
    shop.sandbox.decide_dispute(&shop.stripe_account, dispute, is_won).unwrap();
    shop.tell_all().await;
}

async fn card_is(shop: &Shop, card: Card) {
    let customers = shop.sandbox.objects(&shop.stripe_account, "customer");
    let customer = customers[0]["id"].as_str().unwrap();
    shop.sandbox.set_card(&shop.stripe_account, customer, card).unwrap();
}

/// The subscription is so, and a reconciliation has nothing to say of it.
async fn is(shop: &Shop, status: &str, why: &str) {
    assert_eq!(shop.subscription().await.status, status, "{why}");
    let (store, stripe) = (shop.place.store.clone(), shop.billing.stripe.clone());
    let reconciler = Reconciler::new(store, Some(stripe), Box::new(NoDecisions));
    let found = reconciler.run(&Scope::default()).await.unwrap().differences;
    assert_eq!(found.len(), 0, "{why}: {found:?}");
}

pub async fn what_is_won_goes_on(place: Place) {
    let shop = sold(&place).await;
    let dispute = dispute(&shop).await;
    decide(&shop, &dispute, true).await;
    is(&shop, "active", "won").await;
    assert_eq!(shop.outcome().await["reversals"][0]["status"], "won");
}

/// Money that came after a dispute, open or lost, is served, whatever comes of the dispute then.
pub async fn who_pays_again_is_served(place: Place) {
    for is_decided in [Some(false), None] {
        place.clear().await;
        let shop = sold(&place).await;
        let dispute = dispute(&shop).await;
        if let Some(is_won) = is_decided {
            decide(&shop, &dispute, is_won).await;
            is(&shop, "paused", "lost, and nothing paid since").await;
        }
        shop.sandbox.advance(DAY * 20);
        shop.tell_all().await;
        is(&shop, "paused", "within the period that was taken back").await;
        // The next period is asked for in vain, and paid in the end.
        card_is(&shop, Card::Declined).await;
        shop.sandbox.advance(DAY * 12);
        shop.tell_all().await;
        is(&shop, "paused", "no money came").await;
        card_is(&shop, Card::Good).await;
        shop.sandbox.advance(DAY * 8);
        shop.tell_all().await;
        is(&shop, "active", "the next period is paid").await;
        if is_decided.is_none() {
            decide(&shop, &dispute, false).await;
            is(&shop, "active", "lost, and paid since").await;
        }
        // It stays so, also in the hour in which the next invoice is a draft, and told in whatever order.
        let end_ms = shop.known().await.period_end_ms.unwrap();
        let left_s = end_ms / 1_000 - shop.sandbox.now();
        shop.sandbox.advance(std::time::Duration::from_secs(left_s.unsigned_abs() + 60));
        for event in shop.events().iter().rev() {
            shop.tell(event).await;
        }
        shop.settle().await;
        is(&shop, "active", "the invoice is a draft").await;
        shop.sandbox.advance(MONTH);
        shop.sweep().await;
        is(&shop, "active", "month by month").await;
        // What is disputed next holds again.
        self::dispute(&shop).await;
    }
}

pub async fn what_came_before_a_dispute_is_not_after_it(place: Place) {
    let shop = sold(&place).await;
    let first = charge(&shop);
    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    let dispute = shop.sandbox.dispute(&shop.stripe_account, &first, "fraudulent").unwrap();
    shop.tell_all().await;
    is(&shop, "paused", "of an older period").await;
    // What costs nothing pays nothing.
    let id = shop.known().await.stripe_id;
    shop.sandbox.advance(DAY);
    shop.move_to(&id, &shop.large).await;
    shop.tell_all().await;
    is(&shop, "paused", "nothing was paid").await;
    decide(&shop, &dispute, true).await;
    is(&shop, "active", "won").await;
}

pub async fn an_inquiry_holds_nothing(place: Place) {
    let shop = sold(&place).await;
    let inquiry = shop.sandbox.inquire(&shop.stripe_account, &charge(&shop)).unwrap();
    shop.tell_all().await;
    is(&shop, "active", "no money was taken").await;
    shop.sandbox.settle_inquiry(&shop.stripe_account, &inquiry, true).unwrap();
    shop.tell_all().await;
    is(&shop, "paused", "it became a dispute").await;
    decide(&shop, &inquiry, true).await;
    is(&shop, "active", "won").await;
    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    let inquiry = shop.sandbox.inquire(&shop.stripe_account, &charge(&shop)).unwrap();
    shop.sandbox.settle_inquiry(&shop.stripe_account, &inquiry, false).unwrap();
    shop.tell_all().await;
    is(&shop, "active", "it came to nothing").await;
}
