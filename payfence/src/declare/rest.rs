//! Requests to a control plane's REST.
//!
//! In: paths, fields. Out: rows, or why there are none, in words for a person.
//! Always holds: every request has a deadline and every answer a bound; a POST carries an `Idempotency-Key`, the same with each try, so that
//! it is done once; what changes or ends a row carries the version that was seen; a 429 or 503 is tried again after the time it names.

use std::path::Path;
use std::time::Duration;

use controlplane::api::answer::etag;
use link::control::ControlUrl;
use link::control::client::{body_of, chain, client};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_MATCH, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value as Json;
use tokio::time::{sleep, timeout};

use super::form::Fields;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of rows of a site with everything at its bounds.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The most that a page may have.
const PAGE: &str = "100";
/// Of one list: more than a policy file has of anything.
const ROWS_MAX: usize = 2_000_000;
/// Tries of one request.
const TRIES_MAX: u32 = 6;
/// Of these, where no answer comes: somebody waits to be told.
const UNANSWERED_TRIES_MAX: u32 = 3;
const WAIT_DEFAULT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer came; whether it was done is not known.
    #[error("{url}: {reason}")]
    Reach {
        /// The control plane.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The control plane refused.
    #[error("{status}: {detail}")]
    Refused {
        /// The answer's.
        status: StatusCode,
        /// What it says.
        detail: String,
    },
    /// An answer that is none of a control plane's REST.
    #[error("{0} does not answer as a control plane does")]
    Strange(String),
    /// More than can be.
    #[error("{0} has more than {ROWS_MAX} entries")]
    TooMany(String),
    /// The key is not shown what tokens are known by.
    #[error(
        "the admin key may not see tokens' hashes; use one that may write tokens (role owner or admin, scope tokens:write)"
    )]
    NoHashes,
}

/// A control plane, and whose key it is asked with.
#[derive(Debug)]
pub struct Rest {
    client: Client,
    url: ControlUrl,
    bearer: HeaderValue,
}

/// What is asked for.
struct Asked<'a> {
    method: Method,
    url: Url,
    body: Option<&'a Json>,
    if_match: Option<i64>,
    idempotency_key: Option<String>,
}

