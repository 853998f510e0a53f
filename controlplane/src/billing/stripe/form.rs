//! Requests as Stripe reads them: forms with bracketed names for v1, JSON for v2.
//!
//! In: a request as a plain struct. Out: text.
//! Always holds: what is `None` (or an empty list) is not written at all: Stripe takes a bare name as "make it empty". An
//! empty text is written, since that is how a field is emptied on purpose. The same request is the same text.

use serde::Serialize;
use serde_json::Value as Json;

use super::StripeError;

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `application/x-www-form-urlencoded`, for v1.
    Form(String),
    /// `application/json`, for v2.
    Json(String),
}

impl Body {
    /// A v1 body.
    pub(super) fn form<R: Serialize>(request: &R) -> Result<Self, StripeError> {
        form(request).map(Self::Form)
    }

    /// A v2 body.
    pub(super) fn json<R: Serialize>(request: &R) -> Result<Self, StripeError> {
        Ok(Self::Json(pruned(request)?.to_string()))
    }

    /// Its content type and its text.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Form(text) => ("application/x-www-form-urlencoded", text),
            Self::Json(text) => ("application/json", text),
        }
    }
}

/// A request as a form or a query, its pairs in a fixed order.
///
/// # Errors
/// When it is no plain struct.
pub fn form<R: Serialize>(request: &R) -> Result<String, StripeError> {
    let text = serde_qs::Config::new()
        .use_form_encoding(true)
        .serialize_string(&pruned(request)?)
        .map_err(|error| StripeError::Malformed(error.to_string()))?;
    // A request without any parameter comes out as a bare `=`.
    let mut pairs: Vec<&str> = text.split('&').filter(|pair| !matches!(*pair, "" | "=")).collect();
    pairs.sort_unstable();
    Ok(pairs.join("&"))
}

fn pruned<R: Serialize>(request: &R) -> Result<Json, StripeError> {
    let json =
        serde_json::to_value(request).map_err(|error| StripeError::Malformed(error.to_string()))?;
    Ok(prune(json).unwrap_or_else(|| Json::Object(serde_json::Map::new())))
}

/// Without what is null or empty; `None` where nothing is left.
fn prune(json: Json) -> Option<Json> {
    match json {
        Json::Null => None,
        Json::Array(items) => {
            let items: Vec<Json> = items.into_iter().filter_map(prune).collect();
            (!items.is_empty()).then_some(Json::Array(items))
        }
        Json::Object(fields) => {
            let fields: serde_json::Map<String, Json> = fields
                .into_iter()
                .filter_map(|(name, value)| prune(value).map(|value| (name, value)))
                .collect();
            (!fields.is_empty()).then_some(Json::Object(fields))
        }
        other => Some(other),
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
