//! Executors: one glommio executor a shard, pinned to one core. Besides `net` the only place that names glommio.
//!
//! In: what a shard runs. Out: its threads. Always holds: a task is spawned through `spawn`, so that the ring knows of it and
//! does not sleep over it; the executor's own reactor is never needed.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use glommio::{LocalExecutorBuilder, Placement};

use crate::net::Ring;

/// Locked memory of an executor's own rings, which carry no traffic, in bytes.
const EXECUTOR_IO_MEMORY: usize = 64 * 1024;

/// Runs what `start` returns on a new thread, pinned to `cpu` where one is given.
///
/// # Errors
/// When the thread or the executor's rings cannot be made.
pub fn launch<F, T>(
    name: &str,
    cpu: Option<usize>,
    start: F,
) -> io::Result<JoinHandle<io::Result<()>>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = io::Result<()>> + 'static,
{
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder = LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(EXECUTOR_IO_MEMORY)
        .ring_depth(16);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let executor = builder.make().map_err(|error| io::Error::other(error.to_string()))?;
        executor.run(async move { start().await })
    })
}

/// The cores this process may run on, in order.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Runs `task` on this shard beside the others.
pub fn spawn(ring: &Ring, task: impl Future<Output = ()> + 'static) {
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    glommio::spawn_local(task).detach();
    ring.note_runnable();
}

/// Lets every other runnable task of this shard run once.
pub fn yield_now() -> impl Future<Output = ()> {
    struct Yield(bool);

    impl Future for Yield {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }

    Yield(false)
}
