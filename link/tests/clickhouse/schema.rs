//! Tables that are made by several nodes at once, kept for some days, and found again in the form they have.
//!
//! In: empty servers. Out: tables. Always holds: a second start changes nothing.

use std::sync::Arc;
use std::time::Duration;

use link::ship::Health;

use super::engine::{Engine, Kind, wait_for};
use super::shipping::{Decisions, assert_exact, config, limits, ship};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn several_nodes_may_begin_at_once_and_again() {
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let decisions: Vec<Decisions> = (0..4).map(|_| Decisions::default()).collect();
        for round in 0..2 {
            let folders: Vec<_> = decisions.iter().map(|_| tempfile::tempdir().unwrap()).collect();
            let shippers: Vec<_> = (0..4)
                .map(|node| {
                    decisions[node].make(node as u64 + 1, round, 300);
                    let mut config = config(&engine, &engine.url());
                    config.ttl_days = Some(90_u16.saturating_mul(100));
                    ship(folders[node].path(), &decisions[node], config, limits())
                })
                .collect();
            for shipper in shippers {
                let state = Arc::clone(&shipper.states()[0]);
                assert!(shipper.flush(PATIENCE), "{kind:?}: {:?}", state.last_error());
            }
        }
        let all = Decisions::default();
        for (node, _) in decisions.iter().enumerate() {
            all.make(node as u64 + 1, 0, 300);
            all.make(node as u64 + 1, 1, 300);
        }
        assert_exact(&engine, &all);
        assert_eq!(engine.ask("SELECT groupUniqArray(version) FROM (SELECT version FROM payfence_migrations ORDER BY version)").len(), "[1,2]".len());
        if kind == Kind::Today {
            let engine_full = engine.ask("SELECT engine_full FROM system.tables WHERE database = 'payfence' AND name = 'decisions'");
            assert!(engine_full.contains("toIntervalDay(9000)"), "{engine_full}");
        }
    }
}

#[test]
fn a_bad_password_is_told_without_it_and_rows_wait() {
    let Some(engine) = Engine::start(Kind::Old) else { return };
    let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
    decisions.make(1, 0, 10);
    let mut config = config(&engine, &engine.url());
    config.password = Some(link::sink::clickhouse::Password::new("wrong-secret".into()));
    let shipper = ship(data.path(), &decisions, config, limits());
    let state = Arc::clone(&shipper.states()[0]);
    wait_for("failures", PATIENCE, || state.failures() > 2);
    let error = state.last_error().unwrap();
    assert!(error.contains("Code: 193") && !error.contains("wrong-secret"), "{error}");
    assert_eq!((state.health(), state.exported()), (Health::Retrying, 0));
    assert!(!shipper.flush(Duration::from_millis(50)));
}

#[test]
fn rows_that_a_server_will_not_take_are_set_aside_and_it_stays_exact() {
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        decisions.make(1, 0, 10);
        let config = || config(&engine, &engine.url());
        assert!(ship(data.path(), &decisions, config(), limits()).flush(PATIENCE));
        // A view of the operator's own that fails for some rows: the server's word for it is one of parsing.
        engine.ask("CREATE TABLE own (n UInt64) ENGINE = MergeTree ORDER BY n");
        engine.ask("CREATE MATERIALIZED VIEW own_feed TO own AS SELECT toUInt64(if(seq IN (17, 333), 'bad', '1')) AS n FROM decisions");
        decisions.make(1, 0, 390);
        let shipper = ship(data.path(), &decisions, config(), limits());
        let state = Arc::clone(&shipper.states()[0]);
        // What a foreign view refuses is stored in `decisions` by some servers: then it is there, and nothing is missing.
        assert!(shipper.flush(PATIENCE), "{kind:?}: {:?}", state.last_error());
        assert_eq!(state.exported() + state.set_aside(), 390, "{kind:?}: {:?}", state.last_error());
        let there: u64 = engine.ask("SELECT uniqExact(seq) FROM decisions").parse().unwrap();
        assert_eq!(there + state.set_aside(), 400, "{kind:?}");
        assert_eq!(engine.ask("SELECT count() FROM decisions"), there.to_string());
        for view in ["minute", "day"] {
            assert_eq!(
                engine.ask(&format!("SELECT sum(requests) FROM decisions_per_{view}")),
                there.to_string(),
                "{kind:?} {view}"
            );
        }
    }
}
