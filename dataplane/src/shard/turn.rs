//! The shard's turn: mail in, budgets, mail out, the ring, then everybody else.
//!
//! In: the inbox, what the budgets have to say. Out: delivered messages, resolved waits, woken tasks. Always holds: mail that was
//! put in before a wake is read before the shard sleeps; what could not be delivered is kept in order and tried each turn.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use policy::budget::{Destination, Message};

use crate::net::{Socket, Timer};
use crate::runtime;

use super::links::Mail;
use super::{Shard, accept};

/// Messages taken in one turn: more must not keep connections waiting.
const MAIL_PER_TURN: usize = 512;
/// How often the budgets' counts are copied into the metrics.
const COPY: Duration = Duration::from_secs(1);
/// Idle upstream connections and buffers are looked over at every so manieth copy: every 5 s.
const COPIES_PER_SWEEP: u32 = 5;
/// How long a drain whose time is over waits for the answers that say so.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Drives `shard` until it is drained.
pub(super) async fn drive(shard: &Rc<Shard>) -> io::Result<()> {
    let budget_timer = shard.ring.timer();
    while !shard.ended.get() {
        read_mail(shard);
        run_budgets(shard, &budget_timer);
        let is_idle =
            || !shard.links.has_mail(shard.index()) && shard.undelivered.borrow().is_empty();
        let has_news = || shard.drain_is_news() || shard.names.has_news();
        let has_runnable =
            shard.ring.turn(|| shard.waker().try_sleep(|| !is_idle() || has_news()))?;
        shard.waker().awake();
        while let Some(spent) = shard.ring.take_spent() {
            shard.give_spare(spent);
        }
        if shard.handshakes.next_turn() {
            shard.ring.note_runnable();
        }
        shard.names.pass_on(&shard.ring);
        if shard.drain_is_news() {
            shard.begin_drain();
        }
        if has_runnable || shard.ring.is_runnable() {
            runtime::yield_now().await;
        }
    }
    // Sockets that the last tasks dropped are closed by what they left queued.
    shard.pools.borrow_mut().clear();
    runtime::yield_now().await;
    shard.ring.turn(|| false)?;
    Ok(())
}

fn read_mail(shard: &Rc<Shard>) {
    for _ in 0..MAIL_PER_TURN {
        match shard.links.take(shard.index()) {
            None => return,
            Some(Mail::Budget(from, message)) => {
                shard.budgets.borrow_mut().on_message(shard.budget_now(), from, message);
            }
            Some(Mail::Connection(fd, peer, listens)) => {
                let socket = Socket::adopt(fd, Rc::clone(&shard.ring));
                accept::serve(shard, socket, peer, listens);
            }
        }
    }
    shard.ring.note_runnable();
}

fn run_budgets(shard: &Rc<Shard>, timer: &Timer) {
    let now = shard.budget_now();
    let mut budgets = shard.budgets.borrow_mut();
    if budgets.next_tick().is_some_and(|due_us| due_us <= now.mono_us) {
        budgets.tick(now);
    }
    while let Some((id, outcome)) = budgets.poll_resolved() {
        shard.waits.resolve(id, outcome);
        shard.ring.note_runnable();
    }
    let mut undelivered = shard.undelivered.borrow_mut();
    undelivered.extend(budgets.drain_outbox());
    deliver(shard, &mut undelivered);
    match budgets.next_tick() {
        Some(due_us) => timer.set(due_us.saturating_mul(1_000)),
        None => timer.clear(),
    }
}

/// Delivers in order; stops at the first full inbox, so that no message overtakes another to the same receiver.
fn deliver(shard: &Shard, mail: &mut VecDeque<(Destination, Message)>) {
    let mut wake = shard.wake.borrow_mut();
    while let Some((destination, message)) = mail.pop_front() {
        let refused = match destination {
            Destination::Shard(to) => {
                let at = usize::from(to.0);
                wake[at] = true;
                let from = Destination::Shard(shard.id);
                match shard.links.put(at, Mail::Budget(from, message)) {
                    Err(Mail::Budget(_, message)) => Some(message),
                    _ => None,
                }
            }
            Destination::Ledger => shard.links.put_ledger(shard.id, message).err(),
        };
        if let Some(message) = refused {
            shard.metrics.queue_full.inc("inbox");
            mail.push_front((destination, message));
            shard.ring.note_runnable();
            break;
        }
    }
    // Once each, and only now: whoever sleeps before its last message was put in must be woken after it.
    for (at, flag) in wake.iter_mut().enumerate().filter(|(_, flag)| **flag) {
        *flag = false;
        shard.links.waker(at).wake_through(&shard.ring);
    }
}

/// Turns wakes of other threads into turns.
pub(super) async fn listen_for_wakes(shard: Rc<Shard>) {
    if let Err(error) = shard.waker().listen(&shard.ring).await {
        tracing::error!(%error, "this shard can no longer be woken by other threads; it looks ten times a second");
    }
}

/// What is due every second or few.
pub(super) async fn keep_house(shard: Rc<Shard>) {
    let timer = shard.ring.timer();
    let mut copies = 0_u32;
    while !shard.ended.get() {
        timer.set(shard.deadline(COPY));
        timer.wait().await;
        copy_counts(&shard);
        copies = copies.wrapping_add(1);
        if copies.is_multiple_of(COPIES_PER_SWEEP) {
            // Also drops the pools of origins that are no longer in the policy.
            let _view = shard.policy();
            shard.pools.borrow_mut().sweep(shard.ring.now_ns());
            shard.ring.give_memory_back();
        }
    }
}

fn copy_counts(shard: &Shard) {
    let counts = shard.budgets.borrow().counts();
    let metrics = &shard.metrics;
    metrics.budget_entitlements.set(counts.entries as u64);
    metrics.budget_loaned_units.set(counts.loaned_units);
    metrics.budget_loans.copy_total(counts.loans);
    metrics.budget_recalls.copy_total(counts.recalls);
    metrics.budget_wait_timeouts.copy_total(counts.unknown);
}

impl Shard {
    fn drain_is_news(&self) -> bool {
        !self.draining.get() && self.links.is_draining()
    }

    fn begin_drain(self: &Rc<Self>) {
        self.draining.set(true);
        self.state.set_accepting(self.index(), false);
        self.tasks.wake_all();
        self.ring.note_runnable();
        runtime::spawn(&self.ring, finish(Rc::clone(self)));
    }
}

/// Waits for the last connection, or until the drain's time is over; then what runs still is told so and ends, charges given back.
async fn finish(shard: Rc<Shard>) {
    let timer = shard.ring.timer();
    let deadline = shard.deadline(shard.settings.drain);
    // Until the last connection of any shard has ended: theirs may need units that this shard owns.
    let is_busy = || shard.links.connections() > 0 || shard.links.has_mail(shard.index());
    while is_busy() && shard.ring.now_ns() < deadline {
        timer.set(deadline.min(shard.deadline(Duration::from_millis(20))));
        timer.wait().await;
    }
    if shard.connections.get() > 0 {
        tracing::warn!(
            connections = shard.connections.get(),
            "the drain's time is over: the remaining connections are closed"
        );
    }
    shard.cut_off.set(true);
    shard.tasks.wake_all();
    shard.ring.note_runnable();
    let deadline = shard.deadline(LAST_ANSWERS);
    while is_busy() && shard.ring.now_ns() < deadline {
        timer.set(deadline.min(shard.deadline(Duration::from_millis(5))));
        timer.wait().await;
    }
    shard.ended.set(true);
    shard.ring.note_runnable();
}
