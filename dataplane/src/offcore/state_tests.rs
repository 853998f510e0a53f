//! Tests of readiness and of the fields of `/status`.

use super::*;

fn node(shards: usize) -> NodeState {
    NodeState::new(Clock::start(), Arc::new(Metrics::new(shards)))
}

#[test]
fn ready_with_a_snapshot_and_all_shards_until_the_drain() {
    let node = node(2);
    let check = |expected: Option<&str>| assert_eq!(node.unready().as_deref(), expected);
    check(Some("no policy snapshot is loaded"));
    node.snapshot_loaded(1);
    check(Some("not accepting yet: shard 0, 1"));
    node.set_accepting(0, true);
    check(Some("not accepting yet: shard 1"));
    node.set_accepting(1, true);
    node.set_accepting(2, true);
    check(None);
    node.set_draining();
    check(Some("draining: the node is shutting down"));
}

#[test]
fn status_has_the_fields_of_the_contract() {
    let node = node(1);
    let fields =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let before = node.status();
    assert_eq!(
        fields(&before),
        [
            "budgets",
            "connections",
            "control",
            "exports",
            "journal",
            "shards",
            "snapshot",
            "tls",
            "uptime_s",
            "version"
        ]
    );
    assert_eq!(fields(&before["snapshot"]), ["last_error", "loaded_at", "rejected", "sequence"]);
    assert_eq!(fields(&before["tls"]), ["certificates", "last_error", "origins", "rejected"]);
    assert_eq!(before["snapshot"]["loaded_at"], Value::Null);

    node.snapshot_loaded(3);
    node.snapshot_refused("line 4: no".to_owned());
    node.metrics().shard(0).connections.set(5);
    let after = node.status();
    assert_eq!(after["snapshot"]["sequence"], 3);
    assert_eq!(after["snapshot"]["rejected"], 1);
    assert_eq!(after["snapshot"]["last_error"], "line 4: no");
    assert_eq!(after["connections"], 5);
    let loaded_at = after["snapshot"]["loaded_at"].as_str().unwrap();
    assert!(loaded_at.parse::<jiff::Timestamp>().is_ok() && loaded_at.ends_with('Z'));
}

#[test]
fn a_good_snapshot_ends_the_error_but_not_the_count() {
    let node = node(1);
    node.snapshot_refused("bad".to_owned());
    node.snapshot_loaded(2);
    assert_eq!((node.snapshot_error(), node.snapshot_rejected()), (None, 1));
}
