//! Threads that do what can wait a little: they give way to the shards where both share a core.
//!
//! In: work. Out: a thread for it. Always holds: a thread made here never delays a request by more than a system call where the
//! kernel shares a core out by weight; it still has its share of a core that is always busy, about a tenth.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Added to the nice value of whoever starts it: the weight of a hundred and ten against a thousand.
const NICE: i32 = 10;

/// Starts a thread with this `name` that gives way.
///
/// # Errors
/// When the thread cannot be made.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux this is the calling thread's alone. Where it is not allowed, the thread works all the same.
        let _ = rustix::process::nice(NICE);
        work()
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn it_gives_way_and_nobody_else_does() {
        let nice = || getpriority_process(None).expect("a thread has a nice value");
        let before = nice();
        let inside = spawn("background", nice).expect("a thread").join().expect("no panic");
        assert_eq!(inside, (before + NICE).min(19));
        assert_eq!(nice(), before);
    }
}
