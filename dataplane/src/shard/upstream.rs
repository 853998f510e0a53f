//! Connections to origins: one pool per shard and origin, last in first out.
//!
//! In: an origin's host and port. Out: a connection, new or used before. Always holds: any byte or close on an idle connection
//! retires it; idle connections are bounded in number and age; names are resolved off-core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use policy::model::Scheme;
use policy::snapshot::{OriginView, SiteView};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::metrics::ShardMetrics;
use crate::net::{Group, RecvBuf, Ring, Socket, Timer};
use crate::offcore::resolver::Resolution;
use crate::stream::{HandshakeError, Stream, TlsStream};
use crate::tls::Cause;

use super::Shard;

/// Idle connections kept per origin and shard.
const IDLE_MAX: usize = 256;
/// How long a connection may be idle, in nanoseconds.
const IDLE_NS_MAX: u64 = 60_000_000_000;

/// Why an origin could not be reached. The text is for logs, never for clients.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error("cannot resolve `{0}`: {1}")]
    Resolve(Box<str>, Box<str>),
    /// No address took the connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// It is an https origin, and how to speak with it is not known.
    #[error("no TLS configuration for `{0}`: nothing was sent")]
    Unprepared(Box<str>),
    /// Too many handshakes are under way.
    #[error("too many TLS handshakes are under way to begin one with `{0}`")]
    Busy(Box<str>),
    /// There is no TLS session with it: its certificate is not to be trusted, or the two cannot agree.
    #[error("no TLS session with `{0}`: {1}")]
    Tls(Box<str>, HandshakeError),
    /// Neither happened in time.
    #[error("`{0}` took longer than {1} ms to connect")]
    Timeout(Box<str>, u32),
}

impl ConnectError {
    /// Why there is no TLS session, where that is it.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Tls(_, error) => Some(error.cause()),
            _ => None,
        }
    }

    fn report(&self, shard: &Shard, site: SiteView<'_>) {
        match self {
            // Certificates that are no good come with every request: the log has them now and then.
            Self::Tls(_, HandshakeError::Tls(..)) => {
                let cause = self.cause().unwrap_or(Cause::Internal);
                shard.state.tls().origin_failed(site.slug(), cause, self, shard.now());
            }
            _ => tracing::warn!(site = site.slug(), error = %self, "the origin cannot be reached"),
        }
    }
}

/// A connection to an origin.
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    /// Whether it has served a request before.
    pub reused: bool,
    /// What was received and not taken yet.
    pub input: Option<RecvBuf>,
    idle_since_ns: u64,
    _open: Open,
}

/// Counts an open connection until it is dropped.
struct Open(Arc<ShardMetrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.upstream_connections.dec();
    }
}

/// How sessions with an https origin are made.
#[derive(Clone, Debug)]
pub struct OriginSession {
    /// Whom to trust, what to show. Equal settings share one, and with it the sessions that can be resumed.
    pub config: Arc<ClientConfig>,
    /// Whose certificate is asked for.
    pub name: ServerName<'static>,
}

