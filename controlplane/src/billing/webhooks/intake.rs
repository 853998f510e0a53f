//! Events on their way into the inbox: many at once, one statement.
//!
//! In: verified events, from requests that wait. Out: what became of each, once it is durable.
//! Always holds: nothing is answered before it is durable; at most [`WAITING_MAX`] events wait, the next is told to come
//! back; an event waits for the statement before its own alone, so that batches grow only as fast as the database is slow; one that
//! the database refuses is refused alone.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::storage::{Arrived, Kept, StorageError, Store};

/// Events that wait for the database at once.
const WAITING_MAX: usize = 4_096;
/// Events in one statement.
const BATCH: usize = 250;

type Answer = Option<Kept>;

/// The way in. Clones share it.
#[derive(Clone, Debug)]
pub struct Intake(mpsc::Sender<(Arrived, oneshot::Sender<Answer>)>);

/// Why an event was not kept; it should be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Too many wait.
    Full,
    /// The database is away.
    Away,
}

impl Intake {
    /// The way in, and what carries events on for as long as it is run.
    pub fn new(store: Store, arrived: Arc<Notify>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), carry(store, receiver, arrived))
    }

    /// How many wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.0.max_capacity() - self.0.capacity()
    }

    /// Keeps an event.
    ///
    /// # Errors
    /// When it was not kept, or it is not known.
    pub async fn keep(&self, event: Arrived) -> Result<Kept, NotKept> {
        let (answer, told) = oneshot::channel();
        self.0.try_send((event, answer)).map_err(|_| NotKept::Full)?;
        told.await.ok().flatten().ok_or(NotKept::Away)
    }
}

async fn carry(
    store: Store,
    mut receiver: mpsc::Receiver<(Arrived, oneshot::Sender<Answer>)>,
    arrived: Arc<Notify>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        let (events, answers): (Vec<Arrived>, Vec<_>) = batch.drain(..).unzip();
        let kept = keep(&store, &events).await;
        if kept.contains(&Some(Kept::New)) {
            arrived.notify_one();
        }
        for (answer, kept) in answers.into_iter().zip(kept) {
            // Whoever asked may be gone: the event is kept all the same.
            let _ = answer.send(kept);
        }
    }
}

async fn keep(store: &Store, events: &[Arrived]) -> Vec<Answer> {
    let error = match store.keep_stripe_events(events).await {
        Ok(kept) => return kept.into_iter().map(Some).collect(),
        Err(error) => error,
    };
    let unkept = |error: &StorageError, events: usize| {
        tracing::warn!(%error, events, "events of Stripe's could not be kept; they will be sent again");
    };
    if matches!(error, StorageError::Unavailable(_)) || events.len() == 1 {
        unkept(&error, events.len());
        return vec![None; events.len()];
    }
    // One that the database will not have must not take its neighbours with it.
    let mut answers = Vec::with_capacity(events.len());
    for event in events {
        let kept = store.keep_stripe_events(std::slice::from_ref(event)).await;
        if let Err(error) = &kept {
            unkept(error, 1);
        }
        answers.push(kept.ok().and_then(|kept| kept.first().copied()));
    }
    answers
}
