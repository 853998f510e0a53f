//! Events on their way into the inbox: many at once, one statement.
//!
//! In: verified events, from requests that wait. Out: what became of each, once it is durable.
//! Always holds: nothing is answered before it is durable; at most [`WAITING_MAX`] events wait, the next is told to come
//! back; an event waits for the statement before its own alone, so that batches grow only as fast as the database is slow.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use crate::storage::{Arrived, Kept, Store};

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
        let kept = match store.keep_stripe_events(&events).await {
            Ok(kept) => kept.into_iter().map(Some).collect(),
            Err(error) => {
                tracing::warn!(%error, events = events.len(), "events of Stripe's could not be kept; they will be sent again");
                vec![None; events.len()]
            }
        };
        if kept.contains(&Some(Kept::New)) {
            arrived.notify_one();
        }
        for (answer, kept) in answers.into_iter().zip(kept) {
            // Whoever asked may be gone: the event is kept all the same.
            let _ = answer.send(kept);
        }
    }
}
