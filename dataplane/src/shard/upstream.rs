//! Connections to origins: one pool per shard and origin, last in first out.
//!
//! In: an origin's host and port. Out: a connection, new or used before. Always holds: any byte or close on an idle connection
//! retires it; idle connections are bounded in number and age; names are resolved off-core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};

use policy::model::Scheme;
use policy::snapshot::OriginView;

use crate::metrics::ShardMetrics;
use crate::net::{Group, RecvBuf, Ring, Socket, Timer};
use crate::offcore::resolver::{Resolution, ResolverHandle};

/// Idle connections kept per origin and shard.
const IDLE_MAX: usize = 256;
/// How long a connection may be idle, in nanoseconds.
const IDLE_NS_MAX: u64 = 60_000_000_000;
/// How often an answer of the resolver is looked for while it is pending, in nanoseconds.
const RESOLVE_POLL_NS: u64 = 10_000_000;

/// Why an origin could not be reached. The text is for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error("cannot resolve `{0}`: {1}")]
    Resolve(Box<str>, Box<str>),
    /// No address took the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// It is an https origin.
    #[error("https origins are not served by this version: nothing was sent")]
    Https,
    /// Neither happened in time.
    #[error("`{0}` took longer than {1} ms to connect")]
    Timeout(Box<str>, u32),
}

/// A connection to an origin.
pub struct Upstream {
    /// The connection.
    pub socket: Socket,
    /// Whether it has served a request before.
    pub reused: bool,
    /// What was received and not taken yet.
    pub input: Option<RecvBuf>,
    idle_since_ns: u64,
    _open: Open,
}

/// Counts an open connection until it is dropped.
struct Open(std::sync::Arc<ShardMetrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.upstream_connections.dec();
    }
}

/// The connections of one shard to one origin.
pub struct Pool {
    host: Box<str>,
    port: u16,
    is_https: bool,
    idle: RefCell<Vec<Upstream>>,
    /// Which of several addresses the next connection tries first.
    turn: Cell<usize>,
}

/// The pools of one shard.
pub struct Pools {
    by_origin: HashMap<(Box<str>, u16, bool), Weak<Pool>>,
}

impl Pools {
    pub(super) fn new() -> Self {
        Self { by_origin: HashMap::new() }
    }

    /// The pool of `origin`, which lives as long as some policy view holds it.
    pub(super) fn of(&mut self, origin: OriginView<'_>) -> Rc<Pool> {
        let is_https = origin.scheme() == Scheme::Https;
        let key = (Box::from(origin.host()), origin.port(), is_https);
        if let Some(pool) = self.by_origin.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        self.by_origin.retain(|_, pool| pool.strong_count() > 0);
        let pool = Rc::new(Pool {
            host: key.0.clone(),
            port: key.1,
            is_https,
            idle: RefCell::new(Vec::new()),
            turn: Cell::new(0),
        });
        self.by_origin.insert(key, Rc::downgrade(&pool));
        pool
    }

    /// Closes what has been idle for too long or was closed by its origin.
    pub(super) fn sweep(&mut self, now_ns: u64) {
        for pool in self.by_origin.values().filter_map(Weak::upgrade) {
            pool.idle.borrow_mut().retain(|upstream| {
                upstream.socket.is_quiet()
                    && now_ns.saturating_sub(upstream.idle_since_ns) < IDLE_NS_MAX
            });
        }
    }

    /// Closes everything that is idle.
    pub(super) fn clear(&mut self) {
        for pool in self.by_origin.values().filter_map(Weak::upgrade) {
            pool.idle.borrow_mut().clear();
        }
    }
}

impl Pool {
    /// An idle connection that is still well.
    pub(super) fn take(&self) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(upstream) = idle.pop() {
            if upstream.socket.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Takes a connection back whose last answer was read to its end.
    pub(super) fn put_back(&self, mut upstream: Upstream, now_ns: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX && upstream.input.is_none() && upstream.socket.is_quiet() {
            upstream.reused = true;
            upstream.idle_since_ns = now_ns;
            idle.push(upstream);
        }
    }

    /// Opens a connection, trying the origin's addresses in turn, within `timeout_ms` altogether.
    pub(super) async fn connect(
        &self,
        ring: &Rc<Ring>,
        timer: &Timer,
        resolver: &ResolverHandle,
        metrics: &std::sync::Arc<ShardMetrics>,
        timeout_ms: u32,
    ) -> Result<Upstream, ConnectError> {
        if self.is_https {
            // Never in the clear what was meant to be encrypted.
            return Err(ConnectError::Https);
        }
        let deadline_ns = ring.now_ns() + u64::from(timeout_ms) * 1_000_000;
        let addresses = self.resolve(ring, timer, resolver, deadline_ns, timeout_ms).await?;
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let mut failure = None;
        for step in 0..addresses.len() {
            let address = addresses[first.wrapping_add(step) % addresses.len()];
            // Each address has an equal part of what time is left: a dead one must not hide those behind it.
            let now_ns = ring.now_ns();
            let left = (addresses.len() - step) as u64;
            timer.set(now_ns + deadline_ns.saturating_sub(now_ns) / left);
            match timer.race(pin!(open(ring, address))).await {
                Some(Ok(socket)) => {
                    metrics.upstream_opened.inc();
                    metrics.upstream_connections.inc();
                    socket.watch(Group::Large);
                    return Ok(Upstream {
                        socket,
                        reused: false,
                        input: None,
                        idle_since_ns: 0,
                        _open: Open(std::sync::Arc::clone(metrics)),
                    });
                }
                Some(Err(error)) => failure = Some(ConnectError::Connect(address, error)),
                None => failure = Some(ConnectError::Timeout(self.host.clone(), timeout_ms)),
            }
        }
        metrics.upstream_failed.inc();
        Err(failure.unwrap_or_else(|| {
            ConnectError::Resolve(self.host.clone(), "it has no address".into())
        }))
    }

    async fn resolve(
        &self,
        ring: &Rc<Ring>,
        timer: &Timer,
        resolver: &ResolverHandle,
        deadline_ns: u64,
        timeout_ms: u32,
    ) -> Result<std::sync::Arc<[SocketAddr]>, ConnectError> {
        loop {
            match resolver.lookup(&self.host, self.port) {
                Resolution::Ready(addresses) => return Ok(addresses),
                Resolution::Failed(why) => {
                    return Err(ConnectError::Resolve(self.host.clone(), (&*why).into()));
                }
                Resolution::Pending if ring.now_ns() >= deadline_ns => {
                    return Err(ConnectError::Timeout(self.host.clone(), timeout_ms));
                }
                Resolution::Pending => {
                    timer.set(ring.now_ns() + RESOLVE_POLL_NS);
                    timer.wait().await;
                }
            }
        }
    }
}

async fn open(ring: &Rc<Ring>, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::for_address(&address, Rc::clone(ring))?;
    socket.connect(address).await?;
    Ok(socket)
}
