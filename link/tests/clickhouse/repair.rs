//! Tables that have lost what others still have, and a shipper that has forgotten how far it was: everything is made whole, and
//! nothing is there twice.
//!
//! In: tables that are emptied in part. Out: rows and sums. Always holds: what was not lost is not written again.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Kind};
use super::shipping::{Decisions, assert_exact, config, limits, ship};

const PATIENCE: Duration = Duration::from_secs(90);

/// Loses something after rows have arrived, forgets the position, and ships again.
fn check(lose: &[&str]) {
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        for shard in 0..2 {
            decisions.make(7, shard, 1_300);
        }
        let again = || {
            let shipper = ship(data.path(), &decisions, config(&engine, &engine.url()), limits());
            let state = Arc::clone(&shipper.states()[0]);
            assert!(shipper.flush(PATIENCE), "{kind:?} {lose:?}: {:?}", state.last_error());
            assert_exact(&engine, &decisions);
        };
        again();
        let position = data.path().join("sinks/clickhouse.position");
        // Gone, then damaged.
        for text in [None, Some("payfence-position 1 00000000\n{}\n")] {
            for statement in lose {
                engine.ask(statement);
            }
            match text {
                None => fs::remove_file(&position).unwrap(),
                Some(text) => fs::write(&position, text).unwrap(),
            }
            decisions.make(7, 0, 100);
            again();
        }
    }
}

#[test]
fn nothing_lost_but_the_position() {
    check(&[]);
}

#[test]
fn a_roll_up_lost() {
    check(&["TRUNCATE TABLE decisions_per_day_rows"]);
}

#[test]
fn rows_lost_that_the_roll_ups_have() {
    check(&["ALTER TABLE decisions DROP PARTITION 202612"]);
}

#[test]
fn different_months_lost_in_different_tables() {
    check(&[
        "ALTER TABLE decisions DROP PARTITION 202612",
        "ALTER TABLE decisions_per_minute_rows DROP PARTITION 202612",
        "ALTER TABLE decisions_per_day_rows DROP PARTITION 202611",
    ]);
}
