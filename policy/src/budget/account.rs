//! The one arithmetic of lending, used by the ledger towards nodes and by an owner shard towards shards.
//!
//! In: cumulative totals of a borrower. Out: what it may still use, what the lender must count as gone.
//! Always holds: what is free at the lender and what is committed to borrowers never exceed what it has. A borrower
//! in debt (a correction upwards took more than its loan) is counted by its use, so the debt is the lender's.

/// One borrower's loan as cumulative totals of one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loan {
    /// Units lent so far.
    pub granted: u64,
    /// Units given back unused so far.
    pub returned: u64,
    /// Units used: charged and corrected less refunded.
    pub used: u64,
}

impl Loan {
    /// What the lender counts as gone: what is lent, or what is used where that is more.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.granted.saturating_sub(self.returned).max(self.used)
    }

    /// What the borrower may still use.
    #[must_use]
    pub fn unspent(&self) -> u64 {
        self.granted.saturating_sub(self.returned).saturating_sub(self.used)
    }

    /// `granted` after lending this many usable units more: an earlier debt is settled first.
    #[must_use]
    pub fn granted_after(&self, units: u64) -> u64 {
        let covered = self.granted.max(self.returned.saturating_add(self.used));
        covered.saturating_add(units)
    }
}

/// Units to lend where `left` are free: at least what is needed, else what is wanted but a share of what is left,
/// so that loans shrink to single units and the last one can be used anywhere.
#[must_use]
pub fn loan_size(left: u64, need: u64, want: u64, share: u64) -> u64 {
    want.min(left / share.max(1)).max(need).min(left)
}

/// Units of one lease: 1 % of the limit or ten seconds of demand, whichever is more, never over a quarter of what
/// is left, but what a request waits for. `None` stands for no bound.
#[must_use]
pub fn lease_size(limit: Option<u64>, left: Option<u64>, need: u64, demand: u64) -> u64 {
    let want = demand.max(limit.unwrap_or(0) / 100).max(1);
    loan_size(left.unwrap_or(u64::MAX / 4), need, want, 4)
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
