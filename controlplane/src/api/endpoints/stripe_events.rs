//! What Stripe told: what the endpoints of events and sweeps share.
//!
//! In: rows. Out: views.
//! Always holds: only an event's envelope is shown, since nothing else is kept; an event is never made here, only tried again.

pub mod ask_sweep;
pub mod get;
pub mod list;
pub mod list_sweeps;
pub mod replay;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::time::{shown, shown_opt};
use crate::storage::{EventState, StripeEvent, StripeSweep};

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StripeEventState {
    /// To be settled.
    Waiting,
    /// Settled.
    Done,
    /// Nothing follows from its type.
    Ignored,
    /// Given up; POST …/replay tries again.
    Dead,
}

impl StripeEventState {
    /// As storage has it.
    #[must_use]
    pub fn stored(self) -> EventState {
        match self {
            Self::Waiting => EventState::Waiting,
            Self::Done => EventState::Done,
            Self::Ignored => EventState::Ignored,
            Self::Dead => EventState::Dead,
        }
    }
}

/// An event as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StripeEventView {
    /// Its id here.
    id: String,
    /// Its id at Stripe; of hints that a sweep gave, one of ours.
    event_id: String,
    /// Its type.
    #[schema(example = "customer.subscription.updated")]
    kind: String,
    /// `test` or `live`.
    mode: String,
    /// The connected account.
    stripe_account: String,
    /// What it is about.
    object_id: Option<String>,
    /// `waiting`, `done`, `ignored` or `dead`.
    state: String,
    /// How often it was tried.
    attempts: i64,
    /// What was wrong the last time, or why nothing followed.
    note: Option<String>,
    /// When it was made at Stripe.
    event_at: String,
    /// When it was settled or given up.
    settled_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it came.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// An event as it is shown.
#[must_use]
pub fn view_of(row: &StripeEvent) -> StripeEventView {
    StripeEventView {
        id: row.id.clone(),
        event_id: row.event_id.clone(),
        kind: row.kind.clone(),
        mode: row.mode.clone(),
        stripe_account: row.stripe_account.clone(),
        object_id: row.object_id.clone(),
        state: row.state.clone(),
        attempts: row.attempts,
        note: row.error.clone(),
        event_at: shown(row.event_at_s.saturating_mul(1_000)),
        settled_at: shown_opt(row.settled_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}

/// A sweep as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StripeSweepView {
    /// Its id.
    id: String,
    /// `events`, `subscriptions` or `catalogue`.
    kind: String,
    /// `test` or `live`.
    mode: String,
    /// The connected account.
    stripe_account: String,
    /// When it was asked for last.
    asked_at: Option<String>,
    /// Since when it runs; null while it does not.
    began_at: Option<String>,
    /// When it was done last.
    finished_at: Option<String>,
    /// What was looked at, in the run that is or was.
    seen: i64,
    /// What was missing or differed, and was put into the inbox; of `catalogue` the plans whose marks of drift changed.
    repaired: i64,
    /// What Stripe refused it with; it goes on by itself.
    error: Option<String>,
}

/// A sweep as it is shown.
#[must_use]
pub fn sweep_view_of(row: &StripeSweep) -> StripeSweepView {
    StripeSweepView {
        id: row.id.clone(),
        kind: row.kind.clone(),
        mode: row.mode.clone(),
        stripe_account: row.stripe_account.clone(),
        asked_at: shown_opt(row.asked_at_ms),
        began_at: shown_opt(row.began_at_ms),
        finished_at: shown_opt(row.finished_at_ms),
        seen: row.seen,
        repaired: row.repaired,
        error: row.error.clone(),
    }
}
