//! Sockets of a shard: listeners, accepted connections, connections to origins.
//!
//! In: addresses. Out: sockets whose operations run on the shard's ring. Always holds: a descriptor is closed through the
//! ring, after every operation queued on it before, so that no queued operation ever meets a descriptor used anew.

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Poll;

use io_uring::{opcode, types};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::buffers::Group;
use super::ring::Ring;
use super::ring::messages::Outcome;
use super::slots::{OpKey, Resource};

/// Connections that may wait in the kernel for their accept.
const BACKLOG: i32 = 4096;

/// A stream socket of this shard.
pub struct Socket {
    fd: RawFd,
    ring: Rc<Ring>,
    /// The receive that goes on.
    pub(super) receiving: Cell<Option<Receiving>>,
    /// Made when it is first asked for.
    outbox: OnceCell<Rc<Outbox>>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Socket({})", self.fd)
    }
}

/// A receive that goes on, and the group it picks from.
#[derive(Clone, Copy)]
pub(super) struct Receiving {
    pub(super) key: OpKey,
    pub(super) group: Group,
    /// Whether it was told to end, so that another group can be picked from.
    pub(super) is_ending: bool,
}

impl Socket {
    /// Takes over a connected descriptor that has no operation in flight.
    #[must_use]
    pub fn adopt(fd: OwnedFd, ring: Rc<Ring>) -> Self {
        let (receiving, outbox) = (Cell::new(None), OnceCell::new());
        Self { fd: fd.into_raw_fd(), ring, receiving, outbox }
    }

    /// A new socket for connections to `address`.
    ///
    /// # Errors
    /// When descriptors ran out.
    pub fn for_address(address: &SocketAddr, ring: Rc<Ring>) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(*address),
            socket2::Type::STREAM.cloexec(),
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self::adopt(socket.into(), ring))
    }

    pub(super) const fn fd(&self) -> RawFd {
        self.fd
    }

    /// The ring that this socket's operations run on.
    #[must_use]
    pub const fn ring(&self) -> &Rc<Ring> {
        &self.ring
    }

    fn with<T>(&self, act: impl FnOnce(socket2::SockRef<'_>) -> T) -> T {
        // SAFETY: the descriptor is open as long as `self` is, which the call outlasts.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        act(socket2::SockRef::from(&fd))
    }

    /// The peer's address; `None` when it has gone already.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.with(|socket| socket.peer_addr()).ok().and_then(|address| address.as_socket())
    }

    /// Whether the peer has gone away altogether, as its reset shows; one that has only ended its sending has not.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.poll_now(0) & (libc::POLLERR | libc::POLLHUP) != 0
    }

    /// Whether bytes or an end have come that no receive has taken.
    pub(super) fn is_readable(&self) -> bool {
        self.poll_now(libc::POLLIN) != 0
    }

    fn poll_now(&self, events: libc::c_short) -> libc::c_short {
        let mut entry = libc::pollfd { fd: self.fd, events, revents: 0 };
        // SAFETY: one live entry, and no waiting.
        let ready = unsafe { libc::poll(&mut entry, 1, 0) };
        if ready > 0 { entry.revents } else { 0 }
    }

    /// By what messages are queued on this socket. What is sent in another way must wait until it [is idle](Outbox::is_idle).
    #[must_use]
    pub fn outbox(&self) -> &Rc<Outbox> {
        self.outbox.get_or_init(|| {
            let ring = Rc::clone(&self.ring);
            Rc::new(Outbox { fd: self.fd, ring, last: Cell::new(None), outcome: Rc::default() })
        })
    }

    /// The message that was queued to be kept, once it is no longer on its way.
    #[must_use]
    pub fn take_memory(&self) -> Option<Vec<u8>> {
        self.outbox.get().and_then(|outbox| outbox.outcome.memory.borrow_mut().take())
    }

    /// Whether nothing that was queued is on its way or broke off.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.outbox.get().is_none_or(|outbox| outbox.is_idle() && !outbox.is_broken())
    }

    /// Gives the descriptor up to another shard. Only before the first operation.
    #[must_use]
    pub fn release(self) -> OwnedFd {
        let is_unused = self.receiving.get().is_none() && self.outbox.get().is_none();
        debug_assert!(is_unused, "an operation would be left behind");
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the descriptor has one owner; its reference to the ring is dropped here, once.
        unsafe {
            drop(std::ptr::read(&this.ring));
            OwnedFd::from_raw_fd(this.fd)
        }
    }

    pub(super) fn stop_receiving(&self) {
        if let Some(receiving) = self.receiving.take() {
            self.ring.abandon(receiving.key);
        }
    }

    /// Says that nothing more will be sent.
    pub fn shutdown_write(&self) {
        // A peer that is gone already is no news here: the next receive says so.
        let _ = self.with(|socket| socket.shutdown(std::net::Shutdown::Write));
    }

    /// Sets whether closing the socket resets the connection, whoever closes it: a broken transfer must be seen as one.
    pub fn reset_on_close(&self, resets: bool) {
        let linger = resets.then_some(std::time::Duration::ZERO);
        let _ = self.with(|socket| socket.set_linger(linger));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.stop_receiving();
        if let Some(outbox) = self.outbox.get() {
            outbox.abandon();
        }
        self.ring.submit_unattended(opcode::Close::new(types::Fd(self.fd)).build());
    }
}

