//! Requests to control planes.
//!
//! In: paths, bodies. Out: answers, or why there are none. Always holds: every wait has a deadline; no body is read past its bound; no
//! redirect and no proxy is followed, so the token goes to the control planes named and to nobody else.
//!
//! A refusal counts only in the control plane's own words (a [`Refusal`] frame): a 401 of something that stands in between is a failure
//! like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout};

use super::ControlError;
use super::client::{self, body_of};
use super::config::{ControlConfig, ControlUrl, Pace};
use super::state::LinkState;
use super::token_file::TokenFile;
use crate::wire::{self, Refusal, Why, frame};

/// How often a refused node looks whether its token file has changed.
const LOOK: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// None came, or it broke off.
    #[error("{0}")]
    Reach(String),
    /// One came that is none of a control plane.
    #[error("the answer's status is {0}")]
    Status(StatusCode),
    /// The control plane refused.
    #[error("refused ({:?}): {}", .0.why, .0.text)]
    Refused(Refusal),
}

/// The control planes, and how to talk to them.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    urls: Vec<ControlUrl>,
    /// Position of the URL in use.
    current: AtomicUsize,
    token: Mutex<TokenFile>,
    /// Nothing is asked before this, unless the token changes.
    refused_until: Mutex<Option<Instant>>,
    pub(super) pace: Pace,
    state: Arc<LinkState>,
}

impl Http {
    pub(crate) fn new(config: &ControlConfig, state: Arc<LinkState>) -> Result<Self, ControlError> {
        let client = client::client(config.ca_file.as_deref(), config.pace.connect)
            .map_err(ControlError::Authorities)?;
        Ok(Self {
            client,
            urls: config.urls.clone(),
            current: AtomicUsize::new(0),
            token: Mutex::new(TokenFile::open(&config.token_file)?),
            refused_until: Mutex::new(None),
            pace: config.pace,
            state,
        })
    }

    /// The URL in use, and its position.
    pub(crate) fn current(&self) -> (usize, ControlUrl) {
        let position = self.current.load(Relaxed) % self.urls.len().max(1);
        let url = self.urls.get(position).cloned();
        (position, url.expect("a link has at least one URL"))
    }

    /// The URL at this position has failed: the next one is used, unless somebody has turned to it already.
    pub(crate) fn turn_from(&self, position: usize) {
        let next = (position + 1) % self.urls.len().max(1);
        let _ = self.current.compare_exchange(position, next, Relaxed, Relaxed);
    }

    /// Reads the token file again.
    pub(crate) fn refresh_token(&self) {
        if self.token.lock().refresh() {
            tracing::info!("the node has a new token");
            *self.refused_until.lock() = None;
        }
    }

    /// Waits while the control plane has refused this token.
    pub(crate) async fn admitted(&self) {
        loop {
            let until = *self.refused_until.lock();
            let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
            sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
            self.refresh_token();
        }
    }

    /// The head of an answer of 200 or 206.
    pub(crate) async fn get(&self, url: Url, from: Option<u64>) -> Result<Response, HttpError> {
        let mut request = self.client.get(url);
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let sent = timeout(self.pace.answer, self.authorised(request).send()).await;
        let response = sent.map_err(|_| self.late("no answer"))?.map_err(|error| reach(&error))?;
        self.check(response).await
    }

    /// The whole answer to a report.
    pub(crate) async fn post(&self, url: Url, body: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        let request = self.client.post(url).header(CONTENT_TYPE, wire::CONTENT_TYPE).body(body);
        self.whole(request).await
    }

    /// The whole answer to a question that is short.
    pub(crate) async fn ask(&self, url: Url) -> Result<Vec<u8>, HttpError> {
        self.whole(self.client.get(url)).await
    }

    async fn whole(&self, request: RequestBuilder) -> Result<Vec<u8>, HttpError> {
        let answer = async {
            let sent = self.authorised(request).send().await;
            let response = self.check(sent.map_err(|error| reach(&error))?).await?;
            let body = body_of(response, frame::REPORT_BYTES_MAX + frame::HEAD_BYTES).await;
            body.map_err(HttpError::Reach)
        };
        timeout(self.pace.answer, answer).await.map_err(|_| self.late("no whole answer"))?
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let bearer = format!("Bearer {}", self.token.lock().token().reveal());
        let mut bearer = HeaderValue::from_str(&bearer).expect("a token is letters and digits");
        bearer.set_sensitive(true);
        request.header(AUTHORIZATION, bearer).header(wire::PROTOCOL_HEADER, wire::PROTOCOL)
    }

    async fn check(&self, response: Response) -> Result<Response, HttpError> {
        let status = response.status();
        if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
            return Ok(response);
        }
        let bytes_max = frame::REFUSAL_BYTES_MAX + frame::HEAD_BYTES;
        let body = timeout(self.pace.answer, body_of(response, bytes_max)).await;
        let refusal = body.ok().and_then(Result::ok).and_then(|body| Refusal::decode(&body).ok());
        let refusal = refusal.ok_or(HttpError::Status(status))?;
        self.note(&refusal);
        Err(HttpError::Refused(refusal))
    }

    /// Takes a refusal for what it says of this node.
    pub(super) fn note(&self, refusal: &Refusal) {
        match refusal.why {
            Why::TokenUnknown | Why::TokenRevoked | Why::NodeDead | Why::Protocol => {
                self.state.alarmed(refusal);
                *self.refused_until.lock() = Some(Instant::now() + self.pace.refused);
            }
            Why::Gone | Why::Superseded | Why::Unavailable | Why::Malformed => {}
        }
    }

    fn late(&self, what: &str) -> HttpError {
        HttpError::Reach(format!("{what} within {:?}", self.pace.answer))
    }
}

/// What an error says, with its causes; the address is known anyway.
pub(super) fn reach(error: &reqwest::Error) -> HttpError {
    HttpError::Reach(client::chain(error))
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
