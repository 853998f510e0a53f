//! The handle to a running sandbox.
//!
//! In: a [`Config`]. Out: an address that speaks Stripe's API, and methods for what only a sandbox can: pay a session,
//! move time, misbehave.
//! Always holds: dropping the handle ends all its tasks; two sandboxes share nothing.

use crate::clock::{ClockStart, wall};
use crate::config::Config;
use crate::deliver::Pace;
use crate::error::StripeError;
use crate::faults::{Planned, WebhookFaults};
use crate::server::{self, Shared};
use crate::state::{PLATFORM, State};
use crate::{accept_account, webhook_endpoint};
use parking_lot::Mutex;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use crate::engine::payments::Card;
pub use crate::pages::checkout::{Outcome, Payment};

/// Why a sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be bound.
    #[error("the Stripe sandbox cannot listen on {address}: {cause}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The client for webhooks cannot be made.
    #[error("the Stripe sandbox cannot make its HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// No random seed.
    #[error("the Stripe sandbox got no randomness: {0}")]
    Seed(getrandom::Error),
    /// A webhook endpoint of the configuration is refused.
    #[error("the Stripe sandbox refuses a webhook endpoint: {0}")]
    Endpoint(String),
}

/// A running sandbox.
#[derive(Debug)]
pub struct Sandbox {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    secret_key: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Sandbox {
    /// Starts one. It must be called within a tokio runtime, whose tasks serve it.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let asked = config.address;
        let bind = |cause| StartError::Bind { address: asked, cause };
        let listener = TcpListener::bind(asked).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let seed = match config.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(StartError::Seed)?,
        };
        // Where others build reqwest without a provider of its own, a client cannot be made before there is one. Whoever was first
        // chose the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(config.webhook_timeout_s))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let (at_once, secret_key) = (config.webhook_concurrency, config.secret_key.clone());
        let real = config.clock == ClockStart::Real;
        let endpoints = config.webhook_endpoints.clone();
        let mut state = State::new(config, format!("http://{address}"), seed);
        for endpoint in &endpoints {
            webhook_endpoint::insert(&mut state, PLATFORM, endpoint)
                .map_err(|error| StartError::Endpoint(error.message))?;
        }
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
        let mut tasks = vec![
            tokio::spawn(server::accept(listener, shared.clone())),
            tokio::spawn(server::deliver(shared.clone(), client, at_once)),
        ];
        if real {
            tasks.push(tokio::spawn(server::tick(shared.clone())));
        }
        Ok(Self { shared, address, secret_key, tasks })
    }

    /// Ends it; whoever is connected is cut off.
    pub async fn shutdown(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // It was ended on purpose.
            let _ = task.await;
        }
    }

    /// Base of all calls, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key that calls bear.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Its time, seconds since 1970.
    pub fn now(&self) -> i64 {
        let mut state = self.shared.state.lock();
        state.clock.now()
    }

    /// Moves time on; all that falls due happens, in order. Deliveries go on by themselves: see [`Self::settle`].
    pub fn advance(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX / 4);
        {
            let mut state = self.shared.state.lock();
            state.clock.advance(seconds);
            state.run_due();
        }
        self.shared.changed.notify_waiters();
    }

    /// Moves time on to a second since 1970; a second in the past changes nothing.
    pub fn advance_to(&self, second: i64) {
        let wait = u64::try_from(second.saturating_sub(self.now())).unwrap_or(0);
        self.advance(Duration::from_secs(wait));
    }

    /// Waits until nothing is left to deliver now (failed and withheld deliveries wait for their time). False if that
    /// takes longer than `within`.
    pub async fn settle(&self, within: Duration) -> bool {
        let settled = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.shared.state.lock().outbox.is_settled() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, settled).await.is_ok()
    }

    /// Pays a checkout session as its page does.
    ///
    /// # Errors
    /// A refused card (`card_error`), or a session that cannot be paid.
    pub fn pay(&self, session: &str, outcome: Outcome) -> Result<Payment, StripeError> {
        self.with(|state| crate::pages::checkout::pay(state, session, outcome))
    }

    /// The bank's word on an asynchronous payment, or the buyer's authentication of a card.
    ///
    /// # Errors
    /// A session that waits for nothing.
    pub fn resolve(&self, session: &str, success: bool) -> Result<Payment, StripeError> {
        self.with(|state| crate::pages::checkout::resolve(state, session, success))
    }

    /// Completes an account's onboarding as its page does.
    ///
    /// # Errors
    /// No such account.
    pub fn onboard(&self, account: &str) -> Result<(), StripeError> {
        self.with(|state| accept_account::activate(state, account))
    }

    /// Stripe enables Accounts v2 for the platform, or has not.
    pub fn set_accounts_v2(&self, is_enabled: bool) {
        self.shared.state.lock().config.accounts_v2 = is_enabled;
    }

    /// An account that its owner had before; its id, with which the page of OAuth is answered.
    ///
    /// # Errors
    /// A full table.
    pub fn own_account(&self) -> Result<String, StripeError> {
        self.with(accept_account::own)
    }

    /// Whether the platform may act for an account.
    pub fn is_connected(&self, account: &str) -> bool {
        self.shared.state.lock().is_connected(account)
    }

    /// The account's owner takes the platform's access away in their dashboard.
    ///
    /// # Errors
    /// No such account.
    pub fn deauthorize(&self, account: &str) -> Result<(), StripeError> {
        self.with(|state| accept_account::deauthorize(state, account))
    }

    /// The same, but no event ever tells of it.
    ///
    /// # Errors
    /// No such account.
    pub fn revoke(&self, account: &str) -> Result<(), StripeError> {
        self.with(|state| accept_account::revoke(state, account))
    }

    /// An account's platform may act for it again, as when the key is the right one again.
    ///
    /// # Errors
    /// No such account.
    pub fn restore(&self, account: &str) -> Result<(), StripeError> {
        self.with(|state| accept_account::restore(state, account))
    }

    /// Sets how a customer's card behaves from now on.
    ///
    /// # Errors
    /// No such customer.
    pub fn set_card(&self, account: &str, customer: &str, card: Card) -> Result<(), StripeError> {
        self.with(|state| crate::engine::payments::set_card(state, account, customer, card))
    }

    /// A buyer disputes a charge; the dispute's id.
    ///
    /// # Errors
    /// No such charge, or one that is disputed already.
    pub fn dispute(
        &self,
        account: &str,
        charge: &str,
        reason: &str,
    ) -> Result<String, StripeError> {
        self.with(|state| crate::api::refunds::dispute(state, account, charge, reason))
            .map(|dispute| crate::json::text(&dispute, "id").to_owned())
    }

    /// A buyer's bank asks about a charge; the inquiry's id.
    ///
    /// # Errors
    /// No such charge, or one that is disputed already.
    pub fn inquire(&self, account: &str, charge: &str) -> Result<String, StripeError> {
        self.with(|state| crate::api::refunds::inquire(state, account, charge))
            .map(|dispute| crate::json::text(&dispute, "id").to_owned())
    }

    /// An inquiry becomes a dispute, or ends.
    ///
    /// # Errors
    /// No such inquiry.
    pub fn settle_inquiry(
        &self,
        account: &str,
        inquiry: &str,
        is_disputed: bool,
    ) -> Result<(), StripeError> {
        self.with(|state| crate::api::refunds::settle_inquiry(state, account, inquiry, is_disputed))
            .map(drop)
    }

    /// A dispute is decided.
    ///
    /// # Errors
    /// No such dispute, or one that is decided already.
    pub fn decide_dispute(
        &self,
        account: &str,
        dispute: &str,
        won: bool,
    ) -> Result<(), StripeError> {
        self.with(|state| crate::api::refunds::decide(state, account, dispute, won)).map(drop)
    }

    /// Plans a fault of coming requests.
    pub fn plan_fault(&self, planned: Planned) {
        self.shared.state.lock().faults.plan(planned);
    }

    /// Calls of the API so far.
    pub fn calls(&self) -> u64 {
        self.shared.state.lock().served
    }

    /// Calls that a fault befell so far.
    pub fn faults_made(&self) -> u64 {
        self.shared.state.lock().faults.made
    }

    /// Sets what goes wrong with deliveries from now on.
    pub fn set_webhook_faults(&self, faults: WebhookFaults) {
        self.shared.state.lock().faults.webhooks = faults;
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
    }

    /// Keeps deliveries back until [`Self::release_webhooks`].
    pub fn hold_webhooks(&self) {
        self.shared.state.lock().outbox.held = true;
    }

    /// Lets deliveries go, those kept back first.
    pub fn release_webhooks(&self) {
        self.release(None);
    }

    /// The same, one each so often whether those before were answered or not, as far as the configured concurrency goes; how long
    /// an answer took counts from when its delivery was due, so that one that waits for another is slow, too.
    pub fn release_webhooks_every(&self, every: Duration) {
        self.release(Some(Pace { due: Instant::now(), every }));
    }

    fn release(&self, pace: Option<Pace>) {
        {
            let mut state = self.shared.state.lock();
            state.outbox.held = false;
            state.outbox.pace = pace;
        }
        self.shared.changed.notify_waiters();
    }

    /// Makes all withheld and failed deliveries due now.
    pub fn redeliver(&self) {
        self.shared.state.lock().deliver_all_now();
        self.shared.changed.notify_waiters();
    }

    /// Deliveries that can go now, and those that wait for their time.
    pub fn deliveries_waiting(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        (state.outbox.waiting(), state.outbox.later())
    }

    /// Attempts to deliver so far: answered 2xx, and others.
    pub fn deliveries_made(&self) -> (u64, u64) {
        self.shared.state.lock().outbox.counts
    }

    /// An object as the API shows it. The platform's account is `""`.
    pub fn object(&self, account: &str, kind: &str, id: &str) -> Option<Value> {
        let state = self.shared.state.lock();
        state.get(account, kind, id).map(|value| state.shown(&value))
    }

    /// All objects of a kind, oldest first. The platform's account is `""`.
    pub fn objects(&self, account: &str, kind: &str) -> Vec<Value> {
        let state = self.shared.state.lock();
        let table = state.table(account, kind);
        table.map_or_else(Vec::new, |table| {
            table.oldest(None).map(|value| state.shown(value)).collect()
        })
    }

    /// How many objects of a kind there are. The platform's account is `""`.
    pub fn count(&self, account: &str, kind: &str) -> usize {
        let state = self.shared.state.lock();
        state.table(account, kind).map_or(0, |table| table.oldest(None).count())
    }

    /// The machine's time, by which webhooks are signed unless the configuration says otherwise.
    pub fn wall_clock() -> i64 {
        wall()
    }

    pub(crate) fn with<T>(
        &self,
        act: impl FnOnce(&mut State) -> Result<T, StripeError>,
    ) -> Result<T, StripeError> {
        let done = {
            let mut state = self.shared.state.lock();
            state.run_due();
            let done = act(&mut state);
            state.moment = state.library_now;
            done
        };
        self.shared.changed.notify_waiters();
        done
    }
}
