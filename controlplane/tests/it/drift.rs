//! What owners change of a plan in Stripe's own dashboard: found, shown, and mended where somebody asks for it.

use serde_json::{Value as Json, json};

use super::place::Place;
use super::shop::Shop;

/// What is done at Stripe: a path and a form; `{…}` stand for ids.
type Call<'a> = (&'a str, &'a str);

/// One thing that is otherwise.
struct Case<'a> {
    name: &'a str,
    /// What the owner does. What was made last is `{made}` in what follows, what was made before it `{before}`.
    calls: &'a [Call<'a>],
    /// What our row says then.
    row: Option<&'a str>,
    /// What is found.
    fields: &'a [&'a str],
}

const PRICE: &str = "product={product}&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]={meter}\
                     &lookup_key=payfence_{plan}_overage&transfer_lookup_key=true";
const OTHER_METER: &str = "display_name=Other&event_name=other&default_aggregation[formula]=count\
                           &customer_mapping[type]=by_id&customer_mapping[event_payload_key]=who&value_settings[event_payload_key]=much";
const IS_OVERAGE: Option<&str> = Some("metered_price_id = '{made}'");

const fn case<'a>(
    name: &'a str,
    calls: &'a [Call<'a>],
    row: Option<&'a str>,
    fields: &'a [&'a str],
) -> Case<'a> {
    Case { name, calls, row, fields }
}

/// What can be changed back at Stripe.
fn in_place() -> Vec<Case<'static>> {
    vec![
        case("a name", &[("products/{product}", "name=Other")], None, &["product.name"]),
        case("a product", &[("products/{product}", "active=false")], None, &["product.active"]),
        case("a price", &[("prices/{price}", "active=false")], None, &["price.active"]),
        case("a key", &[("prices/{price}", "lookup_key=mine")], None, &["price.lookup_key"]),
        case("overage", &[("prices/{overage}", "active=false")], None, &["overage.active"]),
        case(
            "its key",
            &[("prices/{overage}", "lookup_key=mine_too")],
            None,
            &["overage.lookup_key"],
        ),
        case("a meter", &[("billing/meters/{meter}/deactivate", "")], None, &["meter.status"]),
        case(
            "much",
            &[
                ("prices/{price}", "active=false"),
                ("prices/{overage}", "active=false"),
                ("products/{product}", "active=false&name=x"),
                ("billing/meters/{meter}/deactivate", ""),
            ],
            None,
            &["product.active", "product.name", "price.active", "overage.active", "meter.status"],
        ),
    ]
}

/// What cannot: it gets another price.
fn anew() -> Vec<Case<'static>> {
    vec![
        case(
            "taxes",
            &[("prices/{price}", "tax_behavior=inclusive")],
            None,
            &["price.tax_behavior"],
        ),
        case(
            "taxes of overage",
            &[("prices/{overage}", "tax_behavior=exclusive")],
            None,
            &["overage.tax_behavior"],
        ),
        case(
            "a currency",
            &[("prices", "{PRICE}&currency=usd&unit_amount_decimal=0.05")],
            IS_OVERAGE,
            &["overage.currency"],
        ),
        case(
            "an amount",
            &[("prices", "{PRICE}&currency=eur&unit_amount_decimal=0.5")],
            IS_OVERAGE,
            &["overage.unit_amount"],
        ),
        case(
            "blocks",
            &[(
                "prices",
                "{PRICE}&currency=eur&unit_amount_decimal=0.0500&transform_quantity[divide_by]=10&transform_quantity[round]=down",
            )],
            IS_OVERAGE,
            &["overage.per", "overage.round"],
        ),
        case(
            "another meter's price",
            &[
                (
                    "billing/meters",
                    "display_name=Other&event_name=other_{n}&default_aggregation[formula]=sum",
                ),
                (
                    "prices",
                    "product={product}&currency=eur&unit_amount_decimal=0.05&recurring[interval]=year\
                     &recurring[usage_type]=metered&recurring[meter]={made}",
                ),
            ],
            IS_OVERAGE,
            &["overage.interval", "overage.lookup_key", "overage.meter"],
        ),
        case(
            "a meter that counts otherwise",
            &[("billing/meters", OTHER_METER)],
            Some("meter_id = '{made}'"),
            &[
                "overage.meter",
                "meter.event_name",
                "meter.aggregation",
                "meter.customer",
                "meter.value",
            ],
        ),
        case("no meter", &[], Some("meter_id = 'mtr_gone'"), &["overage.meter", "meter"]),
        case("no overage", &[], Some("metered_price_id = 'price_gone'"), &["overage"]),
        case("no price", &[], Some("price_id = 'price_gone'"), &["price"]),
    ]
}

