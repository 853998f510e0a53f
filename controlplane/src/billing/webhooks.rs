//! `POST /stripe/webhooks/{mode}`: where Stripe tells that something happened.
//!
//! In: signed bodies. Out: 200 once the event's envelope is durable; 400 for what Stripe did not sign, 503 for what should be
//! sent again, with `Retry-After`.
//! Always holds: nothing of a body is believed but names, and those only after the signature; what Stripe signed and is not
//! for us (of the other mode, of an account that nobody here connected) is answered 200 and changes nothing, since sending
//! it again would not change that and Stripe switches off an endpoint that keeps failing; every outcome is counted by its cause.

mod counters;
pub(super) mod envelope;
mod intake;
mod secrets;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::Notify;

use crate::storage::{Kept, Store};
use crate::world::World;
pub use counters::{Counters, Outcome};
use intake::Intake;
pub use secrets::{WebhookSecretError, WebhookSecrets};
pub use signature::SIGNATURE_HEADER;
use signature::Unsigned;
#[cfg(test)]
pub(crate) use signature::header_of;

/// The largest body, bytes: Stripe's events are mostly below 64 KiB.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take; Stripe waits 20 s or so for the answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// When what could not be kept may be sent again, seconds; Stripe itself waits longer.
const RETRY_AFTER_S: u16 = 5;

/// What the endpoint is made of. Clones share it.
#[derive(Clone, Debug)]
pub struct Webhooks {
    secrets: Arc<WebhookSecrets>,
    intake: Intake,
    counters: Arc<Counters>,
    world: Arc<dyn World>,
    store: Store,
}

impl Webhooks {
    /// The endpoint, and what carries its events into the store for as long as it is run. `arrived` is told of new ones.
    pub fn new(
        store: Store,
        secrets: Arc<WebhookSecrets>,
        arrived: Arc<Notify>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let world = store.world().clone();
        let (intake, carry) = Intake::new(store.clone(), arrived);
        (Self { secrets, intake, counters: Arc::default(), world, store }, carry)
    }

    /// What came so far.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Where events are kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many events wait for the database, for tests.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.intake.waiting()
    }

    /// The route.
    pub fn router(&self) -> Router {
        Router::new().route("/stripe/webhooks/{mode}", post(receive)).with_state(self.clone())
    }

    async fn take(&self, is_live: bool, headers: &HeaderMap, body: Body) -> Outcome {
        let secrets = self.secrets.of(is_live);
        if secrets.is_empty() {
            return Outcome::NoSecrets;
        }
        let mut signatures = headers.get_all(SIGNATURE_HEADER).iter();
        let (Some(header), None) = (signatures.next(), signatures.next()) else {
            return Outcome::Unsigned;
        };
        let Ok(header) = header.to_str() else { return Outcome::Unsigned };
        let Some(body) = read_body(body).await else { return Outcome::Unreadable };
        match signature::check(header, &body, secrets, self.world.now_ms().div_euclid(1_000)) {
            Ok(()) => {}
            Err(Unsigned::Unreadable) => return Outcome::Unsigned,
            Err(Unsigned::Forged) => return Outcome::Forged,
            Err(Unsigned::Old) => return Outcome::Old,
        }
        let mode = if is_live { "live" } else { "test" };
        let Some(event) = envelope::read(&body, mode) else { return Outcome::Malformed };
        if event.livemode != is_live {
            return Outcome::OtherMode;
        }
        match self.intake.keep(event).await {
            Ok(Kept::New) => Outcome::Kept,
            Ok(Kept::Known) => Outcome::Known,
            Ok(Kept::Foreign) => Outcome::Foreign,
            Err(_) => Outcome::Unavailable,
        }
    }
}

async fn read_body(body: Body) -> Option<Bytes> {
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    let collected = tokio::time::timeout(BODY_TIMEOUT, collected).await.ok()?.ok()?;
    Some(collected.to_bytes())
}

async fn receive(
    State(webhooks): State<Webhooks>,
    Path(mode): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let is_live = match mode.as_str() {
        "test" => false,
        "live" => true,
        _ => return answer(StatusCode::NOT_FOUND, "no_such_mode"),
    };
    let outcome = webhooks.take(is_live, &headers, body).await;
    webhooks.counters.count(outcome);
    let status = match outcome {
        Outcome::Kept | Outcome::Known | Outcome::OtherMode | Outcome::Foreign => StatusCode::OK,
        Outcome::Unsigned | Outcome::Forged | Outcome::Old | Outcome::Malformed => {
            StatusCode::BAD_REQUEST
        }
        Outcome::Unreadable => StatusCode::PAYLOAD_TOO_LARGE,
        Outcome::NoSecrets => StatusCode::NOT_FOUND,
        Outcome::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    if status != StatusCode::OK {
        tracing::debug!(mode, outcome = outcome.as_str(), "a webhook was refused");
    }
    let mut answer = answer(status, outcome.as_str());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
    }
    answer
}

fn answer(status: StatusCode, word: &'static str) -> Response {
    let body = format!("{{\"outcome\":\"{word}\"}}\n");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
