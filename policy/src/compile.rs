//! From the model to a snapshot's bytes.
//!
//! In: a validated policy and the sequence number it is to have. Out: bytes that `Snapshot::from_bytes` accepts.
//! Always holds: the same policy and sequence give the same bytes.

use std::collections::HashMap;

use rkyv::rancor::Error;

use crate::ids::entitlement_id;
use crate::matcher::Access;
use crate::model::{
    OnLedgerLoss, OriginTls, Overage, Plan, Policy, Resource, Scheme, Site, Subscription, Token,
};
use crate::snapshot::header::{HEADER_BYTES, seal};
use crate::snapshot::layout::{
    AmountRow, Body, ClientFilesRow, EarlierRow, HeaderRow, OriginRow, OriginTlsRow, PlanRow,
    ResourceRow, SiteRow, Span, SubscriptionRow, TokenRow, TokenSlot, access_code, adjustment_rows,
    network_row, status_code, unit_code,
};
use crate::snapshot::token_table;
use crate::token::TokenHash;

/// Why a policy cannot be compiled. A policy that came from a file can.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A token stands in it twice.
    #[error(
        "the token with SHA-256 {0} stands in the policy twice; a token belongs to one subscription"
    )]
    DuplicateToken(TokenHash),
    /// A subscription of no site.
    #[error("there is no site number {0} to add a subscription to")]
    NoSite(u32),
    /// A subscription of no plan.
    #[error("there is no plan number {plan} of site number {site} for the subscription {id:?}")]
    NoPlan {
        /// The site's position.
        site: u32,
        /// The plan's position within the site.
        plan: u32,
        /// The subscription's id.
        id: String,
    },
    /// More rows or bytes of ids than 32 bits count.
    #[error("the policy has too many {0} for one snapshot")]
    TooMany(&'static str),
    /// The archive could not be written.
    #[error("the snapshot cannot be written: {0}")]
    Archive(#[from] Error),
}

/// Compiles a policy.
///
/// # Errors
/// [`CompileError`], for policies that were not made by `model::file::parse`.
pub fn compile(policy: &Policy, sequence: u64) -> Result<Vec<u8>, CompileError> {
    let mut builder = Builder::new(&policy.sites)?;
    for (site, index) in policy.sites.iter().zip(0..) {
        for subscription in &site.subscriptions {
            builder.add(index, subscription)?;
        }
    }
    builder.finish(sequence)
}

/// Compiles sites with their resources and plans and nobody's subscriptions, for [`Change::Sites`](crate::delta::Change).
///
/// # Errors
/// As [`compile`].
pub fn compile_sites(sites: &[Site], sequence: u64) -> Result<Vec<u8>, CompileError> {
    Builder::new(sites)?.finish(sequence)
}

/// Compiles subscriptions one by one, for policies that are too large to be in memory as a model. A subscription whose plan is
/// not there cannot be in a base; where it may be there again, tell it as a [`Change`](crate::delta::Change) over the base.
pub struct Builder {
    body: Body,
    slots: Vec<TokenSlot>,
    /// Where patterns are in `body.patterns`.
    patterns: HashMap<String, u32>,
}

impl Builder {
    /// Begins with all sites; the subscriptions in them are not looked at.
    ///
    /// # Errors
    /// [`CompileError::TooMany`]
    pub fn new(sites: &[Site]) -> Result<Self, CompileError> {
        let body = Body {
            sites: Vec::new(),
            resources: Vec::new(),
            plans: Vec::new(),
            subscriptions: Vec::new(),
            tokens: Vec::new(),
            token_ids: String::new(),
            networks: Vec::new(),
            narrower: Vec::new(),
            patterns: Vec::new(),
            slots: Vec::new(),
            slot_homes: 0,
        };
        let mut builder = Self { body, slots: Vec::new(), patterns: HashMap::new() };
        sites.iter().try_for_each(|site| builder.add_site(site))?;
        Ok(builder)
    }

    /// The bytes of the snapshot.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn finish(self, sequence: u64) -> Result<Vec<u8>, CompileError> {
        let (slots, slot_homes) =
            token_table::build(self.slots).map_err(CompileError::DuplicateToken)?;
        let body = Body { slots, slot_homes, ..self.body };
        // Positions in the archive are what must be aligned, and these count from the header's start; whoever reads the
        // bytes copies or maps them to where they are aligned.
        let mut bytes = rkyv::api::high::to_bytes_in::<_, Error>(&body, vec![0; HEADER_BYTES])?;
        seal(&mut bytes, sequence);
        Ok(bytes)
    }
}

