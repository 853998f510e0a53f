//! PayFence with everything on against nginx doing nothing but `proxy_pass`, and refusals against `return 429`.
//!
//! In: rounds, seconds, a filter. Out: a record of every figure of every round, and a table of medians.
//! Always holds: within a round both sides run one after the other, alternating who is first, on the same core, against
//! the same origin and load generator on another core; the fixed rate is the same for both.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::load::{Request, closed_loop};
use crate::open_loop::undisturbed;
use crate::peers::{BODIES, Bench, Peer, TOKEN_POOR, TOKEN_RICH};
use crate::process::{Server, find_program};
use crate::record::{Case, Comparison, Figure, Machine, median, write};
use crate::{clock, render};

/// What `compare` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often everything is measured; odd, so that there is a middle.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Only cases whose name contains one of these, as `proxy-100B-c64`; commas between.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the latencies at a fixed rate.
    #[arg(long)]
    no_latency: bool,
    /// nginx against itself: shows the noise of the measurement.
    #[arg(long)]
    self_check: bool,
    /// Another build of PayFence in nginx's place; shows what a change came to.
    #[arg(long, conflicts_with = "self_check")]
    against: Option<PathBuf>,
    /// The core the servers under comparison run on.
    #[arg(long, default_value_t = 0)]
    core_subject: usize,
    /// The core of the origin and the load.
    #[arg(long, default_value_t = 1)]
    core_load: usize,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/compare.json")]
    out: PathBuf,
}

/// Slices of each side in which a round measures latencies.
const SLICES: u32 = 10;
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// The two sides of one kind of request.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Proxy,
    Refusal,
}

struct Plan {
    name: String,
    kind: Kind,
    connections: usize,
    payfence: Request,
    nginx: Request,
}

/// Every case, in the order of the table.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    let request =
        |path: &str, token, status| Request { path: path.to_owned(), token, status, is_tls: false };
    for connections in [64, 4] {
        for (body, _) in BODIES {
            let asked = request(&format!("/paid/{body}"), Some(TOKEN_RICH), 200);
            plans.push(Plan {
                name: format!("proxy-{body}-c{connections}"),
                kind: Kind::Proxy,
                connections,
                payfence: asked.clone(),
                nginx: asked,
            });
        }
        for (name, token, status) in [("quota429", Some(TOKEN_POOR), 429), ("token401", None, 401)]
        {
            plans.push(Plan {
                name: format!("{name}-c{connections}"),
                kind: Kind::Refusal,
                connections,
                payfence: request("/paid/100B", token, status),
                nginx: request("/paid/100B", token, 429),
            });
        }
    }
    plans
}

/// Runs the comparison.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0, "--rounds and --seconds start at 1");
    find_program("wrk", "wrk")?;
    find_program("h2load", "nghttp2-client")?;
    find_program("taskset", "util-linux")?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        options.core_subject != options.core_load && cores >= 2,
        "servers and load need a core each; this machine shows {cores}"
    );
    pin_to(options.core_load)?;
    let only = &options.only;
    let is_wanted =
        |plan: &Plan| only.is_empty() || only.iter().any(|part| plan.name.contains(part));
    let plans: Vec<Plan> = plans().into_iter().filter(is_wanted).collect();
    if plans.is_empty() {
        bail!("no case's name contains any of {only:?}");
    }
    let bench = Bench::new(options.payfence.clone(), options.core_subject, options.core_load)?;
    let other = options.against.as_ref();
    let other =
        other.map(|build| Bench::new(build.clone(), options.core_subject, options.core_load));
    let other = other.transpose()?;
    let origin = bench.origin()?;
    let mut cases: Vec<Case> = plans.iter().map(|plan| empty_case(plan, other.is_some())).collect();
    for round in 0..options.rounds {
        let mut sides = match &other {
            Some(other) => Sides::builds(&bench, other, &origin.address)?,
            None => Sides::start(&bench, &origin.address, options.self_check)?,
        };
        for (plan, case) in plans.iter().zip(&mut cases) {
            measure(options, plan, (&mut sides, &origin.server), round % 2 == 1, case)?;
            println!("round {} of {}: {}", round + 1, options.rounds, render::brief(case));
        }
    }
    let comparison = Comparison {
        machine: Machine::here(),
        rounds: options.rounds,
        seconds: options.seconds,
        self_check: options.self_check,
        cases,
    };
    write(&options.out, &comparison)?;
    println!("\n{}\nWritten to {}.", render::comparison(&comparison), options.out.display());
    Ok(())
}

fn empty_case(plan: &Plan, is_of_builds: bool) -> Case {
    let peer = match plan.kind {
        _ if is_of_builds => "(a build)",
        Kind::Proxy => "proxy_pass",
        Kind::Refusal => "return 429",
    };
    let connections = plan.connections;
    Case { name: plan.name.clone(), peer: peer.into(), connections, figures: Vec::new() }
}

/// Both sides, freshly started: a round's memory is not the last round's.
struct Sides {
    payfence: Peer,
    nginx_proxy: Peer,
    /// Where there is none, what proxies refuses too, and is asked as PayFence is.
    nginx_refusing: Option<Peer>,
}

impl Sides {
    fn start(bench: &Bench, origin: &str, self_check: bool) -> Result<Self> {
        let payfence =
            if self_check { bench.nginx_proxy(origin)? } else { bench.payfence(origin)?.0 };
        Ok(Self {
            payfence,
            nginx_proxy: bench.nginx_proxy(origin)?,
            nginx_refusing: Some(bench.nginx_refusing()?),
        })
    }

