//! Turns: one piece of work each, in order, and nothing lost with a task that is gone.

use std::pin::{Pin, pin};
use std::task::Context;

use super::*;

fn poll(task: Pin<&mut impl Future<Output = ()>>) -> bool {
    task.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn one_a_turn_in_order() {
    let turns = Handshakes::default();
    assert!(!turns.next_turn());
    let (mut first, mut second, mut third) =
        (pin!(turns.turn()), pin!(turns.turn()), pin!(turns.turn()));
    assert!(poll(first.as_mut()));
    assert!(!poll(second.as_mut()));
    assert!(!poll(third.as_mut()));
    assert!(turns.next_turn());
    // A newcomer does not overtake.
    assert!(!poll(pin!(turns.turn())));
    assert!(poll(second.as_mut()));
    assert!(turns.next_turn());
    assert!(poll(third.as_mut()));
}

#[test]
fn one_that_is_gone_costs_a_turn() {
    let turns = Handshakes::default();
    turns.next_turn();
    assert!(poll(pin!(turns.turn())));
    let mut gone = Box::pin(turns.turn());
    assert!(!poll(gone.as_mut()));
    let mut other = pin!(turns.turn());
    assert!(!poll(other.as_mut()));
    drop(gone);
    assert!(turns.next_turn());
    assert!(turns.next_turn());
    assert!(poll(other.as_mut()));
}

#[test]
fn bounded_in_number() {
    let turns = Handshakes::default();
    let mut held: Vec<_> = (0..HANDSHAKES_MAX).map(|_| turns.begin()).collect();
    assert!(held.iter().all(Option::is_some));
    assert!(turns.begin().is_none());
    held.pop();
    assert!(turns.begin().is_some());
}
