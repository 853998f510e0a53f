//! Origins' names, resolved off-core and refreshed by their TTL.
//!
//! In: names from the policy or from a shard that meets one, DNS and the system's hosts file. Out: addresses, read by
//! shards without blocking; a call of each subscriber whenever some name's addresses changed.
//! Always holds: a shard never waits here; what was once resolved stays until a better answer comes; names, questions
//! under way and addresses of a name are bounded; no address outside the [`Reach`] is ever given.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

mod reach;
mod refresh;
mod system;

pub use reach::Reach;
pub use refresh::{Answer, Source};
pub use system::SystemSource;

/// Names known at once; beyond it a new one fails.
pub const NAMES_MAX: usize = 4096;
/// Addresses kept of one name.
pub const ADDRESSES_MAX: usize = 32;
/// Names that shards may have asked for and that were not looked at yet.
const REQUESTS_MAX: usize = 1024;

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Its addresses, at least one, IPv4 before IPv6 unless DNS says otherwise.
    Ready(Arc<[SocketAddr]>),
    /// It is being looked up; subscribers are called when that is done.
    Pending,
    /// It could not be looked up, and why. It is tried again meanwhile.
    Failed(Arc<str>),
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// What one name resolved to, by port.
#[derive(Clone, Debug, Default)]
struct Entry {
    ports: Vec<(u16, Resolution)>,
}

type Table = HashMap<Box<str>, Entry>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    name: Box<str>,
    port: u16,
}

struct Shared {
    table: ArcSwap<Table>,
    generation: AtomicU64,
    requests: mpsc::Sender<Wanted>,
    requests_overflowed: AtomicBool,
    policy_names: Mutex<Option<Vec<Wanted>>>,
    policy_changed: Notify,
    wakers: Mutex<Vec<Waker>>,
    /// For literals, which need no answer.
    reach: Reach,
}

impl Shared {
    fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        self.generation.fetch_add(1, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.wakers.lock().iter().for_each(|waker| waker());
    }
}

/// The thread that resolves; it ends when this is dropped.
pub struct Resolver {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Resolves as the system is configured to (`/etc/hosts`, `/etc/resolv.conf`).
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start() -> io::Result<Self> {
        Self::start_within(Reach::Anywhere)
    }

    /// The same, and gives only addresses within `reach`.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start_within(reach: Reach) -> io::Result<Self> {
        Self::with_source_within(SystemSource::default(), reach)
    }

    /// Resolves by `source`.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn with_source(source: impl Source) -> io::Result<Self> {
        Self::with_source_within(source, Reach::Anywhere)
    }

    fn with_source_within(source: impl Source, reach: Reach) -> io::Result<Self> {
        let source = reach::Within { source, reach };
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            generation: AtomicU64::new(0),
            requests,
            requests_overflowed: AtomicBool::new(false),
            policy_names: Mutex::default(),
            policy_changed: Notify::new(),
            wakers: Mutex::default(),
            reach,
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("payfence-resolver".to_owned()).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = refresh::run(source, shared, asked) => {}
                        // A dropped sender stops it as well as a sent word.
                        _ = stopped => {}
                    }
                });
            })?
        };
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// What shards ask.
    #[must_use]
    pub fn handle(&self) -> ResolverHandle {
        ResolverHandle { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Asks for addresses. Clones ask the same resolver.
#[derive(Clone)]
pub struct ResolverHandle {
    shared: Arc<Shared>,
}

impl ResolverHandle {
    /// What is known of `name` now; a name never asked for is looked up from now on. Address literals (IPv6 with or
    /// without brackets) are answered at once. Answers stay good until [`Self::generation`] changes.
    #[must_use]
    pub fn lookup(&self, name: &str, port: u16) -> Resolution {
        if let Some(address) = literal(name) {
            if !self.shared.reach.allows(address) {
                return Resolution::Failed(reach::refusal(address).into());
            }
            return Resolution::Ready(Arc::new([SocketAddr::new(address, port)]));
        }
        let table = self.shared.table.load();
        let known = table
            .get(name)
            .and_then(|entry| entry.ports.iter().find(|(of, _)| *of == port))
            .map(|(_, resolution)| resolution.clone());
        if let Some(known) = known {
            return known;
        }
        if table.len() >= NAMES_MAX && !table.contains_key(name) {
            return Resolution::Failed(
                format!("more than {NAMES_MAX} names of origins are in use").into(),
            );
        }
        if self.shared.requests.try_send(Wanted { name: name.into(), port }).is_err() {
            // Subscribers are called once there is room, and so ask again.
            self.shared.requests_overflowed.store(true, Ordering::Release);
        }
        Resolution::Pending
    }

    /// Grows whenever some answer changed. Read it before the lookup whose answer is to be kept.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Has `waker` called, on the resolver's thread, whenever some answer changed.
    pub fn subscribe(&self, waker: Box<dyn Fn() + Send + Sync>) {
        self.shared.wakers.lock().push(waker);
    }

    /// Says which names the policy now has, with their ports: they are looked up ahead of need, all others are
    /// forgotten. Called when a snapshot is swapped in; takes a lock, so not for shards.
    pub fn set_names(&self, names: impl IntoIterator<Item = (String, u16)>) {
        let wanted = names
            .into_iter()
            .filter(|(name, _)| literal(name).is_none())
            .map(|(name, port)| Wanted { name: name.into_boxed_str(), port })
            .collect();
        *self.shared.policy_names.lock() = Some(wanted);
        self.shared.policy_changed.notify_one();
    }
}

fn literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
