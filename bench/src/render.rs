//! Tables from records: on the terminal after a run, and docs/PERFORMANCE.md as a whole.
//!
//! In: the records under docs/performance. Out: Markdown.
//! Always holds: every figure in docs/PERFORMANCE.md comes from a record; nothing is typed in by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::record::{Case, Comparison, Figures, Machine, read};

/// What `render` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Where the records are.
    #[arg(long, default_value = "docs/performance")]
    records: PathBuf,
    /// The page to write.
    #[arg(long, default_value = "docs/PERFORMANCE.md")]
    out: PathBuf,
}

const HEAD: &str = "# Performance

Made by `cargo run --release -p bench -- render` from the records in `docs/performance/`; do not edit.

How it is measured: servers on one core, origin (nginx serving files, 100 bytes from memory) and load on another, keep-alive, no access log.
PayFence runs one shard with token, quota and rate limit on; nginx does nothing but `proxy_pass` with keep-alive to the
origin, or `return 429`. A connection sends the same request over and over, as whoever polls does, which PayFence does not read
anew; in cases named `differing` each has a trace id of its own. Every round starts all servers anew and measures both sides in turn, alternating who is first.
CPU is what the scheduler charged all threads of the server, divided by the requests `wrk` counted; requests per second and
memory are from the same runs: slices of a second that take turns. Latencies are of a fixed rate, half of what nginx could do in that round, the same for both,
sent at random times, the same for both: a request that waits for a free connection counts from when it was due. Here the load
and an origin that answers from memory are one thread that never sleeps, so that what is measured is the proxy. They are taken
in slices of a fifth of a second that take turns, too. A round's figure is the median of its slices'. Figures are medians over the rounds; a ratio is the median of the rounds' ratios
(PayFence ÷ nginx). Below 1 is better, but for requests per second.
";

/// Writes docs/PERFORMANCE.md.
pub fn run(options: &Options) -> Result<()> {
    let mut page = HEAD.to_owned();
    let record = |name: &str| -> PathBuf { options.records.join(name) };
    for (name, title) in [
        ("compare.json", "Against nginx"),
        ("compare-again.json", "Against nginx, some cases again"),
        ("tls.json", "TLS, against nginx with the same certificate"),
    ] {
        if let Some(found) = read::<Comparison>(&record(name))? {
            let _ = write!(page, "\n## {title}\n\n{}", comparison(&found));
        }
    }
    for (name, title) in [
        ("idle.json", "Idle connections"),
        ("micro.json", "Single steps"),
        ("control.json", "Changes at the control plane, a million tokens on three nodes"),
        ("control10m.json", "The same with ten million tokens"),
        ("away.json", "Without a control plane"),
        ("purchases.json", "From a buyer's payment to the key's first request"),
        ("renewals.json", "Ten thousand renewals told over one minute, SQLite"),
        ("renewals-postgres.json", "The same on PostgreSQL"),
        (
            "renewals-burst.json",
            "Ten thousand renewals told as fast as 64 at once are answered, SQLite",
        ),
        ("renewals-burst-postgres.json", "The same on PostgreSQL"),
        ("journal.json", "What the decision log costs"),
        ("sinks.json", "While ClickHouse fails"),
        ("kills.json", "Killed under load"),
        ("kills-rings.json", "Killed under load, its decision rings deleted each time"),
    ] {
        if let Some(found) = read::<Figures>(&record(name))? {
            let _ = write!(page, "\n## {title}\n\n{}", figures(&found));
        }
    }
    write_page(&options.out, &page)
}

fn write_page(file: &Path, page: &str) -> Result<()> {
    std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    println!("Written: {}", file.display());
    Ok(())
}

/// A comparison as a table, one row a figure of a case.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = machine(&comparison.machine);
    let _ = writeln!(text, "{} rounds of {} s.", comparison.rounds, comparison.seconds);
    if comparison.self_check {
        text += "Both sides are nginx: the ratios show the noise of the measurement.\n";
    }
    text += "\n| case | nginx does | figure | PayFence | nginx | ratio |\n|---|---|---|---:|---:|---:|\n";
    for case in &comparison.cases {
        for figure in &case.figures {
            let (payfence, nginx, ratio) = figure.medians();
            let (name, unit) = (&figure.name, &figure.unit);
            let _ = writeln!(
                text,
                "| {} | {} | {name}, {unit} | {} | {} | {ratio:.3} |",
                case.name,
                case.peer,
                number(payfence),
                number(nginx)
            );
        }
    }
    text
}

/// Single figures as a table.
pub fn figures(figures: &Figures) -> String {
    let mut text = machine(&figures.machine) + "\n| what | figure |\n|---|---:|\n";
    for row in &figures.rows {
        let _ = writeln!(text, "| {} | {} {} |", row.name, number(row.value), row.unit);
    }
    text
}

/// One line: the case's ratios of its last round.
pub fn brief(case: &Case) -> String {
    let mut text = case.name.clone();
    for figure in &case.figures {
        if let (Some(payfence), Some(nginx)) = (figure.payfence.last(), figure.nginx.last()) {
            let _ = write!(
                text,
                "  {} {} : {} = {:.3}",
                figure.name,
                number(*payfence),
                number(*nginx),
                payfence / nginx
            );
        }
    }
    text
}

fn machine(machine: &Machine) -> String {
    format!(
        "Commit {}, {} cores of {}, kernel {}, nginx {}, Unix time {}.\n",
        machine.commit,
        machine.cores,
        machine.cpu,
        machine.kernel,
        machine.nginx,
        machine.measured_unix_s
    )
}

fn number(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
