//! What a sandbox is started with.
//!
//! In: what the caller sets. Out: a [`Config`] that [`crate::Sandbox::start`] takes.
//! Always holds: the default needs nothing: a free loopback port, real time, ids by chance, no webhooks.

use crate::clock::ClockStart;
use std::net::{Ipv4Addr, SocketAddr};

/// The one API version the sandbox speaks.
pub const API_VERSION: &str = "2026-10-28.endive";

/// What happens to a subscription whose last retry failed, as an owner sets it in the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It is canceled.
    Cancel,
    /// It becomes `unpaid`; further invoices stay drafts.
    Unpaid,
    /// It stays `past_due`.
    PastDue,
}

/// By which clock webhooks are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureClock {
    /// The machine's, for a receiver that reads it.
    Wall,
    /// The sandbox's, for a receiver whose clock is the test's.
    Sandbox,
}

/// An endpoint that receives events from the start.
#[derive(Clone, Debug)]
pub struct WebhookEndpoint {
    /// Where to post.
    pub url: String,
    /// The signing secret, `whsec_…`.
    pub secret: String,
    /// Whether it receives the connected accounts' events (`account` is set), or the platform's own.
    pub connect: bool,
    /// Types, or `*`.
    pub enabled_events: Vec<String>,
}

impl WebhookEndpoint {
    /// An endpoint for all events.
    pub fn new(url: impl Into<String>, secret: impl Into<String>, connect: bool) -> Self {
        Self {
            url: url.into(),
            secret: secret.into(),
            connect,
            enabled_events: vec!["*".to_owned()],
        }
    }
}

/// How a sandbox behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// The one secret key it knows.
    pub secret_key: String,
    /// Client id for OAuth, `ca_…`.
    pub client_id: String,
    /// Where time comes from.
    pub clock: ClockStart,
    /// By which clock webhooks are signed.
    pub signature_clock: SignatureClock,
    /// Seed of ids and chances; by chance if there is none.
    pub seed: Option<u64>,
    /// Endpoints of webhooks that are there from the start.
    pub webhook_endpoints: Vec<WebhookEndpoint>,
    /// Deliveries at once, at most; 1 keeps them in order.
    pub webhook_concurrency: usize,
    /// Seconds a delivery may take.
    pub webhook_timeout_s: u64,
    /// Days before a renewal when `invoice.upcoming` comes.
    pub upcoming_days: i64,
    /// Seconds a renewal's invoice stays a draft.
    pub draft_s: i64,
    /// Days after the first failed payment when it is tried again.
    pub retry_days: Vec<i64>,
    /// What follows the last failed retry.
    pub exhausted: Exhausted,
    /// Whether a subscription whose first payment is still under way at a bank is `active`. Stripe's documents name
    /// `incomplete` as well, so a caller has to bear both.
    pub active_while_processing: bool,
    /// Whether Stripe has enabled Accounts v2 for the platform.
    pub accounts_v2: bool,
    /// Requests a second before 429; 0 for no limit (Stripe's sandboxes have 25).
    pub rate_limit_per_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            secret_key: "sk_test_sandbox".to_owned(),
            client_id: "ca_sandbox".to_owned(),
            clock: ClockStart::Real,
            signature_clock: SignatureClock::Wall,
            seed: None,
            webhook_endpoints: Vec::new(),
            webhook_concurrency: 1,
            webhook_timeout_s: 10,
            upcoming_days: 7,
            draft_s: 3600,
            retry_days: vec![1, 3, 5, 7],
            exhausted: Exhausted::Cancel,
            active_while_processing: true,
            accounts_v2: true,
            rate_limit_per_s: 0,
        }
    }
}

impl Config {
    /// For tests: time stands at `now` (seconds since 1970) and signs the webhooks; ids come from `seed`.
    pub fn fixed(now: i64, seed: u64) -> Self {
        Self {
            clock: ClockStart::Fixed(now),
            signature_clock: SignatureClock::Sandbox,
            seed: Some(seed),
            ..Self::default()
        }
    }
}
