//! What nodes do while everything but them is down: minutes of load without a control plane, a period that ends meanwhile, and the way back.
//!
//! In: the built binary, a control plane on SQLite. Out: how many requests of each kind were served and refused, and with what reason.
//! Always holds: a run fails where a free path, an unlimited plan or a leased unit was refused, where something was refused for any other
//! reason than the contract's, and where a quota was passed or could not be used up once the control plane was back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::control::init;
use crate::keep::Keep;
use crate::peers::{Bench, HOST};
use crate::process::{Server, free_port};
use crate::record::{Figures, Machine, Row, write};
use crate::{clock, render};

/// What `away` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Minutes without a control plane.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Requests a second of each kind.
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/away.json")]
    out: PathBuf,
}

/// Load before everything goes, so that units are leased.
const WARM: Duration = Duration::from_secs(15);
const READY: Duration = Duration::from_secs(30);
/// The small quota: more than is leased at once, less than the load would use.
const SMALL: u64 = 3_000;
/// The large one: a hundredth of it covers the load.
const LARGE: u64 = 10_000_000;

/// A kind of request.
struct Kind {
    name: &'static str,
    path: &'static str,
    token: Option<String>,
}

/// Answers of one kind, by status and reason.
type Seen = BTreeMap<String, u64>;

struct Scene<'a> {
    options: &'a Options,
    folder: &'a Path,
    control: String,
    key: String,
}

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.minutes > 0 && options.rate > 0, "--minutes and --rate start at 1");
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let origin = bench.origin()?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("control.db").display());
    let key = init(&options.payfence, &url, folder.path())?;
    let control = format!("127.0.0.1:{}", free_port()?);
    let scene = Scene { options, folder: folder.path(), control, key };
    let plane = scene.serve()?;
    let kinds = scene.fill(&origin.address)?;
    let nodes = [scene.node(0)?, scene.node(1)?];
    let addresses: Vec<&str> = nodes.iter().map(|(_, address)| address.as_str()).collect();
    let before = scene.load(&kinds, &addresses, WARM)?;
    println!("with the control plane: {before:?}");
    drop(plane);
    let minutes = Duration::from_secs(60 * options.minutes);
    let away = scene.load(&kinds, &addresses, minutes)?;
    println!("without it: {away:?}");
    let plane = scene.serve()?;
    let back = scene.load(&kinds, &addresses, minutes.min(Duration::from_secs(90)))?;
    println!("with it again: {back:?}");
    let rows = judge(options, &kinds, [&before, &away, &back])?;
    drop(plane);
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

/// Holds what clients saw against the contract.
fn judge(options: &Options, kinds: &[Kind], parts: [&Vec<Seen>; 3]) -> Result<Vec<Row>> {
    let count =
        |part: &Vec<Seen>, kind: usize, what: &str| part[kind].get(what).copied().unwrap_or(0);
    for (kind, Kind { name, .. }) in kinds.iter().enumerate() {
        for (part, seen) in parts.iter().enumerate() {
            let allowed: &[&str] = match (*name, part) {
                ("small quota", 1) => &["200", "503 ledger_unreachable"],
                // Its last units may wait for what a node still holds.
                ("small quota", 2) => &["200", "429 quota_exhausted", "503 ledger_unreachable"],
                _ => &["200"],
            };
            let odd = seen[kind].keys().find(|what| !allowed.contains(&what.as_str()));
            ensure!(odd.is_none(), "{name}, part {part}: {seen:?}");
        }
    }
    let small = kinds.iter().position(|kind| kind.name == "small quota").context("a kind")?;
    let used: u64 = parts.iter().map(|part| count(part, small, "200")).sum();
    ensure!(used == SMALL, "{used} of {SMALL} units were admitted");
    ensure!(count(parts[1], small, "503 ledger_unreachable") > 0, "nothing was ever not covered");
    let mut rows = vec![row("minutes without a control plane", options.minutes)];
    for (kind, Kind { name, .. }) in kinds.iter().enumerate() {
        rows.push(row(format!("without it: {name}, served"), count(parts[1], kind, "200")));
        let refused: u64 = parts[1][kind].values().sum::<u64>() - count(parts[1], kind, "200");
        rows.push(row(format!("without it: {name}, refused"), refused));
    }
    rows.push(row("small quota: admitted in all", used));
    Ok(rows)
}

fn row(name: impl Into<String>, value: u64) -> Row {
    Row { name: name.into(), value: value as f64, unit: String::new() }
}

