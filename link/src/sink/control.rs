//! Rows at a control plane, which keeps recent ones and rolls them up: for those without ClickHouse.
//!
//! In: batches. Out: frames of packed rows ([`crate::wire::decisions`]). Always holds: rows of a stream are sent in their order and one
//! request after another, since the control plane takes rows up to a position and passes over what comes again; so a request that was
//! given up and arrives late does nothing; it is never said that the control plane cannot take some rows for good, since single rows
//! tried out of order would move the position past others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, Sink, SinkError};
use crate::control::http::{Http, HttpError};
use crate::control::{ControlConfig, ControlError, LinkState};
use crate::ship::{Batch, Held, Limits, Range, RowAt, Stream};
use crate::wire::decisions::{ROWS_BYTES_MAX, ROWS_MAX, RUNS_MAX};
use crate::wire::{DECISIONS_PATH, Decisions, Positions, Run, Why};

/// How long an answer may take: the control plane answers when its database has all rows.
const ANSWER: Duration = Duration::from_secs(30);

/// Control planes that take rows.
#[derive(Debug)]
pub struct ControlSink {
    http: Http,
}

impl ControlSink {
    /// Nothing is asked yet. Of the configuration addresses, token, authorities and pace count; the folder is not touched.
    ///
    /// # Errors
    /// When token file or authorities cannot be used.
    pub fn new(mut config: ControlConfig) -> Result<Self, ControlError> {
        config.pace.answer = config.pace.answer.max(ANSWER);
        let state = Arc::new(LinkState::new(&config));
        Ok(Self { http: Http::new(&config, state)? })
    }

    /// What goes there at once: less than to other sinks, since it shares its database with everything else.
    #[must_use]
    pub fn limits() -> Limits {
        Limits { rows_max: ROWS_MAX, bytes_max: ROWS_BYTES_MAX, ..Limits::default() }
    }

    async fn post(&self, decisions: &Decisions) -> Result<Positions, SinkError> {
        let body = decisions.encode().map_err(|error| {
            SinkError::new(Outcome::NotTaken, format!("decisions cannot be sent: {error}"))
        })?;
        let (position, url) = self.http.current();
        let answer = self.http.post(url.at(DECISIONS_PATH, None), body).await;
        self.positions(answer, position)
    }

    async fn ask(&self, epoch: u64) -> Result<Positions, SinkError> {
        let (position, url) = self.http.current();
        let path = format!("{DECISIONS_PATH}/{epoch:016x}");
        let answer = self.http.ask(url.at(&path, None)).await;
        self.positions(answer, position)
    }

    /// What an answer says; where it says nothing, the next control plane is turned to.
    fn positions(
        &self,
        answer: Result<Vec<u8>, HttpError>,
        position: usize,
    ) -> Result<Positions, SinkError> {
        let read = answer.and_then(|body| {
            Positions::decode(&body).map_err(|error| HttpError::Reach(error.to_string()))
        });
        read.map_err(|error| {
            self.http.turn_from(position);
            sink_error(&error)
        })
    }
}

impl Sink for ControlSink {
    /// Whatever failed before may have been for a token that was changed since.
    async fn prepare(&mut self) -> Result<(), SinkError> {
        self.http.refresh_token();
        Ok(())
    }

    async fn send(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), SinkError> {
        // Before anything is sent: a row that cannot be read here is set aside, and the others are sent without it.
        if let Some(error) = rows.iter().find_map(|at| batch.read(at).err()) {
            return Err(SinkError::new(
                Outcome::Rejected,
                format!("a row cannot be sent: {error}"),
            ));
        }
        let mut rest = rows;
        while !rest.is_empty() {
            let (decisions, after) = cut(batch, rest);
            self.http.admitted().await;
            let is_first = rest.len() == rows.len();
            let taken = self.post(&decisions).await.map_err(|error| {
                // Earlier ones were taken.
                let outcome = if is_first { error.outcome } else { Outcome::Doubtful };
                SinkError { outcome, ..error }
            })?;
            if !covers(&taken, &decisions.runs) {
                let text = "the control plane says it took decisions, and not those that were sent; its database may be an older one";
                return Err(SinkError::new(Outcome::Doubtful, text));
            }
            rest = after;
        }
        Ok(())
    }

    /// A request that is still on its way changes nothing that matters: what it carries is taken once, by it or by what is sent anew.
    async fn held(&mut self, batch: &Batch) -> Result<Held, SinkError> {
        let epochs: BTreeSet<u64> = batch.streams.iter().map(|stream| stream.epoch).collect();
        let mut ranges = Vec::new();
        for epoch in epochs {
            self.http.admitted().await;
            let known = self.ask(epoch).await?.positions;
            ranges.extend(known.into_iter().filter(|known| known.next > 0).map(|known| {
                let stream = Stream { epoch: known.epoch, shard: known.shard };
                Range { stream, from: 0, to: known.next }
            }));
        }
        Ok(Held::new(ranges))
    }
}

/// The first of these rows, as many as one request takes, and the others.
fn cut<'a>(batch: &Batch, rows: &'a [RowAt]) -> (Decisions, &'a [RowAt]) {
    let mut decisions = Decisions::default();
    let mut taken = 0;
    for at in rows {
        let bytes = batch.bytes_of(at);
        let Stream { epoch, shard } = batch.stream_of(at);
        let is_next = |run: &&mut Run| {
            (run.epoch, run.shard, run.first + u64::from(run.rows)) == (epoch, shard, at.seq)
        };
        let is_full = taken == ROWS_MAX || decisions.rows.len() + bytes.len() > ROWS_BYTES_MAX;
        let run = decisions.runs.last_mut().filter(is_next);
        if taken > 0 && (is_full || (run.is_none() && decisions.runs.len() == RUNS_MAX)) {
            break;
        }
        match decisions.runs.last_mut().filter(is_next) {
            Some(run) => run.rows += 1,
            None => decisions.runs.push(Run { epoch, shard, first: at.seq, rows: 1 }),
        }
        decisions.rows.extend_from_slice(bytes);
        taken += 1;
    }
    (decisions, rows.get(taken..).unwrap_or_default())
}

/// Whether the positions are behind all that was sent.
fn covers(taken: &Positions, runs: &[Run]) -> bool {
    runs.iter().all(|run| {
        taken.positions.iter().any(|known| {
            (known.epoch, known.shard) == (run.epoch, run.shard)
                && known.next >= run.first + u64::from(run.rows)
        })
    })
}

fn sink_error(error: &HttpError) -> SinkError {
    let (outcome, text) = match error {
        HttpError::Refused(refusal) => {
            let outcome = match refusal.why {
                Why::Unavailable => Outcome::Doubtful,
                _ => Outcome::NotTaken,
            };
            (outcome, format!("the control plane does not take decisions: {}", refusal.text))
        }
        HttpError::Status(status) if status.as_u16() == 404 => {
            let text = "the control plane does not know of decisions: run the version of this node there, or give --control-decisions off";
            (Outcome::NotTaken, text.to_owned())
        }
        HttpError::Status(_) | HttpError::Reach(_) => (
            Outcome::Doubtful,
            format!("decisions cannot be brought to the control plane: {error}"),
        ),
    };
    SinkError::new(outcome, text)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
