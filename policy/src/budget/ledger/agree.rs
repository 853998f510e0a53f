//! Which period it is, agreed over all nodes.
//!
//! In: requests that name periods, the ledger's clock. Out: the books a request is for.
//! Always holds: the ledger's clock alone begins a period, once for all nodes, and its id never goes back. A request
//! may speak of the current period, of the one after it (leased ahead), and of past ones.

use super::super::message::LeaseRequest;
use super::super::{Calendar, Period};
use super::state::{Account, Authority, LedgerNow, PERIODS_MAX, PeriodBooks};

/// The first period of an account: the one a node has counted in already, where the ledger's clock lies in it.
pub(super) fn first(request: &LeaseRequest, now: LedgerNow) -> Period {
    let asked = request.period;
    if now.authority == Authority::Node {
        return asked;
    }
    let now_s = now.unix_s();
    let ours = Period::first(&request.terms.calendar, now_s);
    let is_now = asked.start_s <= now_s && now_s < asked.end_s;
    // An id grows from the first second of some period, so none is past its own end.
    let is_sane = i64::try_from(asked.id.0).is_ok_and(|id| id <= asked.end_s);
    if is_now && is_sane && asked.id > ours.id { Period { id: asked.id, ..ours } } else { ours }
}

impl Account {
    /// Takes newer terms. True where the limit is now lower than what is leased.
    pub(super) fn learn(&mut self, request: &LeaseRequest, now: LedgerNow) -> bool {
        if request.terms.version <= self.terms.version {
            return false;
        }
        let old = std::mem::replace(&mut self.terms, request.terms);
        if old.calendar != self.terms.calendar && now.authority == Authority::Ledger {
            self.current = self.current.at(&old.calendar, now.unix_s());
            self.current = self.current.moved_to(&self.terms.calendar, now.unix_s());
        }
        let ceiling = self.terms.ceiling();
        let is_over = |books: &PeriodBooks| ceiling.is_some_and(|most| books.committed() > most);
        old.ceiling() != ceiling && self.books.iter().any(is_over)
    }

    /// Turns to the period that the ledger's clock is in.
    pub fn turn(&mut self, now: LedgerNow) {
        if now.authority == Authority::Ledger {
            self.current = self.current.at(&self.terms.calendar, now.unix_s());
        }
    }

    /// Where the books of a request are; `None` where it speaks of a period that is not, and will not be.
    pub(super) fn place(&mut self, request: &LeaseRequest, now: LedgerNow) -> Option<usize> {
        self.turn(now);
        let asked = request.period;
        if now.authority == Authority::Node {
            let index = self.find_or_open(asked)?;
            let books = self.books.get_mut(index)?;
            books.period.end_s = books.period.end_s.max(asked.end_s);
            if asked.id >= self.current.id {
                self.current = books.period;
            }
            return Some(index);
        }
        let current = self.current;
        if asked.id == current.id {
            let index = self.find_or_open(current)?;
            // Leased ahead, the calendar may have changed since.
            self.books.get_mut(index)?.period = current;
            return Some(index);
        }
        if let Some(index) = self.books.iter().position(|books| books.period.id == asked.id) {
            return Some(index);
        }
        let next = current.next(&self.terms.calendar);
        if asked.id == next.id && asked.start_s == next.start_s {
            return self.find_or_open(next);
        }
        let is_past = asked.id < current.id && asked.end_s <= current.start_s;
        let has_news = request.totals.charged > 0 || request.totals.corrected > 0;
        let overlaps = |books: &PeriodBooks| {
            books.period.start_s < asked.end_s && asked.start_s < books.period.end_s
        };
        if is_past && has_news && !self.books.iter().any(overlaps) {
            return self.find_or_open(asked);
        }
        None
    }

    /// The period after the current one.
    #[must_use]
    pub fn next_period(&self, calendar: &Calendar) -> Period {
        self.current.next(calendar)
    }

    fn find_or_open(&mut self, period: Period) -> Option<usize> {
        let here = |books: &PeriodBooks| books.period.id == period.id;
        if let Some(index) = self.books.iter().position(here) {
            return Some(index);
        }
        if self.books.len() >= PERIODS_MAX {
            let ids = self.books.iter().map(|books| books.period.id).enumerate();
            let (index, oldest) = ids.min_by_key(|(_, id)| *id)?;
            if oldest > period.id {
                return None;
            }
            self.books.swap_remove(index);
        }
        self.books.push(PeriodBooks { period, leases: Vec::new() });
        Some(self.books.len() - 1)
    }
}
