//! A thread that reads files again: when they have changed, when it is asked to.
//!
//! In: what the thread does, demands of other threads. Out: the thread, which ends when its owner drops it.
//! Always holds: a demand is never lost, though several at once may be one; ending never waits for an event.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::file_watch::FileWatch;

/// The thread that watches; it ends when this is dropped.
#[derive(Debug)]
pub struct WatchThread {
    demand: Arc<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl WatchThread {
    /// Starts `run` on a thread of this name.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Demands) + Send + 'static,
    ) -> io::Result<Self> {
        let (demand, demanded) = UnixStream::pair()?;
        demand.set_nonblocking(true)?;
        demanded.set_nonblocking(true)?;
        let thread =
            thread::Builder::new().name(name.to_owned()).spawn(move || run(Demands(demanded)))?;
        Ok(Self { demand: Arc::new(demand), thread: Some(thread) })
    }

    /// What asks for a reload from another thread, as SIGHUP does.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::clone(&self.demand))
    }
}

impl Drop for WatchThread {
    fn drop(&mut self) {
        // It fails when the thread is gone already.
        let _ = self.demand.shutdown(Shutdown::Write);
        if let Some(thread) = self.thread.take() {
            // A panic on it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Asks for reloads.
#[derive(Clone, Debug)]
pub struct Reloader(Arc<UnixStream>);

impl Reloader {
    /// Has the files read soon, even while one is open for writing. Several demands at once may be one.
    pub fn reload(&self) {
        // A full socket holds a demand already; a closed one has nobody behind it.
        let _ = (&*self.0).write(&[0]);
    }
}

/// What others want of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing.
    None,
    /// Read the files, changed or not.
    Reload,
    /// End.
    Stop,
}

/// The thread's end of the demands.
#[derive(Debug)]
pub(super) struct Demands(UnixStream);

impl Demands {
    /// What was demanded since one last looked.
    pub(super) fn take(&self) -> Demand {
        let mut demand = Demand::None;
        loop {
            match (&self.0).read(&mut [0; 64]) {
                Ok(0) => return Demand::Stop,
                Ok(_) => demand = Demand::Reload,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return demand,
            }
        }
    }

    /// Blocks until there are events, a demand, or the time is over.
    pub(super) fn wait(
        &self,
        watch: Option<&FileWatch>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let mut descriptors = vec![PollFd::new(&self.0, PollFlags::IN)];
        descriptors.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
