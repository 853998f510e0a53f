//! Where rows of the decision log go.
//!
//! In: batches from the shipper. Out: rows in files or databases. Always holds: a sink says honestly what it has when asked, and
//! says of a failure whether anything may have been stored; that is all the shipper needs to bring every row exactly once.

use crate::ship::{Batch, Held, RowAt};

pub mod clickhouse;
pub mod control;
pub mod ndjson;

/// What a failed attempt means for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// None of them was stored, nor will be.
    NotTaken,
    /// Some may be stored: the sink must be asked.
    Doubtful,
    /// The sink works and cannot take these rows; whether it stored some must be asked.
    Rejected,
}

/// A sink that failed. The text says what happened and what to do; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SinkError {
    /// What it means for the rows.
    pub outcome: Outcome,
    /// For a person.
    pub text: String,
}

impl SinkError {
    /// Longer texts are cut: they hold what servers say.
    const TEXT_BYTES_MAX: usize = 600;

    /// With the text cut where it is too long.
    #[must_use]
    pub fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > Self::TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(Self::TEXT_BYTES_MAX));
            text.push('…');
        }
        Self { outcome, text }
    }
}

/// Something that takes rows.
pub trait Sink {
    /// Makes it ready: folders, schemas. Called before anything else, and again after each failure.
    fn prepare(&mut self) -> impl Future<Output = Result<(), SinkError>>;

    /// Brings rows of a batch, in their order; when it returns well, all of them are stored.
    fn send(
        &mut self,
        batch: &Batch,
        rows: &[RowAt],
    ) -> impl Future<Output = Result<(), SinkError>>;

    /// Which rows of a batch it has, after anything that may still store some has come to its end. What it has then is whole: a
    /// part of a row's effect that is missing is made up for before this returns.
    fn held(&mut self, batch: &Batch) -> impl Future<Output = Result<Held, SinkError>>;
}
