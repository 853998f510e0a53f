//! Memory that idle keep-alive connections add: just opened, and after one request on each.
//!
//! In: how many. Out: KiB of resident memory a connection.
//! Always holds: memory is read once the server itself says that it has taken all connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock;
use crate::compare::Measured;
use crate::handshakes::{Client, check, message};
use crate::load::Request;
use crate::peers::{Bench, HOST, Peer, TOKEN_RICH};
use crate::record::{Figures, Machine, Row, write};
use crate::render;

/// What `idle` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How many connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/idle.json")]
    out: PathBuf,
}

/// Runs the measurement.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.connections > 0, "--connections starts at 1");
    // A connection may need another to its origin, and the server keeps room for both.
    raise_open_files(options.connections as u64 * 2 + 1000)?;
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let origin = bench.origin()?;
    let (peer, admin) = bench.payfence(&origin.address)?;
    // One exchange first: what is allocated once is not what a connection costs.
    request(&mut TcpStream::connect(&peer.address)?)?;
    let before = peer.server.rss_kib()?;
    let mut open = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let stream = TcpStream::connect(&peer.address)
            .with_context(|| format!("connection {number} was refused"))?;
        open.push(stream);
    }
    wait_connections(&admin, options.connections)?;
    let idle = peer.server.rss_kib()?;
    for stream in &mut open {
        request(stream)?;
    }
    wait_connections(&admin, options.connections)?;
    let used = peer.server.rss_kib()?;
    let each = |after: u64| (after as f64 - before as f64) / options.connections as f64;
    let row = |name: &str, value, unit: &str| Row { name: name.into(), value, unit: unit.into() };
    let figures = Figures {
        machine: Machine::here(),
        rows: vec![
            row("connections", options.connections as f64, ""),
            row("resident memory before", before as f64, "KiB"),
            row("added by each connection, nothing sent", each(idle), "KiB"),
            row("added by each connection after one request", each(used), "KiB"),
        ],
    };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

/// KiB that each of `count` idle connections adds to a server that speaks TLS, after a handshake and one request.
pub fn measure_tls(
    client: &Client,
    peer: &Peer,
    request: &Request,
    count: usize,
) -> Result<Measured> {
    let open_one = || -> Result<_> {
        let mut stream = client.connect(&peer.address)?;
        stream.write_all(message(request, false).as_bytes())?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(b"x") {
            let read = stream.read(&mut buffer)?;
            ensure!(read > 0, "a connection was closed");
            answer.extend_from_slice(&buffer[..read]);
        }
        check(&answer, request.status)?;
        Ok(stream)
    };
    // What is allocated once is not what a connection costs.
    drop(open_one()?);
    let before = peer.server.rss_kib()?;
    let open = (0..count).map(|_| open_one()).collect::<Result<Vec<_>>>()?;
    let each = (peer.server.rss_kib()? as f64 - before as f64) / open.len() as f64;
    Ok(vec![("memory per idle connection", "KiB", each)])
}

fn request(stream: &mut TcpStream) -> Result<()> {
    let message = format!(
        "GET /paid/100B HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {TOKEN_RICH}\r\n\r\n"
    );
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(message.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"x") {
        let read = stream.read(&mut buffer).context("no answer on an idle connection")?;
        ensure!(read > 0, "an idle connection was closed");
        answer.extend_from_slice(&buffer[..read]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn wait_connections(admin: &str, expected: usize) -> Result<()> {
    let mut seen = 0.0;
    let all = clock::wait_until(Duration::from_secs(20), || {
        seen = connections(admin).unwrap_or(0.0);
        seen >= expected as f64
    });
    if !all {
        let limit = getrlimit(Resource::Nofile).current;
        bail!(
            "the server holds {seen} of {expected} connections. Open files are limited to {limit:?}: \
             raise that (ulimit -n), or ask for fewer with --connections"
        );
    }
    Ok(())
}

/// What `payfence_connections` of the admin listener says.
fn connections(admin: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let lines = text.lines().filter(|line| {
        line.starts_with("payfence_connections ") || line.starts_with("payfence_connections{")
    });
    Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// The server inherits the limit, so both ends have room.
pub fn raise_open_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    // As far as it goes: whether that is enough, the server's own count tells.
    let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })
        .context("cannot raise the limit of open files")
}
