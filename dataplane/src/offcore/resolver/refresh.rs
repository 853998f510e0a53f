//! Keeps names fresh: when each is asked again, and what becomes of the answers.
//!
//! In: names wanted, answers of a [`Source`]. Out: a new table whenever an answer changed.
//! Always holds: a name is asked again after its TTL, held between [`TTL_MIN`] and [`TTL_MAX`]; after a failure, after
//! a time that doubles up to [`RETRY_MAX`]; a failure never replaces addresses; one question per name is under way.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ADDRESSES_MAX, Entry, NAMES_MAX, Resolution, Shared, Table, Wanted};

/// No name is asked more often, however short its TTL.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// No answer is kept longer without asking again, however long its TTL.
pub const TTL_MAX: Duration = Duration::from_secs(60);
/// How soon after a first failure a name is asked again.
pub const RETRY_MIN: Duration = Duration::from_secs(1);
/// How long after repeated failures, at most.
pub const RETRY_MAX: Duration = Duration::from_secs(30);
/// Questions under way at once.
const QUESTIONS_MAX: usize = 64;

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub ttl: Duration,
}

/// Where names are looked up.
pub trait Source: Clone + Send + Sync + 'static {
    /// Looks `name` up. The error is text for a person.
    fn look_up(&self, name: &str) -> impl Future<Output = Result<Answer, String>> + Send;
}

/// One name that is kept fresh.
struct Tracked {
    ports: Vec<u16>,
    known: Option<Known>,
    failures: u32,
    /// When it is asked next; none while a question is under way.
    due: Option<Instant>,
}

enum Known {
    Addresses(Vec<IpAddr>),
    Failure(Arc<str>),
}

type Answered = (Box<str>, Result<Answer, String>);

pub(super) async fn run<S: Source>(
    source: S,
    shared: Arc<Shared>,
    mut asked: mpsc::Receiver<Wanted>,
) {
    let mut names = Names::default();
    let mut questions: JoinSet<Answered> = JoinSet::new();
    loop {
        let due = names.next_due().filter(|_| questions.len() < QUESTIONS_MAX);
        tokio::select! {
            wanted = asked.recv() => {
                let Some(wanted) = wanted else { return };
                names.want(wanted);
                while let Ok(wanted) = asked.try_recv() {
                    names.want(wanted);
                }
                if shared.requests_overflowed.swap(false, Ordering::AcqRel) {
                    shared.wake();
                }
            }
            () = shared.policy_changed.notified() => {
                if let Some(wanted) = shared.policy_names.lock().take() {
                    names.keep_only(wanted);
                }
            }
            Some(first) = questions.join_next() => {
                // All that have come are taken at once: each publication copies the table.
                let mut next = Some(first);
                while let Some(answered) = next {
                    match answered {
                        Ok((name, answer)) => names.answered(&name, answer, Instant::now()),
                        Err(error) => tracing::error!(%error, "a look-up ended without an answer"),
                    }
                    next = questions.try_join_next();
                }
            }
            () = sleep_until(due), if due.is_some() => {
                let room = QUESTIONS_MAX - questions.len();
                for name in names.take_due(Instant::now(), room) {
                    let source = source.clone();
                    questions.spawn(async move {
                        let answer = source.look_up(&name).await;
                        (name, answer)
                    });
                }
            }
        }
        if names.changed {
            names.changed = false;
            shared.publish(names.table());
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

#[derive(Default)]
struct Names {
    tracked: HashMap<Box<str>, Tracked>,
    changed: bool,
}

impl Names {
    fn want(&mut self, wanted: Wanted) {
        if self.tracked.len() >= NAMES_MAX && !self.tracked.contains_key(&wanted.name) {
            tracing::warn!(name = %wanted.name, "not resolved: {NAMES_MAX} names are in use already");
            self.changed = true;
            return;
        }
        let tracked = self.tracked.entry(wanted.name).or_insert_with(|| Tracked {
            ports: Vec::new(),
            known: None,
            failures: 0,
            due: Some(Instant::now()),
        });
        if !tracked.ports.contains(&wanted.port) {
            tracked.ports.push(wanted.port);
            self.changed |= tracked.known.is_some();
        }
    }

    fn keep_only(&mut self, wanted: Vec<Wanted>) {
        let current: HashSet<&str> = wanted.iter().map(|wanted| &*wanted.name).collect();
        let before = self.tracked.len();
        self.tracked.retain(|name, _| current.contains(&**name));
        self.changed |= self.tracked.len() != before;
        for wanted in wanted {
            self.want(wanted);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.tracked.values().filter_map(|tracked| tracked.due).min()
    }

    fn take_due(&mut self, now: Instant, room: usize) -> Vec<Box<str>> {
        let mut taken = Vec::new();
        for (name, tracked) in &mut self.tracked {
            if taken.len() == room {
                break;
            }
            if tracked.due.is_some_and(|due| due <= now) {
                tracked.due = None;
                taken.push(name.clone());
            }
        }
        taken
    }

    fn answered(&mut self, name: &str, answer: Result<Answer, String>, now: Instant) {
        // A name may have been forgotten while it was asked for.
        let Some(tracked) = self.tracked.get_mut(name) else { return };
        let answer = answer.and_then(|answer| match answer.addresses.is_empty() {
            true => Err(format!("`{name}` has no addresses")),
            false => Ok(answer),
        });
        match answer {
            Ok(Answer { mut addresses, ttl }) => {
                addresses.truncate(ADDRESSES_MAX);
                tracked.failures = 0;
                tracked.due = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                if !tracked.holds(&addresses) {
                    tracing::debug!(name, ?addresses, "resolved");
                    tracked.known = Some(Known::Addresses(addresses));
                    self.changed = true;
                }
            }
            Err(error) => {
                let doubled = RETRY_MIN.saturating_mul(1 << tracked.failures.min(16));
                tracked.due = Some(now + doubled.min(RETRY_MAX));
                tracked.failures = tracked.failures.saturating_add(1);
                if tracked.failures == 1 {
                    tracing::warn!(name, %error, "an origin's name cannot be resolved; trying again");
                }
                if !matches!(tracked.known, Some(Known::Addresses(_))) {
                    tracked.known = Some(Known::Failure(error.into()));
                    self.changed = true;
                }
            }
        }
    }

    fn table(&self) -> Table {
        self.tracked
            .iter()
            .filter_map(|(name, tracked)| Some((name.clone(), tracked.entry()?)))
            .collect()
    }
}

impl Tracked {
    /// Whether the addresses known are these, in whatever order: servers rotate them, which is no change.
    fn holds(&self, addresses: &[IpAddr]) -> bool {
        match &self.known {
            Some(Known::Addresses(known)) => {
                known.iter().collect::<HashSet<_>>() == addresses.iter().collect::<HashSet<_>>()
            }
            _ => false,
        }
    }

    fn entry(&self) -> Option<Entry> {
        let known = self.known.as_ref()?;
        let resolution = |port: u16| match known {
            Known::Addresses(addresses) => Resolution::Ready(
                addresses.iter().map(|address| SocketAddr::new(*address, port)).collect(),
            ),
            Known::Failure(error) => Resolution::Failed(Arc::clone(error)),
        };
        Some(Entry { ports: self.ports.iter().map(|&port| (port, resolution(port))).collect() })
    }
}

#[cfg(test)]
#[path = "refresh_tests.rs"]
mod tests;
