//! Reading requests: bodies, paths, queries, preconditions.
//!
//! In: a request. Out: typed values, or a [`Problem`] that names the field.
//! Always holds: a body has at most [`BODY_BYTES_MAX`] bytes and [`DEPTH_MAX`] levels; a field that is not known is
//! refused; nothing is read twice.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::answer::etag;
use super::problem::Problem;
use crate::domain::object::Object;
use crate::domain::policy_text::Fault;
use crate::storage::{IdempotencyKey, Window};

/// The largest body, bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 16;
/// Fields that a patch may take away: each is looked up by itself.
const NULLS_MAX: usize = 128;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// The body of a POST, and how the request is known again.
#[derive(Clone, Debug)]
pub struct Posted<T> {
    /// What was sent.
    pub body: T,
    /// `Idempotency-Key`, where there is one.
    pub key: Option<IdempotencyKey>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Posted<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body).await?;
        let key = idempotency_key(&parts, &bytes)?;
        // A POST that needs no fields may come without a body.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        Ok(Self { body: parse(&bytes)?, key })
    }
}

/// The body of a PATCH: a JSON merge patch (RFC 7396).
#[derive(Clone, Debug)]
pub struct Patched(Map<String, Json>);

impl<S: Send + Sync> FromRequest<S> for Patched {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        parse(&read_body(&parts.headers, body).await?).map(Self)
    }
}

impl Patched {
    /// Takes a field that is not part of what is patched.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.0.remove(field) else { return Ok(None) };
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| Problem::field(field, error.to_string()))
    }

    /// `current` with the patch applied.
    ///
    /// # Errors
    /// When the result is not a `T`: an unknown field, a wrong type, a required field set to null.
    pub fn onto<T: Serialize + DeserializeOwned>(self, current: &T) -> Result<T, Problem> {
        let mut nulls = Vec::new();
        find_nulls(&self.0, String::new(), &mut nulls);
        if nulls.len() > NULLS_MAX {
            let detail = format!("at most {NULLS_MAX} fields can be taken away at once");
            return Err(Problem::bad_request(detail));
        }
        let mut merged = serde_json::to_value(current).unwrap_or_default();
        merge(&mut merged, Json::Object(self.0));
        for pointer in nulls {
            check_known::<T>(&merged, &pointer)?;
        }
        serde_path_to_error::deserialize(merged).map_err(|error| fault_of(&error))
    }
}

/// Where nulls stand in a patch, as JSON pointers (RFC 6901).
fn find_nulls(patch: &Map<String, Json>, within: String, nulls: &mut Vec<String>) {
    for (name, value) in patch {
        let pointer = format!("{within}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Json::Null => nulls.push(pointer),
            Json::Object(fields) => find_nulls(fields, pointer, nulls),
            _ => {}
        }
    }
}

/// Refuses a field that is not known and is to be taken away: what is merged has no trace of it.
fn check_known<T: DeserializeOwned>(merged: &Json, pointer: &str) -> Result<(), Problem> {
    let Some((within, name)) = pointer.rsplit_once('/') else { return Ok(()) };
    let mut probe = merged.clone();
    // What it stood in may be gone, or be known as a whole to have other fields.
    let Some(fields) = probe.pointer_mut(within).and_then(Json::as_object_mut) else {
        return Ok(());
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    fields.insert(name, Json::Null);
    match serde_path_to_error::deserialize::<_, T>(probe) {
        Err(error) if error.inner().to_string().starts_with("unknown field") => {
            Err(fault_of(&error))
        }
        _ => Ok(()),
    }
}

/// RFC 7396 §2. Depth is bounded, since the patch was read with [`DEPTH_MAX`].
fn merge(target: &mut Json, patch: Json) {
    let Json::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Json::Object(Map::new());
    }
    let Json::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Json::Null), value);
        }
    }
}

