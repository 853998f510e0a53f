//! The outbox: numbers without gaps, in order, for whoever follows.

use std::collections::HashMap;
use std::time::Duration;

use crate::storage::{Customer, OutboxEntry};

use super::place::{Place, actor};

const WRITERS: usize = 8;
const CHANGES: usize = 25;
const DEADLINE: Duration = Duration::from_secs(60);

fn customer(reference: String) -> Customer {
    Customer { reference, settings: "{}".into(), ..Customer::default() }
}

/// The account that [`Place::owner`] makes.
async fn first_account(place: &Place) -> String {
    crate::init::init(&place.store, "First", "f@example.com").await.unwrap().account_id
}

async fn follow(place: &Place, from: i64, count: usize) -> Vec<OutboxEntry> {
    let mut follower = place.store.outbox().follow(from);
    let mut entries = Vec::new();
    let all = async {
        while entries.len() < count {
            entries.extend(follower.next().await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("entries come");
    entries
}

pub async fn numbers_have_no_gaps_under_concurrent_writers_and_publishers(place: Place) {
    let account = first_account(&place).await;
    // Two more processes, as it were, that publish too.
    let others = [Place::at(place.url.clone(), None), Place::at(place.url.clone(), None)];
    let publishers: Vec<_> = others
        .iter()
        .chain([&place])
        .map(|place| tokio::spawn(place.store.outbox().clone().publish()))
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, account) = (place.store.clone(), account.clone());
            tokio::spawn(async move {
                for number in 0..CHANGES {
                    let mut change = store.change(&account, actor()).await.unwrap();
                    change.insert(customer(format!("{writer}-{number}"))).await.unwrap();
                    // Every fifth is given up, and leaves no trace.
                    if number % 5 != 4 {
                        change.commit().await.unwrap();
                    }
                }
            })
        })
        .collect();
    let kept = WRITERS * CHANGES / 5 * 4;
    // The first account is three rows.
    let entries = follow(&place, 0, kept + 3).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let numbers: Vec<i64> = entries.iter().map(|entry| entry.sequence).collect();
    let expected: Vec<i64> = (1..).take(kept + 3).collect();
    assert_eq!(numbers, expected);
    let customers = entries.iter().filter(|entry| entry.kind == "customer").count();
    assert_eq!(customers, kept);
    // Another process reads the same.
    assert_eq!(follow(&others[0], 0, kept + 3).await, entries);
    for publisher in publishers {
        publisher.abort();
    }
}

pub async fn changes_of_one_row_keep_their_order(place: Place) {
    let account = first_account(&place).await;
    let mut change = place.store.change(&account, actor()).await.unwrap();
    let row = change.insert(customer("one".into())).await.unwrap();
    change.commit().await.unwrap();
    let publisher = tokio::spawn(place.store.outbox().clone().publish());
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, account, id) = (place.store.clone(), account.clone(), row.id.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    let mut change = store.change(&account, actor()).await.unwrap();
                    let before = change.lock::<Customer>(&id).await.unwrap().unwrap();
                    let settings = format!("{{\"version\":{}}}", before.version + 1);
                    let after = Customer { settings, ..before.clone() };
                    change.update(&before, after).await.unwrap();
                    change.commit().await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let count = WRITERS * 5;
    let entries = follow(&place, 0, count + 4).await;
    // The audit log, written beside each entry, knows the version: it has to grow with the number.
    let tenant = place.store.tenant(&account);
    let audits = tenant.all::<crate::storage::AuditEntry>(200, |query| query);
    let mut versions: HashMap<String, Vec<i64>> = HashMap::new();
    for audit in audits.await.unwrap() {
        let after: serde_json::Value = serde_json::from_str(&audit.after.unwrap()).unwrap();
        versions.entry(audit.row_id).or_default().push(after["version"].as_i64().unwrap());
    }
    let expected: Vec<i64> = (1..).take(count + 1).collect();
    assert_eq!(versions[&row.id], expected, "audit entries stand in the order of the changes");
    let of_row = entries.iter().filter(|entry| entry.row_id == row.id).count();
    assert_eq!(of_row, count + 1);
    publisher.abort();
}

pub async fn followers_are_woken(place: Place) {
    let account = first_account(&place).await;
    let other = Place::at(place.url.clone(), None);
    let publishers = [&place, &other].map(|at| tokio::spawn(at.store.outbox().clone().publish()));
    let before = follow(&other, 0, 3).await;
    let from = before.last().unwrap().sequence;
    let mut follower = other.store.outbox().follow(from);
    let waiting = tokio::spawn(async move { follower.next().await.unwrap() });
    let mut change = place.store.change(&account, actor()).await.unwrap();
    let row = change.insert(customer("late".into())).await.unwrap();
    change.commit().await.unwrap();
    let entries = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.row_id.clone(), entry.row_key)).collect();
    assert_eq!(told, [(row.id, row.key)]);
    for publisher in publishers {
        publisher.abort();
    }
}
