//! Waking a shard that sleeps: by another shard through the rings, by any other thread through an eventfd.
//!
//! In: a message put into the shard's inbox before. Out: its turn does not sleep. Always holds: a message put in before the
//! wake is seen by the turn after it (the sleeper says it sleeps, then looks once more; the sender puts in, then looks whether
//! it sleeps); a shard that runs costs its senders no system call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};

use io_uring::{opcode, types};

use super::op::{Op, check};
use super::ring::{Ring, WAKE};
use super::slots::Resource;

/// How one shard is woken.
pub struct Waker {
    eventfd: OwnedFd,
    ring_fd: AtomicI32,
    asleep: AtomicBool,
}

/// The wakers of all shards of a node, by shard number.
pub type WakerSet = Arc<[Waker]>;

impl Waker {
    /// A waker for a shard whose ring is not there yet.
    ///
    /// # Errors
    /// When no eventfd can be made.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0)?;
        Ok(Self { eventfd, ring_fd: AtomicI32::new(-1), asleep: AtomicBool::new(false) })
    }

    /// Ties the waker to its shard's ring.
    pub fn attach(&self, ring: &Ring) {
        self.ring_fd.store(ring.fd(), Ordering::Release);
    }

    /// For the shard, before it sleeps: says so, then asks `has_work` once more. Whether it may sleep.
    pub fn try_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.asleep.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// For the shard, after its turn.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// For a thread without a ring, after it has put its message in.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if !self.asleep.swap(false, Ordering::Relaxed) {
            return;
        }
        // A full counter means that the shard is being woken already.
        add(&self.eventfd, 1);
    }

    /// For another shard, after it has put its message in: goes out with that shard's next submission.
    pub fn wake_through(&self, ring: &Ring) {
        fence(Ordering::SeqCst);
        if !self.asleep.swap(false, Ordering::Relaxed) {
            return;
        }
        let target: RawFd = self.ring_fd.load(Ordering::Acquire);
        ring.submit_unattended(opcode::MsgRingData::new(types::Fd(target), 0, WAKE, None).build());
    }

    /// Runs on the shard for its lifetime: turns the eventfd's wakes into completions.
    ///
    /// # Errors
    /// When the eventfd cannot be read any more.
    pub async fn listen(&self, ring: &Rc<Ring>) -> io::Result<()> {
        let mut memory = vec![0u8; 8];
        loop {
            let fd = types::Fd(self.eventfd.as_raw_fd());
            let key = ring.submit(Resource::Bytes(memory), |resource| {
                let Resource::Bytes(memory) = resource else { unreachable!("as given") };
                opcode::Read::new(fd, memory.as_mut_ptr(), 8).build()
            });
            let done = Op::new(Rc::clone(ring), key).await;
            check(done.result)?;
            let Resource::Bytes(back) = done.resource else {
                return Err(io::Error::other("the ring lost the wake buffer"));
            };
            memory = back;
        }
    }
}

/// An eventfd at zero.
pub(super) fn eventfd(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is owned by nobody else.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | flags);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Adds to an eventfd; whether it took that.
pub(super) fn add(eventfd: &OwnedFd, count: u16) -> bool {
    let bytes = u64::from(count).to_ne_bytes();
    // SAFETY: eight bytes are read from a live array.
    unsafe { libc::write(eventfd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) > 0 }
}
