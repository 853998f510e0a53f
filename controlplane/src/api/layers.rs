//! What every request goes through.
//!
//! In: a request. Out: its answer, with `PayFence-Request-Id`; problems with their bodies.
//! Always holds: a request gets an id of its own, whatever it carries; it ends within [`REQUEST_TIMEOUT`].

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::problem::Problem;
use super::{App, RequestId};
use crate::ids::new_id;

/// How long a request may take, reading its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_ID: HeaderName = HeaderName::from_static("payfence-request-id");

/// Gives the request an id, bounds its time, and writes the body of a problem.
pub async fn frame(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = new_id("req", &*app.world);
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        let detail = "the request took too long and may or may not have been done; send it again with the same Idempotency-Key";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail).retry_after(2).into_response()
    });
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.render(&id);
    }
    if response.status().is_server_error() {
        tracing::warn!(request_id = id, %method, path, status = response.status().as_u16(), "refused");
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// No route.
pub async fn nothing_here() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing here; /docs lists what there is",
    )
}

/// A route, but not with this method.
pub async fn wrong_method() -> Problem {
    let detail = "this method is not allowed here; /docs lists which are";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
