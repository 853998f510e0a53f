//! Servers killed at random moments while rows arrive, and a shipper that ends without warning: each row once, the roll-ups equal to
//! the rows.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Kind, pause, wait_for};
use super::shipping::{Decisions, assert_exact, config, limits, ship};

const PATIENCE: Duration = Duration::from_secs(120);

/// Random by the process' hash keys: the moments need not repeat, the outcome must.
fn random(max: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) % max
}

fn check(kind: Kind, kills: u32, does_shipper_die: bool) {
    let Some(mut engine) = Engine::start(kind) else { return };
    let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
    let start =
        |engine: &Engine| ship(data.path(), &decisions, config(engine, &engine.url()), limits());
    let mut shipper = start(&engine);
    for kill in 0..kills {
        for shard in 0..2 {
            for _ in 0..10 {
                decisions.make(u64::from(kill / 10), shard, 200);
            }
        }
        let before = shipper.states()[0].exported();
        wait_for("some rows", PATIENCE, || shipper.states()[0].exported() > before);
        pause(Duration::from_micros(random(60_000)));
        engine.kill();
        if does_shipper_die {
            // No time to flush: what is on its way stays in doubt.
            let _ = shipper.flush(Duration::ZERO);
            engine.restart();
            shipper = start(&engine);
        } else {
            engine.restart();
        }
    }
    let state = Arc::clone(&shipper.states()[0]);
    assert!(shipper.flush(PATIENCE), "{:?}", state.last_error());
    assert_exact(&engine, &decisions);
}

#[test]
fn old_server_killed() {
    check(Kind::Old, 25, false);
}

#[test]
fn old_server_killed_and_the_shipper_gone() {
    check(Kind::Old, 12, true);
}

#[test]
fn today_killed() {
    check(Kind::Today, 12, false);
}

#[test]
fn today_killed_and_the_shipper_gone() {
    check(Kind::Today, 8, true);
}
