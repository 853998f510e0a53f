//! When names are asked again and what becomes of answers, on a clock that only waiting moves.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::*;
use crate::offcore::resolver::{Reach, ResolverHandle};

/// Answers from a script, the last line again and again, and remembers when it was asked.
#[derive(Clone)]
struct Script {
    lines: Arc<Vec<Result<Answer, String>>>,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Source for Script {
    async fn look_up(&self, name: &str) -> Result<Answer, String> {
        let mut asked = self.asked.lock();
        let turn = asked.iter().filter(|(of, _)| of == name).count();
        asked.push((name.to_owned(), Instant::now()));
        self.lines[turn.min(self.lines.len() - 1)].clone()
    }
}

fn answer(addresses: &[&str], ttl_s: u64) -> Result<Answer, String> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Ok(Answer { addresses, ttl: Duration::from_secs(ttl_s) })
}

fn failure() -> Result<Answer, String> {
    Err("no such name".to_owned())
}

fn ready(addresses: &[&str], port: u16) -> Resolution {
    let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), port);
    Resolution::Ready(addresses.iter().map(address).collect())
}

struct Bench {
    handle: ResolverHandle,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
    woken: Arc<AtomicU64>,
    started: Instant,
}

impl Bench {
    fn start(lines: Vec<Result<Answer, String>>) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            generation: AtomicU64::new(0),
            requests,
            requests_overflowed: AtomicBool::new(false),
            policy_names: Mutex::default(),
            policy_changed: Notify::new(),
            wakers: Mutex::default(),
            reach: Reach::Anywhere,
        });
        let source = Script { lines: Arc::new(lines), asked: Arc::default() };
        let asked = Arc::clone(&source.asked);
        tokio::spawn(run(source, Arc::clone(&shared), receiver));
        let handle = ResolverHandle { shared };
        let woken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&woken);
        handle.subscribe(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        Self { handle, asked, woken, started: Instant::now() }
    }

    /// Lets time pass up to `at_ms` after the start.
    async fn until_ms(&self, at_ms: u64) {
        tokio::time::sleep_until(self.started + Duration::from_millis(at_ms)).await;
    }

    fn asked_at_ms(&self) -> Vec<u128> {
        self.asked.lock().iter().map(|(_, at)| (*at - self.started).as_millis()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_again_after_its_ttl_within_bounds() {
    let check = async |ttl_s: u64, period_ms: u128| {
        let bench = Bench::start(vec![answer(&["192.0.2.1"], ttl_s)]);
        assert_eq!(bench.handle.lookup("a.example", 80), Resolution::Pending);
        bench.until_ms(period_ms as u64 * 2 + 500).await;
        assert_eq!(bench.handle.lookup("a.example", 80), ready(&["192.0.2.1"], 80));
        let at = bench.asked_at_ms();
        assert_eq!(at.len(), 3, "{at:?}");
        assert!(at[1] - at[0] >= period_ms && at[1] - at[0] < period_ms + 100, "{at:?}");
        // The same answer is no news.
        assert_eq!(bench.woken.load(Ordering::Relaxed), 1);
    };
    check(0, 1_000).await;
    check(5, 5_000).await;
    check(86_400, 60_000).await;
}

#[tokio::test(start_paused = true)]
async fn another_answer_replaces_the_first_and_wakes() {
    let bench = Bench::start(vec![
        answer(&["192.0.2.1", "192.0.2.2"], 1),
        answer(&["192.0.2.2", "192.0.2.1"], 1),
        answer(&["2001:db8::1"], 1),
    ]);
    let generation = bench.handle.generation();
    let _pending = bench.handle.lookup("a.example", 8080);
    bench.until_ms(1_500).await;
    // A rotated order is no change.
    assert_eq!(bench.handle.lookup("a.example", 8080), ready(&["192.0.2.1", "192.0.2.2"], 8080));
    assert_eq!(bench.handle.generation(), generation + 1);
    bench.until_ms(2_500).await;
    assert_eq!(bench.handle.lookup("a.example", 8080), ready(&["2001:db8::1"], 8080));
    assert_eq!(bench.woken.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_keep_what_is_known_and_are_tried_again_ever_later() {
    let bench = Bench::start(vec![answer(&["192.0.2.1"], 1), failure()]);
    let _pending = bench.handle.lookup("a.example", 80);
    bench.until_ms(70_000).await;
    assert_eq!(bench.handle.lookup("a.example", 80), ready(&["192.0.2.1"], 80));
    let at = bench.asked_at_ms();
    let pauses: Vec<u128> = at.windows(2).map(|pair| (pair[1] - pair[0]) / 100 * 100).collect();
    assert_eq!(pauses, [1_000, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_never_resolved_fails_until_it_does() {
    let bench = Bench::start(vec![failure(), answer(&[], 1), answer(&["192.0.2.1"], 60)]);
    let _pending = bench.handle.lookup("a.example", 80);
    bench.until_ms(500).await;
    assert_eq!(bench.handle.lookup("a.example", 80), Resolution::Failed("no such name".into()));
    bench.until_ms(1_500).await;
    assert_eq!(
        bench.handle.lookup("a.example", 80),
        Resolution::Failed("`a.example` has no addresses".into())
    );
    bench.until_ms(4_000).await;
    assert_eq!(bench.handle.lookup("a.example", 80), ready(&["192.0.2.1"], 80));
}

#[tokio::test(start_paused = true)]
async fn the_policys_names_are_asked_ahead_and_others_forgotten() {
    let bench = Bench::start(vec![answer(&["192.0.2.1"], 60)]);
    bench.handle.set_names([("a.example".to_owned(), 80), ("127.0.0.1".to_owned(), 80)]);
    bench.until_ms(100).await;
    assert_eq!(bench.asked.lock().len(), 1);
    assert_eq!(bench.handle.lookup("a.example", 80), ready(&["192.0.2.1"], 80));
    bench.handle.set_names([("b.example".to_owned(), 80)]);
    bench.until_ms(200).await;
    assert_eq!(bench.handle.lookup("b.example", 80), ready(&["192.0.2.1"], 80));
    assert_eq!(bench.handle.lookup("a.example", 80), Resolution::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_second_port_of_a_name_needs_no_second_question() {
    let bench = Bench::start(vec![answer(&["192.0.2.1"], 60)]);
    let _pending = bench.handle.lookup("a.example", 80);
    bench.until_ms(100).await;
    assert_eq!(bench.handle.lookup("a.example", 81), Resolution::Pending);
    bench.until_ms(200).await;
    assert_eq!(bench.handle.lookup("a.example", 81), ready(&["192.0.2.1"], 81));
    assert_eq!(bench.asked.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_queue_are_woken_to_ask_again() {
    let bench = Bench::start(vec![answer(&["192.0.2.1"], 60)]);
    for number in 0..10 {
        assert_eq!(bench.handle.lookup(&format!("n{number}"), 80), Resolution::Pending);
    }
    let mut rounds = 0;
    while (0..10).any(|n| bench.handle.lookup(&format!("n{n}"), 80) == Resolution::Pending) {
        let woken = bench.woken.load(Ordering::Relaxed);
        bench.until_ms(100 * (rounds + 1)).await;
        assert!(bench.woken.load(Ordering::Relaxed) > woken, "nobody was woken");
        rounds += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn names_are_bounded() {
    let bench = Bench::start(vec![answer(&["192.0.2.1"], 60)]);
    bench.handle.set_names((0..NAMES_MAX).map(|number| (format!("n{number}"), 80)));
    bench.until_ms(1_000).await;
    assert_eq!(bench.asked.lock().len(), NAMES_MAX);
    assert!(matches!(bench.handle.lookup("one-more", 80), Resolution::Failed(_)));
    assert_eq!(bench.handle.lookup("n7", 80), ready(&["192.0.2.1"], 80));
}
