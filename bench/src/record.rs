//! What a comparison leaves behind: figures of every round, as JSON, from which the documentation's tables are made.
//!
//! Always holds: a ratio is taken between figures of the same round, and the median is taken over the rounds' ratios,
//! so a machine that slows down between rounds does not show as a difference.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where figures came from.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Machine {
    pub measured_unix_s: u64,
    pub commit: String,
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub nginx: String,
}

/// One figure of subject and peer, one entry a round.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub payfence: Vec<f64>,
    pub nginx: Vec<f64>,
}

impl Figure {
    /// Median of PayFence's figures, of nginx's, and of the rounds' ratios. Nothing on both sides is the same.
    pub fn medians(&self) -> (f64, f64, f64) {
        let ratio = |(subject, peer): (&f64, &f64)| {
            if subject.max(*peer) == 0.0 { 1.0 } else { subject / peer }
        };
        let ratios = self.payfence.iter().zip(&self.nginx).map(ratio);
        (median(&self.payfence), median(&self.nginx), median(&ratios.collect::<Vec<_>>()))
    }
}

/// One case of the comparison: a kind of request, a body, a number of connections.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Case {
    pub name: String,
    pub peer: String,
    pub connections: usize,
    pub figures: Vec<Figure>,
}

/// A comparison.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Comparison {
    pub machine: Machine,
    pub rounds: usize,
    pub seconds: u64,
    /// Both sides were nginx: the ratios are the measurement's noise.
    pub self_check: bool,
    pub cases: Vec<Case>,
}

/// Single figures, without a peer: idle connections, micro-benchmarks.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Figures {
    pub machine: Machine,
    pub rows: Vec<Row>,
}

/// One of them.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Row {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// The middle figure; of an even number the mean of the two in the middle; 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The middle, the 99th of a hundred and the longest of `times`, in milliseconds; of none nothing.
pub fn quantiles(what: &str, mut times: Vec<Duration>) -> Vec<Row> {
    times.sort_unstable();
    let row = |(word, per_mille): (&str, usize)| {
        let at = (times.len() * per_mille).div_ceil(1_000).max(1) - 1;
        let value = times.get(at)?.as_secs_f64() * 1e3;
        Some(Row { name: format!("{what}, {word}"), value, unit: "ms".to_owned() })
    };
    [("p50", 500), ("p99", 990), ("longest", 1_000)].into_iter().filter_map(row).collect()
}

/// Writes a record.
pub fn write<T: Serialize>(file: &Path, record: &T) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(record)? + "\n";
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Reads a record; `None` where there is no such file.
pub fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> Result<Option<T>> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(None) };
    let record =
        serde_json::from_str(&text).with_context(|| format!("{} is no record", file.display()))?;
    Ok(Some(record))
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        // Not what this process may use: it has pinned itself.
        let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            measured_unix_s: crate::clock::unix_s(),
            commit: said_by("git", &["rev-parse", "--short", "HEAD"]),
            cpu: cpu.unwrap_or("unknown").to_owned(),
            cores,
            kernel: kernel.trim().to_owned(),
            nginx: crate::process::find_program("nginx", "nginx")
                .map(|nginx| said_by(&nginx.to_string_lossy(), &["-v"]))
                .unwrap_or_default()
                .replace("nginx version: nginx/", ""),
        }
    }
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = std::process::Command::new(program).args(arguments).output() else {
        return "unknown".into();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
