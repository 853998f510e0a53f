//! A rate and a concurrency limit are one over all nodes.
//!
//! In: clients at two nodes of a control plane. Out: when each request was admitted, how many were at the origin at once.
//! Always holds: never more than the limit, over any span of time that could be meant; nearly all of it can be had, wherever it is asked for.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use super::client::get;
use super::gateway::Gateway;
use super::origin::{Origin, reply};
use super::plane::{Plane, Subscriber};
use super::wait::{DEADLINE, Stop, stopwatch, time_left, wait_for};

const RATE: u64 = 40;
const BURST: u64 = 8;
/// Between a refusal and the next request: a client asks for several times its rate.
const PAUSE: Duration = Duration::from_millis(10);
/// Shares move with what was asked for lately; a machine that is busy with other things takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

fn paid(path: &str, subscriber: &Subscriber) -> String {
    get(path, &[("Authorization", &format!("Bearer {}", subscriber.token))])
}

/// One admitted request: it was admitted at some time between.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    sent: Duration,
    answered: Duration,
}

/// Most requests that the limit lets through in so long.
fn most(span: Duration) -> f64 {
    BURST as f64 + RATE as f64 * span.as_secs_f64()
}

/// In no span of time were more admitted than the limit allows: of all that were sent after one moment and answered before another.
#[track_caller]
fn check_every_span(admitted: &[Admitted]) {
    let mut by_answer = admitted.to_vec();
    by_answer.sort_by_key(|one| one.answered);
    for from in admitted {
        let within = by_answer.iter().filter(|one| one.sent >= from.sent);
        for (number, one) in within.enumerate() {
            let (count, span) = (number + 1, one.answered - from.sent);
            assert!(count as f64 <= most(span), "{count} within {span:?}, from {from:?}");
        }
    }
}

