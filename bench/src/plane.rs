//! A control plane of the built binary, and nodes at it.
//!
//! In: a database's URL, a folder. Out: REST answers, running nodes. Always holds: what is started here ends with its owner; a node
//! that is given back serves.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stripe_sandbox::Sandbox;

use crate::clock;
use crate::keep::Keep;
use crate::process::{Server, free_port};

/// Between two looks at a node: fine enough for the figures, and leaves the cores to those that are measured.
const LOOK: Duration = Duration::from_micros(500);

/// Where a control plane is, and what opens it.
pub struct Plane<'a> {
    payfence: &'a Path,
    folder: &'a Path,
    database_url: String,
    pub address: String,
    key: String,
}

/// Flags by which a control plane has this Stripe, whose webhooks are signed with `secret`.
pub fn flags_of_stripe(folder: &Path, sandbox: &Sandbox, secret: &str) -> Result<Vec<String>> {
    let (key, webhook) = (folder.join("stripe.key"), folder.join("stripe.webhook"));
    fs::write(&key, sandbox.secret_key())?;
    fs::write(&webhook, secret)?;
    let flags = [
        ["--stripe-secret-key-file", &key.display().to_string()],
        ["--stripe-webhook-secret-file", &webhook.display().to_string()],
        ["--stripe-base-url", &sandbox.url()],
        ["--public-url", "https://pay.example"],
    ];
    Ok(flags.concat().into_iter().map(str::to_owned).collect())
}

/// A node that serves.
pub struct Node {
    pub server: Server,
    pub address: String,
    pub admin: String,
    /// From its start until it was ready.
    pub ready_s: f64,
}

impl<'a> Plane<'a> {
    /// Makes the first account in this database. Nothing is served yet.
    pub fn init(payfence: &'a Path, database_url: String, folder: &'a Path) -> Result<Self> {
        let output = std::process::Command::new(payfence)
            .args(["controlplane", "--database-url", &database_url, "--data-dir"])
            .arg(folder)
            .args(["init", "--account", "Bench", "--email", "bench@example.com"])
            .output()
            .context("the binary does not run")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key = String::from_utf8(output.stdout)?.trim().to_owned();
        let address = format!("127.0.0.1:{}", free_port()?);
        Ok(Self { payfence, folder, database_url, address, key })
    }

    /// Serves until what is given back is dropped.
    pub fn serve(&self) -> Result<Server> {
        self.serve_with(&[])
    }

    /// The same with more flags.
    pub fn serve_with(&self, more: &[&str]) -> Result<Server> {
        let log = self.folder.join("control.log");
        let data = self.folder.display().to_string();
        #[rustfmt::skip]
        let arguments = [
            "controlplane", "--database-url", &self.database_url, "--data-dir", &data, "--listen", &self.address,
            "--allow-private-origins",
        ];
        let arguments = [&arguments[..], more].concat();
        let mut server = Server::start("control plane", "0,1", self.payfence, &arguments, &log)?;
        server.wait_ready(&self.address, &log)?;
        Ok(server)
    }

    /// What it has said since it was served last.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("control.log"))?)
    }

    /// One request on a connection that is there.
    pub fn ask(&self, keep: &mut Keep, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = keep.ask(method, path, Some(&self.key), Some(body))?;
        ensure!(matches!(answer.status, 200 | 201), "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// Makes something, on a connection of its own.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(&mut Keep::open(&self.address)?, "POST", path, body)
    }

    /// The same; its id.
    pub fn make(&self, path: &str, body: &Value) -> Result<String> {
        let made = self.post(path, body)?;
        made["id"].as_str().map(str::to_owned).with_context(|| format!("{path}: no id"))
    }

    /// An account that may be paid, in the mode `test`; its id at Stripe.
    pub fn sell(&self, sandbox: &Sandbox) -> Result<String> {
        let owner = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
        let owner = self.post("/v1/stripe/account", &owner)?;
        let account = owner["stripe_id"].as_str().context("no account")?.to_owned();
        let ready = sandbox.onboard(&account);
        ensure!(ready.is_ok(), "not onboarded: {ready:?}");
        Ok(account)
    }

    /// Starts a node and waits until it serves.
    pub fn node(&self, number: usize, shards: &str, deadline: Duration) -> Result<Node> {
        let node = self.make("/v1/nodes", &json!({ "name": format!("n{number}") }))?;
        let token = self.post(&format!("/v1/nodes/{node}/tokens"), &json!({}))?;
        let home = self.folder.join(format!("n{number}"));
        fs::create_dir_all(&home)?;
        let file = home.join("token");
        fs::write(&file, token["secret"].as_str().unwrap_or_default())?;
        let (address, admin) =
            (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let (url, file) = (format!("http://{}", self.address), file.display().to_string());
        let data = home.display().to_string();
        #[rustfmt::skip]
        let arguments = [
            "dataplane", "--control-url", &url, "--node-token-file", &file, "--allow-private-origins", "--listen", &address,
            "--admin", &admin, "--data-dir", &data, "--shards", shards,
        ];
        let log = home.join("log");
        let start = clock::now();
        let server = Server::start("node", "0,1", self.payfence, &arguments, &log)?;
        let is_up = clock::wait_until(deadline, || {
            let asked = Keep::open(&admin).and_then(|mut keep| keep.get("/readyz", None));
            asked.is_ok_and(|answer| answer.status == 200)
        });
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(is_up, "a node did not get ready; it said:\n{}", said());
        Ok(Node { server, address, admin, ready_s: start.elapsed().as_secs_f64() })
    }
}

/// Asks every node until each has answered with this status; how long after `start` the last one did.
pub fn first_answers(
    nodes: &[Node],
    asked: (&str, u16),
    start: Instant,
    deadline: Duration,
) -> Result<Duration> {
    std::thread::scope(|scope| {
        let answers: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || first_answer(node, asked, start, deadline)))
            .collect();
        let mut last = Duration::ZERO;
        for answer in answers {
            last = last.max(answer.join().map_err(|_| anyhow::anyhow!("a client failed"))??);
        }
        Ok(last)
    })
}

fn first_answer(
    node: &Node,
    (token, status): (&str, u16),
    start: Instant,
    deadline: Duration,
) -> Result<Duration> {
    let mut keep = Keep::open(&node.address)?;
    loop {
        let answer = keep.get("/paid/100B", Some(token))?;
        if answer.status == status {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < deadline, "no {status} within {deadline:?}: {}", answer.text());
        std::thread::park_timeout(LOOK);
    }
}
