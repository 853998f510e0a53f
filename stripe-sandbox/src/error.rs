//! What Stripe answers when it refuses: a status and an `error` object.
//!
//! In: what a handler found wrong. Out: status and JSON as the official clients read them.
//! Always holds: an error of the parameters' form is told apart from one that came up while acting, since only the
//! second kind is kept for an idempotency key.

use serde_json::{Value, json};

/// A refusal in Stripe's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct StripeError {
    /// HTTP status.
    pub status: u16,
    /// `error.type`: `invalid_request_error`, `card_error`, `idempotency_error`, `api_error`, `rate_limit_error`.
    pub kind: &'static str,
    /// `error.code`, where Stripe gives one.
    pub code: Option<&'static str>,
    /// For people.
    pub message: String,
    /// The parameter at fault, as it was written: `items[0][price]`.
    pub param: Option<String>,
    /// Further members of the error object: `decline_code`, `payment_intent`, `charge`.
    pub more: Option<Box<Value>>,
}

impl StripeError {
    /// A request that cannot be served as it is: 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code: None,
            message: message.into(),
            param: None,
            more: None,
        }
    }

    /// The same, with its code.
    pub fn coded(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::invalid(message) }
    }

    /// Names the parameter at fault.
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// With another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// No such object: 404. `what` is Stripe's word for it (`price`, `checkout.session`).
    pub fn missing(what: &str, id: &str) -> Self {
        Self::coded("resource_missing", format!("No such {what}: '{id}'")).with_status(404).at("id")
    }

    /// A required parameter is not there.
    pub fn required(param: &str) -> Self {
        Self::coded("parameter_missing", format!("Missing required param: {param}.")).at(param)
    }

    /// A card was refused: 402.
    pub fn card(code: &'static str, message: &str, more: Value) -> Self {
        Self {
            status: 402,
            kind: "card_error",
            code: Some(code),
            message: message.to_owned(),
            param: None,
            more: Some(Box::new(more)),
        }
    }

    /// Whether Stripe refused before it began to act, so that nothing is kept for the idempotency key.
    pub fn is_validation(&self) -> bool {
        self.status == 400 && self.param.is_some()
    }

    /// The body, `request_log_url` left out.
    pub fn to_json(&self, request_id: &str) -> Value {
        if self.kind == "oauth" {
            return json!({"error": self.code, "error_description": self.message});
        }
        let mut error =
            json!({"type": self.kind, "message": self.message, "request_id": request_id});
        if let Some(code) = self.code {
            error["code"] = json!(code);
            error["doc_url"] =
                json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")));
        }
        if let Some(param) = &self.param {
            error["param"] = json!(param);
        }
        if let Some(Value::Object(more)) = self.more.as_deref() {
            for (name, value) in more {
                error[name] = value.clone();
            }
        }
        json!({"error": error})
    }
}
