//! The budget simulators, of one node's shards and of many nodes and their ledger, over many seeds, on all cores, optimised.
//!
//! In: which simulator, how many seeds, and the first. Out: what they did in sum, or the seed that failed.
//! Always holds: a seed alone decides what happens, so a failure replays.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use policy::budget::Account;
use policy::budget::sim;

use crate::clock;

/// What `sim` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Many nodes with their ledger rather than the shards of one.
    #[arg(long)]
    nodes: bool,
}

/// As a database holds it.
fn stored(account: &Account) -> Account {
    let text = serde_json::to_string(account).expect("an account can be written down");
    serde_json::from_str(&text).expect("what was written down can be read")
}

/// Runs them all; the first failure ends the run.
pub fn run(options: &Options) -> Result<()> {
    let start = clock::now();
    let end = options.first.saturating_add(options.seeds);
    let (next, decided) = (AtomicU64::new(options.first), AtomicU64::new(0));
    let threads = std::thread::available_parallelism()?.get();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return None;
                }
                let outcome =
                    if options.nodes { sim::nodes::run(seed, stored) } else { sim::run(seed) };
                match outcome {
                    Ok(stats) => decided.fetch_add(stats.decided, Ordering::Relaxed),
                    Err(failure) => {
                        // The others have nothing left to do.
                        next.store(end, Ordering::Relaxed);
                        return Some(failure.to_string());
                    }
                };
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().filter_map(|thread| thread.join().expect("no seed panics")).collect()
    });
    if let Some(failure) = failures.first() {
        bail!("{failure}");
    }
    let decided = decided.load(Ordering::Relaxed);
    println!("{} seeds, {decided} requests decided, {:?}", options.seeds, start.elapsed());
    Ok(())
}
