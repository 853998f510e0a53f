//! `GET /v1/decisions` and `GET /v1/usage`: what they answer is what plain loops over the same decisions say.

use std::collections::{BTreeMap, BTreeSet};

use policy::decision::{Reason, Verdict};
use serde_json::{Value as Json, json};

use super::client::Client;
use super::decision_rows::{Sample, batch, sample};
use super::place::Place;
use super::sync_node::{Issued, issue};
use crate::api::time::shown;
use crate::storage::{ReadDecisions, Retention};

/// An account's site with a customer, a subscription and a token, by their ids.
struct Shop {
    site: String,
    customer: String,
    subscription: String,
    token: String,
}

/// Of the customer that samples call `cus-1`.
async fn shop(client: &Client, slug: &str) -> Shop {
    let site = json!({ "slug": slug, "origin": "https://api.example.com" });
    let site = client.post("/v1/sites", site).await.expect(201).id();
    let plan = json!({ "reference": "pro", "quota": { "requests": 1000, "per": "month" } });
    let plan = client.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201).id();
    let listed = client.get("/v1/customers").await.expect(200).json;
    let known = listed["data"].as_array().unwrap().first().map(|row| row["id"].as_str().unwrap());
    let customer = match known {
        Some(id) => id.to_owned(),
        None => {
            client.post("/v1/customers", json!({ "reference": "cus-1" })).await.expect(201).id()
        }
    };
    let subscription =
        json!({ "site_id": site, "plan_id": plan, "customer_id": customer, "reference": "sub-1" });
    let subscription = client.post("/v1/subscriptions", subscription).await.expect(201).id();
    let token = json!({ "subscription_id": subscription, "reference": "tok-1-1" });
    let token = client.post("/v1/tokens", token).await.expect(201).id();
    Shop { site, customer, subscription, token }
}

async fn take(place: &Place, node: &Issued, epoch: u64, samples: &[Sample]) {
    let decisions = batch(epoch, 0, 0, samples);
    let rows = ReadDecisions::of(&decisions).unwrap();
    place.store.take_decisions(node.key, &rows, &Retention::default()).await.unwrap();
}

/// All pages of a list.
async fn all(client: &Client, query: &str) -> Vec<Json> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page =
            client.get(&format!("/v1/decisions?limit=7{query}{after}")).await.expect(200).json;
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        if page["has_more"] == false {
            return rows;
        }
        after = format!("&starting_after={}", rows.last().unwrap()["id"].as_str().unwrap());
    }
}

fn is_denied(sample: &Sample) -> bool {
    sample.reason.verdict() == Verdict::Deny
}

type Holds = Box<dyn Fn(&Sample) -> bool>;

/// Queries, and what of each row decides whether it is listed; `middle_ms` is a time.
fn listings(one: &Shop, two: &Shop, middle_ms: i64) -> Vec<(String, Holds)> {
    let (middle, middle_us) = (shown(middle_ms), middle_ms * 1_000);
    vec![
        (String::new(), Box::new(|_| true)),
        (format!("&site_id={}", one.site), Box::new(|row| row.site == "shop")),
        (format!("&customer_id={}", one.customer), Box::new(|row| row.customer == "cus-1")),
        (
            format!("&subscription_id={}", two.subscription),
            Box::new(|row| {
                row.site == "second" && row.subscription == "sub-1" && !row.customer.is_empty()
            }),
        ),
        (
            format!("&token_id={}", one.token),
            Box::new(|row| {
                row.site == "shop" && row.token == "tok-1-1" && !row.customer.is_empty()
            }),
        ),
        ("&resource=/r1/*".to_owned(), Box::new(|row| row.resource == "/r1/*")),
        ("&verdict=deny".to_owned(), Box::new(is_denied)),
        ("&verdict=allow".to_owned(), Box::new(|row| !is_denied(row))),
        (
            "&reason=quota_exhausted".to_owned(),
            Box::new(|row| row.reason == Reason::QuotaExhausted),
        ),
        ("&reason=quota_exhausted&verdict=allow".to_owned(), Box::new(|_| false)),
        (format!("&since={middle}"), Box::new(move |row| row.time_us >= middle_us)),
        (format!("&until={middle}"), Box::new(move |row| row.time_us < middle_us)),
        (format!("&token_id={}&site_id={}", one.token, two.site), Box::new(|_| false)),
        ("&site_id=site_nobodys".to_owned(), Box::new(|_| false)),
        ("&customer_id=cus_nobodys".to_owned(), Box::new(|_| false)),
    ]
}

