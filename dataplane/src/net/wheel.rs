//! One coarse timer wheel per shard, for every deadline: head, idle, connect, response, stall, budgets.
//!
//! In: deadlines set by tasks. Out: tasks woken when theirs has passed. Setting a deadline is a store: an entry that comes up
//! early moves itself on. Always holds: a timer never fires early, and at most one tick late while the shard turns.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

/// Resolution of every deadline, in nanoseconds.
pub(super) const TICK_NS: u64 = 8_000_000;
const SLOTS: u64 = 1024;
/// No deadline.
const NEVER: u64 = u64::MAX;

struct Entry {
    generation: u32,
    deadline_ns: u64,
    /// The tick whose slot holds the live reference to this entry; `NEVER` for none.
    scheduled: u64,
    fired: bool,
    waker: Option<Waker>,
}

pub(super) struct Wheel {
    entries: Vec<Entry>,
    free: Vec<u32>,
    slots: Vec<Vec<(u32, u32)>>,
    occupied: [u64; (SLOTS / 64) as usize],
    /// The next tick to be looked at.
    tick: u64,
}

impl Wheel {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; (SLOTS / 64) as usize],
            tick: now_ns / TICK_NS,
        }
    }

    fn add(&mut self) -> u32 {
        if let Some(key) = self.free.pop() {
            let entry = &mut self.entries[key as usize];
            *entry = Entry {
                generation: entry.generation.wrapping_add(1),
                deadline_ns: NEVER,
                scheduled: NEVER,
                fired: false,
                waker: None,
            };
            return key;
        }
        let key = u32::try_from(self.entries.len()).expect("timers are bounded by connections");
        self.entries.push(Entry {
            generation: 0,
            deadline_ns: NEVER,
            scheduled: NEVER,
            fired: false,
            waker: None,
        });
        key
    }

    fn set(&mut self, key: u32, deadline_ns: u64) {
        let entry = &mut self.entries[key as usize];
        entry.deadline_ns = deadline_ns;
        entry.fired = false;
        if deadline_ns == NEVER {
            return;
        }
        // The first tick that begins at or after the deadline: never early.
        let due = deadline_ns.div_ceil(TICK_NS).max(self.tick);
        if due < entry.scheduled {
            self.place(key, due);
        }
    }

    fn place(&mut self, key: u32, due: u64) {
        let at = due.min(self.tick + SLOTS - 1);
        let slot = at % SLOTS;
        let entry = &mut self.entries[key as usize];
        entry.scheduled = at;
        self.slots[slot as usize].push((key, entry.generation));
        self.occupied[(slot / 64) as usize] |= 1 << (slot % 64);
    }

    /// Passes over all ticks up to `now_ns`; puts the wakers of timers that fired into `woken`.
    pub(super) fn advance(&mut self, now_ns: u64, woken: &mut Vec<Waker>) {
        let target = now_ns / TICK_NS;
        if target.saturating_sub(self.tick) > SLOTS {
            // Slept for longer than the wheel is round: every slot comes up once.
            self.tick = target - SLOTS;
        }
        while self.tick <= target {
            let tick = self.tick;
            let slot = tick % SLOTS;
            let bit = 1u64 << (slot % 64);
            self.tick += 1;
            if self.occupied[(slot / 64) as usize] & bit == 0 {
                continue;
            }
            self.occupied[(slot / 64) as usize] &= !bit;
            let mut due = std::mem::take(&mut self.slots[slot as usize]);
            for (key, generation) in due.drain(..) {
                self.come_up(key, generation, tick, now_ns, woken);
            }
            if self.slots[slot as usize].is_empty() {
                self.slots[slot as usize] = due;
            }
        }
    }

    fn come_up(
        &mut self,
        key: u32,
        generation: u32,
        tick: u64,
        now_ns: u64,
        woken: &mut Vec<Waker>,
    ) {
        let entry = &mut self.entries[key as usize];
        if entry.generation != generation || entry.scheduled > tick {
            return;
        }
        entry.scheduled = NEVER;
        if entry.deadline_ns == NEVER {
            return;
        }
        if entry.deadline_ns <= now_ns {
            entry.fired = true;
            entry.deadline_ns = NEVER;
            woken.extend(entry.waker.take());
        } else {
            let due = entry.deadline_ns.div_ceil(TICK_NS).max(self.tick);
            self.place(key, due);
        }
    }

    /// When the next occupied slot comes up, in nanoseconds of the same clock; `None` when no timer is set.
    pub(super) fn next_ns(&self) -> Option<u64> {
        let start = self.tick % SLOTS;
        let words = SLOTS / 64;
        // The first word is looked at from the current slot on, and once more for its beginning.
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word as usize];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + u64::from(bits.trailing_zeros());
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some((self.tick + ahead) * TICK_NS);
            }
        }
        None
    }
}

/// One deadline of one task. Cheap to set again and again.
pub struct Timer {
    wheel: Rc<RefCell<Wheel>>,
    key: u32,
}

impl Timer {
    pub(super) fn new(wheel: Rc<RefCell<Wheel>>) -> Self {
        let key = wheel.borrow_mut().add();
        Self { wheel, key }
    }

    /// Fires at `deadline_ns` (the shard's monotonic nanoseconds), and no longer at what was set before.
    pub fn set(&self, deadline_ns: u64) {
        self.wheel.borrow_mut().set(self.key, deadline_ns);
    }

    /// Never fires until set again.
    pub fn clear(&self) {
        self.wheel.borrow_mut().set(self.key, NEVER);
    }

    /// Fires now, whatever deadline is set. As [`Ring::note_runnable`](super::Ring::note_runnable) says, the ring must know that
    /// a task is woken: from a [tap](super::Tap) it does.
    pub fn fire(&self) {
        let mut wheel = self.wheel.borrow_mut();
        let entry = &mut wheel.entries[self.key as usize];
        (entry.fired, entry.deadline_ns) = (true, NEVER);
        let waker = entry.waker.take();
        drop(wheel);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the deadline last set has passed.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.wheel.borrow().entries[self.key as usize].fired
    }

    /// Whether the deadline has passed; if not, `waker` is woken when it does.
    pub(super) fn poll_fired(&self, waker: &Waker) -> bool {
        let mut wheel = self.wheel.borrow_mut();
        let entry = &mut wheel.entries[self.key as usize];
        if entry.fired {
            return true;
        }
        match &mut entry.waker {
            Some(known) if known.will_wake(waker) => {}
            other => *other = Some(waker.clone()),
        }
        false
    }

    /// Waits until the deadline has passed.
    pub async fn wait(&self) {
        std::future::poll_fn(|context| {
            if self.poll_fired(context.waker()) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut wheel = self.wheel.borrow_mut();
        let entry = &mut wheel.entries[self.key as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.waker = None;
        wheel.free.push(self.key);
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
