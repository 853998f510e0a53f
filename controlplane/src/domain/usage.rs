//! What use is counted in: sums over requests, and how long they took by fixed steps.
//!
//! In: rows of the decision log. Out: [`Figures`]. Always holds: adding is in any order; nothing runs over; one row counts for no more
//! than [`ROW_MAX`], so that no node can make sums of a database run over.

use link::row::Row;

/// The upper ends of the steps that requests are counted by, microseconds; the last step has none.
pub const STEPS_US: [u64; STEPS - 1] =
    [1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];
/// How many steps there are.
pub const STEPS: usize = 9;
/// What one row counts for at most, of units, bytes and microseconds each: some 17 terabytes.
pub const ROW_MAX: u64 = 1 << 44;

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many.
    pub requests: i64,
    /// Units charged, after refunds and corrections.
    pub charge: i64,
    /// Bytes of their bodies.
    pub request_bytes: i64,
    /// Bytes of the answers' bodies.
    pub response_bytes: i64,
    /// From the first byte received to the last byte sent, microseconds.
    pub total_us: i64,
    /// How many took how long: up to each of [`STEPS_US`], and longer.
    pub took: [i64; STEPS],
}

/// What one row counts for.
#[must_use]
pub fn counted(value: u64) -> i64 {
    value.min(ROW_MAX).cast_signed()
}

impl Figures {
    /// One request.
    #[must_use]
    pub fn of(row: &Row<'_>) -> Self {
        let mut took = [0; STEPS];
        let step = STEPS_US.iter().position(|end_us| row.ended.total_us <= *end_us);
        if let Some(count) = took.get_mut(step.unwrap_or(STEPS - 1)) {
            *count = 1;
        }
        Self {
            requests: 1,
            charge: counted(row.ended.charge),
            request_bytes: counted(row.ended.request_bytes),
            response_bytes: counted(row.ended.response_bytes),
            total_us: counted(row.ended.total_us),
            took,
        }
    }

    /// These and others.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.requests, other.requests),
            (&mut self.charge, other.charge),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.total_us, other.total_us),
        ];
        let took = self.took.iter_mut().zip(other.took);
        for (sum, value) in sums.into_iter().chain(took) {
            *sum = sum.saturating_add(value);
        }
    }

    /// From what [`Figures::columns`] gave.
    #[must_use]
    pub fn of_columns(columns: [i64; 5 + STEPS]) -> Self {
        let [requests, charge, request_bytes, response_bytes, total_us, took @ ..] = columns;
        Self { requests, charge, request_bytes, response_bytes, total_us, took }
    }

    /// All of them in the order of the tables' columns.
    #[must_use]
    pub fn columns(&self) -> [i64; 5 + STEPS] {
        let Self { requests, charge, request_bytes, response_bytes, total_us, took } = *self;
        let [a, b, c, d, e, f, g, h, i] = took;
        [requests, charge, request_bytes, response_bytes, total_us, a, b, c, d, e, f, g, h, i]
    }
}

/// The names of [`Figures::columns`].
pub const COLUMNS: [&str; 5 + STEPS] = [
    "requests",
    "charge",
    "request_bytes",
    "response_bytes",
    "total_us",
    "took_0",
    "took_1",
    "took_2",
    "took_3",
    "took_4",
    "took_5",
    "took_6",
    "took_7",
    "took_8",
];
