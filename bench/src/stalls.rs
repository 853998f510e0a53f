//! Sees when the machine itself stood still: on a shared host a core is taken away for milliseconds, which puts one
//! request in a hundred into a stall whatever server runs.
//!
//! In: the cores of a measurement. Out: the spans in which one of them ran nothing.
//! Always holds: a watch has a real-time priority, so no server's work delays it by more than a system call; what it
//! sees is taken from both sides of a comparison by the same rule.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::clock;

/// How often a watch wakes.
const PERIOD: Duration = Duration::from_micros(250);
/// A wake later than this is a stall: longer than any system call of the servers under comparison.
const LATE: Duration = Duration::from_millis(1);

/// A span in which a core ran nothing.
pub type Stall = (Instant, Instant);

/// Watches cores until it is ended.
pub struct Watch {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Stall>>>>,
}

impl Watch {
    /// A watch on each of `cores`.
    pub fn start(cores: &[usize]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let threads = cores
            .iter()
            .map(|&core| {
                let ended = ended.clone();
                std::thread::spawn(move || watch(core, &ended))
            })
            .collect();
        Self { ended, threads }
    }

    /// What was seen since the start, in the order of time.
    pub fn end(self) -> Result<Vec<Stall>> {
        self.ended.store(true, Ordering::Relaxed);
        let mut stalls = Vec::new();
        for thread in self.threads {
            stalls.extend(thread.join().map_err(|_| anyhow!("a watch ended early"))??);
        }
        stalls.sort_unstable();
        Ok(stalls)
    }
}

fn watch(core: usize, ended: &AtomicBool) -> Result<Vec<Stall>> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    run("taskset", &["-c", "-p", &core.to_string(), &thread])?;
    run("chrt", &["-f", "-p", "50", &thread])?;
    let timer = clock::periodic_timer(PERIOD)?;
    let mut stalls = Vec::new();
    let mut before = clock::now();
    while !ended.load(Ordering::Relaxed) {
        wait(&timer)?;
        let now = clock::now();
        if now - before > PERIOD + LATE {
            stalls.push((before, now));
        }
        before = now;
    }
    Ok(stalls)
}

fn wait(timer: &OwnedFd) -> Result<()> {
    rustix::io::read(timer, &mut [0u8; 8]).context("the timer cannot be read")?;
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {program} (Debian: util-linux)"))?;
    ensure!(status.success(), "{program} {} failed; it needs root", arguments.join(" "));
    Ok(())
}

/// Whether a request of this span met one of the stalls: it was under way during one, or was sent while the server
/// worked off what had gathered meanwhile (at half load that takes as long as the stall; it is given twice that).
pub fn met(stalls: &[Stall], (sent, done): (Instant, Instant)) -> bool {
    stalls.iter().any(|&(from, to)| sent <= to + (to - from) * 2 && done >= from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_under_way_in_a_stall_or_behind_it_have_met_it() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let stalls = [(at(10), at(12)), (at(30), at(40))];
        for (sent, done, expected) in [
            (1, 9, false),
            (1, 10, true),
            (11, 11, true),
            (16, 17, true),
            (17, 18, false),
            (29, 60, true),
            (60, 61, true),
            (61, 62, false),
        ] {
            assert_eq!(met(&stalls, (at(sent), at(done))), expected, "{sent}..{done}");
        }
    }
}
