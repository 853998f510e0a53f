//! How a shard waits: one system call that submits, runs the kernel's deferred work and, when nothing is runnable, sleeps
//! until a completion or the next deadline.
//!
//! The executor's own reactor is never slept in: its rings would cost a second and third system call for each wait. Always
//! holds: a `Pass` never sleeps; a `Wait` ends at its time limit at the latest, however few completions come.

use std::io;

use io_uring::{IoUring, types};

/// What a turn asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Tasks are runnable: submit, collect what is there, come back.
    Pass,
    /// Nothing is runnable: sleep for a completion, at most so many nanoseconds (`None`: no deadline is set).
    Wait { at_most_ns: Option<u64> },
}

/// Longest sleep, in nanoseconds: a lost wake-up costs this much, not forever.
const SLEEP_NS_MAX: u64 = 100_000_000;

/// Carries `turn` out on `uring`.
pub(super) fn turn(uring: &mut IoUring, turn: Turn) -> io::Result<()> {
    let outcome = match turn {
        Turn::Pass if has_nothing_to_do(uring) => return Ok(()),
        Turn::Pass => uring.submitter().submit(),
        Turn::Wait { at_most_ns } => {
            let ns = at_most_ns.unwrap_or(SLEEP_NS_MAX).min(SLEEP_NS_MAX);
            let timespec = types::Timespec::from(std::time::Duration::from_nanos(ns));
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
