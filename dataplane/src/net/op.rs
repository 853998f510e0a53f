//! Operations as futures: receive, send, connect, accept, hang-up.
//!
//! In: a socket and the memory to work on. Out: the result, and the memory back. Always holds: dropping a future abandons
//! its operation without freeing memory under the kernel; no operation raises SIGPIPE.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::{opcode, types};

use super::buffers::{Group, RecvBuf};
use super::ring::Ring;
use super::slots::{Completion, OpKey, Resource, Tap};
use super::socket::{Receiving, Socket};
use super::wheel::Timer;

/// A kernel result: bytes or a descriptor where not negative, else the error number negated.
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn check_len(result: i32) -> io::Result<usize> {
    check(result).map(|len| usize::try_from(len).unwrap_or(0))
}

/// An operation in flight.
pub(super) struct Op {
    ring: Rc<Ring>,
    key: Option<OpKey>,
}

impl Op {
    pub(super) const fn new(ring: Rc<Ring>, key: OpKey) -> Self {
        Self { ring, key: Some(key) }
    }
}

impl Future for Op {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let key = self.key.expect("an operation is not polled after it is done");
        let completion = std::task::ready!(self.ring.poll(key, context));
        self.key = None;
        Poll::Ready(completion)
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.ring.abandon(key);
        }
    }
}

/// Several pieces of memory that one send takes in turn.
pub(super) struct Message {
    header: libc::msghdr,
    vectors: [libc::iovec; 2],
    head: Vec<u8>,
    body: Option<RecvBuf>,
}

impl Message {
    /// `head` from byte `from` on, then `body`.
    fn new(head: Vec<u8>, body: RecvBuf, from: usize) -> Box<Self> {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all-zero bytes are a valid, empty msghdr.
        let header = unsafe { std::mem::zeroed() };
        let mut message = Box::new(Self { header, vectors: [empty; 2], head, body: Some(body) });
        message.point(from);
        message
    }

    fn point(&mut self, from: usize) {
        let body = self.body.as_deref().unwrap_or_default();
        let head_rest = self.head.get(from..).unwrap_or_default();
        let body_rest = body.get(from.saturating_sub(self.head.len())..).unwrap_or_default();
        self.vectors = [head_rest, body_rest].map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
    }
}

impl Socket {
    /// Receives into a buffer of `group`. An empty buffer is the end of the stream. One operation goes on receiving from one
    /// call to the next, so that a connection in use costs no submission for each receive and an idle one is noticed when it
    /// ends; it is paused while received buffers are not taken.
    ///
    /// # Errors
    /// The connection's own.
    pub async fn recv(&self, group: Group) -> io::Result<RecvBuf> {
        let mut was_dry = false;
        loop {
            let Receiving { key, group: from, .. } = match self.receiving.get() {
                Some(receiving) => self.receive_into(receiving, group),
                None => self.start_receiving(group),
            };
            let next =
                std::future::poll_fn(|context| self.ring().poll_received(key, from, context));
            match next.await {
                Some(Ok(buffer)) => return Ok(buffer),
                // Paused by us; what came before was taken already.
                Some(Err(error)) if error.raw_os_error() == Some(libc::ECANCELED) => {}
                Some(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.stop_receiving();
                    // Once more only: others may take what there is, again and again.
                    if was_dry || !self.ring().grow(from) {
                        return self.recv_owned().await;
                    }
                    was_dry = true;
                }
                Some(Err(error)) => return Err(error),
                None => self.receiving.set(None),
            }
        }
    }

    /// Has a receive that picks from another group ended; what it has brought already is still taken first.
    fn receive_into(&self, receiving: Receiving, group: Group) -> Receiving {
        if receiving.group != group && !receiving.is_ending {
            self.ring().end(receiving.key);
            self.receiving.set(Some(Receiving { is_ending: true, ..receiving }));
        }
        receiving
    }

    fn start_receiving(&self, group: Group) -> Receiving {
        let entry = opcode::RecvMulti::new(types::Fd(self.fd()), group.id()).build();
        let key = self.ring().submit_many(Resource::Picked(group), entry);
        let receiving = Receiving { key, group, is_ending: false };
        self.receiving.set(Some(receiving));
        receiving
    }

    /// Has `tap` shown what is received, as soon as it is there, until [`Self::untap`]. Begins to receive, into small buffers,
    /// where nothing does.
    pub fn tap(&self, tap: Rc<dyn Tap>) {
        let receiving = self.receiving.get().unwrap_or_else(|| self.start_receiving(Group::Small));
        self.ring().set_tap(receiving.key, Some(tap));
    }

    /// Ends what [`Self::tap`] began.
    pub fn untap(&self) {
        if let Some(receiving) = self.receiving.get() {
            self.ring().set_tap(receiving.key, None);
        }
    }

    /// Begins to watch for bytes or an end without waiting for them.
    pub fn watch(&self, group: Group) {
        if self.receiving.get().is_none() {
            self.start_receiving(group);
        }
    }

