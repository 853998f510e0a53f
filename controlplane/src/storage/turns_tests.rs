//! Who writes when.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sea_orm::{ConnAcquireErr, DbErr};

use super::{Turns, Urgency};

const WAIT_MAX: Duration = Duration::from_secs(60);

/// Runs what can run.
async fn all_wait() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_urgent_come_first_and_keep_nobody_out() {
    use Urgency::{First, Usual};
    let turns = Turns::new(WAIT_MAX);
    let writing = turns.take(Usual).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = tokio::task::JoinSet::new();
    for (name, urgency) in
        [("a", Usual), ("b", Usual), ("c", Usual), ("1", First), ("2", First), ("3", First)]
    {
        let (turns, order) = (turns.clone(), order.clone());
        waiting.spawn(async move {
            // Each urgent one is back as soon as it was served, as the inbox is in a burst.
            for _ in 0..2 {
                let turn = turns.take(urgency).await.unwrap();
                order.lock().push(name);
                drop(turn);
                if urgency == Usual {
                    return;
                }
            }
        });
        all_wait().await;
    }
    drop(writing);
    waiting.join_all().await;
    assert_eq!(order.lock().concat(), "a123b123c");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_and_who_is_gone_keeps_nobody() {
    let turns = Turns::new(WAIT_MAX);
    let writing = turns.take(Urgency::Usual).await.unwrap();
    for urgency in [Urgency::Usual, Urgency::First] {
        let error = turns.take(urgency).await.unwrap_err();
        assert!(matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)), "{error}");
    }
    for urgency in [Urgency::Usual, Urgency::First] {
        let turns = turns.clone();
        let gone = tokio::spawn(async move { turns.take(urgency).await.map(drop) });
        all_wait().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    drop(writing);
    drop(turns.take(Urgency::First).await.unwrap());
    drop(turns.take(Urgency::Usual).await.unwrap());
}
