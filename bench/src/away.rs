//! What nodes do while everything but them is down: minutes of load without a control plane, a period that ends meanwhile, and the way back.
//!
//! In: the built binary, a control plane on SQLite. Out: how many requests of each kind were served and refused, and with what reason.
//! Always holds: a run fails where a free path, an unlimited plan or a leased unit was refused, where something was refused for any other
//! reason than the contract's, and where a quota was passed or could not be used up once the control plane was back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::keep::Keep;
use crate::peers::{Bench, HOST};
use crate::plane::Plane;
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

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.minutes > 0 && options.rate > 0, "--minutes and --rate start at 1");
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let origin = bench.origin()?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("control.db").display());
    let plane = Plane::init(&options.payfence, url, folder.path())?;
    let served = plane.serve()?;
    let kinds = fill(options, &plane, &origin.address)?;
    let nodes = [plane.node(0, "2", READY)?, plane.node(1, "2", READY)?];
    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    let before = load(options, &kinds, &addresses, WARM)?;
    println!("with the control plane: {before:?}");
    drop(served);
    let minutes = Duration::from_secs(60 * options.minutes);
    let away = load(options, &kinds, &addresses, minutes)?;
    println!("without it: {away:?}");
    let served = plane.serve()?;
    let back = load(options, &kinds, &addresses, minutes.min(Duration::from_secs(90)))?;
    println!("with it again: {back:?}");
    let rows = judge(options, &kinds, [&before, &away, &back])?;
    drop(served);
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

/// A site with a plan of each kind, and a token of each.
fn fill(options: &Options, plane: &Plane<'_>, origin: &str) -> Result<Vec<Kind>> {
    let site = json!({ "slug": "bench", "origin": format!("http://{origin}"), "hosts": [HOST] });
    let site = plane.make("/v1/sites", &site)?;
    let within = format!("/v1/sites/{site}");
    plane.make(&format!("{within}/resources"), &json!({ "pattern": "/paid/100B" }))?;
    let customer = plane.make("/v1/customers", &json!({}))?;
    // The large quota's day ends in the middle of the time without a control plane.
    let ends_s = clock::unix_s() + WARM.as_secs() + 10 + 30 * options.minutes;
    let anchor = jiff::Timestamp::from_second(i64::try_from(ends_s)?)?.to_string();
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
            plane.make(&format!("{within}/plans"), &json!({ "name": name, "quota": quota }))?;
        let subscription = json!({
            "site_id": site, "plan_id": plan, "customer_id": customer, "period_anchor": anchor,
        });
        let subscription = plane.make("/v1/subscriptions", &subscription)?;
        let token = plane.post("/v1/tokens", &json!({ "subscription_id": subscription }))?;
        let token = token["secret"].as_str().map(str::to_owned);
        kinds.push(Kind { name, path: "/paid/100B", token });
    }
    Ok(kinds)
}

/// Asks each kind at its rate for so long, at the nodes in turn.
fn load(
    options: &Options,
    kinds: &[Kind],
    addresses: &[&str],
    time: Duration,
) -> Result<Vec<Seen>> {
    let is_over = AtomicBool::new(false);
    let pause = Duration::from_secs_f64(1.0 / options.rate as f64);
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
