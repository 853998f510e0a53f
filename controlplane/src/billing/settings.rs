//! What billing is told by whoever runs the control plane.
//!
//! In: keys, addresses, a fee. Out: [`BillingSettings`].
//! Always holds: nothing here is a tenant's; `Debug` shows no key.

use std::str::FromStr;

use super::stripe::{Mode, StripeSettings};

/// Basis points of a whole.
const WHOLE: u32 = 10_000;

/// What billing is told.
#[derive(Clone, Debug, Default)]
pub struct BillingSettings {
    /// The client's.
    pub stripe: StripeSettings,
    /// Where buyers reach this control plane's pages, without a slash at the end.
    pub public_url: Option<String>,
    /// What the platform is called by OAuth.
    pub client_ids: ClientIds,
    /// What the platform takes of each payment.
    pub fee: Percent,
    /// Whether mails reach people, so that a link in one shows whose an address is.
    pub has_mail: bool,
}

/// `ca_…` of both modes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIds {
    /// Of test mode.
    pub test: Option<String>,
    /// Of live mode.
    pub live: Option<String>,
}

impl ClientIds {
    /// That of a mode.
    #[must_use]
    pub fn of(&self, mode: Mode) -> Option<&str> {
        match mode {
            Mode::Test => self.test.as_deref(),
            Mode::Live => self.live.as_deref(),
        }
    }
}

/// Hundredths of a percent, 0 to 10000: as fine as Stripe takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// From hundredths of a percent; `None` past a hundred percent.
    #[must_use]
    pub fn of_hundredths(hundredths: u32) -> Option<Self> {
        (hundredths <= WHOLE).then_some(Self(hundredths))
    }

    /// As Stripe takes it; `None` for nothing at all.
    #[must_use]
    pub fn for_stripe(self) -> Option<f64> {
        (self.0 > 0).then(|| f64::from(self.0) / 100.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "expected 0 to 100 with at most two digits after the point, as in 2.5".to_owned();
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_plain(whole, 3) || !is_plain(fraction, 2) {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let hundredths: u32 = format!("{fraction:0<2}").parse().map_err(|_| wrong())?;
        Self::of_hundredths(whole * 100 + hundredths).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
