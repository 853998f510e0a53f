//! One attempt: the request and what came of it.
//!
//! In: a delivery with its endpoint and event. Out: an [`Outcome`].
//! Always holds: no redirect and no proxy is followed, addresses are checked as they are connected to, an attempt takes at
//! most [`TIMEOUT`], of an answer's body nothing is read; neither secret nor body is logged.

use std::sync::Arc;
use std::time::Duration;

use link::control::client::chain;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response};
use serde_json::{Value as Json, json};

use crate::api::time::shown;
use crate::notify::address::{PublicResolver, check_url};
use crate::notify::secret;
use crate::secrets::Keyring;
use crate::storage::{DueDelivery, EventRecord};

/// From the look-up of the name to the answer's head.
pub const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an error that are kept.
const ERROR_BYTES_MAX: usize = 300;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with 2xx.
    Taken {
        /// Which.
        status: u16,
    },
    /// Answered with something else.
    Refused {
        /// What.
        status: u16,
        /// What the answer asks to be waited, seconds.
        retry_after_s: i64,
    },
    /// No answer came.
    Unreachable {
        /// Why.
        why: String,
    },
    /// Answered with 410: the endpoint wants nothing any more.
    Gone,
    /// The endpoint was turned off or archived meanwhile.
    Closed,
}

/// What webhooks are sent with.
#[derive(Clone, Debug)]
pub struct WebhookClient {
    client: Client,
    allow_private: bool,
}

impl WebhookClient {
    /// A client; `allow_private` where webhooks may go anywhere and over plain HTTP.
    ///
    /// # Errors
    /// When the system has no certificate authorities.
    pub fn new(allow_private: bool) -> Result<Self, String> {
        let client = Client::builder()
            .tls_backend_preconfigured(link::tls::client_config(None)?)
            .dns_resolver(Arc::new(PublicResolver { allow_private }))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .http1_only()
            .user_agent(concat!("PayFence/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(2)
            .build()
            .map_err(|error| chain(&error))?;
        Ok(Self { client, allow_private })
    }

    /// Makes an attempt.
    pub async fn post(&self, due: &DueDelivery, keyring: &Keyring, now_ms: i64) -> Outcome {
        // What was allowed when it was written may not be any more.
        let url = match check_url(&due.endpoint.url, self.allow_private) {
            Ok(url) => url,
            Err(why) => return Outcome::Unreachable { why },
        };
        let endpoint = &due.endpoint;
        let secrets = secret::open(&endpoint.sealed_secrets, &endpoint.id, keyring);
        let mut secrets = match secrets {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::error!(%error, "a webhook cannot be signed");
                let why =
                    "the secret cannot be opened; ask whoever runs the control plane".to_owned();
                return Outcome::Unreachable { why };
            }
        };
        if endpoint.old_secret_until_ms.is_none_or(|until_ms| until_ms <= now_ms) {
            secrets.truncate(1);
        }
        let body = body_of(&due.event);
        let timestamp_s = now_ms.div_euclid(1_000);
        let signature = secret::sign(&secrets, &due.event.id, timestamp_s, &body);
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &due.event.id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(answer) => outcome(&answer),
            Err(error) => {
                let error = error.without_url();
                Outcome::Unreachable { why: cut(chain(&error)) }
            }
        }
    }
}

fn outcome(answer: &Response) -> Outcome {
    let status = answer.status().as_u16();
    match status {
        200..300 => Outcome::Taken { status },
        410 => Outcome::Gone,
        _ => {
            let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after_s = wait.and_then(|text| text.parse().ok()).unwrap_or(0);
            Outcome::Refused { status, retry_after_s }
        }
    }
}

/// What is sent of an event: the same text at every attempt, since it is what is signed.
#[must_use]
pub fn body_of(event: &EventRecord) -> String {
    let data: Json = serde_json::from_str(&event.data).unwrap_or_default();
    json!({ "type": event.kind, "timestamp": shown(event.created_at_ms), "data": data }).to_string()
}

fn cut(mut text: String) -> String {
    let end = (0..=ERROR_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text.retain(|character| !character.is_control());
    text
}
