//! A node under load that is killed at random moments and started again: what it gave away, against what it and ClickHouse count.
//!
//! In: how many kills, a seed, a quota that is used up once all are over; on request, decision rings that are deleted at each kill, as
//! a reboot does. Out: units as clients, node, journal and ClickHouse count them, and how long a start took, as a record.
//! Always holds: a run fails that gave away more than the quota, or less than was neither cut off nor named as lost; so does one in
//! which node, journal and server differ by a unit.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::clickhouse::{Engine, Kind};
use crate::load_over_kills::Load;
use crate::micro::row;
use crate::peers::{Addresses, Bench, Front, HOST, Node, Peer, SITE, TOKEN_RICH};
use crate::process::find_program;
use crate::record::{Figures, Machine, Row, median, write};
use crate::scatter::scatter;
use crate::{clock, render, shipped};

/// What `kills` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often the node is killed under load.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// Says when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Units there are.
    #[arg(long, default_value_t = 700_000)]
    quota: u64,
    /// Connections that ask.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Deletes the decision rings at each kill.
    #[arg(long)]
    delete_rings: bool,
    /// The PayFence to kill.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes (default: docs/performance/kills.json, or kills-rings.json without rings)
    #[arg(long)]
    out: Option<PathBuf>,
}

/// How long units may take to be used, or refusals to come.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the server may take to have every row after the last kill.
const CAUGHT_UP: Duration = Duration::from_secs(150);
/// How long a listener may take to be there.
const LISTENS: Duration = Duration::from_secs(10);
/// Refusals after the quota's end that show that it is one.
const REFUSALS: u64 = 200;
/// Without rings a kill comes at most so long after the start before it.
const UNTIL_KILL_MS_MAX: u64 = 200;

/// What happened at the kills.
#[derive(Default)]
struct Seen {
    starts_ms: Vec<f64>,
    /// Kills before which the node admitted to the last.
    within_quota: usize,
    /// Units that a start named as lost with the rings: leased, and in no row.
    named: u64,
}

/// A node, what it talks to, and what happened to it.
struct Scene<'a> {
    options: &'a Options,
    bench: &'a Bench,
    node: &'a Node<'a>,
    addresses: &'a Addresses,
    rings: &'a Path,
    payfence: Peer,
    seen: Seen,
}

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.kills > 0 && options.connections > 0, "--kills and --connections start at 1");
    find_program("clickhouse-server", "clickhouse-server")?;
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let engine = Engine::start(Kind::Old).context("clickhouse-server does not start")?;
    let origin = bench.origin()?;
    let rings = tempfile::tempdir_in(dataplane::journal::SHARED_MEMORY)?;
    let (url, ring_dir) = (engine.url(), rings.path().display().to_string());
    let site = SITE.replace("ORIGIN", &format!("http://{}", origin.address));
    let policy = site + &PLAN.replace("QUOTA", &options.quota.to_string());
    let flags = ["--clickhouse-url", &url, "--ring-dir", &ring_dir];
    let node = Node { policy, cores: vec![0, 1], front: Front::Plain, flags: &flags };
    let addresses = Addresses::free()?;
    let payfence = bench.start_node(&node, &addresses)?;
    let (node, addresses, seen) = (&node, &addresses, Seen::default());
    let mut scene =
        Scene { options, bench: &bench, node, addresses, rings: rings.path(), payfence, seen };
    let load = Load::new(&addresses.address, message("/paid/100B", "keep-alive"));
    let start = clock::now();
    std::thread::scope(|scope| {
        for _ in 0..options.connections {
            scope.spawn(|| load.ask_until_over());
        }
        let done = scene.kill_all(&load);
        load.end();
        done
    })?;
    let took_s = start.elapsed().as_secs_f64();
    // Once more with nothing under way: what is restored is what was used.
    scene.kill()?;
    let rows = scene.judge(&load, &engine, took_s)?;
    let figures = Figures { machine: Machine::here(), rows };
    let out = options.out.clone().unwrap_or_else(|| default_out(options.delete_rings).into());
    write(&out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), out.display());
    Ok(())
}

