//! Rows, changes and who sees them.

use crate::storage::{
    AuditEntry, Customer, Page, StorageError, TenantRow as _, Token, Window, column,
};
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::place::{Place, actor};

/// How many steps a database has had.
const STEPS_DONE: &str = "SELECT COUNT(*) AS n FROM migrations";

async fn account(place: &Place, name: &str) -> String {
    let id = crate::ids::new_id("acct", &crate::world::System);
    let mut change = place.store.change(&id, actor()).await.unwrap();
    crate::init::make_account(&mut change, name, "a@example.com", false).await.unwrap();
    change.commit().await.unwrap();
    id
}

fn customer(reference: &str) -> Customer {
    Customer { reference: reference.into(), settings: "{}".into(), ..Customer::default() }
}

async fn insert(place: &Place, account: &str, reference: &str) -> Result<Customer, StorageError> {
    let mut change = place.store.change(account, actor()).await?;
    let row = change.insert(customer(reference)).await?;
    change.commit().await?;
    Ok(row)
}

pub async fn migrations_are_run_once(place: Place) {
    assert_eq!(place.store.migrate().await.unwrap(), 0);
    let runs = (0..8).map(|_| {
        let store = place.store.clone();
        tokio::spawn(async move { store.migrate().await.unwrap() })
    });
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), 0);
    }
}

pub async fn many_bring_an_empty_database_up_at_once(place: Place) {
    let steps = place.store.raw_number(STEPS_DONE).await;
    assert!(steps > 10, "{steps}");
    let empty = place.beside(1).await;
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let store = empty.another_store();
            tokio::spawn(async move { store.migrate().await.unwrap() })
        })
        .collect();
    let mut counts = Vec::new();
    for run in runs {
        counts.push(run.await.unwrap() as i64);
    }
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, steps], "one of them runs every step");
    assert_eq!(empty.store.raw_number(STEPS_DONE).await, steps);
}

pub async fn a_database_of_a_later_version_is_left_alone(place: Place) {
    let later = place.beside(1).await;
    later.store.raw("CREATE TABLE migrations (name TEXT NOT NULL PRIMARY KEY, applied_at_ms BIGINT NOT NULL)").await;
    later.store.raw("INSERT INTO migrations (name, applied_at_ms) VALUES ('9999_later', 1)").await;
    for _ in 0..2 {
        let text = later.another_store().migrate().await.unwrap_err().to_string();
        assert!(
            text.contains("9999_later") && text.contains("run the version that made it"),
            "{text}"
        );
    }
    assert_eq!(later.store.raw_number(STEPS_DONE).await, 1);
    // No table was made: every step can still be run.
    later.store.raw("DELETE FROM migrations").await;
    let steps = place.store.raw_number(STEPS_DONE).await;
    assert_eq!(later.store.migrate().await.unwrap() as i64, steps);
}

pub async fn a_row_is_changed_from_the_version_that_was_read(place: Place) {
    let account = account(&place, "a").await;
    let row = insert(&place, &account, "acme").await.unwrap();
    assert!(row.key > 0 && row.version == 1 && row.id.starts_with("cus_"), "{row:?}");
    let mut change = place.store.change(&account, actor()).await.unwrap();
    let after = Customer { settings: "{\"a\":1}".into(), ..row.clone() };
    let second = change.update(&row, after.clone()).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!((second.version, second.key), (2, row.key));
    let mut change = place.store.change(&account, actor()).await.unwrap();
    assert!(matches!(change.update(&row, after).await, Err(StorageError::Stale)));
    drop(change);
    let read = place.store.tenant(&account).get::<Customer>(&row.id).await.unwrap();
    assert_eq!(read, Some(second));
    let again = insert(&place, &account, "acme").await;
    assert!(matches!(again, Err(StorageError::Taken(_))), "{again:?}");
}

