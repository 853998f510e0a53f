//! Sending calls, with time-outs, tries and the rate limit.
//!
//! In: a scope, a method, a path, a request. Out: the answer's type, or why there is none.
//! Always holds: a POST is sent again only with the idempotency key that it was sent with, or where no connection was had;
//! the log has method, path, status, tries and Stripe's request id, and nothing that was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use link::control::client::{body_of, chain};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::accounts::OWN_ACCOUNT;
use super::bucket::{BucketLimit, Buckets, Target, WAIT_MAX};
use super::error::{ErrorBody, Refusal};
use super::form::{Body, form};
use super::retry::{Ended, Limited, is_worth_retrying, limited, retry_after};
use super::suspects::Suspects;
use super::{Mode, RetryRules, SecretKey, SecretKeys, StripeError, VERSION};
use crate::world::World;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer; a page of a hundred subscriptions with all their parts has one or two.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where Stripe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The API: `https://api.stripe.com`.
    pub api: String,
    /// OAuth: `https://connect.stripe.com`.
    pub connect: String,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            api: "https://api.stripe.com".to_owned(),
            connect: "https://connect.stripe.com".to_owned(),
        }
    }
}

impl Addresses {
    /// One address for both, as a stand-in has it.
    #[must_use]
    pub fn at(base: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { api: base.clone(), connect: base }
    }
}

/// What the client is told.
#[derive(Clone, Debug)]
pub struct StripeSettings {
    /// Our own keys.
    pub keys: SecretKeys,
    /// Where Stripe is.
    pub addresses: Addresses,
    /// How often a call is tried.
    pub retry: RetryRules,
    /// How long one try may take.
    pub timeout: Duration,
    /// How many calls an account is sent.
    pub limit: BucketLimit,
}

impl Default for StripeSettings {
    fn default() -> Self {
        Self {
            keys: SecretKeys::default(),
            addresses: Addresses::default(),
            retry: RetryRules::default(),
            timeout: Duration::from_secs(30),
            limit: BucketLimit::default(),
        }
    }
}

/// In which of Stripe's worlds, and on whose account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Test or live.
    pub mode: Mode,
    /// The connected account; the platform's own where there is none.
    pub stripe_account: Option<String>,
}

impl Scope {
    /// The platform's own account.
    #[must_use]
    pub fn platform(mode: Mode) -> Self {
        Self { mode, stripe_account: None }
    }

    /// A connected account.
    #[must_use]
    pub fn connected(mode: Mode, stripe_account: &str) -> Self {
        Self { mode, stripe_account: Some(stripe_account.to_owned()) }
    }
}

/// The client. Clones share connections and rate limits.
#[derive(Clone, Debug)]
pub struct Stripe {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    settings: StripeSettings,
    buckets: Buckets,
    suspects: Suspects,
    world: Arc<dyn World>,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) body: Option<Body>,
    pub(super) key: Option<&'a str>,
    /// Whether it goes to the address of OAuth.
    pub(super) is_oauth: bool,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: impl Into<String>) -> Self {
        let path = path.into();
        Self { method: Method::GET, path, query: None, body: None, key: None, is_oauth: false }
    }

    pub(super) fn list<Q: Serialize>(
        path: impl Into<String>,
        query: &Q,
    ) -> Result<Self, StripeError> {
        Ok(Self { query: Some(form(query)?), ..Self::get(path) })
    }

    pub(super) fn post<R: Serialize>(
        path: impl Into<String>,
        request: &R,
        key: &'a str,
    ) -> Result<Self, StripeError> {
        let body = Some(Body::form(request)?);
        Ok(Self { method: Method::POST, body, key: Some(key), ..Self::get(path) })
    }
}

/// How one try ended.
enum Tried {
    /// With a good answer.
    Answered(Vec<u8>),
    Failed {
        error: StripeError,
        is_worth_retrying: bool,
        /// How long Stripe says to wait.
        retry_after: Option<Duration>,
        /// What there were too many calls for.
        limited: Option<Limited>,
    },
}

