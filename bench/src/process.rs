//! Child processes under measurement: pinned, ended with their owner, and read through /proc.
//!
//! In: a command and the core it may use. Out: its CPU time and resident memory, over all its threads and children.
//! Always holds: a child started here is ended and reaped when its `Server` is dropped, and ended when
//! this process is killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{clock, stalls};

/// A server process pinned to its cores.
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts `program` with `arguments` on `cores` (numbers, a comma between); its output goes to `log`.
    pub fn start(
        name: &str,
        cores: &str,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Self> {
        let out =
            fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        // The signal is for the case that this process is killed and drops nothing. It comes when the thread ends that started
        // the child, so servers are started by threads that outlive them.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c", cores])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| {
                format!("cannot start {name} by setpriv and taskset (Debian: util-linux)")
            })?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Waits until something answers at `address`; fails with the server's log when it ends before.
    pub fn wait_ready(&mut self, address: &str, log: &Path) -> Result<()> {
        let child = &mut self.child;
        let mut ended = false;
        let ready = clock::wait_until(Duration::from_secs(10), || {
            ended = matches!(child.try_wait(), Ok(Some(_)));
            ended || std::net::TcpStream::connect(address).is_ok()
        });
        if ready && !ended {
            return Ok(());
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("{} did not get ready at {address}; it said:\n{said}", self.name)
    }

    /// Ends the process as a crash does.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("{} cannot be killed", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// CPU time used so far by the process and its children, all threads, in nanoseconds.
    pub fn cpu_ns(&self) -> Result<u64> {
        self.pids().into_iter().map(process_cpu_ns).sum()
    }

    /// CPU time used so far by the process's threads by name, of which the kernel keeps 15 characters, in nanoseconds.
    pub fn threads_cpu_ns(&self) -> Result<BTreeMap<String, u64>> {
        threads_cpu_ns(self.child.id())
    }

    /// Resident memory of the process and its children, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        self.pids().into_iter().map(process_rss_kib).sum()
    }

    /// Puts the process and its children before everything else on their core, or back.
    pub fn go_first(&self, first: bool) -> Result<()> {
        self.pids().into_iter().try_for_each(|pid| stalls::go_first(pid, first))
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            pids.extend(
                children
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
            next += 1;
        }
        pids
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first: nginx's master takes its worker with it.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let child = &mut self.child;
        if !clock::wait_until(Duration::from_secs(3), || matches!(child.try_wait(), Ok(Some(_)))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn process_cpu_ns(pid: u32) -> Result<u64> {
    Ok(threads_cpu_ns(pid)?.values().sum())
}

/// The scheduler's own account (nanoseconds) rather than utime + stime (10 ms ticks); threads of one name together.
fn threads_cpu_ns(pid: u32) -> Result<BTreeMap<String, u64>> {
    let folder = format!("/proc/{pid}/task");
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))? {
        let task = task?.path();
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else { continue };
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let ns = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        *threads.entry(name.trim().to_owned()).or_default() += ns;
    }
    Ok(threads)
}

fn process_rss_kib(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    Ok(line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0))
}

/// A port nobody listens on now.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Where `name` is, looking in /usr/sbin too; an error that says which package brings it.
pub fn find_program(name: &str, package: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is missing. Run: apt-get install {package}"))
}
