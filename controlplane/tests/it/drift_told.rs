//! What owners change of a plan in Stripe's own dashboard is marked when Stripe tells of it, or a day later, and nothing is fought:
//! the mark goes when they change it back, or ask for it to be mended.

use serde_json::{Value as Json, json};

use super::money::Shop;
use super::place::Place;
use crate::billing::catalogue::{self, Depth, SyncAction, SyncEntry};
use crate::billing::stripe::Mode;
use crate::billing::sweep::Sweeper;

/// What the owner does, what differs then, and how they undo it; `{…}` stand for ids.
struct Case {
    name: &'static str,
    call: (&'static str, &'static str),
    fields: &'static [&'static str],
    back: (&'static str, &'static str),
}

/// Something that is taken out of the shop, and put into it again.
const fn archived(name: &'static str, path: &'static str, fields: &'static [&'static str]) -> Case {
    Case { name, call: (path, "active=false"), fields, back: (path, "active=true") }
}

const ANOTHER: &str = "product={product}&currency=usd&unit_amount=900&recurring[interval]=month\
                       &lookup_key=payfence_{plan}&transfer_lookup_key=true";

const CASES: &[Case] = &[
    Case {
        name: "a name",
        call: ("products/{product}", "name=Other"),
        fields: &["product.name"],
        back: ("products/{product}", "name=small"),
    },
    archived("a product that is archived", "products/{product}", &["product.active"]),
    archived("a price that is archived", "prices/{price}", &["price.active"]),
    archived("the price of overage", "prices/{overage}", &["overage.active"]),
    Case {
        name: "another price under its key",
        call: ("prices", ANOTHER),
        fields: &["price.lookup_key"],
        back: ("prices/{price}", "lookup_key=payfence_{plan}&transfer_lookup_key=true"),
    },
];

/// A shop whose plans are at Stripe, told of and settled.
async fn open(place: &Place) -> Shop {
    let price = json!({ "overage": { "unit_amount_decimal": "0.05" } });
    let shop = Shop::with(place, |_| {}, price).await;
    assert_eq!(sync(&shop, Depth::Whole).await.len(), 2, "both plans are brought");
    shop.tell_all().await;
    assert_eq!(drift(&shop).await, json!({}), "what we made is no drift");
    shop
}

/// What `payfence billing sync` does, or would.
async fn sync(shop: &Shop, depth: Depth) -> Vec<SyncEntry> {
    catalogue::sync(&shop.billing, &shop.account, Mode::Test, depth).await.unwrap()
}

/// The small plan at Stripe, as its view shows it.
async fn row(shop: &Shop) -> Json {
    let path = format!("/v1/sites/{}/plans/{}/prices", shop.site, shop.small);
    let rows = shop.owner.get(&path).await.expect(200).json["data"].as_array().unwrap().clone();
    rows.into_iter().find(|row| row["retired_at"].is_null()).unwrap()
}

async fn drift(shop: &Shop) -> Json {
    row(shop).await["drift"].clone()
}

async fn marked(shop: &Shop) -> Vec<String> {
    drift(shop).await.as_object().unwrap().keys().cloned().collect()
}

/// A call of the owner's.
async fn call(shop: &Shop, (path, form): (&str, &str)) {
    let row = row(shop).await;
    let filled = |text: &str| {
        let of = |name: &str| row[name].as_str().unwrap().to_owned();
        text.replace("{product}", &of("product_id"))
            .replace("{price}", &of("price_id"))
            .replace("{overage}", &of("metered_price_id"))
            .replace("{meter}", &of("meter_id"))
            .replace("{plan}", &shop.small)
    };
    shop.dashboard(&format!("/v1/{}", filled(path)), &filled(form)).await;
}