impl Scene<'_> {
    fn serve(&self) -> Result<Server> {
        let log = self.folder.join("control.log");
        let data = self.folder.display().to_string();
        let url = format!("sqlite://{}", self.folder.join("control.db").display());
        #[rustfmt::skip]
        let arguments = [
            "controlplane", "--database-url", &url, "--data-dir", &data, "--listen", &self.control, "--allow-private-origins",
        ];
        let mut server =
            Server::start("control plane", "0,1", &self.options.payfence, &arguments, &log)?;
        server.wait_ready(&self.control, &log)?;
        Ok(server)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = Keep::open(&self.control)?.ask("POST", path, Some(&self.key), Some(body))?;
        ensure!(answer.status == 201, "{path}: {}", answer.text());
        answer.json()
    }

    /// A site with a plan of each kind, and a token of each.
    fn fill(&self, origin: &str) -> Result<Vec<Kind>> {
        let id = |made: &Value| made["id"].as_str().unwrap_or_default().to_owned();
        let site =
            json!({ "slug": "bench", "origin": format!("http://{origin}"), "hosts": [HOST] });
        let site = id(&self.post("/v1/sites", &site)?);
        let within = format!("/v1/sites/{site}");
        self.post(&format!("{within}/resources"), &json!({ "pattern": "/paid/100B" }))?;
        let customer = id(&self.post("/v1/customers", &json!({}))?);
        // The large quota's day ends in the middle of the time without a control plane.
        let ends_s = clock::unix_s() + WARM.as_secs() + 10 + 30 * self.options.minutes;
        let anchor = instant(ends_s)?;
        let mut kinds = vec![Kind { name: "free path", path: "/paid/10KiB", token: None }];
        for (name, quota, anchor) in [
            ("unlimited plan", Value::Null, None),
            (
                "large quota, whose period ends",
                json!({ "requests": LARGE, "per": "day" }),
                Some(anchor),
            ),
            ("small quota", json!({ "requests": SMALL, "per": "year" }), None),
        ] {
            let plan =
                id(&self
                    .post(&format!("{within}/plans"), &json!({ "name": name, "quota": quota }))?);
            let subscription = json!({
                "site_id": site, "plan_id": plan, "customer_id": customer, "period_anchor": anchor,
            });
            let subscription = id(&self.post("/v1/subscriptions", &subscription)?);
            let token = self.post("/v1/tokens", &json!({ "subscription_id": subscription }))?;
            let token = token["secret"].as_str().map(str::to_owned);
            kinds.push(Kind { name, path: "/paid/100B", token });
        }
        Ok(kinds)
    }

    fn node(&self, number: usize) -> Result<(Server, String)> {
        let node = self.post("/v1/nodes", &json!({ "name": format!("n{number}") }))?;
        let path = format!("/v1/nodes/{}/tokens", node["id"].as_str().unwrap_or_default());
        let token = self.post(&path, &json!({}))?;
        let home = self.folder.join(format!("n{number}"));
        fs::create_dir_all(&home)?;
        let file = home.join("token");
        fs::write(&file, token["secret"].as_str().unwrap_or_default())?;
        let (address, admin) =
            (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let (url, file) = (format!("http://{}", self.control), file.display().to_string());
        let data = home.display().to_string();
        #[rustfmt::skip]
        let arguments = [
            "dataplane", "--control-url", &url, "--node-token-file", &file, "--allow-private-origins", "--listen", &address,
            "--admin", &admin, "--data-dir", &data, "--shards", "2",
        ];
        let log = home.join("log");
        let server = Server::start("node", "0,1", &self.options.payfence, &arguments, &log)?;
        let is_up = clock::wait_until(READY, || {
            let asked = Keep::open(&admin).and_then(|mut keep| keep.get("/readyz", None));
            asked.is_ok_and(|answer| answer.status == 200)
        });
        ensure!(
            is_up,
            "a node did not get ready: {}",
            fs::read_to_string(&log).unwrap_or_default()
        );
        Ok((server, address))
    }

    /// Asks each kind at its rate for so long, at the nodes in turn.
    fn load(&self, kinds: &[Kind], addresses: &[&str], time: Duration) -> Result<Vec<Seen>> {
        let is_over = AtomicBool::new(false);
        let pause = Duration::from_secs_f64(1.0 / self.options.rate as f64);
        std::thread::scope(|scope| {
            let asked: Vec<_> = kinds
                .iter()
                .map(|kind| scope.spawn(|| ask_until(kind, addresses, pause, &is_over)))
                .collect();
            clock::wait_until(time, || false);
            is_over.store(true, SeqCst);
            asked
                .into_iter()
                .map(|asked| asked.join().map_err(|_| anyhow::anyhow!("a client failed"))?)
                .collect()
        })
    }
}

fn ask_until(
    kind: &Kind,
    addresses: &[&str],
    pause: Duration,
    is_over: &AtomicBool,
) -> Result<Seen> {
    let mut seen = Seen::new();
    let mut clients =
        addresses.iter().map(|address| Keep::open(address)).collect::<Result<Vec<_>>>()?;
    let start = clock::now();
    let mut asked = 0_u32;
    while !is_over.load(SeqCst) {
        let at = asked as usize % clients.len();
        let answer = clients[at].get(kind.path, kind.token.as_deref());
        let answer = answer.with_context(|| format!("{} after {asked} requests", kind.name))?;
        let what = match answer.status {
            200 => "200".to_owned(),
            status => {
                let reason = answer.json()?["reason"].as_str().unwrap_or_default().to_owned();
                format!("{status} {reason}")
            }
        };
        *seen.entry(what).or_default() += 1;
        asked += 1;
        let due = (pause * asked).saturating_sub(start.elapsed());
        if !due.is_zero() {
            std::thread::park_timeout(due);
        }
    }
    Ok(seen)
}

/// RFC 3339.
fn instant(unix_s: u64) -> Result<String> {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{unix_s}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
