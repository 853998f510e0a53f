//! How many calls an account of Stripe is sent: one token bucket an account and mode, and in live mode one for each of its endpoints, too.
//!
//! In: whose call, to which endpoint; what Stripe said about waiting; how many processes share the allowance. Out: the wait until a call
//! may be sent, which is then taken.
//! Always holds: at most [`BUCKETS_MAX`] buckets; nobody waits longer than [`WAIT_MAX`], so what waits is bounded, too; an account is
//! held for no longer than [`HOLD_MAX`], those that wait already included, and its calls begin at its pace after it, not all at once;
//! so they do where this process stood still; what was refused as too much is sent at half the pace, and at the usual one again step
//! by step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Mode;
use super::retry::Limited;

/// Buckets at once.
const BUCKETS_MAX: usize = 10_000;
/// How long a call may wait for its turn.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// How long an account may be sent nothing because Stripe said so.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(60);

/// After so long without another refusal the pace is doubled again.
const RECOVERY: Duration = Duration::from_secs(10);
/// How often the pace is halved at most: a sixteenth.
const HALVINGS_MAX: u32 = 4;
/// Refusals within this time are one: their calls were sent at one pace.
const ONE_BURST: Duration = Duration::from_secs(1);

/// Calls that an account may be sent, by all processes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLimit {
    /// Calls a second in test mode.
    pub test_per_second: u32,
    /// Calls a second in live mode.
    pub live_per_second: u32,
    /// Calls a second to one endpoint in live mode; in test mode the limit of all is as low.
    pub endpoint_per_second: u32,
}

impl Default for BucketLimit {
    fn default() -> Self {
        // Below Stripe's 25, 100 and 25, since the owner's own programs call, too.
        Self { test_per_second: 20, live_per_second: 80, endpoint_per_second: 20 }
    }
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Whose {
    mode: Mode,
    account: Option<String>,
    /// One endpoint's alone.
    endpoint: Option<String>,
}

/// Where a call goes, as far as limits are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) mode: Mode,
    pub(super) account: Option<&'a str>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
}

impl Target<'_> {
    fn all(&self) -> Whose {
        let account = self.account.map(ToOwned::to_owned);
        Whose { mode: self.mode, account, endpoint: None }
    }

    /// The bucket of the endpoint, where it has one.
    fn one(&self) -> Option<Whose> {
        let endpoint = self.mode.is_live().then(|| endpoint_of(self.method, self.path))?;
        Some(Whose { endpoint: Some(endpoint), ..self.all() })
    }
}

/// Method and path with ids left out: words of Stripe's paths have neither digits nor capitals, and ids have.
fn endpoint_of(method: &str, path: &str) -> String {
    let is_id = |(at, part): (usize, &str)| {
        at > 1 && part.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    };
    let parts = path.split('/').enumerate();
    let parts = parts.map(|(at, part)| if is_id((at, part)) { "{id}" } else { part });
    format!("{method} {}", parts.collect::<Vec<_>>().join("/"))
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it is full again.
    full_at: Instant,
    /// What all turns were put off by since it was made.
    put_off: Duration,
    /// Until when it is sent nothing.
    held_until: Instant,
    /// How often its pace was halved, and when last.
    halvings: u32,
    halved_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        let put_off = Duration::ZERO;
        Self { full_at: now, put_off, held_until: now, halvings: 0, halved_at: now }
    }

    /// How often its pace is halved now.
    fn halvings(&self, now: Instant) -> u32 {
        let recovered =
            now.saturating_duration_since(self.halved_at).as_millis() / RECOVERY.as_millis();
        self.halvings.saturating_sub(u32::try_from(recovered).unwrap_or(u32::MAX))
    }

    fn is_as_new(&self, now: Instant) -> bool {
        self.full_at <= now && self.halvings(now) == 0
    }
}

/// When a call may be sent.
#[derive(Debug)]
struct Turn {
    whose: Whose,
    due: Instant,
    /// What turns had been put off by when it was given.
    put_off: Duration,
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Buckets {
    limit: BucketLimit,
    /// Processes that call with the same keys, this one included.
    sharers: AtomicU32,
    all: Mutex<HashMap<Whose, Bucket>>,
}

impl Buckets {
    pub(super) fn new(limit: BucketLimit) -> Self {
        Self { limit, sharers: AtomicU32::new(1), all: Mutex::default() }
    }

    /// So many processes share what accounts may be sent.
    pub(super) fn share_among(&self, processes: u32) {
        self.sharers.store(processes.max(1), Ordering::Relaxed);
    }

