//! What every API call passes: faults, key, version, account, idempotency; then its route.
//!
//! In: method, path, headers, body. Out: status, headers and body, or that no answer is to be given.
//! Always holds: an idempotency key is looked up before anything is done and its answer kept before it is sent, a 500
//! that a fault makes included; a request that fails its checks leaves nothing.

use crate::call::Call;
use crate::config::API_VERSION;
use crate::error::StripeError;
use crate::expand::expand;
use crate::faults::Fault;
use crate::form;
use crate::idempotency::Kept;
use crate::json::shown;
use crate::params::Params;
use crate::routes;
use crate::state::{PLATFORM, State};
use http::HeaderMap;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Longest idempotency key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// One request.
pub struct Request<'a> {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// Query, or empty.
    pub query: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Body.
    pub body: &'a [u8],
}

impl Request<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_v2(&self) -> bool {
        self.path.starts_with("/v2/")
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// Further headers.
        headers: Vec<(&'static str, String)>,
        /// Body.
        body: String,
    },
    /// None; the connection stays open.
    Hang,
    /// None; the connection is closed.
    Reset,
}

/// Serves an API call.
pub fn serve(state: &mut State, request: &Request<'_>) -> Reply {
    let request_id = state.ids.id("req");
    state.run_due();
    state.served += 1;
    let fault = state.faults.take(request.method, request.path, &mut state.ids);
    if let Some(reply) = fault.as_ref().and_then(|fault| before(fault, &request_id)) {
        return reply;
    }
    let limit = state.config.rate_limit_per_s;
    let account = request.header("stripe-account").unwrap_or_default();
    let endpoint = routes::find(request.method, request.path).map_or("", |(route, _)| route.path);
    let reply = if state.faults.over_limit(limit, crate::clock::wall(), account, endpoint) {
        limited(&request_id)
    } else {
        checked(state, request, &request_id, fault.as_ref())
            .unwrap_or_else(|error| refusal(&error, &request_id))
    };
    state.moment = state.library_now;
    state.request = (None, None);
    match fault {
        Some(Fault::HangAfter) => Reply::Hang,
        Some(Fault::ResetAfter) => Reply::Reset,
        _ => reply,
    }
}

/// Faults by which nothing is done.
fn before(fault: &Fault, request_id: &str) -> Option<Reply> {
    let api_error = |status, message: &str| StripeError {
        status,
        kind: "api_error",
        ..StripeError::invalid(message)
    };
    Some(match fault {
        Fault::ErrorBefore => refusal(&api_error(500, "An unknown error occurred"), request_id),
        Fault::TooMany { should_retry, retry_after_s } => {
            too_many(request_id, *should_retry, *retry_after_s)
        }
        Fault::Forbidden => {
            let text = "The provided key 'rk_test_****' does not have the required permissions for this endpoint.";
            refusal(&StripeError::invalid(text).with_status(403), request_id)
        }
        Fault::LockTimeout => {
            let error = StripeError::coded(
                "lock_timeout",
                "This object cannot be accessed right now because another API request or Stripe process is currently \
                 accessing it.",
            );
            refusal(&error.with_status(429), request_id)
        }
        Fault::Conflict => {
            let error = StripeError::coded(
                "idempotency_key_in_use",
                "There is currently another in-progress request using this Idempotent Key.",
            );
            let error = StripeError { kind: "idempotency_error", ..error.with_status(409) };
            refusal(&error, request_id)
        }
        Fault::HangBefore => Reply::Hang,
        Fault::ResetBefore => Reply::Reset,
        Fault::Garbage => Reply::Answer {
            status: 502,
            headers: vec![("content-type", "text/html".to_owned())],
            body: "<html><body>502 Bad Gateway</body></html>".to_owned(),
        },
        Fault::ErrorAfter | Fault::HangAfter | Fault::ResetAfter => return None,
    })
}

fn too_many(request_id: &str, should_retry: Option<bool>, retry_after_s: Option<u32>) -> Reply {
    let error = StripeError {
        kind: "rate_limit_error",
        ..StripeError::coded("rate_limit", "Request rate limit exceeded.").with_status(429)
    };
    let mut reply = refusal(&error, request_id);
    if let Reply::Answer { headers, .. } = &mut reply {
        headers.extend(should_retry.map(|should| ("stripe-should-retry", should.to_string())));
        headers.extend(retry_after_s.map(|wait_s| ("retry-after", wait_s.to_string())));
    }
    reply
}

/// More in a second than an account may be sent.
fn limited(request_id: &str) -> Reply {
    let mut reply = too_many(request_id, None, None);
    if let Reply::Answer { headers, .. } = &mut reply {
        headers.push(("stripe-rate-limited-reason", "global-rate".to_owned()));
    }
    reply
}

fn refusal(error: &StripeError, request_id: &str) -> Reply {
    answer(error.status, error.to_json(request_id).to_string(), request_id)
}

fn answer(status: u16, body: String, request_id: &str) -> Reply {
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("request-id", request_id.to_owned()),
        ("stripe-version", API_VERSION.to_owned()),
    ];
    Reply::Answer { status, headers, body }
}

