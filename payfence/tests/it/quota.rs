//! Counting over shards: of a quota of N exactly N are admitted, whoever asks where.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription};
use super::wait::{time_left, timed};

/// Asks `each` times on each of `connections` connections, over four threads; how many were admitted and refused.
fn storm(gateway: &Gateway, names: &[String], connections: usize, each: usize) -> (u64, u64) {
    let (admitted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (admitted, refused) = (Arc::clone(&admitted), Arc::clone(&refused));
            scope.spawn(move || {
                let mut clients: Vec<_> = (0..connections / 4).map(|_| gateway.connect()).collect();
                let clients_len = clients.len();
                for turn in 0..each {
                    for (index, client) in clients.iter_mut().enumerate() {
                        // Every name is asked equally often.
                        let number = turn * connections + thread * clients_len + index;
                        let name = &names[number % names.len()];
                        let authorization = bearer(name);
                        client.send(get("/paid/x", &[("Authorization", &authorization)]));
                    }
                    for client in &mut clients {
                        let answer = client.answer();
                        match answer.status {
                            200 => admitted.fetch_add(1, Ordering::Relaxed),
                            429 => {
                                assert_eq!(answer.reason(), "quota_exhausted");
                                assert_eq!(answer.number("X-RateLimit-Remaining"), 0);
                                assert!(answer.number("Retry-After") > 0);
                                refused.fetch_add(1, Ordering::Relaxed)
                            }
                            other => panic!("answer {other}: {answer:?}"),
                        };
                    }
                }
            });
        }
    });
    (admitted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
}

#[test]
fn of_a_quota_exactly_all_are_admitted() {
    let tables = plan("exact", "quota = { requests = 5000, per = \"year\" }")
        + &subscription("exact", "exact", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let (admitted, refused) = storm(&gateway, &["exact".into()], 64, 100);
    assert_eq!((admitted, refused), (5000, 1400));
    assert_eq!(origin.requests().len(), 5000);
    gateway.wait_used("exact", 5000);
}

#[test]
fn many_quotas_at_once_are_all_exact() {
    const QUOTAS: u64 = 200;
    let names: Vec<String> = (0..QUOTAS).map(|number| format!("many{number}")).collect();
    let mut tables = plan("many", "quota = { requests = 37, per = \"year\" }");
    for name in &names {
        tables += &subscription(name, "many", "");
    }
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let (admitted, refused) = storm(&gateway, &names, 64, 150);
    assert_eq!(admitted + refused, 64 * 150);
    assert_eq!(admitted, QUOTAS * 37);
    for name in &names {
        assert_eq!(gateway.used(name), 37, "{name}");
    }
}

#[test]
fn the_last_unit_can_be_used_on_any_connection() {
    let tables = plan("last", "quota = { requests = 40, per = \"year\" }")
        + &subscription("last", "last", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("last");
    // A connection of its own each: shards take turns.
    for left in (0..40).rev() {
        let answer = gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.number("X-RateLimit-Remaining")), (200, left));
    }
    let answer = gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
    assert_eq!(answer.status, 429);
}

#[test]
fn a_rate_holds_over_shards() {
    let tables = plan("brisk", "rate_limit = { requests = 100, per = \"second\", burst = 100 }")
        + &subscription("brisk", "brisk", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let admitted = AtomicU64::new(0);
    let is_time_left = time_left(Duration::from_secs(10));
    let ((), took) = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let authorization = bearer("brisk");
                    let mut client = gateway.connect();
                    while is_time_left() {
                        let ask = get("/paid/x", &[("Authorization", &authorization)]);
                        let answer = client.ask(ask);
                        match answer.reason().as_str() {
                            "" => admitted.fetch_add(1, Ordering::Relaxed),
                            "rate_limited" => 0,
                            other => panic!("{other}: {answer:?}"),
                        };
                    }
                });
            }
        });
    });
    let all = 100.0 + 100.0 * took.as_secs_f64();
    let admitted = admitted.load(Ordering::Relaxed) as f64;
    assert!(admitted <= all + 1.0 && admitted >= 0.99 * all, "{admitted} admitted in {took:?}");
}
