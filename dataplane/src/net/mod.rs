//! The socket ring: every socket operation of a shard goes through one `io-uring` ring of its own.
//!
//! In: operations queued by tasks. Out: completions that wake those tasks. This is the only place that names `io-uring` or
//! holds `unsafe`, that of memory shared with other processes included. Always holds: memory handed to the kernel belongs to
//! the ring until the completion arrives, even when the future that asked for it is gone; idle connections hold no buffer; one
//! system call a turn.
#![allow(unsafe_code)]

mod buffers;
mod error;
mod op;
mod park;
mod ring;
mod shared_memory;
mod slots;
mod socket;
mod wake;
mod wheel;

pub use buffers::{Group, RecvBuf};
pub use error::RingError;
pub use op::Timed;
pub use ring::{Ring, RingConfig};
pub use shared_memory::SharedMemory;
pub use slots::Tap;
pub use socket::{
    Listener, Outbox, Socket, bind_listener, local_address, probe_address, raise_descriptor_limit,
};
pub use wake::{Waker as ShardWaker, WakerSet};
pub use wheel::Timer;