fn checked(
    state: &mut State,
    request: &Request<'_>,
    request_id: &str,
    fault: Option<&Fault>,
) -> Result<Reply, StripeError> {
    check_key(state, request)?;
    check_version(request)?;
    let account = account_of(state, request)?;
    // A key on v1's GET or DELETE has no effect.
    let keyed = request.method == "POST" || (request.is_v2() && request.method == "DELETE");
    let key = request.header("idempotency-key").filter(|_| keyed);
    if key.is_some_and(|key| key.is_empty() || key.chars().count() > KEY_CHARS_MAX) {
        return Err(StripeError::invalid("Idempotency-Key must have 1 to 255 characters"));
    }
    let now = state.library_now;
    let asked = asked(request);
    if let Some(key) = key
        && let Some(kept) = state.replays.find(&account, key, &asked, now)?
    {
        let mut reply = answer(kept.status, kept.body, request_id);
        if let Reply::Answer { headers, .. } = &mut reply {
            headers.push(("idempotent-replayed", "true".to_owned()));
            headers.push(("original-request", kept.request_id));
        }
        return Ok(reply);
    }
    state.request = (Some(request_id.to_owned()), key.map(str::to_owned));
    let outcome = act(state, request, &account);
    let stored = match &outcome {
        Ok(_) => true,
        Err(error) => !request.is_v2() && !error.is_validation(),
    };
    let failed = StripeError {
        status: 500,
        kind: "api_error",
        ..StripeError::invalid("An unknown error occurred")
    };
    let (status, body) = match outcome {
        Ok(_) if fault == Some(&Fault::ErrorAfter) => (500, failed.to_json(request_id).to_string()),
        Ok(value) => (200, value.to_string()),
        Err(error) => (error.status, error.to_json(request_id).to_string()),
    };
    if let Some(key) = key.filter(|_| stored) {
        let kept = Kept { status, body: body.clone(), request_id: request_id.to_owned() };
        state.replays.keep(&account, key, asked, now, kept);
    }
    Ok(answer(status, body, request_id))
}

/// What was asked, as a digest, to be compared with a later use of the same key.
fn asked(request: &Request<'_>) -> String {
    let mut digest = Sha256::new();
    for part in [request.method, request.path, request.query] {
        digest.update(part);
        // No method, path or query holds this byte, so parts cannot run into one another.
        digest.update([0]);
    }
    digest.update(request.body);
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_key(state: &State, request: &Request<'_>) -> Result<(), StripeError> {
    let refused = |message: String| StripeError::invalid(message).with_status(401);
    let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match given.map(str::trim) {
        Some(key) if key == state.config.secret_key => Ok(()),
        Some(key) => {
            let shown: String = key.chars().take(8).collect();
            Err(refused(format!("Invalid API Key provided: {shown}****")))
        }
        None => Err(refused(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
                .to_owned(),
        )),
    }
}

fn check_version(request: &Request<'_>) -> Result<(), StripeError> {
    match request.header("stripe-version") {
        Some(version) if version == API_VERSION => Ok(()),
        // An account's own default version.
        None if !request.is_v2() => Ok(()),
        None => Err(StripeError::invalid("Stripe-Version header is required")),
        Some(version) => Err(StripeError::invalid(format!(
            "Invalid Stripe API version: {version}. The sandbox speaks {API_VERSION}."
        ))),
    }
}

fn account_of(state: &State, request: &Request<'_>) -> Result<String, StripeError> {
    let Some(account) = request.header("stripe-account").filter(|account| !account.is_empty())
    else {
        return Ok(PLATFORM.to_owned());
    };
    if state.is_connected(account) {
        return Ok(account.to_owned());
    }
    let error = StripeError::coded(
        "account_invalid",
        format!(
            "The provided key does not have access to account '{account}' (or that account does not exist). \
             Application access may have been revoked."
        ),
    );
    Err(error.with_status(403))
}

fn act(state: &mut State, request: &Request<'_>, account: &str) -> Result<Value, StripeError> {
    let (route, ids) = routes::find(request.method, request.path).ok_or_else(|| {
        StripeError::invalid(format!(
            "Unrecognized request URL ({}: {}).",
            request.method, request.path
        ))
        .with_status(404)
    })?;
    if request.path.starts_with("/v2/core/account") && !state.config.accounts_v2 {
        let text = "Accounts v2 is not enabled for your platform.";
        return Err(StripeError::coded("accounts_v2_access_blocked", text));
    }
    let params = Params::new(tree(request)?);
    params.check_names(route.parameters)?;
    let paths = if request.is_v2() { Vec::new() } else { params.texts("expand")? };
    let mut call =
        Call { state, account: account.to_owned(), ids, path: request.path.to_owned(), params };
    let mut value = (route.handler)(&mut call)?;
    expand(state, account, &mut value, &paths)?;
    Ok(shown(&value))
}

fn tree(request: &Request<'_>) -> Result<Map<String, Value>, StripeError> {
    if request.is_v2() && request.method == "POST" {
        if request.body.is_empty() {
            return Ok(Map::new());
        }
        return match serde_json::from_slice(request.body) {
            Ok(Value::Object(tree)) => Ok(tree),
            _ => Err(StripeError::invalid("The request body is not a JSON object")),
        };
    }
    let mut tree = form::parse(request.query.as_bytes())?;
    if request.method != "GET" {
        tree.extend(form::parse(request.body)?);
    }
    Ok(tree)
}
