//! Servers that a test starts, asks, kills and starts again.
//!
//! In: programs of the machine. Out: a port that answers. Always holds: a server dies with its test.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// chdb 4, ClickHouse 26.
    Today,
    /// 18.16.
    Old,
}

/// A server of a test's own.
pub struct Engine {
    pub kind: Kind,
    pub port: u16,
    folder: TempDir,
    child: Option<Child>,
}

/// How long a server may take to answer.
const START: Duration = Duration::from_secs(60);

/// Waits; nothing is synchronised by it but how often something is asked.
pub fn pause(wait: Duration) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(wait);
}

/// Waits for a condition.
pub fn wait_for(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let step = Duration::from_millis(20);
    for _ in 0..patience.as_millis() / step.as_millis() {
        if is_so() {
            return;
        }
        pause(step);
    }
    panic!("waited {patience:?} for {what}");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn program(kind: Kind) -> Option<PathBuf> {
    match kind {
        Kind::Today => std::env::var_os("PAYFENCE_TEST_CHDB").map(PathBuf::from),
        Kind::Old => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
            folders.map(|folder| folder.join("clickhouse-server")).find(|program| program.exists())
        }
    }
}

impl Engine {
    /// `None` where the program is missing and need not be there.
    pub fn start(kind: Kind) -> Option<Self> {
        if program(kind).is_none() {
            let what = match kind {
                Kind::Today => {
                    "set PAYFENCE_TEST_CHDB to a Python that has chdb (python3 -m venv V; V/bin/pip install chdb==4.4.0; V/bin/python)"
                }
                Kind::Old => "apt-get install clickhouse-server",
            };
            let is_needed =
                std::env::var_os("PAYFENCE_TEST_SERVICES").is_some_and(|value| value == "1");
            assert!(!is_needed, "{kind:?} ClickHouse is missing: {what}");
            let _ = writeln!(std::io::stderr(), "left out: {kind:?} ClickHouse is missing: {what}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut engine = Self { kind, port: free_port(), folder, child: None };
        engine.restart();
        Some(engine)
    }

    /// Starts it again, on the same port and data.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let program = program(self.kind).unwrap();
        // It dies with the thread that started it, also where that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        match self.kind {
            Kind::Today => {
                // From the control plane's tests, too.
                let script = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("../link/tests/clickhouse/chdb_server.py");
                command.arg(script).arg(self.port.to_string()).arg(self.folder.path().join("data"));
            }
            Kind::Old => {
                let config = self.folder.path().join("config.xml");
                if !config.exists() {
                    self.configure(&config);
                }
                command.arg(format!("--config-file={}", config.display()));
            }
        }
        let log = || {
            fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.folder.path().join("out"))
                .unwrap()
        };
        command.stdin(Stdio::piped()).stdout(log()).stderr(log()).current_dir(self.folder.path());
        self.child = Some(command.spawn().unwrap());
        wait_for("ClickHouse to answer", START, || self.try_ask("SELECT 1").is_ok());
    }

    fn configure(&self, config: &Path) {
        let folder = self.folder.path().display();
        let users = self.folder.path().join("users.xml");
        let (tcp, between) = (free_port(), free_port());
        let text = format!(
            "<yandex><logger><level>warning</level><log>{folder}/log</log><errorlog>{folder}/err</errorlog></logger>\
             <http_port>{}</http_port><tcp_port>{tcp}</tcp_port><interserver_http_port>{between}</interserver_http_port>\
             <listen_host>127.0.0.1</listen_host><path>{folder}/data/</path><tmp_path>{folder}/tmp/</tmp_path>\
             <users_config>{}</users_config><default_profile>default</default_profile>\
             <default_database>default</default_database><mark_cache_size>67108864</mark_cache_size>\
             <timezone>UTC</timezone></yandex>",
            self.port,
            users.display()
        );
        let user =
            "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>";
        let text_users = format!(
            "<yandex><profiles><default></default></profiles><quotas><default></default></quotas><users>\
             <default><password></password>{user}</default>\
             <shipper><password>it's \\ secret</password>{user}</shipper></users></yandex>"
        );
        fs::write(config, text).unwrap();
        fs::write(users, text_users).unwrap();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP and SIGCONT: a server that hangs, and one that goes on.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The answer to a query in the database of the sink.
    pub fn ask(&self, sql: &str) -> String {
        self.try_ask_in(sql, "payfence").unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    pub fn try_ask(&self, sql: &str) -> Result<String, String> {
        self.try_ask_in(sql, "default")
    }

    fn try_ask_in(&self, sql: &str, database: &str) -> Result<String, String> {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(START)).unwrap();
        let request = format!(
            "POST /?database={database} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{sql}",
            sql.len()
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunk(body) } else { body.to_owned() };
        if head.starts_with("HTTP/1.1 200") { Ok(body.trim_end().to_owned()) } else { Err(body) }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let out = fs::read_to_string(self.folder.path().join("out")).unwrap_or_default();
            let err = fs::read_to_string(self.folder.path().join("err")).unwrap_or_default();
            let tail = |text: &str| {
                text.lines().rev().take(15).map(str::to_owned).collect::<Vec<_>>().join("\n")
            };
            let _ = writeln!(std::io::stderr(), "server:\n{}\n{}", tail(&out), tail(&err));
        }
        self.kill();
    }
}