pub async fn what_owners_change_is_marked_until_they_change_it_back(place: Place) {
    let shop = open(&place).await;
    for Case { name, call: done, fields, back } in CASES {
        call(&shop, *done).await;
        assert_eq!(drift(&shop).await, json!({}), "{name}: nobody told of it yet");
        shop.tell_all().await;
        assert_eq!(marked(&shop).await, *fields, "{name}");
        // Bringing plans leaves it alone, and says the same.
        let found = sync(&shop, Depth::Whole).await;
        assert_eq!((found.len(), found[0].action), (1, SyncAction::Drift), "{name}: {found:?}");
        assert_eq!(sync(&shop, Depth::DryRun).await, found, "{name}");
        shop.tell_all().await;
        assert_eq!(marked(&shop).await, *fields, "{name}: it is not fought");
        call(&shop, *back).await;
        shop.tell_all().await;
        assert_eq!(drift(&shop).await, json!({}), "{name}: it is as it was");
        assert_eq!(sync(&shop, Depth::DryRun).await, [], "{name}");
    }
}

/// Of a price that was sold, how it is taxed can be said once.
pub async fn what_cannot_be_changed_back_is_marked_until_it_is_mended(place: Place) {
    let shop = open(&place).await;
    call(&shop, ("prices/{price}", "tax_behavior=inclusive")).await;
    shop.tell_all().await;
    assert_eq!(
        drift(&shop).await,
        json!({ "price.tax_behavior": "unspecified here, inclusive at Stripe" })
    );
    assert_eq!(sync(&shop, Depth::Mend).await[0].action, SyncAction::Mend);
    assert_eq!(drift(&shop).await, json!({}));
    shop.tell_all().await;
    assert_eq!(drift(&shop).await, json!({}), "what mending did is no drift");
}

pub async fn many_changes_of_a_plan_are_one_look(place: Place) {
    let shop = open(&place).await;
    for number in 0..30 {
        call(&shop, ("products/{product}", &format!("name=Name {number}"))).await;
        let (path, form) = ("prices/{price}", format!("metadata[round]={number}"));
        call(&shop, (path, &form)).await;
    }
    let before = shop.sandbox.calls();
    shop.tell_all().await;
    assert_eq!(shop.sandbox.calls() - before, 4, "product, two prices and a meter, once");
    assert_eq!(drift(&shop).await, json!({ "product.name": "small here, Name 29 at Stripe" }));
    // What else the owner sells is theirs.
    shop.dashboard("/v1/products", "name=Umbrellas").await;
    let before = shop.sandbox.calls();
    shop.tell_all().await;
    assert_eq!(shop.sandbox.calls() - before, 0);
}

/// Events of meters are not asked for.
pub async fn what_nobody_told_of_is_found_within_a_day(place: Place) {
    let shop = open(&place).await;
    shop.sweep().await;
    call(&shop, ("billing/meters/{meter}/deactivate", "")).await;
    shop.tell_all().await;
    assert_eq!(drift(&shop).await, json!({}));
    let pass = async |ago_ms: i64| {
        let sql = format!(
            "UPDATE stripe_sweeps SET finished_at_ms = finished_at_ms - {ago_ms} WHERE kind = 'catalogue'"
        );
        place.store.raw(&sql).await;
        while Sweeper::new(shop.billing.settler.clone()).pass().await.unwrap() {}
    };
    pass(23 * 3_600_000).await;
    assert_eq!(drift(&shop).await, json!({}), "the day is not over");
    pass(3_600_000).await;
    assert_eq!(drift(&shop).await, json!({ "meter.status": "active here, inactive at Stripe" }));
    let sweeps = shop.owner.get("/v1/stripe/sweeps").await.expect(200);
    let sweeps = sweeps.json["data"].as_array().unwrap().iter();
    let catalogue = sweeps.filter(|sweep| sweep["kind"] == "catalogue").collect::<Vec<_>>();
    assert_eq!(catalogue.len(), 1);
    let (seen, repaired) = (&catalogue[0]["seen"], &catalogue[0]["repaired"]);
    assert_eq!((seen, repaired), (&json!(2), &json!(1)), "two plans, one of them otherwise");
    call(&shop, ("billing/meters/{meter}/reactivate", "")).await;
    pass(24 * 3_600_000).await;
    assert_eq!(drift(&shop).await, json!({}));
}
