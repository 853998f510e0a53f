//! Quotas told of at 80 % and 100 %, from a node's report to an event.

use policy::budget::ledger::Account;
use policy::budget::message::{LeaseRequest, Totals};
use policy::budget::{Calendar, EntitlementId, Overage, Period, Terms, Unit};
use policy::ids::entitlement_id;
use serde_json::json;

use super::client::Client;
use super::place::Place;
use super::samples;
use super::tenancy;
use crate::notify::quota::QuotaTeller;
use crate::storage::{EventRecord, Store};

/// One node's side of an entitlement.
struct Node {
    store: Store,
    reference: String,
    start_ms: i64,
    stamp_us: u64,
    version: u64,
    limit: Option<u64>,
}

/// Terms that allow overage.
pub fn terms(version: u64, limit: Option<u64>, calendar: Calendar) -> Terms {
    let overage = Overage::Allow { cap: None };
    Terms { version, limit, overage, calendar, rate: None, concurrency: None }
}

/// A report of so much use.
pub fn request(
    id: EntitlementId,
    period: Period,
    terms: Terms,
    used: u64,
    stamp_us: u64,
) -> LeaseRequest {
    LeaseRequest {
        id,
        period,
        terms,
        totals: Totals { charged: used, ..Totals::default() },
        returned: 0,
        granted: used,
        need: 0,
        demand: 0,
        closed: false,
        carried: Default::default(),
        stamp_us,
        share: None,
    }
}

impl Node {
    /// Says that so much was used.
    async fn use_units(&mut self, used: u64) -> Account {
        self.stamp_us += 1;
        // Begun yesterday, so that no test runs at a period's end.
        let now_s = self.start_ms.div_euclid(1_000);
        let calendar = Calendar { unit: Unit::Month, anchor_s: Some(now_s - 86_400) };
        let id = entitlement_id("walked", &self.reference);
        let terms = terms(self.version, self.limit, calendar);
        let request = request(id, Period::first(&calendar, now_s), terms, used, self.stamp_us);
        self.store.take_requests(1, 1, &[request]).await.unwrap();
        self.store.ledger_account(id.0).await.unwrap().unwrap()
    }

    fn set_limit(&mut self, limit: Option<u64>) {
        self.version += 1;
        self.limit = limit;
    }
}

/// A subscription that a node reports of, and its account.
pub async fn node(place: &Place) -> (String, String, impl AsyncFnMut(u64, Option<Option<u64>>)) {
    node_of(place, &place.owner().await).await
}

/// The same of an owner.
pub async fn node_of(
    place: &Place,
    owner: &Client,
) -> (String, String, impl AsyncFnMut(u64, Option<Option<u64>>) + use<>) {
    let ids = samples::make(owner).await;
    let subscription = ids["subscription_id"].clone();
    let account = owner.get("/v1/account").await.expect(200).id();
    let shown = owner.get(&format!("/v1/subscriptions/{subscription}")).await.expect(200);
    let mut node = Node {
        store: place.store.clone(),
        reference: shown.json["reference"].as_str().unwrap().to_owned(),
        start_ms: place.store.ledger_now_ms().await.unwrap(),
        stamp_us: 0,
        version: 1,
        limit: Some(1_000),
    };
    let report = async move |used: u64, limit: Option<Option<u64>>| {
        if let Some(limit) = limit {
            node.set_limit(limit);
        }
        let account = node.use_units(used).await;
        let books: u64 = account.books.iter().map(|books| books.used()).sum();
        assert_eq!(books, used, "the ledger knows of it");
    };
    (account, subscription, report)
}

/// Units used, a changed limit, and the events that have been told then, in all.
type Step<'a> = (u64, Option<Option<u64>>, &'a [&'a str]);

async fn kinds(place: &Place, account: &str) -> Vec<String> {
    let tenant = place.store.tenant(account);
    let events = tenant.all::<EventRecord>(1_000, |query| query).await.unwrap();
    let quota = events.into_iter().filter(|event| event.kind.starts_with("quota."));
    quota.map(|event| event.kind).collect()
}

pub async fn each_part_of_a_quota_is_told_once(place: Place) {
    let (account, subscription, mut report) = node(&place).await;
    let teller = QuotaTeller::new(place.store.clone());
    let (part, whole) = ("quota.80_percent", "quota.100_percent");
    let steps: [Step<'_>; 9] = [
        (799, None, &[]),
        (800, None, &[part]),
        (900, None, &[part]),
        (1_200, None, &[part, whole]),
        // Raised, nothing is told before the new limit is near; then both parts of it.
        (1_300, Some(Some(2_000)), &[part, whole]),
        (1_600, None, &[part, whole, part]),
        // Lowered and raised to what it was, it is not told a second time.
        (1_600, Some(Some(1_000)), &[part, whole, part]),
        (1_650, Some(Some(2_000)), &[part, whole, part]),
        // Without a limit there is nothing to tell.
        (9_000, Some(None), &[part, whole, part]),
    ];
    for (used, limit, expected) in steps {
        report(used, limit).await;
        let other = QuotaTeller::new(place.another_store());
        let (first, second) = tokio::join!(teller.tell_all(), other.tell_all());
        assert!(first.unwrap() + second.unwrap() <= 1, "{used} {limit:?}");
        assert_eq!(kinds(&place, &account).await, expected, "after {used} of {limit:?}");
    }
    let tenant = place.store.tenant(&account);
    let events = tenant.all::<EventRecord>(1_000, |query| query).await.unwrap();
    let told = events.iter().find(|event| event.kind == part).unwrap();
    assert_eq!(told.subscription_id.as_deref(), Some(subscription.as_str()));
    let data: serde_json::Value = serde_json::from_str(&told.data).unwrap();
    assert_eq!(data["quota"]["used"], json!(800));
    assert_eq!(data["quota"]["limit"], json!(1_000));
}

pub async fn a_quota_used_up_at_once_is_told_as_that_alone(place: Place) {
    let (account, _, mut report) = node(&place).await;
    report(1_000, None).await;
    let teller = QuotaTeller::new(place.store.clone());
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    assert_eq!(kinds(&place, &account).await, ["quota.100_percent"]);
}

pub async fn who_has_a_slug_again_is_told(place: Place) {
    let owner = place.owner().await;
    let account = owner.get("/v1/account").await.expect(200).id();
    let teller = QuotaTeller::new(place.store.clone());
    let mut told: Vec<String> = Vec::new();
    for used in [800, 1_000] {
        let shop = tenancy::shop(&owner, "shop").await;
        tenancy::use_units(&place, "shop", used).await;
        assert_eq!(teller.tell_all().await.unwrap(), 1, "{used}");
        assert_eq!(place.store.name_entitlements().await.unwrap(), 0, "all are known");
        told.push(shop.1.clone());
        tenancy::close(&owner, &shop).await;
    }
    let tenant = place.store.tenant(&account);
    let events = tenant.all::<EventRecord>(1_000, |query| query).await.unwrap();
    let quota = events.into_iter().filter(|event| event.kind.starts_with("quota."));
    let subscriptions: Vec<_> = quota.filter_map(|event| event.subscription_id).collect();
    assert_eq!(subscriptions, told);
}
