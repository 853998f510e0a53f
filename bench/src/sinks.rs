//! The decision log under load while its server fails: killed, refusing, answering 500, hanging, storing and then silent.
//!
//! In: a node that ships to ClickHouse through a proxy which makes the faults, requests at a steady rate. Out: latencies beside
//! those of the same load without a fault, and how long the server took to have every row.
//! Always holds: a run in which the server has other rows than decisions were made, one twice, or roll-ups that are not their sums
//! fails; so does one whose fault met nothing.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clickhouse::{Engine, Kind};
use crate::compare::pin_to;
use crate::fault_proxy::{Fault, Proxy};
use crate::load::Request;
use crate::micro::row;
use crate::open_loop::{Latencies, Load, undisturbed};
use crate::peers::{Bench, Peer, TOKEN_RICH};
use crate::process::find_program;
use crate::record::{Figures, Machine, Row, write};
use crate::{clock, render, shipped};

/// What `sinks` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Seconds of each fault.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 3_000.0)]
    rate: f64,
    /// The core the node runs on.
    #[arg(long, default_value_t = 0)]
    core_subject: usize,
    /// The core of the load, the origin, and the server.
    #[arg(long, default_value_t = 1)]
    core_load: usize,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/sinks.json")]
    out: PathBuf,
}

/// What happens to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Nothing,
    Killed,
    Suffers(Fault),
}

/// Nothing comes first and last: between the two lies the noise.
const CASES: [(&str, What); 7] = [
    ("no fault", What::Nothing),
    ("killed", What::Killed),
    ("refusing", What::Suffers(Fault::Refuse)),
    ("answering 500", What::Suffers(Fault::Answer500)),
    ("hanging", What::Suffers(Fault::Hang)),
    ("storing, the answer lost", What::Suffers(Fault::LoseAnswer)),
    ("no fault, again", What::Nothing),
];

const CONNECTIONS: usize = 32;
/// The fault begins so long after the load, so that it meets what is under way.
const UNHARMED: Duration = Duration::from_secs(1);
/// A server that hung may store what it was sent for 30 s yet, and nothing is sent meanwhile; the rest is room.
const CAUGHT_UP: Duration = Duration::from_secs(150);

/// A node, what it talks to, and what it was asked so far.
struct Scene {
    payfence: Peer,
    origin: Peer,
    engine: Engine,
    proxy: Proxy,
    made: u64,
}

/// Runs all cases, one after the other, on one node and one server.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.seconds > 0, "--seconds starts at 1");
    find_program("clickhouse-server", "clickhouse-server")?;
    pin_to(options.core_load)?;
    let bench = Bench::new(options.payfence.clone(), options.core_subject, options.core_load)?;
    let engine = Engine::start(Kind::Old).context("clickhouse-server does not start")?;
    let proxy = Proxy::start(engine.port);
    let origin = bench.origin()?;
    let payfence = bench.payfence_told(&origin.address, &["--clickhouse-url", &proxy.url])?;
    let mut scene = Scene { payfence, origin, engine, proxy, made: 0 };
    let mut rows = Vec::new();
    for (name, what) in CASES {
        let measured = scene.measure(options, what).with_context(|| name.to_owned())?;
        println!("{name}: {}", brief(&measured));
        rows.extend(
            measured
                .into_iter()
                .map(|figure| Row { name: format!("{name}: {}", figure.name), ..figure }),
        );
    }
    shipped::verify(&scene.engine, &options.payfence, &bench.payfence_home())?;
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

fn brief(rows: &[Row]) -> String {
    let one = |row: &Row| format!("{} {:.0} {}", row.name, row.value, row.unit);
    rows.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Scene {
    /// One case: load and fault, then the server's rows against what was asked.
    fn measure(&mut self, options: &Options, what: What) -> Result<Vec<Row>> {
        let struck_before = self.proxy.struck.load(SeqCst);
        let latencies = self.load(options, what)?;
        self.made += latencies.requests();
        let struck = self.proxy.struck.load(SeqCst) - struck_before;
        self.proxy.set(Fault::None);
        match what {
            What::Nothing => {}
            What::Killed => self.engine.restart(),
            What::Suffers(_) => ensure!(struck > 0, "the fault met nothing"),
        }
        let ended = clock::now();
        // A server that died within an INSERT may have the rows and not their sums, until the node asks and mends them.
        let mut found = Ok(());
        let is_exact = clock::wait_until(CAUGHT_UP, || {
            found = if self.count() == Some(self.made) { self.check() } else { Ok(()) };
            self.count() == Some(self.made) && found.is_ok()
        });
        let caught_up_s = ended.elapsed().as_secs_f64();
        found.with_context(|| format!("{CAUGHT_UP:?} after the fault"))?;
        ensure!(
            is_exact,
            "{CAUGHT_UP:?} after the fault the server has {:?} rows of {}",
            self.count(),
            self.made
        );
        Ok(vec![
            row("p50", latencies.quantile_us(0.5), "µs"),
            row("p99", latencies.quantile_us(0.99), "µs"),
            row("p99.9", latencies.quantile_us(0.999), "µs"),
            row("set aside for stalls of the machine", latencies.set_aside_percent(), "%"),
            row("requests", latencies.requests() as f64, ""),
            row("until every row and sum was there", caught_up_s, "s"),
        ])
    }

    fn count(&self) -> Option<u64> {
        shipped::count(&self.engine)
    }

    /// Every request here costs one unit.
    fn check(&self) -> Result<()> {
        shipped::check(&self.engine, self.made, self.made)
    }

    /// Requests at a steady rate; what happens to the server begins a second later.
    fn load(&mut self, options: &Options, what: What) -> Result<Latencies> {
        let request = Request {
            path: "/paid/100B".into(),
            token: Some(TOKEN_RICH),
            status: 200,
            is_tls: false,
            differs: false,
        };
        let Self { payfence, origin, engine, proxy, .. } = self;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                clock::wait_until(UNHARMED, || false);
                match what {
                    What::Nothing => {}
                    What::Killed => engine.kill(),
                    What::Suffers(fault) => proxy.set(fault),
                }
            });
            let load = Load {
                address: &payfence.address,
                request: &request,
                connections: CONNECTIONS,
                rate: options.rate,
                span: Duration::from_secs(options.seconds) + UNHARMED,
            };
            let cores = [options.core_subject, options.core_load];
            undisturbed(&load, None, (&[&payfence.server, &origin.server], &cores))
        })
    }
}
