//! What a caller is told when something is wrong: problem details (RFC 9457).
//!
//! In: what went wrong. Out: `application/problem+json` with `type`, `title`, `status`, `detail`, `request_id` and,
//! where fields are at fault, `errors`.
//! Always holds: a fault of ours or of the database says nothing about its inside; the log does, under the request's
//! id. The body is written by [`super::layers`], which alone knows that id.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::analytics::AnalyticsError;
use crate::domain::policy_text::Fault;
use crate::storage::{StorageError, StoredAnswer};

/// Seconds after which a request that found the database away may be sent again.
const RETRY_AFTER_S: u64 = 2;

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, with `.` between names.
    #[schema(example = "quota.requests")]
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:payfence:problem:` and a word that stays the same.
    #[serde(rename = "type")]
    #[schema(example = "urn:payfence:problem:not_found")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
    /// As in `PayFence-Request-Id`.
    pub request_id: String,
    /// The fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
}

/// Why a request is not done.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_s: Option<u64>,
    /// Not a problem at all: the answer that the same request had before.
    replay: Option<Box<StoredAnswer>>,
}

impl Problem {
    /// A problem of any kind.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, kind, detail, errors: Vec::new(), retry_after_s: None, replay: None }
    }

    /// 404: there is no such thing, or it is somebody else's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no such {what} in this account"),
        )
    }

    /// 409: what is asked for contradicts what is.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 403: the key may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 400: it cannot be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request_malformed", detail)
    }

    /// 422: it can be read, and fields are wrong.
    #[must_use]
    pub fn fields(faults: Vec<Fault>) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "fields_invalid",
            "one or more fields are not as they must be; nothing was changed",
        );
        problem.errors = faults
            .into_iter()
            .map(|fault| FieldError { field: fault.field, message: fault.message })
            .collect();
        problem
    }

    /// 422 with one field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![Fault::new(field, message)])
    }

    /// 409: a value that must be unique is taken.
    #[must_use]
    pub fn taken(fault: Fault) -> Self {
        let mut problem = Self::conflict(fault.message.clone());
        problem.errors = vec![FieldError { field: fault.field, message: fault.message }];
        problem
    }

    /// 412: somebody else changed it.
    #[must_use]
    pub fn stale() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "version_stale",
            "it was changed since the version that If-Match names; read it again and decide anew",
        )
    }

    /// 429 or 503, to be tried again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// 503: the database is away.
    #[must_use]
    pub fn unavailable() -> Self {
        let detail = "the database cannot be asked now; send the request again, with the same Idempotency-Key if it has one";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).retry_after(RETRY_AFTER_S)
    }

    /// The answer that the same request had before.
    #[must_use]
    pub fn replay(answer: StoredAnswer) -> Self {
        let mut problem = Self::new(StatusCode::OK, "replay", "");
        problem.replay = Some(Box::new(answer));
        problem
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes the body, now that the request's id is known.
    #[must_use]
    pub fn render(self, request_id: &str) -> Response {
        let body = ProblemBody {
            kind: format!("urn:payfence:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            request_id: request_id.to_owned(),
            errors: self.errors,
        };
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"payfence\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        if let Some(answer) = self.replay.take() {
            return super::answer::stored(*answer);
        }
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(_) => {
                tracing::warn!(%error, "a request found the database away");
                Self::unavailable()
            }
            StorageError::Stale => Self::stale(),
            StorageError::Taken(ref constraint) => {
                tracing::debug!(constraint, "a unique value is taken");
                Self::conflict("a value that must be unique is taken already")
            }
            StorageError::Broken(_) => {
                tracing::error!(%error, "a request failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "something is wrong on our side; the log has it under the request's id",
                )
            }
        }
    }
}

impl From<AnalyticsError> for Problem {
    fn from(error: AnalyticsError) -> Self {
        match error {
            AnalyticsError::Storage(error) => error.into(),
            AnalyticsError::ClickHouse(_) => {
                tracing::warn!(%error, "a request found ClickHouse away");
                let detail = "the analytics database cannot be asked now; send the request again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
                    .retry_after(RETRY_AFTER_S)
            }
        }
    }
}

/// Whether the error says that a value of this index or column is taken.
#[must_use]
pub fn is_taken(error: &StorageError, index: &str, columns: &str) -> bool {
    // PostgreSQL names the index, SQLite the columns.
    matches!(error, StorageError::Taken(what) if what.contains(index) || what.contains(columns))
}
