//! What `journal verify` finds: nothing in a whole server, and whatever was taken away or added by hand.

use link::row;
use link::ship::{Source, Stream};
use link::sink::clickhouse::{Comparison, Part};
use std::time::Duration;

use super::engine::{Engine, Kind};
use super::shipping::{Decisions, NODE, config, limits, ship};

/// The problems of all rows, and of the roll-ups.
fn problems(engine: &Engine, decisions: &Decisions) -> (Vec<String>, Vec<String>) {
    let url = format!("http://127.0.0.1:{}", engine.port);
    let mut comparison = Comparison::new(&config(engine, &url)).unwrap();
    let mut of_rows = Vec::new();
    let mut source = decisions.clone();
    while let Some(block) = source.next().unwrap() {
        let stream = Stream { epoch: block.epoch, shard: block.shard };
        let mut part = Part::new(stream, block.first_seq);
        let (mut at, mut seq) = (0, block.first_seq);
        while at < block.rows.len() {
            let (row, _) = row::read(&block.rows[at..]).unwrap();
            assert!(part.add(seq, &row));
            at += row::length(&block.rows[at..]).unwrap();
            seq += 1;
        }
        of_rows.extend(comparison.part(NODE, &part).unwrap());
    }
    (of_rows, comparison.roll_ups().unwrap())
}

fn check(kind: Kind) {
    let Some(engine) = Engine::start(kind) else { return };
    let data = tempfile::tempdir().unwrap();
    let decisions = Decisions::default();
    decisions.make(1, 0, 1_000);
    decisions.make(1, 1, 300);
    decisions.make(2, 0, 10);
    let url = format!("http://127.0.0.1:{}", engine.port);
    assert!(
        ship(data.path(), &decisions, config(&engine, &url), limits())
            .flush(Duration::from_secs(60))
    );
    assert_eq!(problems(&engine, &decisions), (vec![], vec![]));
    // Rows that are there twice, past the sink; the views add them to the roll-ups.
    let columns = "time, node, epoch, shard, seq, site, valid_until, roll_ups";
    let more = if kind == Kind::Old { ", time_us" } else { "" };
    engine.ask(&format!(
        "INSERT INTO decisions ({columns}{more}) SELECT time, node, epoch, shard, seq, site, now() + 60, roll_ups{more} \
         FROM decisions WHERE epoch = 1 AND shard = 1 AND seq = 7"
    ));
    let (rows, _) = problems(&engine, &decisions);
    assert_eq!(rows, ["shard 1 in epoch 0000000000000001: row 7 is in ClickHouse 2 times"]);
    // Rows that the sink never had, and a shard's later ones.
    decisions.make(2, 0, 5);
    let (rows, _) = problems(&engine, &decisions);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[1], "shard 0 in epoch 0000000000000002: rows 10 to 14 are not in ClickHouse");
    // A row of `decisions` that no roll-up takes.
    engine.ask(&format!(
        "INSERT INTO decisions ({columns}{more}) SELECT time, node, epoch, shard, 10, site, now() + 60, 0{more} \
         FROM decisions WHERE epoch = 2 AND seq = 3"
    ));
    let (_, roll_ups) = problems(&engine, &decisions);
    assert!(
        roll_ups.iter().any(|text| text.starts_with("decisions_per_minute has ")),
        "{roll_ups:?}"
    );
    assert!(roll_ups.iter().any(|text| text.starts_with("decisions_per_day has ")), "{roll_ups:?}");
}

#[test]
fn a_server_of_today_is_compared() {
    check(Kind::Today);
}

#[test]
fn the_old_server_is_compared() {
    check(Kind::Old);
}
