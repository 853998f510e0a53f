//! Access to a connected account that was taken away without a word.

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use crate::billing::connect::AccountSettings;
use crate::billing::stripe::Mode;
use crate::billing::sweep::Sweeper;
use crate::billing::{BillingError, checkout, connect};
use crate::reconcile::{NoDecisions, Reconciler, Scope};
use crate::storage::{PlanPrice, column};

use super::money::Shop;
use super::place::{Place, actor};

/// Prices of the shop that can be bought.
async fn offered(shop: &Shop) -> usize {
    let tenant = shop.tenant();
    let prices =
        tenant.all::<PlanPrice>(10, |query| query.filter(column::PlanPrice::RetiredAtMs.is_null()));
    prices.await.unwrap().len()
}

pub async fn an_account_whose_end_nobody_told_of_is_found_by_the_sweep(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop.sweep().await;
    assert_ne!(shop.connected().await.status, "lost");
    assert_eq!(
        AccountSettings::of(&shop.connected().await).platform.as_deref(),
        Some("acct_sandboxplatform")
    );
    let events = shop.events().len();
    shop.sandbox.revoke(&shop.stripe_account).unwrap();
    assert_eq!(shop.events().len(), events, "nothing tells of it");
    shop.sweep().await;
    let row = shop.connected().await;
    assert_eq!((row.status.as_str(), row.lost_at_ms.is_some()), ("lost", true));
    assert_eq!(offered(&shop).await, 0);
    assert_eq!(shop.subscription().await.status, "active", "it was paid for");
    place.store.raw("UPDATE stripe_subscriptions SET period_end_ms = 1").await;
    shop.sweep().await;
    assert_eq!(shop.subscription().await.status, "canceled");
}

pub async fn a_call_that_is_refused_has_the_account_looked_at(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop.sweep().await;
    let wanted = checkout::Wanted {
        site_id: shop.site.clone(),
        plan_id: shop.small.clone(),
        mode: Mode::Test,
        ..checkout::Wanted::default()
    };
    shop.sandbox.revoke(&shop.stripe_account).unwrap();
    // No sweep is due: nothing but the refused call tells of it.
    let sweeper = Sweeper::new(shop.billing.settler.clone());
    sweeper.pass().await.unwrap();
    assert_ne!(shop.connected().await.status, "lost");
    let refused = checkout::create(&shop.billing, &shop.account, actor(), None, &wanted).await;
    assert!(matches!(&refused, Err(BillingError::Stripe(error)) if error.is_access_lost()));
    sweeper.pass().await.unwrap();
    assert_eq!(shop.connected().await.status, "lost");
    let refused = checkout::create(&shop.billing, &shop.account, actor(), None, &wanted).await;
    assert!(matches!(refused, Err(BillingError::NotConnected(Mode::Test))), "{refused:?}");

    // Its owner connects another one, and sells again.
    let email = "new@example.com";
    let made = connect::begin(&shop.billing, &shop.account, actor(), Mode::Test, email, None).await;
    shop.sandbox.onboard(&made.unwrap().0.stripe_id).unwrap();
    checkout::create(&shop.billing, &shop.account, actor(), None, &wanted).await.unwrap();
}

pub async fn the_key_of_another_platform_loses_no_account(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop.sweep().await;
    let known_as = async |from: &str, to: &str| {
        let sql =
            format!("UPDATE stripe_accounts SET settings = REPLACE(settings, '{from}', '{to}')");
        place.store.raw(&sql).await;
    };
    known_as("acct_sandboxplatform", "acct_another").await;
    shop.sandbox.revoke(&shop.stripe_account).unwrap();
    shop.sweep().await;
    let row = shop.connected().await;
    assert_eq!((row.status.as_str(), row.lost_at_ms), ("restricted", None));
    assert_eq!(AccountSettings::of(&row).awaited.len(), 1);
    assert!(offered(&shop).await > 0, "prices are kept");

    // The right key is there again.
    known_as("acct_another", "acct_sandboxplatform").await;
    shop.sandbox.restore(&shop.stripe_account).unwrap();
    shop.sweep().await;
    assert_eq!(shop.connected().await.status, "ready");
}

/// What is asked of Stripe about a subscription is asked of the account that it was sold through, not of the one that is connected now.
pub async fn another_account_is_not_asked_for_what_a_lost_one_sold(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop.sweep().await;
    let lost = shop.stripe_account.clone();
    shop.sandbox.revoke(&lost).unwrap();
    shop.sweep().await;
    let email = "new@example.com";
    let made = connect::begin(&shop.billing, &shop.account, actor(), Mode::Test, email, None).await;
    let new = made.unwrap().0.stripe_id;
    shop.sandbox.onboard(&new).unwrap();
    let run = async || {
        let stripe = Some(shop.billing.stripe.clone());
        let reconciler = Reconciler::new(place.store.clone(), stripe, Box::new(NoDecisions));
        let report = reconciler.run(&Scope::default()).await.unwrap();
        let of_stripe = report.unavailable.iter().filter(|what| what.contains("Stripe"));
        (report.count, of_stripe.cloned().collect::<Vec<_>>())
    };
    let cannot = format!("Stripe: account {lost} is not connected");
    assert_eq!(run().await, (0, vec![cannot.clone()]));

    // What the new one sells is compared beside it.
    shop.sold().await;
    shop.sweep().await;
    let rows = shop.subscriptions().await;
    assert_eq!(rows.len(), 2);
    let of_new = rows.iter().max_by_key(|row| row.key).unwrap();
    assert_eq!(run().await, (0, vec![cannot.clone()]));
    let sql = format!("UPDATE subscriptions SET status = 'paused' WHERE id = '{}'", of_new.id);
    place.store.raw(&sql).await;
    assert_eq!(run().await, (1, vec![cannot]));

    // The first one is connected again in its place: its own is asked of it.
    place.store.raw("UPDATE stripe_accounts SET lost_at_ms = 1 WHERE lost_at_ms IS NULL").await;
    let again = format!(
        "UPDATE stripe_accounts SET lost_at_ms = NULL, status = 'ready' WHERE stripe_id = '{lost}'"
    );
    place.store.raw(&again).await;
    shop.sandbox.restore(&lost).unwrap();
    assert_eq!(run().await, (0, vec![format!("Stripe: account {new} is not connected")]));
}
