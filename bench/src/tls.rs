//! TLS against nginx with the same certificate: requests, bodies, handshakes, origins over TLS, idle connections, and
//! what a storm of handshakes does to the requests that run.
//!
//! In: rounds, seconds, a filter. Out: a record like that of `compare`.
//! Always holds: as in `compare`; both sides choose versions and suites with the same clients.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};

use crate::compare::{Measured, measure_capacity, note, pin_to};
use crate::handshakes::Client;
use crate::load::Request;
use crate::open_loop::{Load, undisturbed};
use crate::peers::{Bench, Peer, TOKEN_RICH};
use crate::process::{Server, find_program};
use crate::record::{Case, Comparison, Machine, write};
use crate::{clock, idle, render};

/// What `tls` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How often everything is measured; odd, so that there is a middle.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
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
    #[arg(long, default_value = "docs/performance/tls.json")]
    out: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy)]
enum What {
    /// Requests on kept connections, terminated here.
    Front(&'static str),
    /// The same to an origin over TLS.
    Origin(&'static str),
    /// Connections with one request each.
    Handshakes { resumed: bool },
    /// Requests that run while handshakes come as fast as they can.
    Storm,
    /// Memory of idle connections.
    Idle,
}

const CASES: [(&str, What); 9] = [
    ("tls-100B-c64", What::Front("100B")),
    ("tls-10KiB-c64", What::Front("10KiB")),
    ("tls-1MiB-c64", What::Front("1MiB")),
    ("origin-tls-100B-c64", What::Origin("100B")),
    ("origin-tls-1MiB-c64", What::Origin("1MiB")),
    ("handshake-full", What::Handshakes { resumed: false }),
    ("handshake-resumed", What::Handshakes { resumed: true }),
    ("handshake-storm", What::Storm),
    ("tls-idle", What::Idle),
];

/// Requests a second that run in a storm: a tenth of what either side can do.
const STORM_RATE: f64 = 4_000.0;

/// Connections that carry requests.
const CONNECTIONS: usize = 64;

/// Runs the comparison.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0 && options.seconds > 0, "--rounds and --seconds start at 1");
    find_program("wrk", "wrk")?;
    find_program("taskset", "util-linux")?;
    pin_to(options.core_load)?;
    idle::raise_open_files(options.idle as u64 * 2 + 1000)?;
    let chosen: Vec<_> = CASES.iter().filter(|(name, _)| name.contains(&options.only)).collect();
    if chosen.is_empty() {
        bail!("no case's name contains '{}'", options.only);
    }
    let bench = Bench::new(options.payfence.clone(), options.core_subject, options.core_load)?;
    let mut cases: Vec<Case> = chosen.iter().map(|(name, what)| empty_case(name, *what)).collect();
    for round in 0..options.rounds {
        for ((_, what), case) in chosen.iter().zip(&mut cases) {
            measure(options, &bench, *what, round % 2 == 1, case)?;
            println!("round {} of {}: {}", round + 1, options.rounds, render::brief(case));
        }
    }
    let (rounds, seconds) = (options.rounds, options.seconds);
    let comparison =
        Comparison { machine: Machine::here(), rounds, seconds, self_check: false, cases };
    write(&options.out, &comparison)?;
    println!("\n{}\nWritten to {}.", render::comparison(&comparison), options.out.display());
    Ok(())
}

fn empty_case(name: &str, what: What) -> Case {
    let peer = match what {
        What::Origin(_) => "proxy_pass https",
        _ => "proxy_pass, ssl",
    };
    Case { name: name.into(), peer: peer.into(), connections: CONNECTIONS, figures: Vec::new() }
}

/// One case, one side after the other.
fn measure(
    options: &Options,
    bench: &Bench,
    what: What,
    nginx_first: bool,
    case: &mut Case,
) -> Result<()> {
    let origin = match what {
        What::Origin(_) => bench.origin_tls()?,
        _ => bench.origin()?,
    };
    let mut sides = [Vec::new(), Vec::new()];
    for side in if nginx_first { [1, 0] } else { [0, 1] } {
        let peer = match (what, side) {
            (What::Origin(_), 0) => bench.payfence_to_tls(&origin.address)?,
            (What::Origin(_), _) => bench.nginx_to_tls(&origin.address)?,
            (_, 0) => bench.payfence_tls(&origin.address)?.0,
            (_, _) => bench.nginx_tls(&origin.address)?,
        };
        sides[side] = measure_side(options, bench, what, (&peer, &origin.server))?;
    }
    let [payfence, nginx] = sides;
    for ((name, unit, subject), (_, _, peer)) in payfence.into_iter().zip(nginx) {
        note(case, name, unit, subject, peer);
    }
    Ok(())
}

fn measure_side(
    options: &Options,
    bench: &Bench,
    what: What,
    (peer, origin): (&Peer, &Server),
) -> Result<Measured> {
    let request = |body: &str, is_tls| Request {
        path: format!("/paid/{body}"),
        token: Some(TOKEN_RICH),
        status: 200,
        is_tls,
        differs: false,
    };
    let how = (options.core_load, options.seconds);
    match what {
        What::Front(body) => measure_capacity(how, peer, &request(body, true), CONNECTIONS),
        What::Origin(body) => measure_capacity(how, peer, &request(body, false), CONNECTIONS),
        What::Handshakes { resumed } => {
            let client = Client::new(&bench.certificate_file(), resumed)?;
            let before = peer.server.cpu_ns()?;
            let end = clock::now() + Duration::from_secs(options.seconds);
            let is_over = || clock::now() >= end;
            let count = client.run(&peer.address, &request("100B", true), is_over)?;
            let cpu_us = (peer.server.cpu_ns()? - before) as f64 / 1e3;
            // The first handshake, which finds nothing to resume, is in the time and not in the count: one among thousands.
            let each = cpu_us / count.max(1) as f64;
            Ok(vec![("CPU per connection", "µs", each), ("a core could do", "/s", 1e6 / each)])
        }
        What::Storm => storm(options, bench, (peer, origin), &request("100B", false)),
        What::Idle => {
            let client = Client::new(&bench.certificate_file(), true)?;
            idle::measure_tls(&client, peer, &request("100B", true), options.idle)
        }
    }
}

/// Latencies of requests in the clear at a fixed rate, without and with full handshakes one after the other on the TLS port. The
/// handshakes' client yields the load's core to the requests.
fn storm(
    options: &Options,
    bench: &Bench,
    (peer, origin): (&Peer, &Server),
    request: &Request,
) -> Result<Measured> {
    let cores = [options.core_subject, options.core_load];
    let load = || {
        let load = Load {
            address: &peer.plain_address,
            request,
            connections: CONNECTIONS,
            rate: STORM_RATE,
            span: Duration::from_secs(options.seconds),
        };
        undisturbed(&load, None, (&[&peer.server, origin], &cores))
    };
    let calm = load()?;
    let client = Client::new(&bench.certificate_file(), false)?;
    let over = AtomicBool::new(false);
    let (storm, handshakes) = std::thread::scope(|scope| {
        let handshakes = scope.spawn(|| {
            yield_core()?;
            let request = Request { is_tls: true, ..request.clone() };
            client.run(&peer.address, &request, || over.load(Relaxed))
        });
        let storm = load();
        over.store(true, Relaxed);
        (storm, handshakes.join())
    });
    let (storm, handshakes) = (storm?, handshakes.map_err(|_| anyhow!("the storm panicked"))??);
    Ok(vec![
        ("p99 in calm", "µs", calm.quantile_us(0.99)),
        ("p99 in the storm", "µs", storm.quantile_us(0.99)),
        ("p50 in the storm", "µs", storm.quantile_us(0.5)),
        ("handshakes", "/s", handshakes as f64 / options.seconds as f64),
    ])
}

/// Lets every other thread on this core go first.
fn yield_core() -> Result<()> {
    let thread = rustix::thread::gettid();
    Ok(rustix::process::setpriority_process(Some(thread), 19)?)
}
