//! The simulator over the seeds from `PAYFENCE_SIM_FROM` up to `PAYFENCE_SIM_SEEDS`, or over the one in `PAYFENCE_SIM_SEED`.

use super::super::Account;
use super::*;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs all seeds, and names those that failed, up to ten.
fn run_all(run: impl Fn(u64) -> Result<Stats, Failure>) {
    let first = number("PAYFENCE_SIM_FROM").unwrap_or(0);
    let seeds = match number("PAYFENCE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..number("PAYFENCE_SIM_SEEDS").unwrap_or(300),
    };
    let (mut admitted, mut failures) = (0, Vec::new());
    for seed in seeds {
        match run(seed) {
            Ok(stats) => admitted += stats.admitted,
            Err(failure) => failures.push(failure.to_string()),
        }
        if failures.len() == 10 {
            break;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(admitted > 0, "nothing was admitted");
}

#[test]
fn sim() {
    run_all(run);
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
    run_all(|seed| nodes::run(seed, stored));
}

/// Past the seeds of every run, and each of them found something: see `docs/decisions/0010-budgets-over-nodes.md`.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in
        [11_874, 16_133, 22_580, 150_721, 392_902, 529_859, 615_131, 787_124, 841_457, 914_568]
    {
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