/// Everything that makes one connection different from another.
type PoolKey = (Box<str>, u16, bool, Option<(usize, ServerName<'static>)>);

/// The connections of one shard to one origin.
pub struct Pool {
    host: Box<str>,
    port: u16,
    is_https: bool,
    session: Option<OriginSession>,
    idle: RefCell<Vec<Upstream>>,
    /// Which of several addresses the next connection tries first.
    turn: Cell<usize>,
}

/// The pools of one shard.
pub struct Pools {
    by_origin: HashMap<PoolKey, Weak<Pool>>,
}

impl Pools {
    pub(super) fn new() -> Self {
        Self { by_origin: HashMap::new() }
    }

    /// The pool of `origin`, which lives as long as some policy view holds it.
    pub(super) fn of(
        &mut self,
        origin: OriginView<'_>,
        session: Option<OriginSession>,
    ) -> Rc<Pool> {
        let is_https = origin.scheme() == Scheme::Https;
        // A live pool holds its configuration, so that its address stands for it.
        let by = session.as_ref().map(|by| (Arc::as_ptr(&by.config).addr(), by.name.clone()));
        let key = (Box::from(origin.host()), origin.port(), is_https, by);
        if let Some(pool) = self.by_origin.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        self.by_origin.retain(|_, pool| pool.strong_count() > 0);
        let pool = Rc::new(Pool {
            host: key.0.clone(),
            port: key.1,
            is_https,
            session,
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
                upstream.stream.is_quiet()
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
    /// Whether its connections are over TLS, or would be if it were known how.
    pub(super) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// An idle connection that is still well.
    pub(super) fn take(&self) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(upstream) = idle.pop() {
            if upstream.stream.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Takes a connection back whose last answer was read to its end.
    pub(super) fn put_back(&self, mut upstream: Upstream, now_ns: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX && upstream.input.is_none() && upstream.stream.is_quiet() {
            upstream.reused = true;
            upstream.idle_since_ns = now_ns;
            idle.push(upstream);
        }
    }

    /// Opens a connection, trying the origin's addresses in turn, within the site's time for it altogether. What goes wrong is
    /// reported and counted.
    pub(super) async fn connect(
        &self,
        shard: &Shard,
        timer: &Timer,
        site: SiteView<'_>,
    ) -> Result<Upstream, ConnectError> {
        let connected = self.connect_to_any(shard, timer, site).await;
        if let Err(error) = &connected {
            shard.metrics.upstream_failed.inc();
            error.report(shard, site);
        }
        connected
    }

    async fn connect_to_any(
        &self,
        shard: &Shard,
        timer: &Timer,
        site: SiteView<'_>,
    ) -> Result<Upstream, ConnectError> {
        if self.is_https && self.session.is_none() {
            // Never in the clear what was meant to be encrypted.
            return Err(ConnectError::Unprepared(self.host.clone()));
        }
        let timeout_ms = site.connect_timeout_ms();
        let deadline_ns = shard.ring.now_ns() + u64::from(timeout_ms) * 1_000_000;
        let addresses = self.resolve(shard, timer, deadline_ns, timeout_ms).await?;
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let mut failure = ConnectError::Resolve(self.host.clone(), "it has no address".into());
        for step in 0..addresses.len() {
            if step > 0 {
                // There is another address to try: this error is nobody's answer.
                failure.report(shard, site);
            }
            let address = addresses[first.wrapping_add(step) % addresses.len()];
            // Each address has an equal part of what time is left: a dead one must not hide those behind it.
            let now_ns = shard.ring.now_ns();
            let left = (addresses.len() - step) as u64;
            timer.set(now_ns + deadline_ns.saturating_sub(now_ns) / left);
            let is_secured = Cell::new(true);
            let connecting = Box::pin(self.connect_to(shard, address, &is_secured));
            failure = match timer.race(connecting).await {
                Some(Ok(upstream)) => return Ok(upstream),
                // No other address would help.
                Some(Err(error @ ConnectError::Busy(_))) => return Err(error),
                Some(Err(error)) => error,
                None => {
                    if !is_secured.get() {
                        shard.metrics.origin_handshakes.failed(None, Cause::Timeout);
                    }
                    ConnectError::Timeout(self.host.clone(), timeout_ms)
                }
            };
        }
        Err(failure)
    }

    /// Opens a connection to `address`. `is_secured` is false while its TLS handshake is under way.
    async fn connect_to(
        &self,
        shard: &Shard,
        address: SocketAddr,
        is_secured: &Cell<bool>,
    ) -> Result<Upstream, ConnectError> {
        let metrics = &shard.metrics;
        let socket = open(&shard.ring, address)
            .await
            .map_err(|error| ConnectError::Connect(address, error))?;
        metrics.upstream_opened.inc();
        metrics.upstream_connections.inc();
        let open = Open(Arc::clone(metrics));
        let stream = match &self.session {
            None => Stream::Plain(socket),
            Some(by) => {
                is_secured.set(false);
                let secured = secure(shard, socket, by).await;
                is_secured.set(true);
                secured?
            }
        };
        stream.watch(Group::Large);
        Ok(Upstream { stream, reused: false, input: None, idle_since_ns: 0, _open: open })
    }

    async fn resolve(
        &self,
        shard: &Shard,
        timer: &Timer,
        deadline_ns: u64,
        timeout_ms: u32,
    ) -> Result<Arc<[SocketAddr]>, ConnectError> {
        loop {
            match shard.resolver.lookup(&self.host, self.port) {
                Resolution::Ready(addresses) => return Ok(addresses),
                Resolution::Failed(why) => {
                    return Err(ConnectError::Resolve(self.host.clone(), (&*why).into()));
                }
                Resolution::Pending if shard.ring.now_ns() >= deadline_ns => {
                    return Err(ConnectError::Timeout(self.host.clone(), timeout_ms));
                }
                Resolution::Pending => shard.names.change(timer, deadline_ns).await,
            }
        }
    }
}

async fn open(ring: &Rc<Ring>, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::for_address(&address, Rc::clone(ring))?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Does the handshake with an origin.
async fn secure(shard: &Shard, socket: Socket, by: &OriginSession) -> Result<Stream, ConnectError> {
    let name = || by.name.to_str().into();
    let counts = &shard.metrics.origin_handshakes;
    let Some(_under_way) = shard.handshakes.begin() else {
        counts.failed(None, Cause::Busy);
        return Err(ConnectError::Busy(name()));
    };
    let turn = async || shard.handshakes.turn().await;
    match TlsStream::connect(socket, Arc::clone(&by.config), by.name.clone(), turn).await {
        // What comes before anything was asked is no answer.
        Ok(hello) if hello.first.is_some() => {
            counts.failed(hello.stream.version(), Cause::Malformed);
            let error = rustls::Error::General("data came before the request".to_owned());
            Err(ConnectError::Tls(name(), HandshakeError::Tls(error, hello.stream.version())))
        }
        Ok(hello) => {
            let (version, is_resumed) = (hello.stream.version(), hello.stream.is_resumed());
            counts.done(version, is_resumed);
            Ok(Stream::Tls(Box::new(hello.stream)))
        }
        Err(error) => {
            counts.failed(error.version(), error.cause());
            Err(ConnectError::Tls(name(), error))
        }
    }
}