pub async fn decisions_are_listed_by_what_is_looked_for(place: Place) {
    let owner = place.owner().await;
    let nodes = [issue(&owner, &place, "n1").await, issue(&owner, &place, "n2").await];
    let stranger = place.stranger().await;
    let one = shop(&owner, "shop").await;
    let two = shop(&owner, "second").await;
    shop(&stranger, "theirs").await;
    let mut samples: Vec<Sample> = (0..30).map(|number| sample("shop", number)).collect();
    // One before it was known who asks.
    samples[4] = Sample {
        customer: String::new(),
        period: 0,
        reason: Reason::TokenMissing,
        ..samples[4].clone()
    };
    take(&place, &nodes[0], 1 << 63, &samples).await;
    let second: Vec<Sample> = (0..10).map(|number| sample("second", number)).collect();
    take(&place, &nodes[1], 5, &second).await;
    let theirs: Vec<Sample> = (0..10).map(|number| sample("theirs", number)).collect();
    take(&place, &nodes[1], 6, &theirs).await;

    let at = |row: &Sample| jiff::Timestamp::from_microsecond(row.time_us).unwrap().to_string();
    let middle = at(&samples[15]);
    let middle_ms = samples[15].time_us / 1_000;
    for (query, holds) in listings(&one, &two, middle_ms) {
        let rows = all(&owner, &query).await;
        let mut expected: Vec<(i64, String)> = samples
            .iter()
            .chain(&second)
            .filter(|row| holds(row))
            .map(|row| (row.time_us, row.resource.clone()))
            .collect();
        expected.sort_unstable_by(|one, other| other.cmp(one));
        let times: Vec<String> = expected
            .iter()
            .map(|(at_us, _)| jiff::Timestamp::from_microsecond(*at_us).unwrap().to_string())
            .collect();
        let listed: Vec<&str> = rows.iter().map(|row| row["time"].as_str().unwrap()).collect();
        assert_eq!(listed, times, "{query}");
        let ids: BTreeSet<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), rows.len(), "{query}: an entry came twice");
    }
    // One of them in full.
    let row = all(&owner, &format!("&since={}&site_id={}", shown(middle_ms), one.site))
        .await
        .pop()
        .unwrap();
    let expected = json!({
        "id": row["id"], "time": middle, "site_id": one.site, "node": "n1", "customer": "cus-0",
        "subscription": "sub-0", "period": 7, "token": "tok-0-1", "plan": "pro", "resource": "/r1/*",
        "method": "GET", "path": "/r/x", "protocol": "http/1.1", "verdict": "allow",
        "reason": "origin_timeout", "status": 200, "charge": 0, "remaining": 5, "request_bytes": 10,
        "response_bytes": 1000, "origin_us": 1750, "total_us": 3500,
        "request_id": format!("{:032x}", samples[15].time_us), "client": null,
    });
    assert_eq!(row, expected);
    sees_its_own_alone(&stranger, &one).await;
}

/// Another account sees its own rows, whatever it names.
async fn sees_its_own_alone(stranger: &Client, one: &Shop) {
    assert_eq!(all(stranger, "").await.len(), 10);
    for query in [
        format!("&site_id={}", one.site),
        format!("&token_id={}", one.token),
        format!("&customer_id={}", one.customer),
        format!("&subscription_id={}", one.subscription),
    ] {
        assert_eq!(all(stranger, &query).await, Vec::<Json>::new(), "{query}");
        let used = stranger.get(&format!("/v1/usage?{query}")).await.expect(200).json;
        assert_eq!(used["data"], json!([]), "{query}");
        assert!(used["periods"].is_null());
    }
}