async fn read_body(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, Problem> {
    let limited = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let bytes = limited.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            let detail =
                format!("the body is too large; at most {BODY_BYTES_MAX} bytes are allowed");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail);
        }
        Problem::bad_request("the body broke off")
    })?;
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let is_json = match kind {
        None => bytes.is_empty(),
        Some(kind) => {
            kind.eq_ignore_ascii_case("application/json")
                || kind.eq_ignore_ascii_case("application/merge-patch+json")
        }
    };
    if !is_json && !bytes.is_empty() {
        let detail = "expected a body of Content-Type application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if depth(bytes) > DEPTH_MAX {
        let detail = format!("the body nests too deep; at most {DEPTH_MAX} levels are allowed");
        return Err(Problem::bad_request(detail));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // Something else in place of a word from a list is an error of syntax to the parser, too.
        if error.inner().is_data() || serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            fault_of(&error)
        } else {
            Problem::bad_request(format!("the body is not JSON: {}", error.inner()))
        }
    })?;
    reader.end().map_err(|_| Problem::bad_request("more than one JSON value in the body"))?;
    Ok(value)
}

fn fault_of(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let text = error.inner().to_string();
    // Without the place in the text, which means nothing to who built the JSON by program.
    let message = without_text(text.split(" at line ").next().unwrap_or(&text));
    // An unknown or missing field is named in the message alone.
    let named = message
        .split('`')
        .nth(1)
        .filter(|_| message.starts_with("unknown field") || message.starts_with("missing field"));
    let field = match (path.as_str(), named) {
        (".", Some(named)) => named.to_owned(),
        (path, Some(named)) if !path.ends_with(named) => format!("{path}.{named}"),
        (path, _) => path.to_owned(),
    };
    Problem::fields(vec![Fault { field, message }])
}

/// A message without the text that was sent, which may be a secret: what was expected in its place says enough.
fn without_text(message: &str) -> String {
    let is_text = ["invalid type: string", "invalid value: string"];
    if message == "expected value" {
        return "expected one of the words that are allowed".to_owned();
    }
    match message.rsplit_once("\", expected ") {
        Some((sent, expected)) if is_text.iter().any(|begin| sent.starts_with(begin)) => {
            format!("expected {expected}, not this text")
        }
        _ => message.to_owned(),
    }
}

/// How deep brackets nest, strings left out. What is not JSON is found by the parser.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn idempotency_key(parts: &Parts, body: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let is_good = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
        && values.next().is_none();
    if !is_good {
        return Err(Problem::bad_request(format!(
            "Idempotency-Key: expected one value of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        )));
    }
    let mut hasher = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), body] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Ok(Some(IdempotencyKey { key: key.to_owned(), request_hash: hasher.finalize().into() }))
}

/// What the path names.
#[derive(Clone, Debug)]
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(named) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found("thing"))?;
        Ok(Self(named))
    }
}

/// What the query asks for.
#[derive(Clone, Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // PostgreSQL has no text with a NUL in it, so nothing is found by one; unescaped it is in no URI.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::bad_request(
                "the query: it holds a NUL, which stands in no value",
            ));
        }
        let Query(asked) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::bad_request(format!("the query: {}", error.body_text())))?;
        Ok(Self(asked))
    }
}

/// Entries of a list where the caller does not say.
pub const LIMIT_DEFAULT: u64 = 20;
/// How many entries a list may be asked for at once.
pub const LIMIT_MAX: u64 = 100;

/// The part of a list that is asked for.
///
/// # Errors
/// 422 where the limit is out of bounds.
pub fn window(limit: u64, starting_after: Option<&str>) -> Result<Window<'_>, Problem> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("expected an integer from 1 to {LIMIT_MAX}")));
    }
    Ok(Window { limit, starting_after })
}

/// `If-Match`, where there is one.
#[derive(Clone, Debug)]
pub struct IfMatch(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text =
            value.to_str().map_err(|_| Problem::bad_request("If-Match: expected an ETag"))?;
        Ok(Self(Some(text.to_owned())))
    }
}

impl IfMatch {
    /// Whether what is has the version that the caller saw (RFC 9110 §13.1.1).
    ///
    /// # Errors
    /// 412 where it has not.
    pub fn check(&self, version: i64) -> Result<(), Problem> {
        let Some(expected) = &self.0 else { return Ok(()) };
        let tag = etag(version);
        let matches = expected.split(',').any(|one| matches!(one.trim(), "*") || one.trim() == tag);
        if matches { Ok(()) } else { Err(Problem::stale()) }
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