fn default_out(has_no_rings: bool) -> &'static str {
    if has_no_rings { "docs/performance/kills-rings.json" } else { "docs/performance/kills.json" }
}

impl Scene<'_> {
    /// All kills under load, then the rest of the quota.
    fn kill_all(&mut self, load: &Load) -> Result<()> {
        let mut state = self.options.seed;
        let mut moments: Vec<u64> =
            (0..self.options.kills).map(|_| scatter(&mut state) % self.options.quota).collect();
        moments.sort_unstable();
        for moment in moments {
            let refused = load.refused.load(Relaxed);
            if self.options.delete_rings {
                // What a lost ring takes along is not known before: the clock says when.
                let until = Duration::from_millis(moment % UNTIL_KILL_MS_MAX);
                clock::wait_until(until, || false);
            } else {
                let is_due = || load.admitted.load(Relaxed) >= moment;
                ensure!(clock::wait_until(PATIENCE, is_due), "{moment} units are never used");
            }
            self.seen.within_quota += usize::from(load.refused.load(Relaxed) == refused);
            self.kill()?;
        }
        let enough = load.refused.load(Relaxed) + REFUSALS;
        let is_used_up = clock::wait_until(PATIENCE, || load.refused.load(Relaxed) >= enough);
        ensure!(is_used_up, "the quota is never used up");
        Ok(())
    }

    /// SIGKILL, and a new start with what is left.
    fn kill(&mut self) -> Result<()> {
        self.payfence.server.kill()?;
        if self.options.delete_rings {
            fs::remove_dir_all(self.rings)?;
        }
        let start = clock::now();
        self.payfence = self.bench.start_node(self.node, self.addresses)?;
        self.seen.starts_ms.push(start.elapsed().as_secs_f64() * 1e3);
        let admin = &self.addresses.admin;
        let asked = format!("GET /status HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        let recovered = ask(admin, &asked)?["journal"]["recovered"].clone();
        match (recovered.as_str(), self.options.delete_rings) {
            (None, false) => Ok(()),
            (Some(text), true) => {
                self.seen.named += units_named(text)?;
                Ok(())
            }
            (Some(text), false) => bail!("decisions were lost: {text}"),
            (None, true) => bail!("the rings are gone, and the node does not say so"),
        }
    }

    /// Holds what clients saw, the node says, its journal and the server have against each other.
    fn judge(&self, load: &Load, engine: &Engine, took_s: f64) -> Result<Vec<Row>> {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
        let (admitted, refused, cut) = (read(&load.admitted), read(&load.refused), read(&load.cut));
        let (quota, named) = (self.options.quota, self.seen.named);
        let asked = message("/.payfence/usage", "close");
        let used = ask(&self.addresses.address, &asked)?["used"].as_u64().context("no use")?;
        let (rows, charged) = self.journal()?;
        println!(
            "{admitted} admitted, {refused} refused, {cut} cut off; {used} units used, {charged} in {rows} rows, {named} named as lost"
        );
        ensure!(read(&load.other) == 0, "{} other answers", read(&load.other));
        ensure!(admitted <= quota, "{admitted} requests were admitted with a quota of {quota}");
        // A dead node's listeners outlive it by moments: what was sent to them is cut off too, and was never admitted.
        let in_flight = cut.min((self.options.connections * self.options.kills) as u64);
        let accounted = admitted + in_flight + named;
        ensure!(accounted >= quota, "of {quota} units only {accounted} are accounted for");
        ensure!(used == quota, "{used} units are used, {quota} there were");
        ensure!(charged + named == used, "{charged} in rows and {named} lost are not {used}");
        let made = admitted + refused;
        let is_whole = rows >= made || self.options.delete_rings;
        ensure!(is_whole && rows <= made + cut, "{rows} rows of {made} answers, {cut} cut off");
        let caught_up_s = until_shipped(engine, rows, charged)?;
        shipped::verify(engine, &self.options.payfence, &self.bench.payfence_home())?;
        let starts_ms = &self.seen.starts_ms;
        let mut figures = vec![
            row("kills under load", self.options.kills as f64, ""),
            row("of these before the quota's end", self.seen.within_quota as f64, ""),
            row("connections", self.options.connections as f64, ""),
            row("units there were", quota as f64, ""),
            row("requests that clients saw admitted", admitted as f64, ""),
            row("requests that clients saw refused", refused as f64, ""),
            row("requests without an answer, cut off by a kill", cut as f64, ""),
            row("units used, as the node says after the last start", used as f64, ""),
            row("units in the journal's rows", charged as f64, ""),
            row("units in ClickHouse's rows", charged as f64, ""),
            row("rows in the journal and in ClickHouse, each once", rows as f64, ""),
        ];
        if self.options.delete_rings {
            figures.push(row("units named as leased and in no row", named as f64, ""));
        }
        figures.extend([
            row("until a start took requests, median", median(starts_ms), "ms"),
            row("the longest", starts_ms.iter().copied().fold(0.0, f64::max), "ms"),
            row("until ClickHouse had every row", caught_up_s, "s"),
            row("load in all", took_s, "s"),
        ]);
        Ok(figures)
    }

    /// Rows of the journal, and the units they took.
    fn journal(&self) -> Result<(u64, u64)> {
        #[derive(Deserialize)]
        struct Charge {
            charge: u64,
        }
        let mut cat = Command::new(&self.options.payfence)
            .args(["journal", "cat", "--data-dir"])
            .arg(self.bench.payfence_home())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = cat.stdout.take().context("its output is piped")?;
        let (mut rows, mut charged) = (0, 0);
        for line in BufReader::new(out).lines() {
            charged += serde_json::from_str::<Charge>(&line?)?.charge;
            rows += 1;
        }
        ensure!(cat.wait()?.success(), "the journal cannot be read");
        Ok((rows, charged))
    }
}

