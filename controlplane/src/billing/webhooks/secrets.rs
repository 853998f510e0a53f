//! The secrets that Stripe signs with, by mode.
//!
//! In: the text of a file, one `whsec_…` a line; several while one is rotated out. Out: [`WebhookSecrets`].
//! Always holds: a secret is never printed, nor any part of it; a file that holds something else is refused by line.

use serde_json::json;

use super::signature::header_of;

/// Secrets of one mode at once.
const SECRETS_MAX: usize = 16;
const PREFIX: &str = "whsec_";
const CHARS_MAX: usize = 255;

/// Secrets of both modes; where a mode has none, its webhooks are refused.
#[derive(Clone, Default)]
pub struct WebhookSecrets {
    test: Vec<String>,
    live: Vec<String>,
}

impl std::fmt::Debug for WebhookSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (test, live) = (self.test.len(), self.live.len());
        formatter.debug_struct("WebhookSecrets").field("test", &test).field("live", &live).finish()
    }
}

/// What is wrong with secrets. Never holds one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSecretError {
    /// A line is no secret.
    #[error(
        "line {0} is not a webhook secret of Stripe's, which begins with `whsec_`; the endpoint's page in the Stripe dashboard shows it"
    )]
    Form(usize),
    /// None at all, or too many.
    #[error("{0} webhook secrets; expected 1 to {SECRETS_MAX}")]
    Count(usize),
}

impl WebhookSecrets {
    /// These and those of the test mode in `text`; empty lines and `#` comments are passed over.
    ///
    /// # Errors
    /// What is wrong, by line.
    pub fn with_test(mut self, text: &str) -> Result<Self, WebhookSecretError> {
        self.test = parse(text)?;
        Ok(self)
    }

    /// The same for the live mode.
    ///
    /// # Errors
    /// What is wrong, by line.
    pub fn with_live(mut self, text: &str) -> Result<Self, WebhookSecretError> {
        self.live = parse(text)?;
        Ok(self)
    }

    /// A body that whoever has the same secret takes for Stripe's, and that changes nothing: it is of the other mode, and of nobody. With
    /// it the header that signs it, by the first secret of the mode; `None` where that has none.
    #[must_use]
    pub fn harmless_event(&self, is_live: bool, now_s: i64) -> Option<(String, String)> {
        let secret = self.of(is_live).first()?;
        let body =
            json!({ "id": "evt_payfence_doctor", "object": "event", "type": "payfence.doctor",
            "livemode": !is_live, "created": now_s, "data": { "object": {} } })
            .to_string();
        Some((header_of(secret, now_s, body.as_bytes()), body))
    }

    /// Those of a mode.
    pub(super) fn of(&self, is_live: bool) -> &[String] {
        if is_live { &self.live } else { &self.test }
    }
}

fn parse(text: &str) -> Result<Vec<String>, WebhookSecretError> {
    let mut secrets = Vec::new();
    for (position, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_good = line.len() > PREFIX.len()
            && line.len() <= CHARS_MAX
            && line.starts_with(PREFIX)
            && line.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_good {
            return Err(WebhookSecretError::Form(position + 1));
        }
        secrets.push(line.to_owned());
    }
    if secrets.is_empty() || secrets.len() > SECRETS_MAX {
        return Err(WebhookSecretError::Count(secrets.len()));
    }
    Ok(secrets)
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