fn position(len: usize, of_what: &'static str) -> Result<u32, CompileError> {
    // The largest number is left out: it marks empty slots.
    match u32::try_from(len) {
        Ok(position) if position != u32::MAX => Ok(position),
        _ => Err(CompileError::TooMany(of_what)),
    }
}

impl Builder {
    fn add_site(&mut self, site: &Site) -> Result<(), CompileError> {
        let resources_start = position(self.body.resources.len(), "resources")?;
        self.body.resources.extend(site.resources.iter().map(resource_row));
        if site.default_paid {
            self.body.resources.push(ResourceRow {
                pattern: "*".to_owned(),
                methods: Vec::new(),
                access: access_code(Access::Paid),
                cost: 1,
            });
        }
        let resources_end = position(self.body.resources.len(), "resources")?;
        let plans_start = position(self.body.plans.len(), "plans")?;
        // Subscriptions name plans by their positions in the model, so earlier terms stand after all plans.
        self.body.plans.extend(site.plans.iter().map(|plan| plan_row(plan, resources_start)));
        for (plan, at) in site.plans.iter().zip(plans_start as usize..) {
            self.add_earlier(plan, at, resources_start)?;
        }
        let plans_end = position(self.body.plans.len(), "plans")?;
        position(self.body.sites.len(), "sites")?;
        self.body.sites.push(SiteRow {
            resources: Span { start: resources_start, end: resources_end },
            plans: Span { start: plans_start, end: plans_end },
            ..site_row(site)
        });
        Ok(())
    }

    fn add_earlier(
        &mut self,
        plan: &Plan,
        at: usize,
        resources_start: u32,
    ) -> Result<(), CompileError> {
        let mut rows = Vec::with_capacity(plan.earlier.len());
        for earlier in &plan.earlier {
            let position = position(self.body.plans.len(), "plans")?;
            rows.push(EarlierRow { until_s: earlier.until_s, plan: position });
            let row = plan_row(&earlier.terms, resources_start);
            self.body.plans.push(PlanRow { id: plan.id.clone(), is_earlier: true, ..row });
        }
        if let Some(row) = self.body.plans.get_mut(at) {
            row.earlier = rows;
        }
        Ok(())
    }

    /// Adds a subscription of the site at this position; its plan and resources are positions within that site.
    ///
    /// # Errors
    /// [`CompileError`]; after [`CompileError::NoSite`] and [`CompileError::NoPlan`] nothing of it was added, and others can be.
    pub fn add(&mut self, site: u32, subscription: &Subscription) -> Result<(), CompileError> {
        let row = self.body.sites.get(site as usize).ok_or(CompileError::NoSite(site))?;
        let at = row.plans.start.saturating_add(subscription.plan);
        let plan = self.body.plans.get(at as usize).filter(|plan| !plan.is_earlier);
        if plan.is_none() || at >= row.plans.end {
            let (plan, id) = (subscription.plan, subscription.id.clone());
            return Err(CompileError::NoPlan { site, plan, id });
        }
        let row = subscription_row(&row.slug, subscription, site, row.plans.start);
        // The other half of the numbers is for what changes over a snapshot.
        let index = position(self.body.subscriptions.len().saturating_mul(2), "subscriptions")? / 2;
        self.body.subscriptions.push(row);
        for token in &subscription.tokens {
            self.add_token(token, index)?;
        }
        Ok(())
    }

    fn add_token(&mut self, token: &Token, subscription: u32) -> Result<(), CompileError> {
        let index = position(self.body.tokens.len().saturating_mul(2), "tokens")? / 2;
        let id_start = position(self.body.token_ids.len(), "bytes of token ids")?;
        let networks_start = position(self.body.networks.len(), "networks")?;
        let narrower_start = position(self.body.narrower.len(), "resources of tokens")?;
        let id_len = u8::try_from(token.id.len())
            .map_err(|_| CompileError::TooMany("bytes in a token id"))?;
        let short = |len: usize, what| u16::try_from(len).map_err(|_| CompileError::TooMany(what));
        let narrower = token.resources.as_deref().unwrap_or_default();
        self.body.tokens.push(TokenRow {
            expires_at_s: token.expires_at_s.unwrap_or(i64::MAX),
            id_start,
            networks_start,
            narrower_start,
            networks_len: short(token.allow_from.len(), "networks of one token")?,
            narrower_len: short(narrower.len(), "resources of one token")?,
            id_len,
            is_revoked: token.is_revoked,
            is_narrowed: token.resources.is_some(),
        });
        self.body.token_ids.push_str(&token.id);
        self.body.networks.extend(token.allow_from.iter().map(network_row));
        for pattern in narrower {
            let place = match self.patterns.get(pattern) {
                Some(place) => *place,
                None => {
                    let place = position(self.body.patterns.len(), "patterns of tokens")?;
                    self.body.patterns.push(pattern.clone());
                    self.patterns.insert(pattern.clone(), place);
                    place
                }
            };
            self.body.narrower.push(place);
        }
        self.slots.push(TokenSlot { hash: token.hash.0, subscription, token: index });
        Ok(())
    }
}

