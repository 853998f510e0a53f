//! Keeps the machine's own doings out of latencies: on a shared host a core is taken away for milliseconds, and the kernel's
//! housekeeping takes one for tens, which puts one request in a hundred into a stall whatever server runs.
//!
//! In: the cores of a measurement, its processes. Out: those put before the housekeeping; the spans in which a core ran nothing.
//! Always holds: a watch has a real-time priority, so no server's work delays it by more than a system call; what it
//! sees is taken from both sides of a comparison by the same rule.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::clock;

/// How often a watch wakes.
const PERIOD: Duration = Duration::from_micros(250);
/// A wake later than this is a stall: longer than any system call of the servers under comparison.
const LATE: Duration = Duration::from_millis(1);

/// Above the servers, so that the watch sees the machine and not them.
const WATCH_PRIORITY: &str = "50";
/// Above the kernel's housekeeping threads, which take a core for up to 50 ms at a time.
const SERVER_PRIORITY: &str = "10";
/// Above the origin, with which the load shares a core: an answer is seen when it arrives, not when the origin has done what it is at.
const LOAD_PRIORITY: &str = "20";

/// A span in which a core ran nothing.
pub type Stall = (Instant, Instant);

/// Watches cores until it is ended.
pub struct Watch {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Stall>>>>,
}

impl Watch {
    /// A watch on each of `cores`. Returns when all of them see: making them ready takes milliseconds of a core.
    pub fn start(cores: &[usize]) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let threads = cores
            .iter()
            .map(|&core| {
                let (ended, ready) = (ended.clone(), ready.clone());
                std::thread::spawn(move || watch(core, &ended, ready))
            })
            .collect();
        drop(ready);
        // One that fails says why when it is ended.
        let _ = is_ready.recv();
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

fn watch(core: usize, ended: &AtomicBool, ready: mpsc::Sender<()>) -> Result<Vec<Stall>> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    run("taskset", &["-c", "-p", &core.to_string(), &thread])?;
    run("chrt", &["-f", "-p", WATCH_PRIORITY, &thread])?;
    let timer = clock::periodic_timer(PERIOD)?;
    drop(ready);
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

/// Puts the threads of a process before or back among all others: while latencies are measured, whatever else the machine
/// does must not be laid at a server's door. Those that give way by themselves, with a nice value, go on giving way: a
/// real-time priority would take that from them.
pub fn go_first(pid: u32, first: bool) -> Result<()> {
    let folder = format!("/proc/{pid}/task");
    for task in fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))? {
        let task = task?;
        // A thread may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        if nice(&stat) == Some(0) {
            prefer(&task.file_name().to_string_lossy(), first.then_some(SERVER_PRIORITY))?;
        }
    }
    Ok(())
}

/// The nice value in a thread's `stat` (proc_pid_stat(5), field 19): the fields follow the name, which may hold anything.
fn nice(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(16)?.parse().ok()
}

/// The same for the calling thread alone, which generates the load.
pub fn load_goes_first(first: bool) -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    prefer(&thread, first.then_some(LOAD_PRIORITY))
}

fn prefer(thread: &str, priority: Option<&str>) -> Result<()> {
    let (policy, priority) = priority.map_or(("-o", "0"), |priority| ("-r", priority));
    run("chrt", &[policy, "-p", priority, thread])
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
    fn a_thread_tells_whether_it_gives_way() {
        let stat = |nice: i32| format!("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 {nice} 9 0");
        assert_eq!([nice(&stat(0)), nice(&stat(10)), nice("")], [Some(0), Some(10), None]);
        let own = fs::read_to_string("/proc/thread-self/stat").expect("a thread");
        assert!(nice(&own).is_some());
    }

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
