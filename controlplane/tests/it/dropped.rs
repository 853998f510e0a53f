//! Futures that are dropped in the middle of a change, as a request is whose time is over and a worker that is told to end.
//!
//! In: changes, each polled so many times and no more, over a pool of two connections. Out: all of a change or nothing, no transaction
//! that is left open, and a pool that serves whoever comes next.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::storage::{Customer, StorageResult, Store, column};
use crate::world::System;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::place::{Place, actor};
use super::sync_node::until;

/// More polls than a change takes.
const POLLS_MAX: usize = 48;
/// Changes at once, more than there are connections.
const AT_ONCE: usize = 6;
const DEADLINE: Duration = Duration::from_secs(60);
/// Long enough for a connection to come back, and shorter than PostgreSQL lets an idle transaction live.
const RETURNED: Duration = Duration::from_secs(15);

/// What comes of a future that is polled at most so many times; `None` where it was dropped.
async fn cut<T>(future: impl Future<Output = T>, polls_max: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        if polls == polls_max {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn insert(store: &Store, account: &str, reference: &str) -> StorageResult<()> {
    let mut change = store.change(account, actor()).await?;
    let row =
        Customer { reference: reference.into(), settings: "{}".into(), ..Customer::default() };
    let row = change.insert(row).await?;
    change.lock::<Customer>(&row.id).await?;
    change.commit().await
}

/// Whether anybody has a transaction open on PostgreSQL and does nothing with it.
async fn is_one_left_open(place: &Place) -> bool {
    let sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
               AND state LIKE 'idle in transaction%'";
    place.store.is_shared() && place.store.raw_number(sql).await > 0
}

pub async fn futures_dropped_anywhere_leave_nothing_open(place: Place) {
    let account =
        crate::init::init(&place.store, "First", "f@example.com").await.unwrap().account_id;
    let small = Arc::new(Store::open(&place.url, 2, Arc::new(System)).unwrap());
    let mut done = Vec::new();
    for polls_max in 0..POLLS_MAX {
        let changes = (0..AT_ONCE).map(|number| {
            let (store, account) = (small.clone(), account.clone());
            tokio::spawn(async move {
                let reference = format!("c{polls_max}-{number}");
                let outcome = cut(insert(&store, &account, &reference), polls_max + number).await;
                match outcome {
                    Some(Ok(())) => Some(reference),
                    // Two connections for six.
                    Some(Err(error)) => panic!("{reference}: {error}"),
                    None => None,
                }
            })
        });
        for change in changes.collect::<Vec<_>>() {
            done.extend(tokio::time::timeout(DEADLINE, change).await.expect("it ends").unwrap());
        }
        let is_closed =
            tokio::time::timeout(RETURNED, until(async || !is_one_left_open(&place).await));
        assert!(
            is_closed.await.is_ok(),
            "dropped after {polls_max} polls, a transaction stays open"
        );
        // A statement by itself counts at once: it is in nobody's transaction.
        small
            .raw(&format!("UPDATE accounts SET name = 'p{polls_max}' WHERE id = '{account}'"))
            .await;
        let sql = format!("SELECT count(*) AS n FROM accounts WHERE name = 'p{polls_max}'");
        assert_eq!(place.store.raw_number(&sql).await, 1, "after {polls_max} polls");
    }
    assert!(!done.is_empty(), "no change was let through");
    let tenant = place.store.tenant(&account);
    for reference in &done {
        let found = tenant.one::<Customer>(|query| {
            query.filter(column::Customer::Reference.eq(reference.as_str()))
        });
        assert!(found.await.unwrap().is_some(), "{reference} was committed");
    }
    let count = async |sql: &str| place.store.raw_number(sql).await;
    let rows = count("SELECT count(*) AS n FROM customers").await;
    let audit = "SELECT count(*) AS n FROM audit_log WHERE kind = 'customer'";
    let outbox = "SELECT count(*) AS n FROM outbox WHERE kind = 'customer'";
    assert_eq!((count(audit).await, count(outbox).await), (rows, rows), "half of a change");
}
