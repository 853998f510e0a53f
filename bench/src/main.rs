//! Measurements of PayFence, alone and against nginx: `cargo run --release -p bench -- compare`.
//!
//! In: the built binary, nginx, wrk. Out: tables, and records under docs/performance that docs/PERFORMANCE.md is made of.
//! Always holds: it builds and installs nothing; what is missing is named with the command that brings it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod away;
// The servers and the faults that the tests of the sinks know.
#[path = "../../link/tests/clickhouse/engine.rs"]
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "written for tests: where it fails, the run has failed"
)]
mod clickhouse;
mod clock;
#[path = "../../controlplane/tests/it/postgres.rs"]
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "written for tests: where it fails, the run has failed"
)]
mod cluster;
mod compare;
mod control;
#[path = "../../link/tests/clickhouse/proxy.rs"]
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "written for tests: where it fails, the run has failed"
)]
mod fault_proxy;
mod handshakes;
mod idle;
mod journal;
mod keep;
mod kills;
mod load;
mod load_over_kills;
mod loans;
mod micro;
mod near_origin;
mod open_loop;
mod peers;
mod plane;
mod process;
mod purchases;
mod record;
mod render;
mod renewals;
mod ring_records;
mod scatter;
mod shipped;
mod sim;
mod sinks;
mod stalls;
mod tls;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measures PayFence, alone and against nginx")]
enum Command {
    /// CPU, throughput, latency and memory against nginx on the same core.
    Compare(compare::Options),
    /// What nodes serve while everything but them is down.
    Away(away::Options),
    /// How soon changes at the control plane are live on nodes, and what a large policy costs.
    Control(control::Options),
    /// Memory of idle keep-alive connections.
    Idle(idle::Options),
    /// What the decision log costs a request, and bringing it into ClickHouse.
    Journal(journal::Options),
    /// Quotas and the decision log of a node that is killed again and again under load.
    Kills(kills::Options),
    /// Single steps: decide, match, token look-up, loan, snapshot, record.
    Micro(micro::Options),
    /// From a buyer's payment to the key's first 200.
    Purchases(purchases::Options),
    /// Makes docs/PERFORMANCE.md from the records.
    Render(render::Options),
    /// Many subscriptions that renew in the same minute, by Stripe's stand-in.
    Renewals(renewals::Options),
    /// The same over TLS: requests, handshakes, idle connections, TLS to the origin.
    Tls(tls::Options),
    /// The budget simulator over many seeds.
    Sim(sim::Options),
    /// The decision log in ClickHouse while the server fails in every way, under load.
    Sinks(sinks::Options),
}

fn main() -> std::process::ExitCode {
    let done = match Command::parse() {
        Command::Compare(options) => compare::run(&options),
        Command::Away(options) => away::run(&options),
        Command::Control(options) => control::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Journal(options) => journal::run(&options),
        Command::Kills(options) => kills::run(&options),
        Command::Micro(options) => micro::run(&options),
        Command::Purchases(options) => purchases::run(&options),
        Command::Render(options) => render::run(&options),
        Command::Renewals(options) => renewals::run(&options),
        Command::Tls(options) => tls::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Sinks(options) => sinks::run(&options),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