pub async fn what_cannot_be_asked_is_refused(place: Place) {
    let owner = place.owner().await;
    let cases = [
        ("/v1/decisions?limit=0", 422, "limit"),
        ("/v1/decisions?limit=101", 422, "limit"),
        ("/v1/decisions?starting_after=x", 422, "starting_after"),
        ("/v1/decisions?reason=none", 422, "reason"),
        ("/v1/decisions?since=x", 422, "since"),
        ("/v1/decisions?verdict=maybe", 400, ""),
        ("/v1/decisions?token=x", 400, ""),
        ("/v1/usage?limit=1001", 422, "limit"),
        ("/v1/usage?interval=hour", 400, ""),
        ("/v1/usage?interval=day&since=2026-11-01T00:01:00Z", 422, "since"),
        ("/v1/usage?until=2026-11-01T00:00:01Z", 422, "until"),
        (
            "/v1/usage?interval=minute&since=2026-11-01T00:00:00Z&until=2026-11-01T01:00:00Z",
            422,
            "since",
        ),
        ("/v1/usage?since=2026-11-01T00:01:00Z&until=2026-11-02T00:00:00Z", 422, "since"),
        ("/v1/usage?group_by=colour", 400, ""),
        ("/v1/usage?from=x", 400, ""),
    ];
    for (path, status, field) in cases {
        let answer = owner.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
        if !field.is_empty() {
            assert_eq!(answer.json["errors"][0]["field"], field, "{path}: {}", answer.text);
        }
    }
    let key = json!({ "label": "narrow", "role": "owner", "scopes": ["sites:read"] });
    let made = owner.post("/v1/admin_keys", key).await.expect(201);
    let narrow = Client::new(place.router(), made.json["secret"].as_str().unwrap().to_owned());
    for path in ["/v1/decisions", "/v1/usage"] {
        assert_eq!(narrow.get(path).await.status.as_u16(), 403, "{path}");
    }
}

/// Sums by hand: requests, denied ones, units, those up to a millisecond.
type Sums = BTreeMap<(String, String), [i64; 4]>;

fn sums(
    samples: &[&Sample],
    at: &dyn Fn(&Sample) -> String,
    group: &dyn Fn(&Sample) -> String,
) -> Sums {
    let mut sums = Sums::new();
    for sample in samples {
        let sum = sums.entry((at(sample), group(sample))).or_default();
        let is_quick = sample.total_us <= 1_000;
        let one = [1, is_denied(sample).into(), sample.charge.cast_signed(), is_quick.into()];
        sum.iter_mut().zip(one).for_each(|(sum, value)| *sum += value);
    }
    sums
}

fn answered(answer: &Json) -> Sums {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let entry = |row: &Json| {
        let number = |name: &str| row[name].as_i64().unwrap();
        assert_eq!(number("allowed") + number("denied"), number("requests"), "{row}");
        let took: i64 = row["took"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["requests"].as_i64().unwrap())
            .sum();
        assert_eq!(took, number("requests"), "{row}");
        assert_eq!(number("response_bytes"), 1_000 * number("requests"), "{row}");
        let quick = row["took"][0]["requests"].as_i64().unwrap();
        let figures = [number("requests"), number("denied"), number("charge"), quick];
        ((text(&row["start"]), text(&row["group"])), figures)
    };
    answer["data"].as_array().unwrap().iter().map(entry).collect()
}

const DAY_US: i64 = 86_400_000_000;

/// Decisions of today and of days before, of two sites.
fn over_days() -> Vec<Sample> {
    let day_us = DAY_US;
    let mut samples = Vec::new();
    for (slug, age_us) in [
        ("shop", 0),
        ("shop", 90_000_000),
        ("second", 0),
        ("shop", 2 * day_us),
        ("second", 9 * day_us),
    ] {
        samples.extend((0..40).map(|number| {
            let sample = sample(slug, number);
            Sample { time_us: sample.time_us - age_us, ..sample }
        }));
    }
    samples[3] = Sample {
        customer: String::new(),
        period: 0,
        reason: Reason::TokenMissing,
        ..samples[3].clone()
    };
    samples
}

