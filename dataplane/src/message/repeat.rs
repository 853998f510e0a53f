//! Answers that were given a moment ago, kept for whoever gets the same one next: who is refused tends to ask on and on.
//!
//! In: what an answer is written from. Out: the bytes that [`problem`] writes for it. Always holds: one keeper serves one
//! snapshot; an answer is given again only where everything that it depends on is the same, but for the request's id, which is
//! put in its places anew; [`SLOTS`] answers are kept at most, each shorter than [`ANSWER_BYTES_MAX`], and none that holds
//! anything a client sent.

use policy::budget::Figures;
use policy::decision::Reason;
use policy::ids::SiteIndex;

use super::answer::{Asker, Problem, problem};
use super::request_id::RequestId;

/// Answers kept.
const SLOTS: usize = 16;
/// Longer answers are written each time.
const ANSWER_BYTES_MAX: usize = 2048;
/// The id stands in the head and in the body.
const PLACES: usize = 2;

/// All that an answer depends on besides its request's id and the snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Likeness {
    site: Option<SiteIndex>,
    reason: Reason,
    figures: Option<Figures>,
    concurrency: Option<u32>,
    retry_after_s: Option<u64>,
    now_s: i64,
    is_head: bool,
    close: bool,
    token_sent: bool,
    sends_hsts: bool,
    http10_keep_alive: bool,
}

impl Likeness {
    /// `None` where the answer holds more than this.
    fn of(asker: &Asker<'_>, problem: &Problem<'_>) -> Option<Self> {
        // Every field by name, so that a new one cannot be forgotten here.
        let Asker {
            site,
            origin_header,
            is_head,
            close,
            request_id: _,
            token_sent,
            sends_hsts,
            http10_keep_alive,
        } = *asker;
        let Problem { reason, status, detail, figures, concurrency, retry_after_s, now_s } =
            *problem;
        if origin_header.is_some() || status.is_some() || detail.is_some() {
            return None;
        }
        let (site, figures) = (site.map(|site| site.index()), figures.copied());
        Some(Self {
            site,
            reason,
            figures,
            concurrency,
            retry_after_s,
            now_s,
            is_head,
            close,
            token_sent,
            sends_hsts,
            http10_keep_alive,
        })
    }

    /// Where it is kept: entitlements of one plan mostly differ in where their period begins.
    fn slot(&self) -> usize {
        let period = self.figures.map_or(0, |figures| figures.period.start_s.unsigned_abs());
        (self.reason as usize ^ period as usize) % SLOTS
    }
}

struct Slot {
    likeness: Likeness,
    /// Empty until the same answer is asked for a second time.
    bytes: Vec<u8>,
    body_bytes: usize,
    ids_at: [Option<usize>; PLACES],
}

/// Keeps answers of one snapshot.
#[derive(Default)]
pub struct Repeats {
    /// Empty until an answer was given.
    slots: Vec<Option<Slot>>,
}

impl Repeats {
    /// Appends the answer that [`problem`] would. The bytes of the body.
    pub fn problem(&mut self, out: &mut Vec<u8>, asker: &Asker<'_>, the: &Problem<'_>) -> usize {
        let Some(likeness) = Likeness::of(asker, the) else { return problem(out, asker, the) };
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let slot = &mut self.slots[likeness.slot()];
        match slot {
            Some(kept) if kept.likeness == likeness => {
                if kept.bytes.is_empty() {
                    kept.keep(out, asker, the)
                } else {
                    kept.repeat(out, asker.request_id)
                }
            }
            _ => {
                let bytes = slot.take().map_or_else(Vec::new, |before| before.bytes);
                *slot = Some(Slot::new(likeness, bytes));
                problem(out, asker, the)
            }
        }
    }
}

impl Slot {
    fn new(likeness: Likeness, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self { likeness, bytes, body_bytes: 0, ids_at: [None; PLACES] }
    }

    /// Writes the answer and keeps it.
    fn keep(&mut self, out: &mut Vec<u8>, asker: &Asker<'_>, the: &Problem<'_>) -> usize {
        let start = out.len();
        self.body_bytes = problem(out, asker, the);
        let written = out.get(start..).unwrap_or_default();
        if written.len() <= ANSWER_BYTES_MAX {
            // Nothing else in it can look like 128 bits that were made for this request.
            let mut found = memchr::memmem::find_iter(written, asker.request_id.as_bytes());
            self.ids_at = std::array::from_fn(|_| found.next());
            self.bytes.extend_from_slice(written);
        }
        self.body_bytes
    }

    fn repeat(&self, out: &mut Vec<u8>, id: &RequestId) -> usize {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for at in self.ids_at.into_iter().flatten() {
            let place = out.get_mut(start + at..).and_then(<[u8]>::first_chunk_mut);
            if let Some(place) = place {
                *place = *id.as_bytes();
            }
        }
        self.body_bytes
    }
}

#[cfg(test)]
#[path = "repeat_tests.rs"]
mod tests;
