//! PayFence with everything on against nginx doing nothing but `proxy_pass`, and refusals against `return 429`.
//!
//! In: rounds, seconds, a filter. Out: a record of every figure of every round, and a table of medians.
//! Always holds: within a round both sides take turns in short slices, on the same core, against the same origin and load
//! generator on another core; the fixed rate is the same for both.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::load::{Request, closed_loop};
use crate::near_origin::NearOrigin;
use crate::open_loop::{Load, undisturbed};
use crate::peers::{BODIES, Bench, Peer, TOKEN_POOR, TOKEN_RICH};
use crate::process::find_program;
use crate::record::{Case, Comparison, Figure, Machine, median, write};
use crate::{clock, render};

/// What `compare` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often everything is measured; odd, so that there is a middle.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement; of CPU and capacity one a slice.
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

/// A slice of latencies: short, since a thread that never sleeps is made to by the kernel after a while.
const SLICE: Duration = Duration::from_millis(200);
/// Slices of latencies a side, for each second of a measurement.
const SLICES_PER_SECOND: u64 = 10;
/// After so long a server has nothing left to do for the requests it answered.
const SETTLES: Duration = Duration::from_millis(100);
const PER_SECOND: &str = "requests per second";
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
    let request = |path: &str, token, status| Request {
        path: path.to_owned(),
        token,
        status,
        is_tls: false,
        differs: false,
    };
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
    let also = ["proxy-100B-c64", "quota429-c64"];
    let differing = plans.iter().filter(|plan| also.contains(&&*plan.name)).map(Plan::differing);
    let differing: Vec<Plan> = differing.collect();
    plans.extend(differing);
    plans
}

impl Plan {
    /// The same with requests that differ from one to the next.
    fn differing(&self) -> Self {
        let differs = |request: &Request| Request { differs: true, ..request.clone() };
        let Self { name, kind, connections, payfence, nginx } = self;
        Self {
            name: name.replace("-c", "-differing-c"),
            kind: *kind,
            connections: *connections,
            payfence: differs(payfence),
            nginx: differs(nginx),
        }
    }
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
    let far = bench.origin()?;
    let mut near = NearOrigin::bind(&BODIES)?;
    let mut cases: Vec<Case> = plans.iter().map(|plan| empty_case(plan, other.is_some())).collect();
    for round in 0..options.rounds {
        let order = if round % 2 == 1 { [1, 0] } else { [0, 1] };
        let sides = |origin: &str| match &other {
            Some(other) => Sides::builds(&bench, other, origin),
            None => Sides::start(&bench, origin, options.self_check),
        };
        let before = sides(&far.address)?;
        for (plan, case) in plans.iter().zip(&mut cases) {
            let measured = capacities(options, plan.connections, (before.pair(plan), order))?;
            note_both(case, measured);
        }
        drop(before);
        if !options.no_latency {
            let before = sides(near.address())?;
            for (plan, case) in plans.iter().zip(&mut cases) {
                let pair = (before.pair(plan), order);
                note_both(case, latencies(options, plan.connections, pair, rate(case), &mut near)?);
            }
        }
        for case in &cases {
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
    /// The first is nginx, too.
    is_self_check: bool,
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
            is_self_check: self_check,
            payfence,
            nginx_proxy: bench.nginx_proxy(origin)?,
            nginx_refusing: Some(bench.nginx_refusing()?),
        })
    }

    /// Two builds of PayFence, the other in nginx's place.
    fn builds(bench: &Bench, other: &Bench, origin: &str) -> Result<Self> {
        let [payfence, nginx_proxy] = [bench.payfence(origin)?.0, other.payfence(origin)?.0];
        Ok(Self { is_self_check: false, payfence, nginx_proxy, nginx_refusing: None })
    }

    fn pair<'a>(&'a self, plan: &'a Plan) -> Pair<'a> {
        let (nginx, asked) = match &self.nginx_refusing {
            None => (&self.nginx_proxy, &plan.payfence),
            Some(refusing) if plan.kind == Kind::Refusal => (refusing, &plan.nginx),
            Some(_) => (&self.nginx_proxy, &plan.nginx),
        };
        if !self.is_self_check {
            return [(&self.payfence, &plan.payfence), (nginx, asked)];
        }
        // nginx against itself has no second refusing one: the same server stands on both sides.
        let first = if plan.kind == Kind::Refusal { nginx } else { &self.payfence };
        [(first, &plan.nginx), (nginx, &plan.nginx)]
    }
}

