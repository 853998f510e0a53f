//! The simulator over many seeds, or over the one in `PAYFENCE_SIM_SEED`.

use super::super::Account;
use super::*;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn sim() {
    let seeds = match number("PAYFENCE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PAYFENCE_SIM_SEEDS").unwrap_or(300),
    };
    let mut sum = Stats::default();
    for seed in seeds {
        let stats = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        sum.decided += stats.decided;
        sum.admitted += stats.admitted;
        sum.unknown += stats.unknown;
        sum.messages += stats.messages;
    }
    assert!(sum.admitted > 0, "{sum:?}");
}

/// As a database holds it.
fn stored(account: &Account) -> Account {
    let text = serde_json::to_string(account).unwrap();
    let read: Account = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *account);
    read
}

#[test]
fn sim_nodes() {
    let seeds = match number("PAYFENCE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PAYFENCE_SIM_SEEDS").unwrap_or(300),
    };
    let mut sum = Stats::default();
    for seed in seeds {
        let stats = nodes::run(seed, stored).unwrap_or_else(|failure| panic!("{failure}"));
        sum.decided += stats.decided;
        sum.admitted += stats.admitted;
        sum.unknown += stats.unknown;
        sum.messages += stats.messages;
    }
    assert!(sum.admitted > 0, "{sum:?}");
}

/// Past the seeds of every run, and each of them found something: see `docs/decisions/0010-budgets-over-nodes.md`.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [11_874, 16_133] {
        nodes::run(seed, stored).unwrap_or_else(|failure| panic!("{failure}"));
    }
    run(38_213).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_same_seed_of_nodes_runs_the_same() {
    for seed in 1_000_000..1_000_005 {
        assert_eq!(nodes::run(seed, stored).unwrap(), nodes::run(seed, stored).unwrap(), "{seed}");
    }
}

#[test]
fn the_same_seed_runs_the_same() {
    for seed in 1_000_000..1_000_005 {
        assert_eq!(run(seed).unwrap(), run(seed).unwrap(), "{seed}");
    }
}