/// What is queued to be sent on a socket: it goes with everything else of a turn in one system call, or at once where a turn has
/// little. Of no use once the socket
/// is gone.
pub struct Outbox {
    fd: RawFd,
    ring: Rc<Ring>,
    /// The last message that was queued.
    last: Cell<Option<OpKey>>,
    /// What became of it.
    outcome: Rc<Outcome>,
}

impl Outbox {
    /// Queues `bytes`. Only where [`Self::is_idle`]: two messages at once may change places.
    pub fn queue(&self, bytes: Vec<u8>) {
        debug_assert!(self.is_idle(), "two messages at once may change places");
        self.outcome.is_under_way.set(true);
        // An error shows again when the rest is sent.
        let gone = if self.ring.sends_at_once() { send_now(self.fd, &bytes) } else { Ok(0) };
        let message = (self.fd, bytes, gone.unwrap_or(0));
        self.last.set(self.ring.queue_message(message, Rc::clone(&self.outcome)));
    }

    /// Like [`Self::queue`], and keeps the memory for [`Socket::take_memory`].
    pub fn queue_and_keep(&self, bytes: Vec<u8>) {
        self.outcome.keeps_memory.set(true);
        self.queue(bytes);
    }

    /// Whether nothing that was queued is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.outcome.is_under_way.get()
    }

    /// Whether something that was queued did not go whole: the connection is of no use any more.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.outcome.is_broken.get()
    }

    /// Waits until what was queued has gone; whether all of it has.
    pub async fn gone(&self) -> bool {
        std::future::poll_fn(|context| {
            if self.is_idle() {
                return Poll::Ready(!self.is_broken());
            }
            self.outcome.waker.replace(Some(context.waker().clone()));
            // The end of what is taken whole ends no wait.
            self.ring.note_runnable();
            Poll::Pending
        })
        .await
    }

    fn abandon(&self) {
        if let Some(key) = self.last.take()
            && !self.is_idle()
        {
            self.ring.abandon(key);
        }
    }
}

impl Socket {
    /// Sends what the socket takes at once; how many bytes, 0 where it takes none now. Small messages nearly always go whole,
    /// and this way cost no completion, no wake and no second turn.
    ///
    /// # Errors
    /// The connection's own.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        send_now(self.fd, bytes)
    }
}

fn send_now(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the descriptor is open: sockets close it when they are dropped, and an outbox is used by its connection's task and
    // taps only, which end before that.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // The system call itself: libc's `send` makes a point of it where the thread may be cancelled, both ways.
    match send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => Ok(sent?),
    }
}

/// Binds a listener that shares `address` with the other shards' (SO_REUSEPORT), so that the kernel spreads connections.
///
/// # Errors
/// When the address is taken or not ours.
pub fn bind_listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM.cloexec(),
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Finds out whether somebody else listens on `address`, whom sharing the port would not notice.
///
/// # Errors
/// When the address is taken or not ours.
pub fn probe_address(address: SocketAddr) -> io::Result<()> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// The address that a listener is bound to.
///
/// # Errors
/// When the descriptor is no socket of an Internet family.
pub fn local_address(listener: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    socket2::SockRef::from(&listener)
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the listener has no Internet address"))
}

/// Raises this process's limit of open files to what the system lets it; the limit then.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls work on a live rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// A listener of this shard: one operation accepts until it is stopped.
pub struct Listener {
    socket: Socket,
    accept: Option<OpKey>,
}

impl Listener {
    /// Begins to accept on `fd`, made by [`bind_listener`].
    #[must_use]
    pub fn new(fd: OwnedFd, ring: Rc<Ring>) -> Self {
        let mut this = Self { socket: Socket::adopt(fd, ring), accept: None };
        this.start();
        this
    }

    fn start(&mut self) {
        let entry =
            opcode::AcceptMulti::new(types::Fd(self.socket.fd)).flags(libc::SOCK_CLOEXEC).build();
        self.accept = Some(self.socket.ring.submit_many(Resource::Accepted, entry));
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of accept(2); descriptors may have run out. The listener goes on: call again, after a pause.
    pub async fn accept(&mut self) -> io::Result<OwnedFd> {
        loop {
            let Some(key) = self.accept else {
                self.start();
                continue;
            };
            let ring = Rc::clone(&self.socket.ring);
            match std::future::poll_fn(|context| ring.poll_accepted(key, context)).await {
                Some(accepted) => return accepted,
                None => self.accept = None,
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(key) = self.accept {
            self.socket.ring.abandon(key);
        }
    }
}