    /// Stripe refused a call because there were too many.
    pub(super) fn slow(&self, target: Target<'_>, limited: Limited, now: Instant) {
        let Some(whose) = meant(target, limited) else { return };
        let mut all = self.all.lock();
        // Whoever was answered has a bucket; where it was forgotten meanwhile there is nothing to slow down.
        let Some(bucket) = all.get_mut(&whose) else { return };
        let halvings = bucket.halvings(now);
        if bucket.halvings > 0 && now.saturating_duration_since(bucket.halved_at) < ONE_BURST {
            return;
        }
        bucket.halvings = (halvings + 1).min(HALVINGS_MAX);
        bucket.halved_at = now;
        let (_, depth) = self.pace(&whose, bucket.halvings);
        bucket.full_at = bucket.full_at.max(now + depth);
    }

    /// Sends the account, or its endpoint, nothing for so long: Stripe asked for it.
    pub(super) fn hold(&self, target: Target<'_>, limited: Limited, wait: Duration, now: Instant) {
        let Some(whose) = meant(target, limited) else { return };
        let mut all = self.all.lock();
        if let Some(bucket) = all.get_mut(&whose) {
            let (_, depth) = self.pace(&whose, bucket.halvings(now));
            let until = now + wait.min(HOLD_MAX);
            let longer = until.saturating_duration_since(bucket.held_until.max(now));
            bucket.held_until = bucket.held_until.max(until);
            bucket.put_off += longer;
            bucket.full_at = (bucket.full_at + longer).max(until + depth);
        }
    }

    /// Time between two calls, and how much of it may be spent at once.
    fn pace(&self, whose: &Whose, halvings: u32) -> (Duration, Duration) {
        let per_second = match (whose.mode, &whose.endpoint) {
            (_, Some(_)) => self.limit.endpoint_per_second,
            (Mode::Test, None) => self.limit.test_per_second,
            (Mode::Live, None) => self.limit.live_per_second,
        };
        let sharers = self.sharers.load(Ordering::Relaxed).max(1);
        let step = Duration::from_secs(1) * sharers / per_second.max(1) * 2_u32.pow(halvings);
        // A quarter of a second's calls may go at once.
        (step, Duration::from_millis(250).max(step))
    }

    /// Waits until a call may be sent; `None` where that would be later than [`WAIT_MAX`]. The endpoint's turn comes first, so that calls
    /// which wait for it take nothing of what other endpoints may be sent meanwhile.
    pub(super) async fn turn(&self, target: Target<'_>) -> Option<()> {
        let until = Instant::now() + WAIT_MAX;
        for whose in target.one().into_iter().chain([target.all()]) {
            let turn = self.take(whose, Instant::now(), until)?;
            loop {
                let now = Instant::now();
                let due = self.due(&turn, now);
                if due <= now {
                    break;
                }
                if due > until {
                    return None;
                }
                tokio::time::sleep_until(due).await;
            }
        }
        Some(())
    }

    /// Takes the next turn; `None` where none is left that is due by `until`.
    fn take(&self, whose: Whose, now: Instant, until: Instant) -> Option<Turn> {
        let mut all = self.all.lock();
        if all.len() >= BUCKETS_MAX && !all.contains_key(&whose) {
            all.retain(|_, bucket| !bucket.is_as_new(now));
            if all.len() >= BUCKETS_MAX {
                return None;
            }
        }
        let known = all.get(&whose).copied().unwrap_or_else(|| Bucket::new(now));
        let (step, depth) = self.pace(&whose, known.halvings(now));
        let next = known.full_at.max(now) + step;
        let due = now + next.duration_since(now).saturating_sub(depth);
        if due > until {
            return None;
        }
        all.insert(whose.clone(), Bucket { full_at: next, ..known });
        Some(Turn { whose, due, put_off: known.put_off })
    }

    /// When a turn is due by now. One that is taken late, since this process or its machine stood still, puts off all behind it, which
    /// would go at once otherwise.
    fn due(&self, turn: &Turn, now: Instant) -> Instant {
        let mut all = self.all.lock();
        // A bucket that was forgotten was full: nobody is behind.
        let Some(bucket) = all.get_mut(&turn.whose) else { return turn.due };
        let due = turn.due + bucket.put_off.saturating_sub(turn.put_off);
        let late = now.saturating_duration_since(due);
        let (step, _) = self.pace(&turn.whose, bucket.halvings(now));
        if late > step {
            bucket.put_off += late;
            bucket.full_at += late;
        }
        due
    }
}

/// The bucket that a refusal is about; `None` where it is about one object alone.
fn meant(target: Target<'_>, limited: Limited) -> Option<Whose> {
    match limited {
        Limited::Object => None,
        Limited::Endpoint => Some(target.one().unwrap_or_else(|| target.all())),
        Limited::Account => Some(target.all()),
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
