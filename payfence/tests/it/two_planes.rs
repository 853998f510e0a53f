//! Two control planes at one PostgreSQL, each a process of its own, killed by turns in the middle of whatever they do.
//!
//! In: writers that send each request again with its key, to one control plane after the other, until it is answered; SIGKILL. Out: each
//! token that was answered is there once, and live on a node that knows both control planes.
#![expect(clippy::disallowed_methods, reason = "tests wait with deadlines, which need a clock")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::get;
use super::gateway::{Gateway, Process, can_run, say};
use super::origin::Origin;
use super::wait::{own_address, wait_for};
use postgres::Cluster;

#[path = "../../../controlplane/tests/it/postgres.rs"]
#[allow(dead_code, reason = "the control plane's own tests need more of it")]
mod postgres;

const KILLS: usize = 6;
/// Tokens that are issued between two kills.
const ISSUED: usize = 12;
/// Longer than anything here takes, on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(120);

/// What both are started with.
struct Planes {
    folder: tempfile::TempDir,
    url: String,
    key: String,
    addresses: [SocketAddr; 2],
}

impl Planes {
    fn init(url: String) -> Self {
        let folder = tempfile::tempdir().expect("a working folder");
        let data = folder.path().display().to_string();
        let made = Command::new(env!("CARGO_BIN_EXE_payfence"))
            .args(["controlplane", "--data-dir", &data, "--database-url", &url])
            .args(["init", "--account", "Test", "--email", "test@example.com"])
            .stderr(Stdio::inherit())
            .output()
            .expect("the binary runs");
        assert!(made.status.success(), "{made:?}");
        let key = String::from_utf8(made.stdout).expect("a key").trim().to_owned();
        Self { folder, url, key, addresses: [own_address(), own_address()] }
    }

    fn start(&self, number: usize) -> Process {
        let data = self.folder.path().display().to_string();
        let listen = self.addresses[number].to_string();
        let mut process = Process::start(
            &[
                "controlplane",
                "--data-dir",
                &data,
                "--database-url",
                &self.url,
                "--listen",
                &listen,
                "--allow-private-origins",
            ],
            &[],
        );
        wait_for("the control plane", || {
            process.expect_running();
            TcpStream::connect(self.addresses[number]).ok()
        });
        process
    }

    /// Sends a POST; none where nobody answers.
    fn try_post(
        &self,
        number: usize,
        path: &str,
        once: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let (host, key, body) = (self.addresses[number], &self.key, body.to_string());
        let length = body.len();
        let mut stream = TcpStream::connect(host).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
             Idempotency-Key: {once}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        // Cut off in the middle it is no answer.
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// Sends it to one after the other until it is answered with 201.
    fn post(&self, path: &str, once: &str, body: &Value) -> Value {
        let began = Instant::now();
        for number in [0, 1].into_iter().cycle() {
            assert!(began.elapsed() < DEADLINE, "{path} {once} is not answered");
            match self.try_post(number, path, once, body) {
                Some((201, made)) => return made,
                None | Some((503 | 429, _)) => std::thread::yield_now(),
                Some(other) => panic!("{path}: {other:?}"),
            }
        }
        unreachable!("it cycles")
    }

    fn id(&self, path: &str, once: &str, body: &Value) -> String {
        self.post(path, once, body)["id"].as_str().expect("an id").to_owned()
    }

    /// A subscription in front of an origin, and a node's token.
    fn fill(&self, origin: SocketAddr) -> (String, String) {
        let site =
            json!({ "slug": "shop", "origin": format!("http://{origin}"), "hosts": ["shop.test"] });
        let site = self.id("/v1/sites", "site", &site);
        let within = format!("/v1/sites/{site}");
        self.id(&format!("{within}/resources"), "resource", &json!({ "pattern": "/paid/*" }));
        let plan = self.id(&format!("{within}/plans"), "plan", &json!({}));
        let customer = self.id("/v1/customers", "customer", &json!({}));
        let subscription = json!({ "site_id": site, "plan_id": plan, "customer_id": customer });
        let subscription = self.id("/v1/subscriptions", "subscription", &subscription);
        let node = self.id("/v1/nodes", "node", &json!({ "name": "n1" }));
        let token = self.post(&format!("/v1/nodes/{node}/tokens"), "node-token", &json!({}));
        (subscription, token["secret"].as_str().expect("a secret").to_owned())
    }
}

#[test]
fn processes_killed_by_turns_lose_and_double_nothing() {
    if !can_run() {
        return;
    }
    if std::env::var_os("PAYFENCE_TEST_FULL").is_none() && !postgres::is_there() {
        say("left out: two control planes at once need PostgreSQL\n");
        return;
    }
    let cluster = Cluster::start();
    let planes = Planes::init(cluster.database());
    let mut processes = [planes.start(0), planes.start(1)];
    let origin = Origin::ok();
    let (subscription, token) = planes.fill(origin.address);
    let urls = planes.addresses.map(|address| format!("http://{address}"));
    let flags = ["--control-url", &urls[1], "--allow-private-origins"];
    let mut gateway = Gateway::launch_node(&urls[0], &token, &flags);
    gateway.wait_ready();

    let (issued, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let count = || issued.lock().expect("no panic").len();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (planes, issued, is_over) = (&planes, &issued, &is_over);
            let body = json!({ "subscription_id": subscription });
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let made = planes.post("/v1/tokens", &format!("w{writer}-{number}"), &body);
                    issued.lock().expect("no panic").push(made);
                }
            });
        }
        for kill in 0..KILLS {
            let from = count();
            wait_for("more tokens", || (count() >= from + ISSUED).then_some(()));
            processes[kill % 2].crash();
            // The other one alone.
            let from = count();
            wait_for("more tokens", || (count() >= from + ISSUED).then_some(()));
            processes[kill % 2] = planes.start(kill % 2);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let issued = issued.into_inner().expect("no panic");
    check(&cluster, issued.len());
    for made in &issued {
        // A key that was answered a second time has no text any more.
        let Some(text) = made["secret"].as_str() else { continue };
        let authorization = format!("Bearer {text}");
        wait_for("a token on the node", || {
            let request = get("/paid/x", &[("Authorization", authorization.as_str())]);
            (gateway.ask(request).status == 200).then_some(())
        });
    }
}

/// As many tokens as were answered, each once, and every change with its number.
fn check(cluster: &Cluster, count: usize) {
    let sql = format!(
        "DO $$ BEGIN IF (SELECT count(*) FROM tokens) <> {count} OR (SELECT count(DISTINCT id) FROM tokens) <> {count} \
         OR (SELECT count(*) FROM audit_log WHERE action = 'token.insert') <> {count} THEN RAISE 'not {count}'; END IF; END $$",
    );
    assert!(cluster.run("test_0", &sql), "{} were answered, and another number was made", count);
    // A gap in the numbers, or a change that has none, would hold this up for ever.
    wait_for("every change has its number", || {
        let sql = "DO $$ BEGIN IF EXISTS (SELECT 1 FROM outbox WHERE sequence IS NULL) OR (SELECT count(*) FROM outbox) \
                   <> (SELECT max(sequence) FROM outbox) THEN RAISE 'not yet'; END IF; END $$";
        cluster.run("test_0", sql).then_some(())
    });
}