    /// Whether nothing has come that was not taken: neither bytes nor an end. Only on a socket that receives or is watched. A
    /// receive that was paused in between goes on.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let Some(receiving) = self.receiving.get() else { return false };
        if self.ring().is_quiet(receiving.key) {
            return true;
        }
        if !self.ring().take_pause(receiving.key) {
            return false;
        }
        self.receiving.set(None);
        // Nobody has watched meanwhile.
        if self.is_readable() {
            return false;
        }
        self.start_receiving(receiving.group);
        true
    }

    /// Receives into memory of its own: the group has none left.
    async fn recv_owned(&self) -> io::Result<RecvBuf> {
        let fd = types::Fd(self.fd());
        let memory = RecvBuf::fallback_memory();
        let key = self.ring().submit(Resource::Bytes(memory), |resource| {
            let Resource::Bytes(memory) = resource else { unreachable!("as given") };
            let len = u32::try_from(memory.len()).unwrap_or(u32::MAX);
            opcode::Recv::new(fd, memory.as_mut_ptr(), len).build()
        });
        let done = Op::new(Rc::clone(self.ring()), key).await;
        let len = check_len(done.result)?;
        match done.resource {
            Resource::Bytes(memory) => Ok(RecvBuf::owned(memory, len)),
            _ => Err(io::Error::other("the ring lost a receive buffer")),
        }
    }

    /// Sends `bytes` from byte `from` on; gives back how many went, and the memory.
    pub async fn send(&self, bytes: Vec<u8>, from: usize) -> (io::Result<usize>, Vec<u8>) {
        let fd = types::Fd(self.fd());
        let key = self.ring().submit(Resource::Bytes(bytes), |resource| {
            let Resource::Bytes(bytes) = resource else { unreachable!("as given") };
            send_entry(fd, bytes.get(from..).unwrap_or_default())
        });
        let done = Op::new(Rc::clone(self.ring()), key).await;
        match done.resource {
            Resource::Bytes(bytes) => (check_len(done.result), bytes),
            _ => (Err(io::Error::other("the ring lost a send buffer")), Vec::new()),
        }
    }

    /// Sends a received buffer from byte `from` on; gives back how many bytes went, and the buffer.
    pub async fn send_received(
        &self,
        buffer: RecvBuf,
        from: usize,
    ) -> (io::Result<usize>, Option<RecvBuf>) {
        let fd = types::Fd(self.fd());
        let key = self.ring().submit(Resource::Received(buffer), |resource| {
            let Resource::Received(buffer) = resource else { unreachable!("as given") };
            send_entry(fd, buffer.get(from..).unwrap_or_default())
        });
        let done = Op::new(Rc::clone(self.ring()), key).await;
        match done.resource {
            Resource::Received(buffer) => (check_len(done.result), Some(buffer)),
            _ => (Err(io::Error::other("the ring lost a send buffer")), None),
        }
    }

    /// Sends `head` and `body` as one, from byte `from` of both on; gives back how many bytes went, and the memory.
    pub async fn send_both(
        &self,
        head: Vec<u8>,
        body: RecvBuf,
        from: usize,
    ) -> (io::Result<usize>, Vec<u8>, Option<RecvBuf>) {
        let fd = types::Fd(self.fd());
        let message = Message::new(head, body, from);
        let key = self.ring().submit(Resource::Message(message), |resource| {
            let Resource::Message(message) = resource else { unreachable!("as given") };
            opcode::SendMsg::new(fd, &raw const message.header)
                .flags(libc::MSG_NOSIGNAL as u32)
                .build()
        });
        let done = Op::new(Rc::clone(self.ring()), key).await;
        match done.resource {
            Resource::Message(message) => {
                let Message { head, body, .. } = *message;
                (check_len(done.result), head, body)
            }
            _ => (Err(io::Error::other("the ring lost a message")), Vec::new(), None),
        }
    }

    /// Connects this socket, made for the address's family, to `address`.
    ///
    /// # Errors
    /// The connection's own.
    pub async fn connect(&self, address: std::net::SocketAddr) -> io::Result<()> {
        let fd = types::Fd(self.fd());
        let address = Resource::Address(Box::new(socket2::SockAddr::from(address)));
        let key = self.ring().submit(address, |resource| {
            let Resource::Address(address) = resource else { unreachable!("as given") };
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        });
        check(Op::new(Rc::clone(self.ring()), key).await.result).map(|_| ())
    }
}

fn send_entry(fd: types::Fd, bytes: &[u8]) -> io_uring::squeue::Entry {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(fd, bytes.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build()
}

/// A future that ends at a timer's deadline if it has not ended before.
pub struct Timed<'timer, F> {
    future: F,
    timer: &'timer Timer,
}

impl Timer {
    /// Runs `future` until this timer fires; `None` when it fired first. The future is dropped with the answer.
    pub const fn race<F: Future + Unpin>(&self, future: F) -> Timed<'_, F> {
        Timed { future, timer: self }
    }
}

impl<F: Future + Unpin> Future for Timed<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if let Poll::Ready(output) = Pin::new(&mut self.future).poll(context) {
            return Poll::Ready(Some(output));
        }
        if self.timer.poll_fired(context.waker()) { Poll::Ready(None) } else { Poll::Pending }
    }
}
