//! The built binary, run as `payfence dataplane` with a policy file of its own.
//!
//! In: policy text, flags. Out: its addresses, its log, how it ended.
//! Always holds: the process is ended and reaped with its test, even when the test is killed.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::client::{Answer, Client, ask};
use super::wait::{own_address, wait_for};

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub policy_file: PathBuf,
    child: Child,
    log: Arc<Mutex<String>>,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts a gateway on two shards and waits until it is ready; `None` where nothing can run, and that is allowed.
    #[track_caller]
    pub fn start(policy: &str) -> Option<Self> {
        Self::start_with(policy, &[])
    }

    /// The same with more flags.
    #[track_caller]
    pub fn start_with(policy: &str, flags: &[&str]) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let mut gateway = Self::launch(policy, flags);
        gateway.wait_ready();
        Some(gateway)
    }

    /// Starts a gateway that may end at once.
    pub fn launch(policy: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a working folder");
        let policy_file = folder.path().join("policy.toml");
        std::fs::write(&policy_file, policy).expect("a writable folder");
        let (address, admin) = (own_address(), own_address());
        let (child, log) = spawn(&folder, (address, admin), flags);
        Self { address, admin, policy_file, child, log, folder }
    }

    /// Ends the gateway as a crash does, and starts it anew with what it left.
    #[track_caller]
    pub fn crash_and_restart(&mut self, flags: &[&str]) {
        self.crash();
        self.restart(flags);
    }

    /// Ends the gateway as a crash does.
    pub fn crash(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it anew with what it left.
    #[track_caller]
    pub fn restart(&mut self, flags: &[&str]) {
        (self.child, self.log) = spawn(&self.folder, (self.address, self.admin), flags);
        self.wait_ready();
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        wait_for("readiness", || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("the gateway ended with {status}; it said:\n{}", self.log());
            }
            std::net::TcpStream::connect(self.admin).ok()?;
            (self.admin("/readyz").status == 200).then_some(())
        });
    }

    /// Where it keeps what outlives it.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder)
    }

    /// Where its decision rings are.
    pub fn ring_dir(&self) -> PathBuf {
        ring_dir(&self.folder)
    }

    /// A new connection to the gateway.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        ask(self.address, request)
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Answer {
        let host = self.admin;
        ask(host, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    }

    /// `/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin("/status").json()
    }

    /// The sum of all samples of a metric whose labels contain all of `labels`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").text();
        let samples = text.lines().filter(|line| {
            let Some(rest) = line.strip_prefix(name) else { return false };
            (rest.starts_with(' ') || rest.starts_with('{'))
                && labels.iter().all(|label| rest.contains(label))
        });
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric has this value.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[&str], value: f64) {
        wait_for(&format!("{name}{labels:?} = {value}"), || {
            ((self.metric(name, labels) - value).abs() < 1e-9).then_some(())
        });
    }

    /// Units used by the subscription of this token name.
    #[track_caller]
    pub fn used(&self, name: &str) -> i64 {
        let authorization = super::policy::bearer(name);
        let request =
            super::client::get("/.payfence/usage", &[("Authorization", authorization.as_str())]);
        let answer = self.ask(request);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["used"].as_i64().expect("used")
    }

    /// Waits until `used` says this: a refund or correction is made when the exchange ends, after the client has its
    /// answer.
    #[track_caller]
    pub fn wait_used(&self, name: &str, expected: i64) {
        wait_for(&format!("{expected} units used of {name}"), || {
            (self.used(name) == expected).then_some(())
        });
    }

    /// Sends a signal to the gateway.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "signal {name}");
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_for("the gateway's end", || self.child.try_wait().expect("our own child"))
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Resident memory of the process, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// What it has said on standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }
}

fn data_dir(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("data")
}

fn ring_dir(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("rings")
}

/// The process, and what it says.
fn spawn(
    folder: &tempfile::TempDir,
    (address, admin): (SocketAddr, SocketAddr),
    flags: &[&str],
) -> (Child, Arc<Mutex<String>>) {
    // The kernel ends the gateway with the thread that started it.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_payfence"), "dataplane", "--policy"])
        .arg(folder.path().join("policy.toml"))
        .args(["--listen", &address.to_string(), "--admin", &admin.to_string()])
        .arg("--ring-dir")
        .arg(ring_dir(folder))
        .args(flags)
        .env("RUST_BACKTRACE", "1");
    if !flags.contains(&"--data-dir") {
        command.arg("--data-dir").arg(data_dir(folder));
    }
    if !flags.contains(&"--shards") {
        command.args(["--shards", "2"]);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv (Debian: util-linux) starts the gateway");
    let log = Arc::<Mutex<String>>::default();
    let (mut stderr, copy) = (child.stderr.take().expect("piped"), Arc::clone(&log));
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut piece) {
            copy.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    });
    (child, log)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("the gateway said:\n{}\n", self.log()));
        }
    }
}

/// Whether gateways can run here. Without io_uring they cannot: that is a failure under `./test`, and said otherwise.
fn can_run() -> bool {
    let Err(error) = io_uring::IoUring::new(2) else { return true };
    assert!(
        std::env::var_os("PAYFENCE_TEST_FULL").is_none(),
        "no io_uring here ({error}): allow it (sysctl kernel.io_uring_disabled=0, seccomp profile)"
    );
    say("left out: end-to-end tests need io_uring, which is refused here\n");
    false
}

/// Past the test harness, which swallows what passing tests print.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