    /// Two builds of PayFence, the other in nginx's place.
    fn builds(bench: &Bench, other: &Bench, origin: &str) -> Result<Self> {
        let [payfence, nginx_proxy] = [bench.payfence(origin)?.0, other.payfence(origin)?.0];
        Ok(Self { payfence, nginx_proxy, nginx_refusing: None })
    }
}

fn measure(
    options: &Options,
    plan: &Plan,
    (sides, origin): (&mut Sides, &Server),
    nginx_first: bool,
    case: &mut Case,
) -> Result<()> {
    let refusing = sides.nginx_refusing.as_ref();
    let is_build = refusing.is_none();
    let nginx = match refusing {
        Some(refusing) if plan.kind == Kind::Refusal => refusing,
        _ => &sides.nginx_proxy,
    };
    // nginx against itself has no second refusing one: the same server stands on both sides.
    let subject =
        if options.self_check && plan.kind == Kind::Refusal { nginx } else { &sides.payfence };
    let asked = if options.self_check { &plan.nginx } else { &plan.payfence };
    let pair = [(subject, asked), (nginx, if is_build { asked } else { &plan.nginx })];
    let mut capacity = [Vec::new(), Vec::new()];
    let order = if nginx_first { [1, 0] } else { [0, 1] };
    for side in order {
        let (peer, request) = pair[side];
        let how = (options.core_load, options.seconds);
        capacity[side] = measure_capacity(how, peer, request, plan.connections)?;
    }
    // Half of what plain nginx can do; PayFence faces the same rate.
    let rate = capacity[1][1].2 / 2.0;
    if !options.no_latency {
        let latencies = latencies(options, plan.connections, (pair, origin), (rate, order))?;
        for (side, latencies) in capacity.iter_mut().zip(latencies) {
            side.extend(latencies);
        }
    }
    let [payfence, nginx] = capacity;
    for ((name, unit, subject), (_, _, peer)) in payfence.into_iter().zip(nginx) {
        note(case, name, unit, subject, peer);
    }
    Ok(())
}

/// Latencies of both sides at one rate, in short slices that take turns: what the machine does meanwhile meets both alike, and
/// a slice that it spoils is outvoted, since of each quantile the median over the slices is taken.
fn latencies(
    options: &Options,
    connections: usize,
    (pair, origin): ([(&Peer, &Request); 2], &Server),
    (rate, order): (f64, [usize; 2]),
) -> Result<[Measured; 2]> {
    let cores = [options.core_subject, options.core_load];
    let span = Duration::from_secs(options.seconds) * 2 / SLICES;
    let mut quantiles: [[Vec<f64>; QUANTILES.len()]; 2] = Default::default();
    let mut set_aside = [Vec::new(), Vec::new()];
    for slice in 0..SLICES {
        for turn in [0, 1] {
            let side = order[(turn + slice as usize) % 2];
            let (peer, request) = pair[side];
            let asked = (&*peer.address, request);
            let servers = [&peer.server, origin];
            let found = undisturbed(&servers, &cores, asked, connections, (rate, span))?;
            for ((_, share), slices) in QUANTILES.iter().zip(&mut quantiles[side]) {
                slices.push(found.quantile_us(*share));
            }
            set_aside[side].push(found.set_aside_percent());
        }
    }
    Ok([0, 1].map(|side| {
        let quantiles = QUANTILES.iter().zip(&quantiles[side]);
        let mut measured: Measured =
            quantiles.map(|((name, _), slices)| (*name, "µs", median(slices))).collect();
        measured.push(("set aside", "%", median(&set_aside[side])));
        measured
    }))
}

/// Figures of one side: name, unit, value.
pub type Measured = Vec<(&'static str, &'static str, f64)>;

/// CPU a request, requests a second and memory under as much load as there can be.
pub fn measure_capacity(
    (core, seconds): (usize, u64),
    peer: &Peer,
    request: &Request,
    connections: usize,
) -> Result<Measured> {
    let load = |seconds| closed_loop(core, &peer.address, request, connections, seconds);
    // A subscription of few units spends them here: the first answers may be 200.
    let _ = load(1);
    let started = clock::now();
    let cpu_before = peer.server.cpu_ns()?;
    let counted = load(seconds)?;
    let cpu_ns = peer.server.cpu_ns()? - cpu_before;
    ensure!(counted.requests > 0, "no request was answered in {:?}", started.elapsed());
    Ok(vec![
        ("CPU per request", "µs", cpu_ns as f64 / 1e3 / counted.requests as f64),
        ("requests per second", "/s", counted.requests_per_second),
        ("resident memory", "KiB", peer.server.rss_kib()? as f64),
    ])
}

/// Adds one round's figure of both sides to a case.
pub fn note(case: &mut Case, name: &str, unit: &str, subject: f64, peer: f64) {
    if !case.figures.iter().any(|figure| figure.name == name) {
        let figure = Figure { name: name.into(), unit: unit.into(), ..Figure::default() };
        case.figures.push(figure);
    }
    if let Some(figure) = case.figures.iter_mut().find(|figure| figure.name == name) {
        figure.payfence.push(subject);
        figure.nginx.push(peer);
    }
}

/// Keeps this process, which generates load, off the servers' core.
pub fn pin_to(core: usize) -> Result<()> {
    let pid = std::process::id().to_string();
    let status = std::process::Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &pid])
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "cannot pin to core {core}");
    Ok(())
}
