//! The ledger's accounts of entitlements that ended: kept as long as anything is settled by them, and not for ever.

use policy::budget::ledger::{Account, Authority, Borrower, LedgerNow};
use policy::budget::message::LeaseRequest;
use policy::budget::{Calendar, Period, ShardId, Unit};
use policy::ids::entitlement_id;
use serde_json::json;

use super::place::Place;
use super::quota::{request, terms};
use super::samples;

const DAY_MS: i64 = 86_400_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn report(reference: &str, unit: Unit, then_ms: i64) -> LeaseRequest {
    let then_s = then_ms.div_euclid(1_000);
    let calendar = Calendar { unit, anchor_s: Some(then_s) };
    let id = entitlement_id("walked", reference);
    request(id, Period::first(&calendar, then_s), terms(1, Some(100), calendar), 7, 1)
}

/// Leaves the account that this report made then.
async fn leave(place: &Place, report: &LeaseRequest, then_ms: i64) {
    let now = LedgerNow { unix_ms: then_ms, authority: Authority::Ledger };
    let mut account = Account::open(report, now);
    account.take(Borrower { node: 1, start: 1, shard: ShardId(0) }, report, now);
    let state = postcard::to_extend(&account, vec![1]).unwrap();
    let literal = |bytes: &[u8]| match place.store.is_shared() {
        true => format!("'\\x{}'", hex(bytes)),
        false => format!("x'{}'", hex(bytes)),
    };
    let (id, state) = (literal(&report.id.0.to_be_bytes()), literal(&state));
    let sql = format!(
        "INSERT INTO ledger_accounts (entitlement, state, updated_at_ms) VALUES ({id}, {state}, {then_ms})"
    );
    place.store.raw(&sql).await;
}

pub async fn accounts_of_what_ended_long_ago_are_forgotten(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let site = &ids["site_id"];
    let subscribe = async |reference: &str| {
        let body = json!({ "site_id": site, "plan_id": ids["plan_id"], "customer_id": ids["customer_id"], "reference": reference });
        owner.post("/v1/subscriptions", body).await.expect(201).id()
    };
    // Its name, how long ago its period began and it was heard of last, how long ago it was archived, whether it goes.
    let cases: [(&str, Unit, i64, Option<i64>, bool); 6] = [
        ("ended", Unit::Month, 120, Some(100), true),
        ("lives", Unit::Month, 120, None, false),
        ("archived_lately", Unit::Month, 120, Some(10), false),
        ("heard_of_lately", Unit::Month, 20, Some(100), false),
        ("its_year_runs", Unit::Year, 120, Some(100), false),
        ("hourly", Unit::Hour, 61, Some(61), true),
    ];
    let now_ms = place.store.ledger_now_ms().await.unwrap();
    let mut made = Vec::new();
    for (reference, unit, days, archived, goes) in cases {
        let subscription = subscribe(reference).await;
        let then_ms = now_ms - days * DAY_MS;
        let report = report(reference, unit, then_ms);
        leave(&place, &report, then_ms).await;
        if let Some(archived) = archived {
            let at_ms = now_ms - archived * DAY_MS;
            let sql = format!(
                "UPDATE subscriptions SET archived_at_ms = {at_ms} WHERE id = '{subscription}'"
            );
            place.store.raw(&sql).await;
        }
        made.push((report, goes));
    }
    // Nobody was named yet: nothing goes by a guess.
    assert_eq!(place.store.prune_ledger().await.unwrap(), 0);
    while place.store.name_entitlements().await.unwrap() > 0 {}
    assert_eq!(place.store.prune_ledger().await.unwrap(), 2);
    for ((report, goes), case) in made.iter().zip(&cases) {
        let account = place.store.ledger_account(report.id.0).await.unwrap();
        assert_eq!(account.is_none(), *goes, "{case:?}");
    }
    // Whoever reports even now is answered, as for any period that is long over.
    let (late, _) = &made[0];
    let taken = place.store.take_requests(1, 1, std::slice::from_ref(late)).await.unwrap();
    assert!(!taken.posted.is_empty(), "a late report is not answered");
    assert_eq!(place.store.prune_ledger().await.unwrap(), 0, "it was heard of just now");
}