pub async fn use_is_summed_up_by_time_and_group(place: Place) {
    let owner = place.owner().await;
    let one = shop(&owner, "shop").await;
    let two = shop(&owner, "second").await;
    let node = issue(&owner, &place, "n1").await;
    let samples = over_days();
    take(&place, &node, 1, &samples).await;

    let begin = |at_us: i64, step_us: i64| {
        let at_us = at_us.div_euclid(step_us) * step_us;
        jiff::Timestamp::from_microsecond(at_us).unwrap().to_string()
    };
    let minute = |row: &Sample| begin(row.time_us, 60_000_000);
    let day = |row: &Sample| begin(row.time_us, DAY_US);
    let total = |_: &Sample| String::new();
    let whole = |_: &Sample| String::new();
    let known = |text: &str, row: &Sample| {
        if row.customer.is_empty() { String::new() } else { text.to_owned() }
    };
    let token = move |row: &Sample| known(&row.token, row);
    let customer = move |row: &Sample| known(&row.customer, row);
    let sites = [("shop", one.site.clone()), ("second", two.site.clone())];
    let site = |row: &Sample| sites.iter().find(|(slug, _)| *slug == row.site).unwrap().1.clone();
    let recent = |row: &Sample| row.time_us > samples[0].time_us - 3_000_000_000;
    let any = |_: &Sample| true;
    type By<'a> = &'a dyn Fn(&Sample) -> String;
    type Holds<'a> = &'a dyn Fn(&Sample) -> bool;
    let of_customer = |row: &Sample| customer(row) == "cus-1";
    let of_token = |row: &Sample| row.site == "shop" && token(row) == "tok-1-1";
    let cases: Vec<(String, Holds<'_>, By<'_>, By<'_>)> = vec![
        (String::new(), &any, &total, &whole),
        ("interval=day".into(), &any, &day, &whole),
        ("interval=minute".into(), &recent, &minute, &whole),
        ("interval=minute&group_by=token".into(), &recent, &minute, &token),
        ("group_by=site".into(), &any, &total, &site),
        ("group_by=customer&interval=day".into(), &any, &day, &customer),
        ("group_by=resource".into(), &any, &total, &|row| row.resource.clone()),
        ("group_by=reason".into(), &any, &total, &|row| row.reason.as_str().to_owned()),
        ("group_by=verdict".into(), &any, &total, &|row| {
            if is_denied(row) { "deny".into() } else { "allow".into() }
        }),
        ("group_by=period".into(), &any, &total, &|row| {
            if row.period == 0 { String::new() } else { row.period.to_string() }
        }),
        (format!("site_id={}&interval=day", two.site), &|row| row.site == "second", &day, &whole),
        (format!("customer_id={}", one.customer), &of_customer, &total, &whole),
        (format!("token_id={}&group_by=reason", one.token), &of_token, &total, &|row| {
            row.reason.as_str().to_owned()
        }),
        ("verdict=deny&group_by=site".into(), &is_denied, &total, &site),
        ("reason=ok".into(), &|row| row.reason == Reason::Ok, &total, &whole),
        ("period=7".into(), &|row| row.period == 7, &total, &whole),
        ("period=8".into(), &|_| false, &total, &whole),
        ("resource=/r0/*".into(), &|row| row.resource == "/r0/*", &total, &whole),
    ];
    for (query, holds, at, group) in cases {
        let answer = owner.get(&format!("/v1/usage?limit=1000&{query}")).await.expect(200).json;
        let meant: Vec<&Sample> = samples.iter().filter(|row| holds(row)).collect();
        assert_eq!(answered(&answer), sums(&meant, at, group), "{query}");
        assert_eq!(answer["has_more"], false);
    }
    shows_most_first(&owner, &two, &samples).await;
}

/// What has most requests comes first; a subscription has its periods beside.
async fn shows_most_first(owner: &Client, two: &Shop, samples: &[Sample]) {
    let answer = owner.get("/v1/usage?group_by=reason&limit=2").await.expect(200).json;
    let first: Vec<&Json> =
        answer["data"].as_array().unwrap().iter().map(|row| &row["group"]).collect();
    assert_eq!(
        (first, &answer["has_more"]),
        (vec![&json!("ok"), &json!("quota_exhausted")], &json!(true))
    );
    let denied = &owner.get("/v1/usage").await.expect(200).json["data"][0]["denied_by_reason"];
    assert_eq!(*denied, json!({ "quota_exhausted": 50, "token_missing": 1 }));

    // A subscription's periods: the ledger knows none, the log one.
    let path = format!("/v1/usage?subscription_id={}", two.subscription);
    let answer = owner.get(&path).await.expect(200).json;
    let logged: Vec<&Sample> =
        samples.iter().filter(|row| row.site == "second" && row.subscription == "sub-1").collect();
    let charge: u64 = logged.iter().map(|row| row.charge).sum();
    let expected = json!([{
        "id": 7, "start": null, "end": null, "used": null, "leased": null, "charge": charge, "requests": logged.len()
    }]);
    assert_eq!(answer["periods"], expected);
}