/// A shop with a plan that has overage.
struct Sold {
    shop: Shop,
    account: String,
    path: String,
    plan: String,
}

impl Sold {
    async fn sync(&self, draft: Json) -> Vec<Json> {
        let mut body = json!({ "mode": "test" });
        body.as_object_mut().unwrap().extend(draft.as_object().unwrap().clone());
        let view = self.shop.owner.post("/v1/billing/sync", body).await.expect(200);
        view.json["entries"].as_array().unwrap().clone()
    }

    /// What the plan is at Stripe.
    async fn row(&self) -> Json {
        let rows = self.shop.owner.get(&format!("{}/prices", self.path)).await.expect(200);
        let rows = rows.json["data"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["retired_at"].is_null()).unwrap()
    }

    /// Does what the owner does.
    async fn spoil(&self, case: &Case<'_>, number: usize) {
        let row = self.row().await;
        let id = |name: &str| row[name].as_str().unwrap().to_owned();
        let mut made = String::new();
        let filled = |text: &str, made: &str| {
            text.replace("{PRICE}", PRICE)
                .replace("{product}", &id("product_id"))
                .replace("{price}", &id("price_id"))
                .replace("{overage}", &id("metered_price_id"))
                .replace("{meter}", &id("meter_id"))
                .replace("{plan}", &self.plan)
                .replace("{n}", &number.to_string())
                .replace("{made}", made)
        };
        for (path, form) in case.calls {
            let (path, form) = (filled(path, &made), filled(form, &made));
            let answer = self.shop.call(&self.account, &path, &form).await;
            made = answer["id"].as_str().unwrap().to_owned();
        }
        if let Some(set) = case.row {
            let set = filled(set, &made);
            let sql = format!("UPDATE plan_prices SET {set} WHERE retired_at_ms IS NULL");
            self.shop.place.store.raw(&sql).await;
        }
    }
}

fn fields(entries: &[Json]) -> Vec<&str> {
    let all = entries.iter().flat_map(|entry| entry["differences"].as_array().unwrap());
    all.map(|one| one["field"].as_str().unwrap()).collect()
}

pub async fn what_was_changed_at_stripe_is_found_and_mended(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let price = json!({ "amount": 1900, "currency": "eur", "interval": "month",
        "overage": { "unit_amount_decimal": "0.050" } });
    let (site, plan) = shop.plan("pro", 1_000, price).await;
    let path = format!("/v1/sites/{site}/plans/{plan}");
    let sold = Sold { shop, account, path, plan };
    assert_eq!(sold.sync(json!({})).await[0]["action"], "create");
    assert_eq!(sold.sync(json!({ "dry_run": true })).await, Vec::<Json>::new());
    for (number, case) in in_place().iter().chain(&anew()).enumerate() {
        let name = case.name;
        sold.spoil(case, number).await;
        // Looking changes nothing, here or there, with `mend` either.
        for draft in [json!({ "dry_run": true }), json!({ "dry_run": true, "mend": true })] {
            let found = sold.sync(draft).await;
            assert_eq!(found[0]["action"], "drift", "{name}");
            assert_eq!(fields(&found), case.fields, "{name}");
        }
        assert_eq!(sold.row().await["drift"], json!({}), "{name}");
        // Without being asked to, it is not fought.
        assert_eq!(sold.sync(json!({})).await[0]["action"], "drift", "{name}");
        let shown = sold.row().await["drift"].as_object().unwrap().clone();
        let mut expected = case.fields.to_vec();
        expected.sort_unstable();
        assert_eq!(shown.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{name}");
        let mended = sold.sync(json!({ "mend": true })).await;
        assert_eq!(mended[0]["action"], "mend", "{name}: {mended:?}");
        assert_eq!(fields(&mended), case.fields, "{name}");
        assert_eq!(sold.sync(json!({ "dry_run": true })).await, Vec::<Json>::new(), "{name}");
        assert_eq!(sold.row().await["drift"], json!({}), "{name}");
    }
}
