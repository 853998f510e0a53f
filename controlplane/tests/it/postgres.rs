//! A PostgreSQL cluster for one test: made, started, ended and taken away here.
//!
//! Always holds: it listens on a socket in a directory of its own alone; it does not outlive the test, not even a
//! killed one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Gid, Uid};
use rustix::process::Signal;

/// Nobody: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A running cluster.
pub struct Cluster {
    directory: tempfile::TempDir,
    server: Child,
    settings: Vec<String>,
    databases: AtomicU32,
}

impl Cluster {
    /// Makes and starts one, which may lose what it was told when the machine loses power.
    pub fn start() -> Self {
        Self::start_with(&["fsync=off"])
    }

    /// The same with these settings.
    pub fn start_with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::fs::chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let data = directory.path().join("data");
        let made = unprivileged("initdb")
            .args(["-U", "payfence", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        let server = serve(directory.path(), &settings);
        let databases = AtomicU32::new(0);
        let mut cluster = Self { directory, server, settings, databases };
        cluster.wait();
        cluster
    }

    /// Ends the server as a crash would, or as an operator does.
    pub fn stop(&mut self, is_crash: bool) {
        let pid = rustix::process::Pid::from_child(&self.server);
        // Immediate shutdown: recovery at the next start, as after a crash, but no shared memory left behind.
        let signal = if is_crash { Signal::QUIT } else { Signal::INT };
        let _ = rustix::process::kill_process(pid, signal);
        let _ = self.server.wait();
    }

    /// Starts it again.
    pub fn start_again(&mut self) {
        self.server = serve(self.directory.path(), &self.settings);
        self.wait();
    }

    fn wait(&mut self) {
        let socket = self.directory.path().join(".s.PGSQL.5432");
        let started = now();
        while !(socket.exists() && self.sql("SELECT 1")) {
            assert!(started.elapsed() < START_DEADLINE, "PostgreSQL did not start");
            assert!(self.server.try_wait().unwrap().is_none(), "PostgreSQL ended at its start");
            std::thread::yield_now();
        }
    }

    fn sql(&self, statement: &str) -> bool {
        self.run("postgres", statement)
    }

    /// Runs statements in a database; whether that went well.
    pub fn run(&self, database: &str, statements: &str) -> bool {
        let psql = self
            .psql(database)
            .args(["-c", statements])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        psql.unwrap().success()
    }

    /// psql in a database, quiet and stopping at the first error.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(binary("psql"));
        psql.arg("-h").arg(self.directory.path());
        psql.args(["-U", "payfence", "-d", database, "-q", "-v", "ON_ERROR_STOP=1"]);
        psql
    }

    /// The URL of a new database.
    pub fn database(&self) -> String {
        self.named_database().1
    }

    /// The name and the URL of a new database.
    pub fn named_database(&self) -> (String, String) {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        assert!(self.sql(&format!("CREATE DATABASE test_{number}")), "CREATE DATABASE");
        let host = self.directory.path().display();
        let url = format!("postgres://payfence@localhost/test_{number}?host={host}");
        (format!("test_{number}"), url)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The directory goes after it.
        self.stop(false);
    }
}

fn serve(directory: &Path, settings: &[String]) -> Child {
    unprivileged("postgres")
        .arg("-D")
        .arg(directory.join("data"))
        .arg("-k")
        .arg(directory)
        .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a deadline of a test")]
fn now() -> Instant {
    Instant::now()
}

const VERSIONS: &str = "/usr/lib/postgresql";

/// Whether PostgreSQL is installed.
pub fn is_there() -> bool {
    find("initdb").is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(VERSIONS)
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin").join(name)).collect())
        .unwrap_or_default();
    found.retain(|path| path.exists());
    found.sort();
    found.pop()
}

fn binary(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("no {name} below {VERSIONS}: apt-get install postgresql"))
}

/// A program of PostgreSQL's that ends with this thread, as nobody where this is root.
fn unprivileged(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::getuid().is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "INT"]).arg(binary(name)).current_dir("/");
    command
}
