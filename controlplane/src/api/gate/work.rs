//! POSTs that ask Stripe in between, done once for an idempotency key all the same.
//!
//! In: that the caller may, a key, the work. Out: its answer, or the one that was given before.
//! Always holds: whoever may not is refused before anything is looked up; of the same request twice at once one works and the other is told
//! to come back; work that was refused or broke off leaves the key to the next try, which goes on where it was.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value as Json;

use super::{Gate, Grant};
use crate::api::answer;
use crate::api::problem::Problem;
use crate::storage::{IdempotencyKey, StoredAnswer, TenantRow, WorkBegun, WorkEnd};

/// How long whoever comes while the same request runs is told to wait, seconds.
const RUNNING_RETRY_S: u64 = 2;

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it: the same request has the same answer.
    Answer,
    /// Nothing, since a link of Stripe's that lets somebody in stands in it: the same request makes the next one.
    Nothing,
}

impl Gate {
    /// What comes of `work`, once for a key.
    ///
    /// # Errors
    /// The work's own; 409 while the same request runs, 422 where the key was used for another, 503 when the database is away.
    pub async fn work_once<R: IntoResponse>(
        &self,
        grant: &Grant,
        key: Option<&IdempotencyKey>,
        kept: Kept,
        work: impl Future<Output = Result<R, Problem>>,
    ) -> Result<Response, Problem> {
        let Some(key) = key else { return Ok(work.await?.into_response()) };
        let begun = match self.store.begin_work(&grant.account_id, key).await? {
            WorkBegun::New(begun) => begun,
            WorkBegun::Answered(given) => return Ok(answer::stored(given)),
            WorkBegun::KeyReused => return Err(reused()),
            WorkBegun::Running => return Err(running()),
        };
        let response = match work.await {
            Ok(response) => response.into_response(),
            Err(problem) => {
                // Where that fails, too, the key is free once the work can no longer be running.
                let _ = self.store.end_work(&begun, WorkEnd::Refused).await;
                return Err(problem);
            }
        };
        if kept == Kept::Nothing {
            self.store.end_work(&begun, WorkEnd::Anew).await?;
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let text =
            body.collect().await.map_err(|_| Problem::bad_request("the answer broke off"))?;
        let text = text.to_bytes();
        let stored = StoredAnswer {
            status: parts.status.as_u16(),
            body: String::from_utf8_lossy(&text).into_owned(),
            etag: text_of(&parts.headers, &header::ETAG),
            location: text_of(&parts.headers, &header::LOCATION),
        };
        self.store.end_work(&begun, WorkEnd::Answer(stored)).await?;
        Ok(Response::from_parts(parts, text.into()))
    }

    /// Has the audit log say who had what done about a row at Stripe: what changes here by it is written down as Stripe's.
    /// Work that breaks off before this is done again for its key, and comes here then.
    ///
    /// # Errors
    /// 503 when the database is away.
    pub async fn note<R: TenantRow>(
        &self,
        grant: &Grant,
        row: &R,
        asked: Json,
    ) -> Result<(), Problem> {
        let mut change = self.store.change(&grant.account_id, grant.actor.clone()).await?;
        let mut what = row.facts();
        what["asked"] = asked;
        change.note_done(row, what);
        Ok(change.commit().await?)
    }
}

fn text_of(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The key was used for another request.
pub(super) fn reused() -> Problem {
    let detail =
        "this Idempotency-Key was used for another request in the last 24 hours; use a new one";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

/// The same request runs.
pub(super) fn running() -> Problem {
    let detail =
        "a request with this Idempotency-Key is being worked on; send it again for its answer";
    Problem::new(StatusCode::CONFLICT, "idempotency_key_in_use", detail)
        .retry_after(RUNNING_RETRY_S)
}
