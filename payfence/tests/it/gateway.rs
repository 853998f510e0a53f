//! The built binary, run as `payfence dataplane` with a policy file of its own, or as a node of a control plane.
//!
//! In: policy text or a node's token, flags. Out: its addresses, its log, how it ended.
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
    process: Process,
    /// The flags that say where its policy comes from.
    source: Vec<String>,
    folder: tempfile::TempDir,
}

/// A process of the built binary, ended and reaped with its test.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
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
        let source = vec!["--policy".to_owned(), policy_file.display().to_string()];
        Self::launch_in(folder, policy_file, source, flags)
    }

    /// Starts a node of a control plane; it may have to wait for its first policy.
    pub fn launch_node(control_url: &str, token: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a working folder");
        let token_file = folder.path().join("node.token");
        std::fs::write(&token_file, token).expect("a writable folder");
        let token_text = token_file.display().to_string();
        let source = ["--control-url", control_url, "--node-token-file", &token_text];
        let source = source.map(str::to_owned).to_vec();
        Self::launch_in(folder, token_file, source, flags)
    }

    fn launch_in(
        folder: tempfile::TempDir,
        policy_file: PathBuf,
        source: Vec<String>,
        flags: &[&str],
    ) -> Self {
        let (address, admin) = (own_address(), own_address());
        let process = spawn(&folder, &source, (address, admin), flags);
        Self { address, admin, policy_file, process, source, folder }
    }

    /// Ends the gateway as a crash does, and starts it anew with what it left.
    #[track_caller]
    pub fn crash_and_restart(&mut self, flags: &[&str]) {
        self.crash();
        self.restart(flags);
    }

    /// Ends the gateway as a crash does.
    pub fn crash(&mut self) {
        self.process.crash();
    }

    /// Starts it anew with what it left.
    #[track_caller]
    pub fn restart(&mut self, flags: &[&str]) {
        let addresses = (self.address, self.admin);
        self.process = spawn(&self.folder, &self.source, addresses, flags);
        self.wait_ready();
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_for("readiness", || {
            self.process.expect_running();
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
        self.process.signal(name);
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        self.process.wait_end()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Resident memory of the process, in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id()));
        let status = status.expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// What it has said on standard error so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Process {
    /// Runs the built binary with these arguments.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        // The kernel ends the process with the thread that started it.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_payfence")])
            .args(arguments)
            .env("RUST_BACKTRACE", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv (Debian: util-linux) starts the binary");
        let log = Arc::<Mutex<String>>::default();
        let (mut stderr, copy) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut piece) {
                copy.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        });
        Self { child, log }
    }

    /// Ends it as a crash does.
    pub fn crash(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "signal {name}");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_for("the process's end", || self.child.try_wait().expect("our own child"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    #[track_caller]
    pub fn expect_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child") {
            panic!("the process ended with {status}; it said:\n{}", self.log());
        }
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

fn spawn(
    folder: &tempfile::TempDir,
    source: &[String],
    (address, admin): (SocketAddr, SocketAddr),
    flags: &[&str],
) -> Process {
    let (address, admin) = (address.to_string(), admin.to_string());
    let (rings, data) = (ring_dir(folder), data_dir(folder));
    let (rings, data) = (rings.display().to_string(), data.display().to_string());
    let mut arguments = vec!["dataplane"];
    arguments.extend(source.iter().map(String::as_str));
    arguments.extend(["--listen", &address, "--admin", &admin, "--ring-dir", &rings]);
    arguments.extend(flags);
    if !flags.contains(&"--data-dir") {
        arguments.extend(["--data-dir", &data]);
    }
    if !flags.contains(&"--shards") {
        arguments.extend(["--shards", "2"]);
    }
    Process::start(&arguments, &[])
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("the process said:\n{}\n", self.log()));
        }
    }
}

/// Whether gateways can run here. Without io_uring they cannot: that is a failure under `./test`, and said otherwise.
pub fn can_run() -> bool {
    let Err(error) = io_uring::IoUring::new(2) else { return true };
    assert!(
        std::env::var_os("PAYFENCE_TEST_FULL").is_none(),
        "no io_uring here ({error}): allow it (sysctl kernel.io_uring_disabled=0, seccomp profile)"
    );
    say("left out: end-to-end tests need io_uring, which is refused here\n");
    false
}

/// Past the test harness, which swallows what passing tests print.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