pub async fn a_tenant_sees_its_own_rows_alone(place: Place) {
    let (a, b) = (account(&place, "a").await, account(&place, "b").await);
    let row = insert(&place, &a, "acme").await.unwrap();
    insert(&place, &b, "acme").await.unwrap();
    let (ours, theirs) = (place.store.tenant(&a), place.store.tenant(&b));
    assert_eq!(ours.get::<Customer>(&row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(theirs.get::<Customer>(&row.id).await.unwrap(), None);
    let count = |query| query;
    assert_eq!(theirs.count::<Customer>(count).await.unwrap(), 1);
    let window = Window { limit: 10, starting_after: Some(&row.id) };
    assert_eq!(theirs.page::<Customer>(window, |query| query).await.unwrap(), None);
    let by_reference = |account: &str| {
        let tenant = place.store.tenant(account);
        async move {
            let found = tenant
                .all::<Customer>(10, |query| query.filter(column::Customer::Reference.eq("acme")));
            found.await.unwrap().len()
        }
    };
    assert_eq!((by_reference(&a).await, by_reference(&b).await), (1, 1));
    // Not even a change can reach over.
    let mut change = place.store.change(&b, actor()).await.unwrap();
    assert_eq!(change.lock::<Customer>(&row.id).await.unwrap(), None);
    let forged = Customer { account_id: b.clone(), ..row.clone() };
    let after = Customer { settings: "{\"x\":1}".into(), ..forged.clone() };
    assert!(matches!(change.update(&forged, after).await, Err(StorageError::Stale)));
    for odd in ["", "cus_' OR 1=1", &"x".repeat(65)] {
        assert_eq!(ours.get::<Customer>(odd).await.unwrap(), None);
    }
}

pub async fn a_dropped_change_changes_nothing(place: Place) {
    let account = account(&place, "a").await;
    let mut change = place.store.change(&account, actor()).await.unwrap();
    change.insert(customer("acme")).await.unwrap();
    drop(change);
    let tenant = place.store.tenant(&account);
    assert_eq!(tenant.count::<Customer>(|query| query).await.unwrap(), 0);
    insert(&place, &account, "acme").await.unwrap();
}

pub async fn pages_go_through_everything(place: Place) {
    let account = account(&place, "a").await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(insert(&place, &account, &format!("c{number}")).await.unwrap().id);
    }
    made.reverse();
    let tenant = place.store.tenant(&account);
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let window = Window { limit: 3, starting_after: after.as_deref() };
        let page: Option<Page<Customer>> = tenant.page(window, |query| query).await.unwrap();
        let page = page.unwrap();
        assert!(page.rows.len() <= 3);
        seen.extend(page.rows.into_iter().map(|row| row.id));
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, made);
    let too_many = tenant.all::<Customer>(6, |query| query).await;
    assert!(matches!(too_many, Err(StorageError::Broken(_))));
}

pub async fn every_change_leaves_an_audit_entry_without_secrets(place: Place) {
    let account = account(&place, "a").await;
    let row = insert(&place, &account, "acme").await.unwrap();
    let mut change = place.store.change(&account, actor()).await.unwrap();
    let after = Customer { settings: "{\"name\":\"Acme\"}".into(), ..row.clone() };
    change.update(&row, after).await.unwrap();
    change.commit().await.unwrap();
    let tenant = place.store.tenant(&account);
    let entries = tenant
        .all::<AuditEntry>(10, |query| query.filter(column::AuditEntry::RowId.eq(row.id.as_str())));
    let entries = entries.await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (&*entry.action, &*entry.actor_id)).collect();
    assert_eq!(told, [("customer.insert", "test"), ("customer.update", "test")]);
    assert_eq!(entries[0].before, None);
    let before: serde_json::Value =
        serde_json::from_str(entries[1].before.as_ref().unwrap()).unwrap();
    let after: serde_json::Value =
        serde_json::from_str(entries[1].after.as_ref().unwrap()).unwrap();
    assert_eq!(before["settings"], serde_json::json!({}));
    assert_eq!(after["settings"]["name"], "Acme");
    assert_eq!((before["version"].as_i64(), after["version"].as_i64()), (Some(1), Some(2)));
    let token = Token { hash: vec![7; 32], ..Token::default() };
    assert!(!token.facts().to_string().contains("hash"), "{}", token.facts());
}