impl Rest {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// Text for a person: the authorities cannot be read, or the key is none.
    pub fn new(url: ControlUrl, key: &str, ca_file: Option<&Path>) -> Result<Self, String> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| "the admin key has characters that no key has".to_owned())?;
        bearer.set_sensitive(true);
        let client = client(ca_file, CONNECT_TIMEOUT)
            .map_err(|reason| format!("cannot trust any control plane: {reason}"))?;
        Ok(Self { client, url, bearer })
    }

    /// Every row of a list.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn list(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Fields>, RestError> {
        let mut rows: Vec<Fields> = Vec::new();
        loop {
            let mut url = self.url.at(path, None);
            url.query_pairs_mut().append_pair("limit", PAGE).extend_pairs(query);
            if let Some(last) = rows.last().and_then(|row| row.get("id")?.as_str()) {
                url.query_pairs_mut().append_pair("starting_after", last);
            }
            let strange = || RestError::Strange(format!("{}{path}", self.url));
            let asked = Asked {
                method: Method::GET,
                url,
                body: None,
                if_match: None,
                idempotency_key: None,
            };
            let Json::Object(mut page) = self.ask(&asked).await? else { return Err(strange()) };
            let Some(Json::Array(data)) = page.remove("data") else { return Err(strange()) };
            let has_more = page.get("has_more").and_then(Json::as_bool).unwrap_or_default();
            let is_empty = data.is_empty();
            for row in data {
                let Json::Object(row) = row else { return Err(strange()) };
                rows.push(row);
            }
            if !has_more {
                return Ok(rows);
            }
            if is_empty || rows.len() > ROWS_MAX {
                return Err(RestError::TooMany(path.to_owned()));
            }
        }
    }

    /// What is at a path that has one row or none.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn find(&self, path: &str, query: &str) -> Result<Option<Fields>, RestError> {
        let url = self.url.at(path, Some(query));
        let asked =
            Asked { method: Method::GET, url, body: None, if_match: None, idempotency_key: None };
        match self.ask(&asked).await {
            Ok(Json::Object(row)) => Ok(Some(row)),
            Ok(_) => Err(RestError::Strange(format!("{}{path}", self.url))),
            Err(RestError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a row, once.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn create(&self, path: &str, body: &Json) -> Result<Fields, RestError> {
        self.change(Method::POST, self.url.at(path, None), Some(body), None).await
    }

    /// Changes a row that has this version.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn update(&self, path: &str, body: &Json, version: i64) -> Result<Fields, RestError> {
        self.change(Method::PATCH, self.url.at(path, None), Some(body), Some(version)).await
    }

    /// Archives or revokes a row that has this version.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn end(&self, path: &str, version: i64) -> Result<Fields, RestError> {
        self.end_of(path, "", version).await
    }

    /// The same of what a query names.
    ///
    /// # Errors
    /// As [`RestError`].
    pub async fn end_of(&self, path: &str, query: &str, version: i64) -> Result<Fields, RestError> {
        let url = self.url.at(path, Some(query).filter(|query| !query.is_empty()));
        self.change(Method::DELETE, url, None, Some(version)).await
    }

    async fn change(
        &self,
        method: Method,
        url: Url,
        body: Option<&Json>,
        if_match: Option<i64>,
    ) -> Result<Fields, RestError> {
        let idempotency_key = if method == Method::POST { Some(random_key()?) } else { None };
        let asked = Asked { method, url, body, if_match, idempotency_key };
        match self.ask(&asked).await? {
            Json::Object(row) => Ok(row),
            _ => Err(RestError::Strange(asked.url.to_string())),
        }
    }

    async fn ask(&self, asked: &Asked<'_>) -> Result<Json, RestError> {
        // A GET and a POST with its key can be sent again whatever became of the first; of the others an answer must say that nothing was done.
        let is_safe = asked.method == Method::GET || asked.idempotency_key.is_some();
        let mut tries = 1;
        loop {
            let wait = match self.try_once(asked).await {
                Ok(Answer::Done(json)) => return Ok(json),
                Ok(Answer::Later { error, .. }) if tries == TRIES_MAX => return Err(error),
                Ok(Answer::Later { wait, .. }) => wait,
                Err(RestError::Reach { .. }) if is_safe && tries < UNANSWERED_TRIES_MAX => {
                    WAIT_DEFAULT
                }
                Err(error) => return Err(error),
            };
            tries += 1;
            sleep(wait).await;
        }
    }

    async fn try_once(&self, asked: &Asked<'_>) -> Result<Answer, RestError> {
        let mut request = self.client.request(asked.method.clone(), asked.url.clone());
        request = request.header(AUTHORIZATION, self.bearer.clone());
        if let Some(body) = asked.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(version) = asked.if_match {
            request = request.header(IF_MATCH, etag(version));
        }
        if let Some(key) = &asked.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let reach = |reason: String| RestError::Reach { url: self.url.to_string(), reason };
        let answer = async {
            let response =
                request.send().await.map_err(|error| reach(chain(&error.without_url())))?;
            let (status, wait) = (response.status(), wait_of(&response));
            let body = body_of(response, ANSWER_BYTES_MAX).await.map_err(reach)?;
            Ok((status, wait, body))
        };
        let late = |_| reach(format!("no whole answer within {ANSWER_TIMEOUT:?}"));
        let (status, wait, body) = timeout(ANSWER_TIMEOUT, answer).await.map_err(late)??;
        let json: Option<Json> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            let strange = || RestError::Strange(self.url.to_string());
            return json.map(Answer::Done).ok_or_else(strange);
        }
        let error = RestError::Refused { status, detail: detail_of(json.as_ref()) };
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Ok(Answer::Later { wait, error })
            }
            _ => Err(error),
        }
    }
}

enum Answer {
    Done(Json),
    Later { wait: Duration, error: RestError },
}

fn wait_of(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = seconds.and_then(|text| text.parse().ok()).map_or(WAIT_DEFAULT, Duration::from_secs);
    wait.min(WAIT_MAX)
}

/// What a problem says (RFC 9457), with the fields at fault.
fn detail_of(problem: Option<&Json>) -> String {
    const FAULTS_MAX: usize = 10;
    let Some(problem) = problem else { return "an answer without a problem's details".to_owned() };
    let mut text = problem["detail"].as_str().unwrap_or("no details").to_owned();
    for fault in problem["errors"].as_array().into_iter().flatten().take(FAULTS_MAX) {
        let of = |name: &str| fault[name].as_str().unwrap_or_default();
        text.push_str(&format!("; {}: {}", of("field"), of("message")));
    }
    text
}

fn random_key() -> Result<String, RestError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| RestError::Reach {
        url: "the operating system's random source".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
