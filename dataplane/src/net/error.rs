//! Why a shard has no ring.
//!
//! In: the kernel's error. Out: one of few kinds, in words. Always holds: what the operator can do about it is said.

use std::io;

/// Why a ring could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel does not let this process use io_uring.
    #[error(
        "io_uring is refused ({0}): a container's seccomp profile or /proc/sys/kernel/io_uring_disabled forbids it; allow \
         io_uring_setup, io_uring_enter and io_uring_register, and see `payfence doctor`"
    )]
    Refused(io::Error),
    /// Memory or descriptors ran out, or the kernel is too old.
    #[error(
        "cannot set up io_uring ({0}): needs Linux 6.1 or later and free memlock; see `payfence doctor`"
    )]
    Setup(io::Error),
}

impl RingError {
    pub(super) fn new(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS | libc::EACCES) => Self::Refused(error),
            _ => Self::Setup(error),
        }
    }
}
