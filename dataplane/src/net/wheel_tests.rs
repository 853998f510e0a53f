//! The wheel against the plain rule: a timer fires at the first turn at or after its deadline, and only then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn turn(wheel: &Rc<RefCell<Wheel>>, now_ns: u64) {
    let mut woken = Vec::new();
    wheel.borrow_mut().advance(now_ns, &mut woken);
    woken.into_iter().for_each(Waker::wake);
}

#[test]
fn fires_at_the_deadline_and_not_before() {
    for delay_ticks in [0, 1, 2, 63, 64, 65, 500, 1023, 1024, 1025, 5000] {
        let wheel = Rc::new(RefCell::new(Wheel::new(77 * TICK_NS)));
        let timer = Timer::new(Rc::clone(&wheel));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let deadline = (77 + delay_ticks) * TICK_NS + 1;
        timer.set(deadline);
        assert!(!timer.poll_fired(&waker));
        let mut now = 77 * TICK_NS;
        while now < deadline {
            turn(&wheel, now);
            assert!(!timer.fired(), "early by {} ns", deadline - now);
            now += TICK_NS;
        }
        turn(&wheel, now);
        assert!(timer.fired(), "late, {delay_ticks} ticks");
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn setting_again_moves_the_deadline_both_ways() {
    let wheel = Rc::new(RefCell::new(Wheel::new(0)));
    let timer = Timer::new(Rc::clone(&wheel));
    timer.set(100 * TICK_NS);
    timer.set(10 * TICK_NS);
    turn(&wheel, 9 * TICK_NS);
    assert!(!timer.fired());
    turn(&wheel, 10 * TICK_NS);
    assert!(timer.fired());
    timer.set(20 * TICK_NS);
    timer.set(200 * TICK_NS);
    turn(&wheel, 150 * TICK_NS);
    assert!(!timer.fired());
    turn(&wheel, 201 * TICK_NS);
    assert!(timer.fired());
}

#[test]
fn a_long_sleep_fires_everything_due() {
    let wheel = Rc::new(RefCell::new(Wheel::new(0)));
    let timers: Vec<Timer> = (0..100)
        .map(|n| {
            let timer = Timer::new(Rc::clone(&wheel));
            timer.set(n * 37 * TICK_NS);
            timer
        })
        .collect();
    turn(&wheel, 10_000 * TICK_NS);
    assert!(timers.iter().all(Timer::fired));
    assert_eq!(wheel.borrow().next_ns(), None);
}

#[test]
fn next_is_never_later_than_the_first_deadline() {
    let wheel = Rc::new(RefCell::new(Wheel::new(1000 * TICK_NS)));
    assert_eq!(wheel.borrow().next_ns(), None);
    let timer = Timer::new(Rc::clone(&wheel));
    for ahead in [0, 1, 30, 100, 1023] {
        timer.set((1000 + ahead) * TICK_NS);
        let next = wheel.borrow().next_ns().expect("one is set");
        assert!(next <= (1000 + ahead) * TICK_NS);
        timer.set((1000 + ahead) * TICK_NS);
    }
}

#[test]
fn a_dropped_timer_wakes_nobody_and_its_place_is_reused() {
    let wheel = Rc::new(RefCell::new(Wheel::new(0)));
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let first = Timer::new(Rc::clone(&wheel));
    first.set(5 * TICK_NS);
    assert!(!first.poll_fired(&Waker::from(Arc::clone(&count))));
    drop(first);
    let second = Timer::new(Rc::clone(&wheel));
    turn(&wheel, 50 * TICK_NS);
    assert!(!second.fired());
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_timer_that_is_fired_wakes_at_once_and_can_be_set_again() {
    let wheel = Rc::new(RefCell::new(Wheel::new(0)));
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let timer = Timer::new(Rc::clone(&wheel));
    timer.set(5 * TICK_NS);
    assert!(!timer.poll_fired(&waker));
    timer.fire();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(timer.poll_fired(&waker));
    timer.set(9 * TICK_NS);
    assert!(!timer.poll_fired(&waker), "what was fired is over");
    turn(&wheel, 50 * TICK_NS);
    assert!(timer.fired());
}