/// Asks these nodes by two clients each until it `is_enough`; all that were admitted.
#[track_caller]
fn ask_until(
    (nodes, request): (&[Gateway], &str),
    now: &(impl Fn() -> Duration + Sync),
    what: &str,
    is_enough: impl Fn(&[Admitted]) -> bool,
) -> Vec<Admitted> {
    let (seen, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let is_time_left = time_left(PATIENCE);
    std::thread::scope(|scope| {
        for node in nodes.iter().chain(nodes) {
            let (seen, is_over) = (&seen, &is_over);
            scope.spawn(move || {
                let _stop = Stop(is_over);
                let mut client = node.connect();
                while !is_over.load(Ordering::Relaxed) {
                    let sent = now();
                    let answer = client.ask(request);
                    match (answer.status, answer.reason().as_str()) {
                        (200, "") => {
                            let answered = now();
                            seen.lock().expect("no panic").push(Admitted { sent, answered });
                        }
                        // Clients that ask again at once would only measure how fast a refusal is.
                        (429, "rate_limited") => std::thread::park_timeout(PAUSE),
                        other => panic!("{other:?}: {answer:?}"),
                    }
                }
            });
        }
        let _stop = Stop(&is_over);
        while !is_over.load(Ordering::Relaxed)
            && is_time_left()
            && !is_enough(&seen.lock().expect("no panic"))
        {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let seen = seen.into_inner().expect("no panic");
    assert!(is_enough(&seen), "not within {PATIENCE:?}: {what}");
    seen
}

/// Most that were answered within a span of so long.
fn most_within(admitted: &[Admitted], span: Duration) -> usize {
    let mut answered: Vec<_> = admitted.iter().map(|one| one.answered).collect();
    answered.sort();
    let count = |(number, from): (usize, &Duration)| {
        answered.partition_point(|at| *at <= *from + span) - number
    };
    answered.iter().enumerate().map(count).max().unwrap_or(0)
}

#[test]
fn a_rate_is_one_over_all_nodes() {
    const EACH: usize = 200;
    const SPAN: Duration = Duration::from_secs(3);
    let origin = Origin::ok();
    let rate = json!({ "requests": RATE, "per": "second", "burst": BURST });
    let plan = json!({ "reference": "brisk", "rate_limit": rate });
    let Some(plane) = Plane::start(origin.address, plan) else { return };
    let request = paid("/paid/x", &plane.subscribe());
    let nodes = ["n1", "n2"].map(|name| plane.node(name));
    let now = stopwatch();
    let both = |what| ask_until((&nodes, &request), &now, what, |seen| seen.len() >= EACH);
    let mut all = both("requests on both nodes");
    // With half of the rate for each node, whoever asks, one alone would have at most this.
    let even = BURST as f64 + RATE as f64 / 2.0 * SPAN.as_secs_f64();
    for node in nodes.chunks(1) {
        let what = "more than an even share on the only node that is asked";
        let is_moved = |seen: &[Admitted]| most_within(seen, SPAN) as f64 > 1.15 * even;
        all.extend(ask_until((node, &request), &now, what, is_moved));
    }
    all.extend(both("requests on both nodes again"));
    check_every_span(&all);
    assert_eq!(origin.requests().len(), all.len());
}

/// What an origin that takes its time does: requests are there until the test lets them go.
#[derive(Default)]
struct Here {
    count: usize,
    /// As many as were there at once, ever.
    most: usize,
    /// Grows each time all are let go.
    round: u64,
}

type Gate = Arc<(Mutex<Here>, Condvar)>;

fn stay(gate: &Gate) {
    let (here, changed) = &**gate;
    let mut here = here.lock().expect("no panic");
    here.count += 1;
    here.most = here.most.max(here.count);
    let round = here.round;
    here = changed.wait_while(here, |here| here.round == round).expect("no panic");
    here.count -= 1;
}

/// As many requests at each node at once as named, let go once each of them is at the origin or refused; how many came to it, and how
/// many waited in vain for a slot of the other node.
#[track_caller]
fn round(nodes: &[Gateway], requests: [usize; 2], request: &str, gate: &Gate) -> (usize, usize) {
    let [admitted, refused, unknown] = [0; 3].map(AtomicUsize::new);
    let all: usize = requests.iter().sum();
    let count = || gate.0.lock().expect("no panic").count;
    std::thread::scope(|scope| {
        for (node, each) in nodes.iter().zip(requests) {
            for _ in 0..each {
                let (admitted, refused, unknown) = (&admitted, &refused, &unknown);
                scope.spawn(move || {
                    let answer = node.ask(request);
                    match (answer.status, answer.reason().as_str()) {
                        (200, "") => admitted.fetch_add(1, Ordering::Relaxed),
                        (429, "concurrency_limited") => refused.fetch_add(1, Ordering::Relaxed),
                        (503, "ledger_unreachable") => unknown.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other:?}: {answer:?}"),
                    };
                });
            }
        }
        let is_time_left = time_left(DEADLINE / 2);
        let answered = || refused.load(Ordering::Relaxed) + unknown.load(Ordering::Relaxed);
        while count() + answered() < all && is_time_left() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        gate.0.lock().expect("no panic").round += 1;
        gate.1.notify_all();
    });
    let [admitted, refused, unknown] = [admitted, refused, unknown].map(AtomicUsize::into_inner);
    assert_eq!(admitted + refused + unknown, all);
    (admitted, unknown)
}

/// Requests at each node; how many of them are at the origin at once, when slots are where they are wanted.
type Round = ([usize; 2], Range<usize>);

#[test]
fn a_concurrency_limit_is_one_over_all_nodes() {
    // The limit, rounds.
    let cases: [(usize, &[Round]); 3] = [
        (4, &[([6, 6], 4..5), ([6, 0], 2..3), ([0, 6], 2..3), ([1, 6], 3..4)]),
        (5, &[([6, 6], 5..6), ([6, 0], 2..4), ([0, 6], 2..4), ([6, 6], 5..6)]),
        // Fewer slots than nodes: whoever wants it has it.
        (1, &[([4, 4], 1..2), ([4, 0], 1..2), ([0, 4], 1..2), ([4, 0], 1..2)]),
    ];
    for (limit, rounds) in cases {
        let gate = Gate::default();
        let held = Arc::clone(&gate);
        let origin = Origin::start(move |_| {
            stay(&held);
            reply("200 OK", &[], "ok")
        });
        let plan = json!({ "reference": "few", "concurrency": limit });
        let Some(plane) = Plane::start(origin.address, plan) else { return };
        let request = paid("/paid/x", &plane.subscribe());
        let nodes = ["n1", "n2"].map(|name| plane.node(name));
        let most = || gate.0.lock().expect("no panic").most;
        for (requests, expected) in rounds {
            wait_for(&format!("{expected:?} of {requests:?} at once, of {limit}"), || {
                let (admitted, unknown) = round(&nodes, *requests, &request, &gate);
                assert!(most() <= limit, "{} at once, of {limit}", most());
                // With a share of its own each node knows.
                let is_known = unknown == 0 || limit < nodes.len();
                (is_known && expected.contains(&admitted)).then_some(())
            });
        }
    }
}
