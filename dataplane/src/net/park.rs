//! How a shard waits: one system call that submits, runs the kernel's deferred work and, when nothing is runnable, sleeps
//! until a completion or the next deadline.
//!
//! The executor's own reactor is never slept in: its rings would cost a second and third system call for each wait. Always
//! holds: a `Pass` never sleeps; a `Wait` ends at its time limit at the latest, however few completions come.

use std::io;
use std::time::Duration;

use io_uring::{IoUring, types};

/// What a turn asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Tasks are runnable: submit, collect what is there, come back.
    Pass,
    /// Nothing is runnable: sleep for a completion, at most so many nanoseconds (`None`: until one comes).
    Wait { at_most_ns: Option<u64> },
}

/// The longest sleep: a lost wake-up costs this much, not forever. A timer of the ring's own ends it.
pub(super) const LONGEST: Duration = Duration::from_millis(100);

/// Carries `turn` out on `uring`.
pub(super) fn turn(uring: &mut IoUring, turn: Turn) -> io::Result<()> {
    let outcome = match turn {
        Turn::Pass if has_nothing_to_do(uring) => return Ok(()),
        Turn::Pass => uring.submitter().submit(),
        Turn::Wait { at_most_ns: None } => uring.submitter().submit_and_wait(1),
        Turn::Wait { at_most_ns: Some(ns) } => {
            let timespec = types::Timespec::from(Duration::from_nanos(ns));
            let args = types::SubmitArgs::new().timespec(&timespec);
            uring.submitter().submit_with_args(1, &args)
        }
    };
    match outcome {
        Ok(_) => Ok(()),
        // ETIME: the deadline came first. EINTR: a signal. EBUSY, EAGAIN: completions must be reaped first, as the caller
        // does next.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Nothing is queued for the kernel, and it has nothing to run or to hand over but what is in the completion queue already.
fn has_nothing_to_do(uring: &mut IoUring) -> bool {
    let queue = uring.submission();
    queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
}
