//! Borrowed views of subscriptions and tokens, of the base or changed since.
//!
//! In: rows of a checked archive, or states of the overlay; where their site and plan are now. Out: their fields as plain values.
//! Always holds: a view is small and `Copy`; reading it allocates nothing; both kinds answer alike.

use std::net::{IpAddr, Ipv6Addr};

use super::check::narrower_range;
use super::layout::{
    ArchivedBody, ArchivedNetworkRow, ArchivedSubscriptionRow, ArchivedTokenRow, status_of,
};
use super::overlay::Changed;
use super::views::to_v6;
use crate::delta::TokenState;
use crate::ids::{
    EntitlementId, PlanIndex, ResourceIndex, SiteIndex, SubscriptionIndex, TokenIndex,
};
use crate::model::Status;

/// A subscription.
#[derive(Clone, Copy)]
pub struct SubscriptionView<'a> {
    index: SubscriptionIndex,
    site: SiteIndex,
    plan: PlanIndex,
    row: SubscriptionRow<'a>,
}

#[derive(Clone, Copy)]
enum SubscriptionRow<'a> {
    Base(&'a ArchivedSubscriptionRow),
    Changed(&'a Changed),
}

impl<'a> SubscriptionView<'a> {
    pub(super) fn of_base(
        index: SubscriptionIndex,
        row: &'a ArchivedSubscriptionRow,
        site: SiteIndex,
        plan: PlanIndex,
    ) -> Self {
        Self { index, site, plan, row: SubscriptionRow::Base(row) }
    }

    pub(super) fn changed(
        index: SubscriptionIndex,
        changed: &'a Changed,
        site: SiteIndex,
        plan: PlanIndex,
    ) -> Self {
        Self { index, site, plan, row: SubscriptionRow::Changed(changed) }
    }

    /// Its position.
    #[must_use]
    pub fn index(&self) -> SubscriptionIndex {
        self.index
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &'a str {
        match self.row {
            SubscriptionRow::Base(row) => &row.id,
            SubscriptionRow::Changed(changed) => &changed.state.id,
        }
    }

    /// Who pays.
    #[must_use]
    pub fn customer(&self) -> &'a str {
        match self.row {
            SubscriptionRow::Base(row) => &row.customer,
            SubscriptionRow::Changed(changed) => &changed.state.customer,
        }
    }

    /// The identity of what is counted.
    #[must_use]
    pub fn entitlement(&self) -> EntitlementId {
        match self.row {
            SubscriptionRow::Base(row) => EntitlementId(row.entitlement.to_native()),
            SubscriptionRow::Changed(changed) => changed.entitlement,
        }
    }

    /// Its site.
    #[must_use]
    pub fn site(&self) -> SiteIndex {
        self.site
    }

    /// Its plan.
    #[must_use]
    pub fn plan(&self) -> PlanIndex {
        self.plan
    }

    /// Units given or taken by hand that count at `now_s` (Unix seconds), and how many adjustments do not any more.
    pub(super) fn adjusted(&self, now_s: i64) -> (i64, u64) {
        let add = |(sum, over): (i64, u64), (until_s, units): (i64, i64)| match now_s < until_s {
            true => (sum.saturating_add(units), over),
            false => (sum, over + 1),
        };
        match self.row {
            SubscriptionRow::Base(row) => {
                let rows = row.adjustments.iter();
                rows.map(|row| (row.until_s.to_native(), row.units.to_native())).fold((0, 0), add)
            }
            SubscriptionRow::Changed(changed) => {
                let rows = changed.state.adjustments.iter();
                rows.map(|row| (row.until_s, row.units)).fold((0, 0), add)
            }
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.row {
            SubscriptionRow::Base(row) => status_of(row.status).unwrap_or(Status::Unpaid),
            SubscriptionRow::Changed(changed) => changed.state.status(),
        }
    }

    /// Since when it is past due, Unix seconds.
    #[must_use]
    pub fn past_due_since_s(&self) -> Option<i64> {
        match self.row {
            SubscriptionRow::Base(row) => {
                row.past_due_since_s.as_ref().map(|since_s| since_s.to_native())
            }
            SubscriptionRow::Changed(changed) => changed.state.past_due_since_s,
        }
    }

    /// An instant at which a period begins, Unix seconds.
    #[must_use]
    pub fn period_anchor_s(&self) -> Option<i64> {
        match self.row {
            SubscriptionRow::Base(row) => {
                row.period_anchor_s.as_ref().map(|anchor_s| anchor_s.to_native())
            }
            SubscriptionRow::Changed(changed) => changed.state.period_anchor_s,
        }
    }
}

/// A token.
#[derive(Clone, Copy)]
pub struct TokenView<'a> {
    index: TokenIndex,
    row: TokenRow<'a>,
    /// The sites in force.
    sites: &'a ArchivedBody,
}

