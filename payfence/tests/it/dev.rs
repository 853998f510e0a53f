//! `payfence dev` as a whole: what it prints, its policy file, its control plane, its ends and starts.
//!
//! In: the command in an empty folder, requests as its user sends them. Out: what it prints, what gateway and REST answer.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::client::{Answer, ask, rest};
use super::gateway::can_run;
use super::wait::{own_address, wait_for};

/// A running `payfence dev`, ended with its test.
pub struct Dev {
    child: Child,
    gateway: SocketAddr,
    admin: SocketAddr,
    pub control: SocketAddr,
    /// Standard output until the last request to try.
    printed: Vec<String>,
    log: Arc<Mutex<String>>,
}

/// Where it runs, again and again.
pub struct Desk {
    folder: tempfile::TempDir,
    addresses: [SocketAddr; 3],
}

impl Desk {
    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a working folder");
        can_run().then(|| Self { folder, addresses: [own_address(), own_address(), own_address()] })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, addresses: [SocketAddr; 3]) -> Command {
        let [gateway, admin, control] = addresses.map(|address| address.to_string());
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_payfence"), "dev", "--shards", "2"])
            .args(["--listen", &gateway, "--admin", &admin, "--control-listen", &control])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it has printed its three requests.
    #[track_caller]
    pub fn start(&self) -> Dev {
        let dev = self.launch(|line| line.starts_with("curl ") && line.contains("Authorization"));
        assert_eq!(dev.requests().len(), 3, "{:?}\n{}", dev.printed, dev.log());
        dev
    }

    /// Starts it and reads what it prints until a line is the last.
    #[track_caller]
    fn launch(&self, is_last: impl Fn(&str) -> bool) -> Dev {
        let mut command = self.command(self.addresses);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv (Debian: util-linux) starts the binary");
        let log = Arc::<Mutex<String>>::default();
        let (stderr, copy) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lock().expect("no panic").push_str(&format!("{line}\n"));
            }
        });
        let mut printed = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.expect("text");
            printed.push(line);
            if printed.last().is_some_and(|line| is_last(line)) {
                break;
            }
        }
        let [gateway, admin, control] = self.addresses;
        Dev { child, gateway, admin, control, printed, log }
    }

    fn policy(&self) -> String {
        std::fs::read_to_string(self.path("payfence-dev.toml")).expect("a policy file")
    }

    #[track_caller]
    fn edit(&self, from: &str, to: &str) {
        let text = self.policy();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.path("payfence-dev.toml"), text.replace(from, to)).expect("a file");
    }

    fn key(&self) -> String {
        let key = std::fs::read_to_string(self.path("payfence-data/admin.key")).expect("a key");
        key.trim().to_owned()
    }

    /// Asks the control plane as its administrator.
    #[track_caller]
    pub fn rest(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        rest(self.addresses[2], &self.key(), method, path, &body)
    }

    #[track_caller]
    fn made(&self, path: &str, body: Value) -> Value {
        let answer = self.rest("POST", path, Some(body));
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        answer.json()
    }

    /// The id of the only row of a list whose field has this value.
    #[track_caller]
    pub fn id(&self, path: &str, field: &str, value: &str) -> String {
        let rows = self.rest("GET", path, None).json();
        let row = rows["data"].as_array().expect("rows").iter().find(|row| row[field] == value);
        row.unwrap_or_else(|| panic!("no {value}: {rows}"))["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    }
}

impl Dev {
    pub fn requests(&self) -> Vec<&String> {
        self.printed.iter().filter(|line| line.starts_with("curl ")).collect()
    }

    /// The text after a word that a line begins with.
    #[track_caller]
    pub fn said(&self, word: &str) -> &str {
        let line = self.printed.iter().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("nothing of {word}: {:?}", self.printed)).trim()
    }

    /// The token of the third request.
    fn token(&self) -> String {
        let third = self.requests()[2];
        let from = third.find("pf_test_").expect("a token");
        third[from..].split('\'').next().expect("a token").to_owned()
    }

    #[track_caller]
    pub fn get(&self, path: &str, token: &str) -> Answer {
        ask(
            self.gateway,
            format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
            ),
        )
    }

    #[track_caller]
    fn wait_answer(&self, path: &str, token: &str, expected: (u16, &str)) {
        wait_for(&format!("{path}: {expected:?}; {}", self.log()), || {
            let answer = self.get(path, token);
            ((answer.status, answer.reason().as_str()) == expected).then_some(())
        });
    }

    fn status(&self) -> Value {
        let host = self.admin;
        ask(host, format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
            .json()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    #[track_caller]
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Ends it as a person does; all of it is gone then.
    #[track_caller]
    pub fn stop(mut self, signal: &str) {
        self.signal(signal);
        let ended = wait_for("the end", || self.child.try_wait().expect("our own child"));
        assert_eq!(ended.code(), Some(0), "{}", self.log());
        for address in [self.gateway, self.admin, self.control] {
            // The kernel takes a moment for what io_uring held.
            wait_for(&format!("{address} to be free"), || {
                std::net::TcpStream::connect(address).is_err().then_some(())
            });
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn everything_that_is_printed_works_as_printed() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    for (request, expected) in dev.requests().into_iter().zip(["200", "401", "200"]) {
        let answer = shell(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {answer}");
    }
    let sites: Value = serde_json::from_str(&shell(dev.said("rest "))).expect("JSON");
    assert_eq!(sites["data"][0]["slug"], "demo", "{sites}");
    assert!(dev.said("control ").starts_with(&format!("http://{}", dev.control)));
    let key_file = desk.path("payfence-data/admin.key");
    let printed = dev.said("key ").split(" (").next().expect("a path");
    assert_eq!(std::fs::canonicalize(printed).ok(), std::fs::canonicalize(&key_file).ok());
    for secret in ["admin.key", "node.token", "secrets.key", "dev.toml"] {
        let mode = std::fs::metadata(desk.path("payfence-data").join(secret)).expect(secret);
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{secret}");
    }
    let said = format!("{}\n{}", dev.printed.join("\n"), dev.log());
    assert!(!said.contains(&desk.key()), "{said}");
    dev.stop("INT");
}

#[test]
fn the_policy_file_is_live_and_a_broken_one_keeps_the_old() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let token = dev.token();
    let paid = "/demo/api/v1/forecast";
    assert_eq!(dev.get(paid, &token).status, 200);
    // One was used: with two in all, one is left.
    desk.edit("requests = 1000", "requests = 2");
    wait_for("the new limit", || {
        let usage = dev.get("/demo/.payfence/usage", &token).json();
        (usage["limit"] == 2 && usage["used"] == 1).then_some(())
    });
    assert_eq!(dev.get(paid, &token).status, 200);
    assert_eq!(dev.get(paid, &token).reason(), "quota_exhausted");

    let good = desk.policy();
    desk.edit("requests = 2,", "requests = \"two\",");
    let error = wait_for("the refusal in /status", || {
        dev.status()["snapshot"]["last_error"].as_str().map(str::to_owned)
    });
    let line = 1 + good.lines().position(|line| line.starts_with("quota")).expect("a quota");
    for part in ["payfence-dev.toml", &format!("{line}"), "quota"] {
        assert!(error.contains(part) && dev.log().contains(&error), "{part}: {error}");
    }
    assert_eq!(dev.get(paid, &token).reason(), "quota_exhausted");
    std::fs::write(desk.path("payfence-dev.toml"), &good).expect("a file");
    wait_for("the end of the refusal", || {
        dev.status()["snapshot"]["last_error"].is_null().then_some(())
    });

    desk.edit("pattern = \"/api/v1/*\"", "pattern = \"/hello\"");
    dev.wait_answer("/demo/hello", "", (401, "token_missing"));
    desk.edit("id = \"tok_demo\"", "id = \"tok_demo\", revoked = true");
    dev.wait_answer("/demo/hello", &token, (401, "token_revoked"));
    dev.signal("HUP");
    dev.stop("TERM");
}

#[test]
fn what_is_made_by_rest_works_at_once_and_outlives_the_file_and_a_start() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let subscription = desk.id("/v1/subscriptions", "reference", "sub_demo");
    let made = desk.made("/v1/tokens", json!({ "subscription_id": subscription }));
    let second = made["secret"].as_str().expect("a secret").to_owned();
    let paid = "/demo/api/v1/forecast";
    dev.wait_answer(paid, &second, (200, ""));
    let origin = dev.said("origin ").split(' ').next().expect("an origin").to_owned();
    let site = desk.made("/v1/sites", json!({ "slug": "more", "origin": origin }));
    let site = site["id"].as_str().expect("an id");
    desk.made(&format!("/v1/sites/{site}/resources"), json!({ "pattern": "/hello" }));
    dev.wait_answer("/more/hello", "", (401, "token_missing"));

    // The file is about something else, and is in force once this is refused.
    desk.edit("pattern = \"/api/v1/*\"", "pattern = \"/api/*\"");
    dev.wait_answer("/demo/api/x", "", (401, "token_missing"));
    for token in [&second, &dev.token()] {
        assert_eq!(dev.get(paid, token).status, 200, "{}", dev.log());
    }
    assert_eq!(dev.get("/more/hello", "").status, 401);

    // What REST ends stays ended, though the file still names it.
    let first = desk.id("/v1/tokens", "reference", "tok_demo");
    let revoked = desk.rest("DELETE", &format!("/v1/tokens/{first}"), None);
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let token = dev.token();
    dev.wait_answer(paid, &token, (401, "token_revoked"));
    desk.edit("pattern = \"/api/*\"", "pattern = \"/api/v1/*\"");
    wait_for("the file again", || {
        dev.log().contains("was revoked by REST and stays so").then_some(())
    });
    dev.wait_answer(paid, &second, (200, ""));
    dev.stop("TERM");

    // Its third request is no longer true, so none is printed.
    let again = desk.launch(|line| line.contains("no longer admits the token"));
    assert!(again.requests().is_empty(), "{:?}", again.printed);
    assert_eq!(again.get(paid, &second).status, 200, "{}", again.log());
    assert_eq!(again.get(paid, &token).reason(), "token_revoked");
    assert_eq!(again.get("/more/hello", "").status, 401);
    again.stop("TERM");
}

#[test]
fn a_later_start_keeps_keys_and_use_to_the_unit() {
    const USED: u64 = 7;
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let (token, key) = (dev.token(), desk.key());
    for _ in 0..USED {
        assert_eq!(dev.get("/demo/api/v1/forecast", &token).status, 200);
    }
    dev.stop("TERM");
    // Edited while it was away: the next start brings it in before it prints anything.
    desk.edit("requests = 1000", "requests = 9");
    let dev = desk.start();
    assert_eq!((dev.token(), desk.key()), (token.clone(), key));
    let usage = dev.get("/demo/.payfence/usage", &token).json();
    assert_eq!((usage["used"].as_u64(), usage["limit"].as_u64()), (Some(USED), Some(9)), "{usage}");
    for expected in [200, 200, 429] {
        assert_eq!(dev.get("/demo/api/v1/forecast", &token).status, expected);
    }
    // The ledger has it, too, once the node has reported.
    let entitlement = desk.id("/v1/subscriptions", "reference", "sub_demo");
    wait_for("the use in the ledger", || {
        let shown = desk.rest("GET", &format!("/v1/entitlements/{entitlement}"), None).json();
        (shown["used"] == 9).then_some(())
    });
    dev.stop("TERM");
}

#[test]
fn a_crash_costs_no_unit_and_gives_none_twice() {
    const LIMIT: u64 = 12;
    let Some(desk) = Desk::new() else { return };
    let mut dev = desk.start();
    desk.edit("requests = 1000", &format!("requests = {LIMIT}"));
    let token = dev.token();
    let usage = |dev: &Dev| dev.get("/demo/.payfence/usage", &token).json();
    wait_for("the limit", || (usage(&dev)["limit"] == LIMIT).then_some(()));
    let mut admitted = 0;
    // Nothing is in flight at a kill, so all of it can be had, and no more.
    for _ in 0..LIMIT / 4 {
        for _ in 0..4 {
            let answer = wait_for("an answer that is known", || {
                // What the start before had leased may not have come back yet, and of the rate it is taken to have used all.
                let answer = dev.get("/demo/api/v1/forecast", &token);
                let is_later = ["ledger_unreachable", "rate_limited"].contains(&&*answer.reason());
                (!is_later).then_some(answer)
            });
            assert_eq!(answer.status, 200, "{admitted}: {answer:?}");
            admitted += 1;
        }
        dev.child.kill().expect("our own child");
        dev.child.wait().expect("our own child");
        dev = desk.start();
        wait_for("what was used before", || {
            (usage(&dev)["used"].as_u64() == Some(admitted)).then_some(())
        });
    }
    assert_eq!(admitted, LIMIT);
    dev.wait_answer("/demo/api/v1/forecast", &token, (429, "quota_exhausted"));
    dev.stop("TERM");
}

#[test]
fn what_is_in_the_way_is_told_in_a_sentence() {
    let Some(desk) = Desk::new() else { return };
    let dev = desk.start();
    let run = |desk: &Desk, addresses| {
        let output = desk.command(addresses).stdout(Stdio::null()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let error = text.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        (output.status.code(), error.to_owned())
    };
    let (code, error) = run(&desk, [own_address(), own_address(), own_address()]);
    assert_eq!(code, Some(1));
    assert!(error.contains("another `payfence dev` runs with"), "{error}");
    let free = || own_address();
    let cases = [
        ([dev.gateway, free(), free()], dev.gateway),
        ([free(), dev.admin, free()], dev.admin),
        ([free(), free(), dev.control], dev.control),
    ];
    for (addresses, taken) in cases {
        let other = Desk::new().expect("it can run");
        let (code, error) = run(&other, addresses);
        assert_eq!(code, Some(1), "{taken}: {error}");
        assert!(error.contains(&taken.to_string()), "{taken}: {error}");
    }
    dev.stop("TERM");
}