/// Half of what plain nginx could do in this round; PayFence faces the same rate.
fn rate(case: &Case) -> f64 {
    let capacity = case.figures.iter().find(|figure| figure.name == PER_SECOND);
    capacity.and_then(|figure| figure.nginx.last()).map_or(0.0, |rate| rate / 2.0)
}

/// What both sides came to, as a round's figures of `case`.
fn note_both(case: &mut Case, [payfence, nginx]: [Measured; 2]) {
    for ((name, unit, subject), (_, _, peer)) in payfence.into_iter().zip(nginx) {
        note(case, name, unit, subject, peer);
    }
}

/// Both sides, and what each is asked.
type Pair<'a> = [(&'a Peer, &'a Request); 2];

/// Measures both sides in short slices that take turns: what the machine does meanwhile meets both alike, and a slice that it
/// spoils is outvoted, since of each figure the median over the slices is taken.
fn in_turns(
    slices: u64,
    order: [usize; 2],
    mut measure: impl FnMut(usize) -> Result<Measured>,
) -> Result<[Measured; 2]> {
    let mut measured = [Vec::new(), Vec::new()];
    for slice in 0..slices {
        for turn in 0..2 {
            let side = order[(turn + slice as usize) % 2];
            measured[side].push(measure(side)?);
        }
    }
    Ok(measured.map(|slices| medians(&slices)))
}

/// Of each figure the middle of its slices.
fn medians(slices: &[Measured]) -> Measured {
    let Some(first) = slices.first() else { return Vec::new() };
    let of_all = |at: usize| slices.iter().map(|slice| slice[at].2).collect::<Vec<_>>();
    let figures = first.iter().enumerate();
    figures.map(|(at, (name, unit, _))| (*name, *unit, median(&of_all(at)))).collect()
}

/// CPU a request and what both sides can do.
fn capacities(
    options: &Options,
    connections: usize,
    (pair, order): (Pair<'_>, [usize; 2]),
) -> Result<[Measured; 2]> {
    for (peer, request) in pair {
        warm_up(options.core_load, peer, request, connections);
    }
    in_turns(options.seconds, order, |side| {
        let (peer, request) = pair[side];
        capacity((options.core_load, 1), peer, request, connections)
    })
}

/// Latencies of both sides at one rate, the origin on the thread of the load.
fn latencies(
    options: &Options,
    connections: usize,
    (pair, order): (Pair<'_>, [usize; 2]),
    rate: f64,
    origin: &mut NearOrigin,
) -> Result<[Measured; 2]> {
    let cores = [options.core_subject, options.core_load];
    in_turns(options.seconds * SLICES_PER_SECOND, order, |side| {
        let (peer, request) = pair[side];
        // What everybody else on these cores has to do meanwhile is done between the slices.
        clock::pause(SETTLES);
        let load = Load { address: &peer.address, request, connections, rate, span: SLICE };
        let found = undisturbed(&load, Some(&mut *origin), (&[&peer.server], &cores))?;
        let quantile = |(name, share): (&'static str, f64)| (name, "µs", found.quantile_us(share));
        let mut measured: Measured = QUANTILES.into_iter().map(quantile).collect();
        measured.push(("set aside", "%", found.set_aside_percent()));
        Ok(measured)
    })
}

/// Figures of one side: name, unit, value.
pub type Measured = Vec<(&'static str, &'static str, f64)>;

/// CPU a request, requests a second and memory of one side under as much load as there can be.
pub fn measure_capacity(
    how: (usize, u64),
    peer: &Peer,
    request: &Request,
    connections: usize,
) -> Result<Measured> {
    warm_up(how.0, peer, request, connections);
    capacity(how, peer, request, connections)
}

/// A second of load that does not count: a subscription of few units spends them here, so the first answers may be 200.
fn warm_up(core: usize, peer: &Peer, request: &Request, connections: usize) {
    let _ = closed_loop(core, &peer.address, request, connections, 1);
}

fn capacity(
    (core, seconds): (usize, u64),
    peer: &Peer,
    request: &Request,
    connections: usize,
) -> Result<Measured> {
    let started = clock::now();
    let cpu_before = peer.server.cpu_ns()?;
    let counted = closed_loop(core, &peer.address, request, connections, seconds)?;
    // What other threads still have to do for these requests counts, too: rows of the decision log.
    clock::pause(SETTLES);
    let cpu_ns = peer.server.cpu_ns()? - cpu_before;
    ensure!(counted.requests > 0, "no request was answered in {:?}", started.elapsed());
    Ok(vec![
        ("CPU per request", "µs", cpu_ns as f64 / 1e3 / counted.requests as f64),
        (PER_SECOND, "/s", counted.requests_per_second),
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
