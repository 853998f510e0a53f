//! Money that went back, as the API lists it.

use serde_json::{Value as Json, json};

use super::front::Front;
use super::place::Place;

/// The charge that was made last.
fn charge(front: &Front) -> String {
    front.objects("charge").pop().unwrap()["id"].as_str().unwrap().to_owned()
}

async fn listed(front: &Front, query: &str) -> Vec<Json> {
    let list = front.owner.get(&format!("/v1/stripe/reversals{query}")).await.expect(200);
    list.json["data"].as_array().unwrap().clone()
}

/// Some of an entry's fields.
fn fields(one: &Json, names: &[&str]) -> Json {
    names.iter().map(|name| one[*name].clone()).collect()
}

pub async fn refunds_and_disputes_are_listed(place: Place) {
    let front = Front::open(&place).await;
    assert_eq!(listed(&front, "").await, [] as [Json; 0]);
    front.buy("choice=pay").await;
    let first = front.shop.subscription().await.id;
    let refunded = charge(&front);
    front.shop.dashboard("/v1/refunds", &format!("charge={refunded}&amount=120")).await;
    front.shop.tell_all().await;
    front.buy("choice=pay").await;
    let disputed = charge(&front);
    let (sandbox, account) = (&front.shop.sandbox, &front.shop.stripe_account);
    let dispute = sandbox.dispute(account, &disputed, "fraudulent").unwrap();
    front.shop.tell_all().await;

    let all = listed(&front, "").await;
    let rows = front.shop.subscriptions().await;
    let second = rows.iter().find(|row| row.id != first).unwrap().id.clone();
    let names = ["kind", "status", "amount", "currency", "amount_shown", "mode"];
    let expected = json!(["dispute", "needs_response", 500, "usd", "5.00 USD", "test"]);
    assert_eq!(fields(&all[0], &names), expected);
    let expected = json!(["refund", "partial", 120, "usd", "1.20 USD", "test"]);
    assert_eq!(fields(&all[1], &names), expected);
    let names = ["subscription_id", "stripe_id", "charge_id"];
    assert_eq!(fields(&all[0], &names), json!([second, dispute, disputed]));
    assert_eq!(fields(&all[1], &names), json!([first, refunded, refunded]));
    assert!(all.iter().all(|one| one["invoice_id"].is_string()), "{all:?}");
    assert!(all[0]["opened_at"].is_string() && all[1]["opened_at"].is_null(), "{all:?}");
    for (query, expected) in [
        ("?kind=refund".to_owned(), vec![all[1].clone()]),
        ("?kind=dispute".to_owned(), vec![all[0].clone()]),
        (format!("?subscription_id={first}"), vec![all[1].clone()]),
        (format!("?subscription_id={second}&kind=refund"), vec![]),
        ("?limit=1".to_owned(), vec![all[0].clone()]),
        (
            format!("?limit=1&starting_after={}", all[0]["id"].as_str().unwrap()),
            vec![all[1].clone()],
        ),
    ] {
        assert_eq!(listed(&front, &query).await, expected, "{query}");
    }
    front.owner.get("/v1/stripe/reversals?kind=gift").await.expect(400);

    // What becomes of them is seen in the same entries.
    sandbox.decide_dispute(account, &dispute, true).unwrap();
    front.shop.dashboard("/v1/refunds", &format!("charge={refunded}")).await;
    front.shop.tell_all().await;
    let now = listed(&front, "").await;
    assert_eq!(
        (now.len(), &now[0]["status"], &now[1]["status"]),
        (2, &json!("won"), &json!("full"))
    );
    assert_eq!(now[1]["amount"], 500);

    // Nobody else sees them, whatever they ask for.
    let stranger = front.client(place.stranger().await.key);
    for query in ["".to_owned(), format!("?subscription_id={first}")] {
        let seen = stranger.get(&format!("/v1/stripe/reversals{query}")).await.expect(200);
        assert_eq!(seen.json["data"], json!([]));
    }
    let after = format!("/v1/stripe/reversals?starting_after={}", now[0]["id"].as_str().unwrap());
    stranger.get(&after).await.expect(422);
}
