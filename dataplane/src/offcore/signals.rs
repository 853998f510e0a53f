//! Signals: SIGTERM and SIGINT drain, SIGHUP reloads.
//!
//! In: signals to the process. Out: calls of one handler on a thread of its own.
//! Always holds: the first request to stop drains; the second ends the process at once with code 1, because whoever
//! sends it has stopped waiting.

use std::io;
use std::process::exit;
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop accepting, finish what runs, end.
    Drain,
    /// Read the policy again.
    Reload,
}

/// The thread that listens for signals; it ends when this is dropped.
#[derive(Debug)]
pub struct SignalThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Listens from now on. `handler` runs on the signal thread and may block.
    ///
    /// # Errors
    /// When the handlers cannot be installed or the thread cannot be made.
    pub fn start(mut handler: impl FnMut(Request) + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let thread =
            thread::Builder::new().name("payfence-signals".to_owned()).spawn(move || {
                let mut draining = false;
                for signal in signals.forever() {
                    match signal {
                        SIGHUP => handler(Request::Reload),
                        _ if draining => {
                            tracing::warn!("asked to stop a second time: ending without waiting");
                            exit(1);
                        }
                        _ => {
                            draining = true;
                            handler(Request::Drain);
                        }
                    }
                }
            })?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        let Some(thread) = self.thread.take() else { return };
        // Dropped by its own handler it cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // A handler that panicked has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "signals_tests.rs"]
mod tests;
