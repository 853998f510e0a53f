//! Answers kept by idempotency key.
//!
//! In: key, what was asked, what was answered. Out: the same answer again, or a refusal if something else is asked.
//! Always holds: an answer is kept for 24 hours, a 500 as well; keys of one account say nothing about another's; the
//! number of keys is bounded, the oldest go first.

use crate::error::StripeError;
use std::collections::{HashMap, VecDeque};

/// How long an answer is kept, in seconds.
pub const KEPT_S: i64 = 86_400;
/// Keys kept at most.
const KEYS_MAX: usize = 200_000;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: String,
    /// Id of the first request.
    pub request_id: String,
}

/// The answers kept.
#[derive(Debug, Default)]
pub struct Replays {
    by_key: HashMap<(String, String), (i64, String, Kept)>,
    order: VecDeque<(i64, (String, String))>,
}

impl Replays {
    /// The answer kept for this key, if the same was asked.
    ///
    /// # Errors
    /// `idempotency_error` if it was used for something else.
    pub fn find(
        &self,
        account: &str,
        key: &str,
        asked: &str,
        now: i64,
    ) -> Result<Option<Kept>, StripeError> {
        match self.by_key.get(&(account.to_owned(), key.to_owned())) {
            Some((at, before, kept)) if now - at < KEPT_S => {
                if before == asked {
                    return Ok(Some(kept.clone()));
                }
                Err(StripeError {
                    kind: "idempotency_error",
                    ..StripeError::invalid(format!(
                        "Keys for idempotent requests can only be used with the same parameters they were first used \
                         with. Try using a key other than '{key}' if you meant to execute a different request."
                    ))
                })
            }
            _ => Ok(None),
        }
    }

    /// Keeps an answer.
    pub fn keep(&mut self, account: &str, key: &str, asked: String, now: i64, kept: Kept) {
        while self.order.front().is_some_and(|(at, _)| now - at >= KEPT_S)
            || self.order.len() >= KEYS_MAX
        {
            let Some((at, id)) = self.order.pop_front() else { break };
            if self.by_key.get(&id).is_some_and(|(of, _, _)| *of == at) {
                self.by_key.remove(&id);
            }
        }
        let id = (account.to_owned(), key.to_owned());
        self.order.push_back((now, id.clone()));
        self.by_key.insert(id, (now, asked, kept));
    }
}

#[cfg(test)]
#[path = "idempotency_tests.rs"]
mod tests;