#[derive(Clone, Copy)]
enum TokenRow<'a> {
    Base(&'a ArchivedTokenRow, &'a ArchivedBody),
    Changed(&'a TokenState),
}

impl<'a> TokenView<'a> {
    pub(super) fn of_base(
        index: TokenIndex,
        row: &'a ArchivedTokenRow,
        body: &'a ArchivedBody,
        sites: &'a ArchivedBody,
    ) -> Self {
        Self { index, row: TokenRow::Base(row, body), sites }
    }

    pub(super) fn changed(
        index: TokenIndex,
        state: &'a TokenState,
        sites: &'a ArchivedBody,
    ) -> Self {
        Self { index, row: TokenRow::Changed(state), sites }
    }

    /// Its position.
    #[must_use]
    pub fn index(&self) -> TokenIndex {
        self.index
    }

    /// Its id; never the token itself.
    #[must_use]
    pub fn id(&self) -> &'a str {
        match self.row {
            TokenRow::Base(row, body) => {
                let start = row.id_start.to_native() as usize;
                let end = start + usize::from(row.id_len);
                body.token_ids.get(start..end).unwrap_or_default()
            }
            TokenRow::Changed(state) => &state.id,
        }
    }

    /// Whether it was revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        match self.row {
            TokenRow::Base(row, _) => row.is_revoked,
            TokenRow::Changed(state) => state.is_revoked,
        }
    }

    /// From when on it is refused, Unix seconds; `i64::MAX` for never.
    #[must_use]
    pub fn expires_at_s(&self) -> i64 {
        match self.row {
            TokenRow::Base(row, _) => row.expires_at_s.to_native(),
            TokenRow::Changed(state) => state.expires_at_s,
        }
    }

    /// Whether it may be used from an address.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        let mut is_free = true;
        for (address, prefix_bits) in self.networks() {
            is_free = false;
            let differing = u128::from_be_bytes(address) ^ to_v6(client).to_bits();
            if differing.leading_zeros() >= u32::from(prefix_bits) {
                return true;
            }
        }
        is_free
    }

    /// Some address it may be used from.
    #[must_use]
    pub fn some_allowed_address(&self) -> Option<IpAddr> {
        let (address, _) = self.networks().next()?;
        Some(IpAddr::V6(Ipv6Addr::from(address)).to_canonical())
    }

    fn networks(&self) -> impl Iterator<Item = ([u8; 16], u8)> + use<'a> {
        let (of_base, changed): (&[ArchivedNetworkRow], &[_]) = match self.row {
            TokenRow::Base(row, body) => {
                let start = row.networks_start.to_native() as usize;
                let end = start + usize::from(row.networks_len.to_native());
                (body.networks.get(start..end).unwrap_or_default(), &[])
            }
            TokenRow::Changed(state) => (&[], &state.networks),
        };
        let of_base = of_base.iter().map(|network| (network.address, network.prefix_bits));
        of_base.chain(changed.iter().map(|network| (network.address, network.prefix_bits)))
    }

    /// Whether its own list, if it has one, includes a paid resource. By the pattern's text: sites may have changed since. What is paid
    /// by `default` alone (`is_default`) has no pattern that a list could name.
    #[must_use]
    pub fn includes(&self, resource: ResourceIndex, is_default: bool) -> bool {
        let of_resource = || {
            let row = self.sites.resources.get(resource.index()).filter(|_| !is_default)?;
            Some(row.pattern.as_str())
        };
        match self.row {
            TokenRow::Base(row, _) if !row.is_narrowed => true,
            TokenRow::Base(row, body) => {
                let list = body.narrower.get(narrower_range(row)).unwrap_or_default();
                let patterns =
                    list.iter().filter_map(|at| body.patterns.get(at.to_native() as usize));
                of_resource().is_some_and(|known| patterns.into_iter().any(|text| *text == *known))
            }
            TokenRow::Changed(state) => state.resources.as_ref().is_none_or(|patterns| {
                of_resource().is_some_and(|known| patterns.iter().any(|text| *text == *known))
            }),
        }
    }
}
