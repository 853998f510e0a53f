//! A server that refuses, answers 500, hangs, or whose answers are lost: each row once, the roll-ups equal to the rows.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use link::ship::Health;

use super::engine::{Engine, Kind, wait_for};
use super::proxy::{Fault, Proxy};
use super::shipping::{Decisions, assert_exact, config, limits, ship};

const PATIENCE: Duration = Duration::from_secs(60);

/// Ships while a fault strikes, and after it.
fn check(kind: Kind, fault: Fault) {
    let Some(engine) = Engine::start(kind) else { return };
    let proxy = Proxy::start(engine.port);
    let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
    let shipper = ship(data.path(), &decisions, config(&engine, &proxy.url), limits());
    let state = Arc::clone(&shipper.states()[0]);
    decisions.make(7, 0, 700);
    wait_for("rows before the fault", PATIENCE, || state.exported() == 700);
    assert_eq!((state.failures(), state.health()), (0, Health::Ok), "{:?}", state.last_error());
    proxy.set(fault);
    let strikes = if fault == Fault::DeliverLate { 3 } else { 2 };
    for shard in 0..3 {
        decisions.make(7, shard, 900);
    }
    wait_for("the fault to strike", PATIENCE, || proxy.struck.load(SeqCst) >= strikes);
    wait_for("a failure to be told", PATIENCE, || state.failures() >= 1);
    proxy.set(Fault::None);
    for shard in 0..3 {
        decisions.make(8, shard, 900);
    }
    let made = decisions.made();
    wait_for("all rows", PATIENCE, || state.exported() == made);
    assert!(shipper.flush(PATIENCE), "{:?}", state.last_error());
    wait_for("what is delivered late", PATIENCE, || proxy.late.load(SeqCst) == 0);
    assert_exact(&engine, &decisions);
    assert_eq!((state.lost(), state.set_aside()), (0, 0));
}

/// The same for today's engine and the old server.
macro_rules! faults {
    ($($today:ident, $old:ident, $fault:ident;)*) => {
        $(#[test]
        fn $today() { check(Kind::Today, Fault::$fault); }
        #[test]
        fn $old() { check(Kind::Old, Fault::$fault); })*
    };
}

faults! {
    today_refusing, old_refusing, Refuse;
    today_answering_500, old_answering_500, Answer500;
    today_hanging, old_hanging, Hang;
    today_whose_answer_is_lost, old_whose_answer_is_lost, LoseAnswer;
    today_whose_answer_never_comes, old_whose_answer_never_comes, HoldAnswer;
    today_getting_half_a_request, old_getting_half_a_request, CutRequest;
    today_getting_a_request_too_late, old_getting_a_request_too_late, DeliverLate;
}

#[test]
fn a_stopped_server_that_goes_on_later_stores_nothing_twice() {
    for kind in [Kind::Old, Kind::Today] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        let shipper = ship(data.path(), &decisions, config(&engine, &engine.url()), limits());
        let state = Arc::clone(&shipper.states()[0]);
        decisions.make(7, 0, 100);
        wait_for("rows before", PATIENCE, || state.exported() == 100);
        for round in 1..=2 {
            engine.signal("-STOP");
            decisions.make(7, 1, 400);
            wait_for("a failure", PATIENCE, || state.failures() >= round);
            engine.signal("-CONT");
            let made = decisions.made();
            wait_for("all rows", PATIENCE, || state.exported() == made);
        }
        assert!(shipper.flush(PATIENCE), "{:?}", state.last_error());
        assert_exact(&engine, &decisions);
    }
}
