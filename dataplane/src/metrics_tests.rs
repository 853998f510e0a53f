//! Tests of the registry: a site's counts outlive its removal, and the number of removed sites is bounded.

use super::*;

#[test]
fn a_site_that_is_removed_and_returns_counts_on() {
    let metrics = Metrics::new(1);
    let shard = metrics.shard(0);
    let first = shard.site_cells(["weather", "maps"]);
    first[0].decided(Reason::Ok);
    let second = shard.site_cells(["maps"]);
    assert_eq!(second[0].slug(), "maps");
    let third = shard.site_cells(["maps", "weather"]);
    third[1].decided(Reason::Ok);
    assert_eq!(third[1].decisions[Reason::Ok as usize].get(), 2);
    assert!(Arc::ptr_eq(&first[0], &third[1]));
}

#[test]
fn removed_sites_are_bounded() {
    let metrics = Metrics::new(1);
    let shard = metrics.shard(0);
    let slugs: Vec<String> = (0..=REMOVED_SITES_MAX).map(|number| format!("s{number}")).collect();
    let cells = shard.site_cells(slugs.iter().map(String::as_str));
    assert_eq!(cells.len(), REMOVED_SITES_MAX + 1);
    let kept = shard.site_cells(["s0"]);
    assert!(Arc::ptr_eq(&kept[0], &cells[0]));
    assert_eq!(shard.all_sites().len(), REMOVED_SITES_MAX + 1);
    let _new = shard.site_cells(["s0", "new"]);
    assert_eq!(shard.all_sites().len(), REMOVED_SITES_MAX + 2);
    let _new = shard.site_cells(["new"]);
    assert_eq!(shard.all_sites().len(), 1);
}

#[test]
fn a_sum_is_over_all_shards() {
    let metrics = Metrics::new(2);
    metrics.shard(0).connections.set(3);
    metrics.shard(1).connections.set(4);
    assert_eq!(metrics.sum(|shard| shard.connections.get()), 7);
}
