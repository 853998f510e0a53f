//! What the decision log costs a request: the same node without it, with it, and with it brought into ClickHouse.
//!
//! In: rounds, seconds. Out: CPU of each, their ratios within a round, and what the threads beside the shard take for a million rows.
//! Always holds: the CPU counts until the server has every row of the run, not only until the load ends; the order of the three
//! turns with each round.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clickhouse::{Engine, Kind};
use crate::compare::pin_to;
use crate::load::{Request, closed_loop};
use crate::micro::row;
use crate::peers::{Bench, Peer, TOKEN_POOR, TOKEN_RICH};
use crate::process::find_program;
use crate::record::{Figures, Machine, Row, median, write};
use crate::{clock, render, shipped};

/// What `journal` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often everything is measured; odd, so that there is a middle.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// The core the nodes run on.
    #[arg(long, default_value_t = 0)]
    core_subject: usize,
    /// The core of the load, the origin, and the server.
    #[arg(long, default_value_t = 1)]
    core_load: usize,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/journal.json")]
    out: PathBuf,
}

const CONNECTIONS: usize = 64;
const WAYS: [&str; 3] = ["off", "on", "exported"];
const EXPORTED: usize = 2;
/// Name, path, token, status.
const CASES: [(&str, &str, &str, u16); 2] = [
    ("proxying 100 B", "/paid/100B", TOKEN_RICH, 200),
    ("refusing with 429", "/paid/100B", TOKEN_POOR, 429),
];
/// Threads beside the shard, as the kernel cuts their names to 15 characters.
const THREADS: [(&str, &str); 3] =
    [("payfence-drain", "drain"), ("payfence-sync", "sync"), ("ship-clickhouse", "export")];
/// The server has what there is when it has had no more for so long: twice the age at which a batch is sent.
const STILL: Duration = Duration::from_secs(2);
const CAUGHT_UP: Duration = Duration::from_secs(60);

/// The one shard's thread.
const SHARD: &str = "payfence-0";

/// CPU a request of each way, and of each thread for a million rows, one entry a round.
#[derive(Default)]
struct Case {
    request_us: [Vec<f64>; WAYS.len()],
    /// What of it the shard itself took.
    shard_us: [Vec<f64>; WAYS.len()],
    threads_s: [Vec<f64>; THREADS.len()],
}

struct Scene {
    engine: Engine,
    nodes: Vec<Peer>,
    _origin: Peer,
    _homes: Vec<Bench>,
}

/// Measures all rounds.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0, "--rounds and --seconds start at 1");
    find_program("clickhouse-server", "clickhouse-server")?;
    find_program("wrk", "wrk")?;
    pin_to(options.core_load)?;
    let scene = Scene::start(options)?;
    let mut cases: [Case; CASES.len()] = Default::default();
    for round in 0..options.rounds {
        for (what, case) in CASES.iter().zip(&mut cases) {
            for turn in 0..WAYS.len() {
                let way = (round + turn) % WAYS.len();
                scene.measure(options, *what, way, case).with_context(|| what.0.to_owned())?;
            }
            let last = case.request_us.each_ref().map(|rounds| rounds.last().copied());
            println!("round {} of {}: {} {last:.2?} µs", round + 1, options.rounds, what.0);
        }
    }
    let rows = CASES.iter().zip(&cases).flat_map(|((name, ..), case)| case.rows(name)).collect();
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

impl Case {
    fn rows(&self, name: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for (what, ways) in [("CPU", &self.request_us), ("the shard's own CPU", &self.shard_us)] {
            for (way, rounds) in WAYS.iter().zip(ways) {
                let name = format!("{name}: {what} per request, journal {way}");
                rows.push(row(name, median(rounds), "µs"));
            }
            for (way, rounds) in WAYS.iter().zip(ways).skip(1) {
                let ratios = rounds.iter().zip(&ways[0]).map(|(with, off)| with / off);
                let ratios: Vec<f64> = ratios.collect();
                rows.push(row(format!("{name}: {what}, {way} ÷ off"), median(&ratios), ""));
            }
        }
        for ((_, thread), rounds) in THREADS.iter().zip(&self.threads_s) {
            let name = format!("{name}: CPU of the {thread} thread, a million rows");
            rows.push(row(name, median(rounds), "s"));
        }
        rows
    }
}

impl Scene {
    fn start(options: &Options) -> Result<Self> {
        let engine = Engine::start(Kind::Old).context("clickhouse-server does not start")?;
        let home = || Bench::new(options.payfence.clone(), options.core_subject, options.core_load);
        let homes = [home()?, home()?, home()?];
        let origin = homes[0].origin()?;
        let url = engine.url();
        let ways: [&[&str]; WAYS.len()] = [&["--journal", "off"], &[], &["--clickhouse-url", &url]];
        let nodes = homes.iter().zip(ways);
        let nodes = nodes.map(|(home, flags)| home.payfence_told(&origin.address, flags));
        let nodes = nodes.collect::<Result<Vec<Peer>>>()?;
        Ok(Self { engine, nodes, _origin: origin, _homes: homes.into() })
    }

    fn measure(
        &self,
        options: &Options,
        (_, path, token, status): (&str, &str, &'static str, u16),
        way: usize,
        case: &mut Case,
    ) -> Result<()> {
        let node = &self.nodes[way];
        let request = Request {
            path: path.into(),
            token: Some(token),
            status,
            is_tls: false,
            differs: false,
        };
        let load =
            |seconds| closed_loop(options.core_load, &node.address, &request, CONNECTIONS, seconds);
        // A subscription of few units spends them here: the first answers may be 200.
        let _ = load(1);
        let rows_before = self.rows_when_still(way)?;
        let threads_before = node.server.threads_cpu_ns()?;
        let counted = load(options.seconds)?;
        let rows = self.rows_when_still(way)? - rows_before;
        let (mut process_ns, mut shard_ns) = (0, 0);
        let mut beside_ns = [0; THREADS.len()];
        for (name, ns) in node.server.threads_cpu_ns()? {
            let spent = ns.saturating_sub(threads_before.get(&name).copied().unwrap_or(0));
            process_ns += spent;
            shard_ns += if name == SHARD { spent } else { 0 };
            if let Some(at) = THREADS.iter().position(|(thread, _)| *thread == name) {
                beside_ns[at] += spent;
            }
        }
        let each_us = |ns: u64| ns as f64 / 1e3 / counted.requests as f64;
        case.request_us[way].push(each_us(process_ns));
        case.shard_us[way].push(each_us(shard_ns));
        if way == EXPORTED {
            ensure!(rows >= counted.requests, "{rows} rows of {} requests", counted.requests);
            for (rounds, ns) in case.threads_s.iter_mut().zip(beside_ns) {
                rounds.push(ns as f64 / 1e9 / (rows as f64 / 1e6));
            }
        }
        Ok(())
    }

    /// How many rows the server has once it has all of them; nothing to wait for where none are sent.
    fn rows_when_still(&self, way: usize) -> Result<u64> {
        if way != EXPORTED {
            return Ok(0);
        }
        let (mut rows, mut since) = (0, clock::now());
        let is_still = clock::wait_until(CAUGHT_UP, || {
            let now = shipped::count(&self.engine).unwrap_or(0);
            if now != rows {
                (rows, since) = (now, clock::now());
            }
            rows > 0 && since.elapsed() >= STILL
        });
        ensure!(is_still, "after {CAUGHT_UP:?} the server still gets rows");
        Ok(rows)
    }
}