impl Stripe {
    /// A client.
    ///
    /// # Errors
    /// Text for a person, where the system has no authorities to trust.
    pub fn new(settings: StripeSettings, world: Arc<dyn World>) -> Result<Self, String> {
        let http = link::control::client::client(None, CONNECT_TIMEOUT)?;
        let buckets = Buckets::new(settings.limit);
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                settings,
                buckets,
                suspects: Suspects::default(),
                world,
            }),
        })
    }

    /// Whether there is a key of this mode.
    #[must_use]
    pub fn has(&self, mode: Mode) -> bool {
        self.inner.settings.keys.of(mode).is_some()
    }

    /// Where Stripe is.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.inner.settings.addresses
    }

    pub(super) fn key_of(&self, mode: Mode) -> Result<&SecretKey, StripeError> {
        self.inner.settings.keys.of(mode).ok_or(StripeError::NotSetUp(mode))
    }

    /// Sends a call until it is answered, or is not worth another try.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        scope: &Scope,
        call: Call<'_>,
    ) -> Result<T, StripeError> {
        let headers = self.headers(scope, &call)?;
        let rules = self.inner.settings.retry;
        let (mut tried, mut last) = (0, None);
        loop {
            if self.inner.buckets.turn(target_of(scope, &call)).await.is_none() {
                // Of what was sent already more is known than that there is no room.
                return Err(last.unwrap_or(StripeError::Busy));
            }
            tried += 1;
            let (error, wait) = match self.try_once(&call, &headers, tried).await {
                Tried::Answered(body) => return read(&body),
                Tried::Failed { error, is_worth_retrying, retry_after, limited } => {
                    self.hold_back(target_of(scope, &call), limited, retry_after);
                    self.suspect(scope, &call, &error);
                    let told = retry_after.unwrap_or_default();
                    if !is_worth_retrying || tried >= rules.tries_max || told > WAIT_MAX {
                        return Err(error);
                    }
                    let mut random = [0u8; 2];
                    self.inner.world.fill(&mut random);
                    (error, rules.wait(tried, u16::from_le_bytes(random)).max(told))
                }
            };
            tracing::debug!(path = call.path, tried, failed = %error, "a call to Stripe is tried again");
            last = Some(error);
            tokio::time::sleep(wait).await;
        }
    }

    /// Where there were too many calls, further ones are sent slower; where Stripe says how long to wait, they wait.
    pub(super) fn hold_back(
        &self,
        target: Target<'_>,
        limited: Option<Limited>,
        retry_after: Option<Duration>,
    ) {
        let now = Instant::now();
        if let Some(limited) = limited {
            tracing::debug!(
                account = target.account,
                path = target.path,
                ?limited,
                "too many calls to Stripe"
            );
            self.inner.buckets.slow(target, limited, now);
        }
        if let Some(wait) = retry_after {
            tracing::debug!(account = target.account, ?wait, "Stripe asks for calls to wait");
            self.inner.buckets.hold(target, limited.unwrap_or(Limited::Account), wait, now);
        }
    }

    /// Tells how many processes call Stripe with these keys, this one included: what accounts may be sent is divided among them.
    pub fn share_among(&self, processes: u32) {
        self.inner.buckets.share_among(processes);
    }

    /// Keeps that somebody is to look whether an account is ours to call. Whoever looks asks for the account itself, and knows.
    fn suspect(&self, scope: &Scope, call: &Call<'_>, error: &StripeError) {
        if let Some(account) = &scope.stripe_account
            && error.is_access_lost()
            && call.path != OWN_ACCOUNT
        {
            self.inner.suspects.add(scope.mode, account);
        }
    }

    /// Connected accounts for which this process was refused since it was asked last.
    #[must_use]
    pub fn take_suspects(&self) -> BTreeSet<(Mode, String)> {
        self.inner.suspects.take()
    }

    /// Keeps that an account is still to be looked at.
    pub fn keep_suspect(&self, mode: Mode, stripe_account: &str) {
        self.inner.suspects.add(mode, stripe_account);
    }

    fn headers(&self, scope: &Scope, call: &Call<'_>) -> Result<HeaderMap, StripeError> {
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| StripeError::Malformed("an id or key that fits no header".to_owned()))
        };
        let mut headers = HeaderMap::new();
        let mut bearer = value(&format!("Bearer {}", self.key_of(scope.mode)?.reveal()))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert("stripe-version", HeaderValue::from_static(VERSION));
        if let Some(account) = &scope.stripe_account {
            headers.insert("stripe-account", value(account)?);
        }
        if let Some(key) = call.key {
            headers.insert("idempotency-key", value(key)?);
        }
        Ok(headers)
    }

    async fn try_once(&self, call: &Call<'_>, headers: &HeaderMap, tried: u32) -> Tried {
        let addresses = &self.inner.settings.addresses;
        let base = if call.is_oauth { &addresses.connect } else { &addresses.api };
        let url = match &call.query {
            Some(query) if !query.is_empty() => format!("{base}{}?{query}", call.path),
            _ => format!("{base}{}", call.path),
        };
        let mut request = self
            .inner
            .http
            .request(call.method.clone(), url)
            .timeout(self.inner.settings.timeout)
            .headers(headers.clone());
        if let Some(body) = &call.body {
            let (kind, text) = body.parts();
            request = request.header(CONTENT_TYPE, kind).body(text.to_owned());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                // Without a key, a POST that may have arrived is not sent twice.
                let is_safe =
                    call.key.is_some() || call.method != Method::POST || error.is_connect();
                tracing::warn!(method = %call.method, path = call.path, tried, "Stripe gave no answer");
                return unanswered(chain(&error.without_url()), is_safe);
            }
        };
        let (status, head) = (response.status().as_u16(), response.headers().clone());
        let request_id = text_of(&head, "request-id");
        log_answer(call, status, tried, request_id.as_deref());
        let body = match body_of(response, ANSWER_BYTES_MAX).await {
            Ok(body) => body,
            Err(reason) => {
                return unanswered(reason, call.key.is_some() || call.method != Method::POST);
            }
        };
        if (200..300).contains(&status) {
            return Tried::Answered(body);
        }
        refused(status, &head, request_id, &body)
    }
}

