//! Stripe goes away at each call of each flow and comes back an hour later; after each answer of Stripe's the process is killed, or has
//! its connections to the database taken away.
//!
//! In: the flows of `flows.rs`. Out: the same end as without trouble, by doing the same again: one product, one price, one charge,
//! one subscription, one token.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value as Json;
use stripe_sandbox::{Fault, Planned, Sandbox};

use super::place::Place;
use super::undertakings::{Case, FLOWS, Flow, Hands, Street, census, go_on, prepare, state, tidy};

const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than anybody holds what they settle, or an increment of overage that they send.
const LEASES: Duration = Duration::from_secs(240);
/// More calls than any flow makes.
const CALLS_MAX: u32 = 60;
/// How often work goes on after an answer of Stripe's before it is killed: the answer is not read, or something of what follows was
/// done.
const POLLS: &[usize] = &[0, 3];
/// How often the first answer of a flow is tried to be come before.
const TRIES: usize = 3;

/// What a flow made, and what became of it.
type End = (BTreeMap<&'static str, i64>, Json);

/// What befell a flow: whether anything did, and whether the flow is over all the same.
#[derive(Default)]
struct Trouble {
    is_any: bool,
    is_over: bool,
}

/// A flow from its beginning to its end; `trouble` comes after it was prepared.
async fn run(
    street: &Street,
    flow: Flow,
    number: &mut usize,
    trouble: impl AsyncFnOnce(&Case) -> Trouble,
) -> (End, bool) {
    *number += 1;
    street.pass(HOUR);
    let shop = &street.shop;
    let case = prepare(shop, flow, *number).await;
    let before = census(shop).await;
    let had = trouble(&case).await;
    if !had.is_over {
        let done = go_on(street, &Hands::of(shop), flow, &case).await;
        assert_eq!(done, Ok(()), "{flow:?} goes on");
    }
    let mut made = census(shop).await;
    for (name, count) in &mut made {
        *count -= before[name];
    }
    let end = (made, state(shop, &case).await);
    tidy(shop, flow, &case).await;
    (end, had.is_any)
}

/// Faults that make Stripe go away at a call: that one is not done, or done without an answer.
fn outage(is_done: bool, calls: u32) -> Vec<Planned> {
    let last = Planned { after: calls, ..Planned::next(Fault::ResetAfter, "", 1) };
    let away = Planned::from_then_on(Fault::ErrorBefore, calls);
    if is_done { vec![last, away] } else { vec![away] }
}

/// Stripe goes away at this call, is asked twice while it is away, and comes back an hour later.
async fn goes_away(street: &Street, flow: Flow, case: &Case, faults: Vec<Planned>) -> Trouble {
    let shop = &street.shop;
    let before = shop.sandbox.faults_made();
    for planned in faults {
        shop.sandbox.plan_fault(planned);
    }
    let hands = Hands::of(shop);
    let mut outcome = go_on(street, &hands, flow, case).await;
    if outcome.is_err() {
        outcome = go_on(street, &hands, flow, case).await;
    }
    let is_any = shop.sandbox.faults_made() > before;
    assert!(is_any || outcome.is_ok(), "{flow:?}: {outcome:?}");
    shop.sandbox.clear_faults();
    street.pass(HOUR);
    Trouble { is_any, is_over: outcome.is_ok() }
}

pub async fn stripe_may_go_away_at_each_call(place: Place) {
    for flow in FLOWS.iter().copied() {
        place.clear().await;
        let street = Street::open(&place).await;
        let mut number = 0;
        let (expected, _) = run(&street, flow, &mut number, async |_| Trouble::default()).await;
        // What Stripe did not do leaves nothing to either database; there it is enough once.
        let ways: &[bool] = if place.url.starts_with("sqlite") { &[false, true] } else { &[true] };
        for is_done in ways.iter().copied() {
            let mut calls = 0;
            loop {
                let trouble = async |case: &Case| {
                    goes_away(&street, flow, case, outage(is_done, calls)).await
                };
                let (end, is_any) = run(&street, flow, &mut number, trouble).await;
                assert_eq!(end, expected, "{flow:?}, away from call {calls} on, done {is_done}");
                if !is_any {
                    break;
                }
                calls += 1;
                assert!(calls < CALLS_MAX, "{flow:?} never ends");
            }
            assert!(calls > 0, "{flow:?} asks Stripe");
        }
    }
}

/// Every flow, with trouble after each answer of Stripe's, once so many polls later each, until it is over before.
async fn after_each_answer(
    place: &Place,
    polls: &[usize],
    trouble: impl AsyncFn(&Street, Flow, &Case, u64, usize) -> Trouble,
) {
    for flow in FLOWS.iter().copied() {
        place.clear().await;
        let street = Street::open(place).await;
        let mut number = 0;
        let (expected, _) = run(&street, flow, &mut number, async |_| Trouble::default()).await;
        for calls in 1.. {
            let mut is_any = false;
            // On a busy machine an answer may come, and end it all, within the poll that would have seen it.
            for _ in 0..if calls == 1 { TRIES } else { 1 } {
                for polls in polls.iter().copied() {
                    let trouble =
                        async |case: &Case| trouble(&street, flow, case, calls, polls).await;
                    let (end, had) = run(&street, flow, &mut number, trouble).await;
                    assert_eq!(end, expected, "{flow:?}, {polls} polls after call {calls}");
                    is_any |= had;
                }
                if is_any {
                    break;
                }
            }
            if !is_any {
                assert!(calls > 1, "{flow:?} asks Stripe");
                break;
            }
            assert!(calls < u64::from(CALLS_MAX), "{flow:?} never ends");
        }
    }
}

/// The process is killed so many polls after so many of its calls were answered; another one finds what it held free.
async fn dies(street: &Street, flow: Flow, case: &Case, calls: u64, polls: usize) -> Trouble {
    let sandbox = &street.shop.sandbox;
    let hands = Hands::mortal(&street.shop);
    let until = sandbox.calls() + calls;
    let work = async move { drop(go_on(street, &hands, flow, case).await) };
    let done = KilledAfter { work: Box::pin(work), sandbox, until, polls }.await;
    street.pass(LEASES);
    // What is shown once is not left to whoever dies.
    Trouble { is_any: done.is_none(), is_over: false }
}

pub async fn a_process_may_be_killed_after_each_answer(place: Place) {
    after_each_answer(&place, POLLS, dies).await;
}

/// After so many answers of Stripe's the process gets none of the database's any more.
async fn is_cut_off(street: &Street, flow: Flow, case: &Case, calls: u64, _: usize) -> Trouble {
    let sandbox = &street.shop.sandbox;
    let hands = Hands::mortal(&street.shop);
    let close = Box::pin(hands.store().clone().close());
    let work = Box::pin(go_on(street, &hands, flow, case));
    let until = sandbox.calls() + calls;
    let mut cut = CutOffAfter { work, close: Some(close), sandbox, until, is_cut: false };
    let outcome = std::future::poll_fn(|context| Pin::new(&mut cut).poll(context)).await;
    let is_any = cut.is_cut;
    drop(cut);
    assert!(is_any || outcome.is_ok(), "{flow:?}: {outcome:?}");
    street.pass(LEASES);
    Trouble { is_any, is_over: false }
}

pub async fn a_database_may_be_lost_after_each_answer(place: Place) {
    after_each_answer(&place, &[0], is_cut_off).await;
}

/// Work whose connections to the database are closed as soon as a number of calls was answered.
struct CutOffAfter<'a, F, C> {
    work: Pin<Box<F>>,
    close: Option<Pin<Box<C>>>,
    sandbox: &'a Sandbox,
    until: u64,
    is_cut: bool,
}

impl<F: Future, C: Future> Future for CutOffAfter<'_, F, C> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.sandbox.calls() >= self.until {
            self.is_cut = true;
            // From its first poll on nobody gets a connection; it is over when all that are in use have come back.
            if let Some(close) = &mut self.close
                && close.as_mut().poll(context).is_ready()
            {
                self.close = None;
            }
        }
        self.work.as_mut().poll(context)
    }
}

/// Work that is broken off so many polls after a number of calls was answered: `None` then.
struct KilledAfter<'a, F> {
    work: Pin<Box<F>>,
    sandbox: &'a Sandbox,
    until: u64,
    polls: usize,
}

impl<F: Future> Future for KilledAfter<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.sandbox.calls() >= self.until {
            if self.polls == 0 {
                return Poll::Ready(None);
            }
            self.polls -= 1;
        }
        self.work.as_mut().poll(context).map(Some)
    }
}
