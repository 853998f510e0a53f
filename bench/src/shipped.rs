//! Whether a ClickHouse server has the decisions that were made: each once, and roll-ups that are their sums.
//!
//! In: a server that a node ships to, what it should have. Out: nothing, or what differs.
//! Always holds: the server is asked; nothing is taken from what the node says of itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clickhouse::Engine;
use crate::clock;

/// How long a node may be in doubt about what the server has (30 s, and room).
const KNOWN: Duration = Duration::from_secs(90);
/// What the comparison says when it was of all rows.
const NONE_WAITS: &str = " compared with ClickHouse, 0 not shipped yet";

/// Rows that are there; `None` where the server does not say.
pub fn count(engine: &Engine) -> Option<u64> {
    engine.try_ask("SELECT count() FROM payfence.decisions").ok()?.parse().ok()
}

/// So many decisions, each once, that took so many units, and every sum of the roll-ups.
pub fn check(engine: &Engine, rows: u64, units: u64) -> Result<()> {
    for (sql, expected) in [
        (
            "SELECT count(), uniqExact(epoch, shard, seq), sum(charge) FROM payfence.decisions",
            format!("{rows}\t{rows}\t{units}"),
        ),
        (
            "SELECT sum(requests), sum(charge) FROM payfence.decisions_per_minute",
            format!("{rows}\t{units}"),
        ),
        (
            "SELECT sum(requests), sum(charge) FROM payfence.decisions_per_day",
            format!("{rows}\t{units}"),
        ),
    ] {
        let told = engine.try_ask(sql).map_err(|error| anyhow::anyhow!("{sql}: {error}"))?;
        ensure!(told == expected, "{sql}: {told:?}, not {expected:?}");
    }
    Ok(())
}

/// The node's own comparison of its journal with the server, row by row, once the node knows of every row that the server has it.
pub fn verify(engine: &Engine, payfence: &Path, data_dir: &Path) -> Result<()> {
    let mut said = verify_once(engine, payfence, data_dir);
    clock::wait_until(KNOWN, || {
        let is_done = said.as_ref().map_or(true, |said| said.contains(NONE_WAITS));
        if !is_done {
            said = verify_once(engine, payfence, data_dir);
        }
        is_done
    });
    let said = said?;
    print!("{said}");
    ensure!(said.contains(NONE_WAITS), "{KNOWN:?} later the node has not compared every row");
    Ok(())
}

fn verify_once(engine: &Engine, payfence: &Path, data_dir: &Path) -> Result<String> {
    let output = std::process::Command::new(payfence)
        .args(["journal", "verify", "--clickhouse-url", &engine.url(), "--data-dir"])
        .arg(data_dir)
        .output()
        .with_context(|| format!("cannot start {}", payfence.display()))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "the journal and the server differ:\n{said}");
    Ok(said)
}