fn site_row(site: &Site) -> SiteRow {
    let nothing = Span { start: 0, end: 0 };
    SiteRow {
        slug: site.slug.clone(),
        name: site.name.clone(),
        origin: OriginRow {
            is_https: site.origin.scheme == Scheme::Https,
            host: site.origin.host.to_string(),
            port: site.origin.port,
            path_prefix: site.origin.path_prefix.clone(),
            authority: site.origin.authority(),
            tls: origin_tls_row(&site.origin_tls),
        },
        hsts: site.hsts.map(|hsts| hsts.field_value()),
        hosts: site.hosts.iter().map(ToString::to_string).collect(),
        upgrade_url: site.upgrade_url.clone(),
        default_paid: site.default_paid,
        case_sensitive: site.case_sensitive,
        forward_token: site.forward_token,
        foreign_tokens: site.foreign_tokens,
        preserve_host: site.preserve_host,
        allow_override_headers: site.allow_override_headers,
        is_open_on_ledger_loss: site.on_ledger_loss == OnLedgerLoss::Open,
        token_header: site.token_header.clone(),
        token_query: site.token_query.clone(),
        origin_headers: site
            .origin_headers
            .iter()
            .map(|(name, value)| HeaderRow { name: name.clone(), value: value.clone() })
            .collect(),
        cors_origins: site.cors_origins.clone(),
        connect_timeout_ms: site.connect_timeout_ms,
        response_timeout_ms: site.response_timeout_ms,
        resources: nothing,
        plans: nothing,
    }
}

fn origin_tls_row(tls: &OriginTls) -> OriginTlsRow {
    OriginTlsRow {
        ca: tls.ca.clone(),
        pins: tls.pins.clone(),
        client: tls
            .client
            .as_ref()
            .map(|files| ClientFilesRow { cert: files.cert.clone(), key: files.key.clone() }),
    }
}

fn resource_row(resource: &Resource) -> ResourceRow {
    ResourceRow {
        pattern: resource.pattern.as_str().to_owned(),
        methods: resource.methods.names().map(str::to_owned).collect(),
        access: access_code(resource.access),
        cost: resource.cost,
    }
}

fn plan_row(plan: &Plan, resources_start: u32) -> PlanRow {
    let (allows_overage, overage_cap) = match plan.overage {
        Overage::Deny => (false, None),
        Overage::Allow { cap } => (true, cap),
    };
    PlanRow {
        id: plan.id.clone(),
        quota: plan
            .quota
            .map(|quota| AmountRow { requests: quota.requests, per: unit_code(quota.per) }),
        rate: plan
            .rate_limit
            .map(|rate| AmountRow { requests: rate.requests, per: unit_code(rate.per) }),
        burst: plan.rate_limit.map_or(0, |rate| rate.burst),
        concurrency: plan.concurrency,
        allows_overage,
        overage_cap,
        grace_days: plan.grace_days,
        resources: plan
            .resources
            .as_ref()
            .map(|list| list.iter().map(|rule| resources_start + rule).collect()),
        is_earlier: false,
        earlier: Vec::new(),
    }
}

fn subscription_row(
    slug: &str,
    subscription: &Subscription,
    site_index: u32,
    plans_start: u32,
) -> SubscriptionRow {
    SubscriptionRow {
        entitlement: entitlement_id(slug, &subscription.id).0,
        id: subscription.id.clone(),
        customer: subscription.customer.clone(),
        site: site_index,
        plan: plans_start + subscription.plan,
        past_due_since_s: subscription.past_due_since_s,
        period_anchor_s: subscription.period_anchor_s,
        status: status_code(subscription.status),
        adjustments: adjustment_rows(&subscription.adjustments),
    }
}
