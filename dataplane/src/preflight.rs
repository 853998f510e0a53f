//! What the machine must allow before a node can run.
//!
//! In: the kernel's release, its answer to io_uring, the process's limits. Out: what is missing, as one sentence with
//! the remedy; the same text at start and in `payfence doctor`.
//! Always holds: nothing here changes the machine, except that the soft limit of open files is raised to the hard one.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::Clock;
use crate::net::{Ring, RingConfig, RingError};

/// The oldest kernel whose io_uring has what the shards use (`IORING_SETUP_DEFER_TASKRUN`).
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// Locked memory one executor asks for, in bytes; below it an executor refuses to start.
pub const MEMLOCK_PER_SHARD_BYTES: u64 = 512 * 1024;
/// Fewer open files than this are not worth a gateway: each request under way takes two.
pub const OPEN_FILES_MIN: u64 = 1024;
/// With fewer the gateway runs, but meets the limit before its own bounds.
pub const OPEN_FILES_WISE: u64 = 65_536;

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// What was found, and what is needed.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// The release of the running kernel, such as `6.1.0-18-amd64`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a kernel of this release will do.
///
/// # Errors
/// When it is too old, or its number cannot be read.
pub fn check_kernel(release: &str) -> Result<(), Problem> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Err(Problem {
            what: format!("cannot read the kernel's release `{release}`"),
            remedy: "run on Linux 6.1 or newer".to_owned(),
        });
    };
    if (major, minor) >= KERNEL_MIN {
        return Ok(());
    }
    Err(Problem {
        what: format!("the kernel is {release}, older than 6.1"),
        remedy: "boot Linux 6.1 or newer (Debian 12 has it)".to_owned(),
    })
}

/// Whether the kernel lets this process use io_uring, found by doing so.
///
/// # Errors
/// When it does not.
pub fn check_io_uring(clock: Clock) -> Result<(), Problem> {
    let config = RingConfig { entries: 8, small: (1, 4096), large: (1, 4096), clock };
    match Ring::new(&config) {
        Ok(_) => Ok(()),
        Err(RingError::Refused(error)) => Err(Problem {
            what: format!("io_uring is refused ({error})"),
            remedy: "in a container allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp \
                     profile (Docker: --security-opt seccomp=unconfined or a profile of your own); elsewhere \
                     set sysctl kernel.io_uring_disabled=0"
                .to_owned(),
        }),
        Err(error @ RingError::Setup(_)) => Err(Problem {
            what: error.to_string(),
            remedy: "raise the limit of locked memory (LimitMEMLOCK=infinity, --ulimit memlock=-1)".to_owned(),
        }),
    }
}

/// The limit of locked memory in bytes; none when there is no limit.
#[must_use]
pub fn memlock_bytes() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Whether `limit_bytes` of locked memory suffice for `shards` shards.
///
/// # Errors
/// When they do not.
pub fn check_memlock(limit_bytes: Option<u64>, shards: usize) -> Result<(), Problem> {
    let needed = MEMLOCK_PER_SHARD_BYTES.saturating_mul(shards as u64);
    match limit_bytes {
        Some(limit) if limit < needed => Err(Problem {
            what: format!(
                "the limit of locked memory is {} KiB; {} KiB are wanted (for shards: {shards})",
                limit / 1024,
                needed / 1024
            ),
            remedy: "raise it: `ulimit -l unlimited`, LimitMEMLOCK=infinity in a systemd unit, \
                     --ulimit memlock=-1 for a container; or ask for fewer shards with --shards"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Raises the soft limit of open files to the hard one and returns what holds then; none when there is no limit.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // The hard limit is always allowed; where it is not after all, the soft one stays and is what is returned.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current
}

/// Whether this many open files will do.
///
/// # Errors
/// When there are fewer than `wanted`.
pub fn check_open_files(limit: Option<u64>, wanted: u64) -> Result<(), Problem> {
    match limit {
        Some(limit) if limit < wanted => Err(Problem {
            what: format!("the limit of open files is {limit}; {wanted} are wanted"),
            remedy: "raise it: `ulimit -Hn`, LimitNOFILE=1048576 in a systemd unit, --ulimit nofile=1048576 for a \
                     container"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Everything without which a node cannot run. Raises the limit of open files on the way.
///
/// # Errors
/// The first thing that is missing.
pub fn check(clock: Clock) -> Result<(), Problem> {
    check_kernel(&kernel_release())?;
    // One executor's worth: memory beyond it is accounted otherwise by kernels this new, and is no reason to refuse.
    check_memlock(memlock_bytes(), 1)?;
    check_io_uring(clock)?;
    check_open_files(raise_open_files(), OPEN_FILES_MIN)
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
