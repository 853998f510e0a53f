//! Answers that went well.
//!
//! In: a view and its version. Out: JSON with `ETag` and, where something was made, `Location`.
//! Always holds: what is kept for a replay never has the secret that the first answer had.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::storage::{Change, Page, StoredAnswer};

/// The field that only a first answer has.
const SECRET: &str = "secret";

/// Part of a list, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Whether there are more: ask for them with `starting_after` set to the last entry's id.
    pub has_more: bool,
}

impl<T> List<T> {
    /// A page of rows, shown; 422 where there was nothing to go on after.
    ///
    /// # Errors
    /// When a row cannot be shown.
    pub fn of<R>(
        page: Option<Page<R>>,
        view: impl Fn(&R) -> Result<T, Problem>,
    ) -> Result<Self, Problem> {
        let page = page.ok_or_else(|| {
            Problem::field("starting_after", "expected the id of an entry of this list")
        })?;
        let data = page.rows.iter().map(view).collect::<Result<_, _>>()?;
        Ok(Self { data, has_more: page.has_more })
    }
}

/// The tag of a version.
#[must_use]
pub fn etag(version: i64) -> String {
    format!("\"v{version}\"")
}

/// 200 with what is.
#[derive(Clone, Debug)]
pub struct Shown<T> {
    /// The body.
    pub view: T,
    /// For `ETag`.
    pub version: i64,
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.view).into_response();
        insert(&mut response, header::ETAG, &etag(self.version));
        response
    }
}

/// 201 with what was made.
#[derive(Debug)]
pub struct Made<T> {
    /// The body, without any secret.
    pub view: T,
    /// For `ETag`.
    pub version: i64,
    /// Where it is found.
    pub location: String,
    /// Shown in this answer and never again.
    pub secret: Option<String>,
}

impl<T: Serialize> Made<T> {
    /// Commits the change and answers.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn commit(self, change: Change) -> Result<Response, Problem> {
        let mut body = serde_json::to_value(&self.view).unwrap_or_default();
        let stored = StoredAnswer {
            status: StatusCode::CREATED.as_u16(),
            body: body.to_string(),
            etag: Some(etag(self.version)),
            location: Some(self.location),
        };
        change.commit_with(Some(&stored)).await?;
        let mut answer = stored;
        if let (Some(secret), Json::Object(fields)) = (self.secret, &mut body) {
            fields.insert(SECRET.to_owned(), secret.into());
            answer.body = body.to_string();
        }
        Ok(written(answer))
    }
}

/// Commits a change that made nothing new, and answers 200; for POSTs that act on what is.
///
/// # Errors
/// When the database cannot be asked.
pub async fn commit_shown<T: Serialize>(
    change: Change,
    shown: Shown<T>,
) -> Result<Response, Problem> {
    let body = serde_json::to_value(&shown.view).unwrap_or_default().to_string();
    let etag = Some(etag(shown.version));
    let stored = StoredAnswer { status: 200, body, etag, location: None };
    change.commit_with(Some(&stored)).await?;
    Ok(written(stored))
}

/// As [`commit_shown`], for what has no version.
///
/// # Errors
/// When the database cannot be asked.
pub async fn commit_listed<T: Serialize>(change: Change, view: &T) -> Result<Response, Problem> {
    let body = serde_json::to_value(view).unwrap_or_default().to_string();
    let stored = StoredAnswer { status: 200, body, etag: None, location: None };
    change.commit_with(Some(&stored)).await?;
    Ok(written(stored))
}

/// An answer given again.
pub(super) fn stored(answer: StoredAnswer) -> Response {
    let mut response = written(answer);
    insert(&mut response, header::HeaderName::from_static("idempotent-replayed"), "true");
    response
}

fn written(answer: StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    insert(&mut response, header::CONTENT_TYPE, "application/json");
    if let Some(etag) = &answer.etag {
        insert(&mut response, header::ETAG, etag);
    }
    if let Some(location) = &answer.location {
        insert(&mut response, header::LOCATION, location);
    }
    response
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
