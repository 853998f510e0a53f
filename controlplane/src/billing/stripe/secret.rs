//! Secret keys of Stripe.
//!
//! In: a file's text. Out: keys that can be sent and not shown.
//! Always holds: `Debug` and errors never hold a key; a key of one mode is not taken for the other.

use super::Mode;

/// A secret or restricted key.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

/// The keys of both modes, where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretKeys {
    /// `sk_test_…` or `rk_test_…`.
    pub test: Option<SecretKey>,
    /// `sk_live_…` or `rk_live_…`.
    pub live: Option<SecretKey>,
}

/// Why a text is no key. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no secret key of Stripe's {mode} mode: expected one line that begins sk_{mode}_ or rk_{mode}_, of visible characters"
)]
pub struct KeyError {
    /// The mode that was asked for.
    pub mode: Mode,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    /// Reads a key of a mode.
    ///
    /// # Errors
    /// When it is none of that mode.
    pub fn parse(text: &str, mode: Mode) -> Result<Self, KeyError> {
        let key = text.trim();
        let is_of_mode = ["sk", "rk"].iter().any(|kind| {
            let prefix = format!("{kind}_{mode}_");
            key.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
        });
        if !is_of_mode || key.len() > 512 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError { mode });
        }
        Ok(Self(key.to_owned()))
    }

    /// What goes into a request, and nowhere else.
    #[must_use]
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl SecretKeys {
    /// The key of a mode.
    #[must_use]
    pub fn of(&self, mode: Mode) -> Option<&SecretKey> {
        match mode {
            Mode::Test => self.test.as_ref(),
            Mode::Live => self.live.as_ref(),
        }
    }
}