/// What changes something is logged by default, so that Stripe can be asked about it by its request id; what only reads is not. That
/// something is not there (404 to a GET) is an answer like another: flows look before they make.
fn log_answer(call: &Call<'_>, status: u16, tried: u32, request_id: Option<&str>) {
    let (method, path) = (&call.method, call.path.as_str());
    let is_read = *method == Method::GET;
    match status {
        200..300 if is_read => {
            tracing::debug!(%method, path, status, tried, request_id, "a call to Stripe");
        }
        404 if is_read => {
            tracing::debug!(%method, path, status, tried, request_id, "Stripe does not have it");
        }
        200..300 => tracing::info!(%method, path, status, tried, request_id, "a call to Stripe"),
        _ => tracing::warn!(%method, path, status, tried, request_id, "Stripe refused a call"),
    }
}

/// Whose limits a call counts against.
fn target_of<'a>(scope: &'a Scope, call: &'a Call<'_>) -> Target<'a> {
    let account = scope.stripe_account.as_deref();
    Target { mode: scope.mode, account, method: call.method.as_str(), path: &call.path }
}

fn unanswered(reason: String, is_safe: bool) -> Tried {
    let error = StripeError::Unreachable(reason);
    let is_worth_retrying = is_safe && is_worth_retrying(Ended::Unanswered);
    Tried::Failed { error, is_worth_retrying, retry_after: None, limited: None }
}

fn refused(status: u16, head: &HeaderMap, request_id: Option<String>, body: &[u8]) -> Tried {
    let should_retry = text_of(head, "stripe-should-retry").map(|word| word == "true");
    let retry_after = retry_after(status, text_of(head, "retry-after").as_deref());
    let reason = text_of(head, "stripe-rate-limited-reason");
    let Ok(parsed) = serde_json::from_slice::<ErrorBody>(body) else {
        let limited = limited(status, None, reason.as_deref());
        let reason = "an error that is not JSON".to_owned();
        let ended = Ended::Answered { status, should_retry, code: None };
        let error = StripeError::Unreadable { status, reason };
        let is_worth_retrying = is_worth_retrying(ended);
        return Tried::Failed { error, is_worth_retrying, retry_after, limited };
    };
    let is_replayed = text_of(head, "idempotent-replayed").is_some_and(|word| word == "true");
    let refusal = Box::new(Refusal {
        status,
        request_id,
        is_replayed,
        retry_after_s: retry_after.map(|wait| wait.as_secs()),
        ..parsed.refusal()
    });
    if refusal.kind == "idempotency_error" && status == 400 {
        let error = StripeError::IdempotencyMismatch(refusal);
        return Tried::Failed { error, is_worth_retrying: false, retry_after: None, limited: None };
    }
    let code = refusal.code.as_deref();
    let limited = limited(status, code, reason.as_deref());
    let ended = Ended::Answered { status, should_retry, code };
    let is_worth_retrying = !is_replayed && is_worth_retrying(ended);
    Tried::Failed { error: StripeError::Refused(refusal), is_worth_retrying, retry_after, limited }
}

fn text_of(head: &HeaderMap, name: &str) -> Option<String> {
    head.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, StripeError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // Where it is wrong, not what stands there: that may be a buyer's.
        let reason = format!("`{}` is not as expected", error.path());
        StripeError::Unreadable { status: 200, reason }
    })
}

/// An id as part of a path: one that could mean another path is none.
pub(super) fn segment(id: &str) -> Result<&str, StripeError> {
    let is_good = (1..=255).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_good { Ok(id) } else { Err(StripeError::Malformed("an id that is none".to_owned())) }
}
