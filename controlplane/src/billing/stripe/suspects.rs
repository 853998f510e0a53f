//! Connected accounts for which Stripe refused us, until somebody has looked.
//!
//! In: refusals, from whichever call met them. Out: whose they were, each once.
//! Always holds: at most [`SUSPECTS_MAX`] are kept, and one that finds no room is found by the sweep, which looks at every account.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::Mode;

/// Accounts at once.
const SUSPECTS_MAX: usize = 1_000;

/// The accounts.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    accounts: Mutex<BTreeSet<(Mode, String)>>,
}

impl Suspects {
    /// Keeps that an account is to be looked at.
    pub(super) fn add(&self, mode: Mode, stripe_account: &str) {
        let mut accounts = self.accounts.lock();
        if accounts.len() < SUSPECTS_MAX {
            accounts.insert((mode, stripe_account.to_owned()));
        }
    }

    /// All of them, which are forgotten with it.
    pub(super) fn take(&self) -> BTreeSet<(Mode, String)> {
        std::mem::take(&mut self.accounts.lock())
    }
}

#[cfg(test)]
#[path = "suspects_tests.rs"]
mod tests;