/// Seconds until the server has it all. A node that died within an INSERT leaves rows without their sums, until the next one asks
/// and mends them.
fn until_shipped(engine: &Engine, rows: u64, units: u64) -> Result<f64> {
    let start = clock::now();
    let mut found = Ok(());
    clock::wait_until(CAUGHT_UP, || {
        let there = shipped::count(engine);
        found = if there == Some(rows) {
            shipped::check(engine, rows, units)
        } else {
            Err(anyhow::anyhow!("the server has {there:?} rows of {rows}"))
        };
        found.is_ok()
    });
    found.with_context(|| format!("{CAUGHT_UP:?} after the last kill"))?;
    Ok(start.elapsed().as_secs_f64())
}

fn message(path: &str, connection: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {TOKEN_RICH}\r\nConnection: {connection}\r\n\r\n"
    )
}

/// The JSON that a request is answered with, on a connection that ends after it. A node's listeners begin one after the other.
fn ask(address: &str, message: &str) -> Result<Value> {
    let mut connected = None;
    clock::wait_until(LISTENS, || {
        connected = TcpStream::connect(address).ok();
        connected.is_some()
    });
    let mut stream = connected.with_context(|| format!("nobody listens at {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(message.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to));
    Ok(serde_json::from_str(body.with_context(|| format!("no JSON: {text}"))?)?)
}

/// The number of units in what a node says that it lost.
fn units_named(text: &str) -> Result<u64> {
    let before = text.split(" units that were leased").next().unwrap_or_default();
    let number = before.rsplit(' ').next().and_then(|word| word.parse().ok());
    number.with_context(|| format!("no units are named: {text}"))
}

const PLAN: &str = r#"
[[sites.plans]]
id = "limited"
quota = { requests = QUOTA, per = "year" }

[[sites.subscriptions]]
id = "sub_limited"
plan = "limited"
customer = "limited"
status = "active"
tokens = [ { id = "tok_limited", value = "RICH" } ]
"#;
