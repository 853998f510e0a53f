//! Serving the API and publishing the outbox, until told to stop.
//!
//! In: a [`Config`]. Out: a process that answers; an error where it cannot begin.
//! Always holds: connections, heads and idle times are bounded; told to stop, it accepts no more, finishes what runs
//! within [`DRAIN`], and ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use link::sink::clickhouse::{ClickHouseConfig, ConfigError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::analytics::{Backend, ClickHouse};
use crate::api::{self, ApiSettings, App};
use crate::billing::oauth::grants;
use crate::billing::sharers::Sharer;
use crate::billing::stripe::Stripe;
use crate::billing::sweep::Sweeper;
use crate::billing::webhooks::{WebhookSecrets, Webhooks};
use crate::billing::worker::Worker;
use crate::billing::{Billing, BillingSettings};
use crate::billing::{catalogue, pages};
use crate::metrics;
use crate::notify::mail::MailSettings;
use crate::notify::{self, NotifySettings};
use crate::overage::OverageTeller;
use crate::reconcile::{self, Reconciler};
use crate::secrets::Keyring;
use crate::storage::{CONNECTIONS_DEFAULT, Retention, StorageError, Store, UrlError};
use crate::sync::Sync;
use crate::sync::bounds::Bounds;
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::world::World;

/// Connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// How long a head may take, and before it a handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what runs may take to finish.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How often what is old is thrown away.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// Every so many rounds of that, accounts of the ledger are looked through: about once a day.
const LEDGER_ROUNDS: u32 = 144;
/// Between two steps of that.
const PRUNE_PAUSE: Duration = Duration::from_millis(200);
/// How long a start waits for the database.
const START_WAIT: Duration = Duration::from_secs(30);
const START_RETRY: Duration = Duration::from_millis(500);

/// What the control plane is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `postgres://…` or `sqlite://FILE`.
    pub database_url: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it speaks TLS with; in plain text where there is none.
    pub tls: Option<TlsFiles>,
    /// The keys of what is secret in the database.
    pub keyring: Arc<Keyring>,
    /// What the API is told.
    pub api: ApiSettings,
    /// What billing is told; without, nothing can be sold.
    pub billing: Option<BillingSettings>,
    /// What Stripe signs its webhooks with.
    pub webhook_secrets: Arc<WebhookSecrets>,
    /// What mails are sent with.
    pub mail: MailSettings,
    /// How long entries of the audit log are kept, days; 0: for ever.
    pub audit_days: u32,
    /// Where bases of the policy are written, which nodes fetch. They keep no name there, so that nothing is left of them.
    pub folder: PathBuf,
    /// How much of decisions and use is kept.
    pub kept: Retention,
    /// Where decisions and use are asked for instead of in the database.
    pub clickhouse: Option<ClickHouseConfig>,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is of no use.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database cannot be asked, or not used.
    #[error("cannot use the database: {0}")]
    Storage(#[from] StorageError),
    /// The certificate or its key is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There can be no client of Stripe.
    #[error("cannot call Stripe: {0}")]
    Billing(String),
    /// Mails or webhooks cannot be sent.
    #[error("{0}")]
    Notify(String),
    /// ClickHouse cannot be what was said.
    #[error(transparent)]
    ClickHouse(#[from] ConfigError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {cause}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
}

/// A control plane that serves.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, with the port that was chosen.
    pub address: SocketAddr,
    store: Store,
    router: Router,
    sync: Sync,
    tls: Option<Tls>,
    listener: TcpListener,
    background: Vec<JoinHandle<()>>,
}

/// Opens the database and brings it up to date, waiting [`START_WAIT`] for one that is away.
///
/// # Errors
/// When the URL is wrong, or the database stays away or cannot be used.
pub async fn open_store(url: &str, world: Arc<dyn World>) -> Result<Store, Error> {
    let store = Store::open(url, CONNECTIONS_DEFAULT, world)?;
    let started = tokio::time::Instant::now();
    loop {
        match store.migrate().await {
            Ok(0) => return Ok(store),
            Ok(steps) => {
                tracing::info!(steps, "brought the database up to date");
                return Ok(store);
            }
            Err(StorageError::Unavailable(reason)) if started.elapsed() < START_WAIT => {
                tracing::warn!(reason, "the database is away; trying again");
                tokio::time::sleep(START_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Server {
    /// Opens the database, listens, and begins to publish.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn start(config: Config, world: Arc<dyn World>) -> Result<Self, Error> {
        Self::start_within(config, world, Bounds::default()).await
    }

    /// The same with other bounds on what nodes are served from.
    pub(crate) async fn start_within(
        config: Config,
        world: Arc<dyn World>,
        bounds: Bounds,
    ) -> Result<Self, Error> {
        let tls = config.tls.map(Tls::read).transpose()?;
        let store = open_store(&config.database_url, world).await?;
        let listen = |cause| Error::Listen { address: config.listen, cause };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        if is_exposed(address, tls.is_some()) {
            tracing::warn!(%address, "keys and node tokens are sent in plain text to an address that others can reach; give --tls-cert and --tls-key, or listen on loopback behind a TLS proxy");
        }
        let keyring = config.keyring.clone();
        let sync = Sync::within(store.clone(), keyring, config.folder, config.kept, bounds);
        let notifying = NotifySettings {
            keyring: config.keyring.clone(),
            allow_private_webhooks: config.api.allow_private_webhooks,
            mail: config.mail,
        };
        let has_mail = notifying.mail.is_to_people();
        let billing = config
            .billing
            .map(|settings| Billing::new(BillingSettings { has_mail, ..settings }, store.clone()));
        let billing = billing.transpose().map_err(Error::Billing)?;
        let arrived: Arc<Notify> = Arc::default();
        let sweeper = billing.as_ref().map(|all| Sweeper::new(all.settler.clone()));
        let worker = billing.as_ref().map(|all| Worker::new(all.settler.clone(), arrived.clone()));
        let sharer = billing.as_ref().map(Sharer::new);
        let sweep = billing.clone().map(catalogue::sweep);
        let grants = billing.clone().map(grants::run);
        let pages = billing.clone().map(pages::router).unwrap_or_default();
        let stripe = billing.as_ref().map(|billing| billing.stripe.clone());
        let backend = match &config.clickhouse {
            Some(clickhouse) => Backend::ClickHouse(Arc::new(ClickHouse::new(clickhouse)?)),
            None => Backend::Sql { store: store.clone(), kept: config.kept },
        };
        let app = App::new(store.clone(), config.keyring, config.api);
        let app = app.with_billing(billing).with_analytics(backend.clone());
        let router = api::router(app).merge(pages);
        let (webhooks, carry) = Webhooks::new(store.clone(), config.webhook_secrets, arrived);
        let router = router.merge(sync.router()).merge(webhooks.router());
        let router = router.merge(metrics::router(webhooks));
        let mut background = vec![
            tokio::spawn(carry),
            tokio::spawn(store.outbox().clone().publish()),
            tokio::spawn(prune(store.clone(), config.audit_days)),
        ];
        background.extend(sharer.map(|sharer| tokio::spawn(sharer.run())));
        background.extend(sweep.map(tokio::spawn));
        background.extend(grants.map(tokio::spawn));
        background.extend(worker.map(|worker| tokio::spawn(worker.run())));
        background.extend(sync.run());
        background.extend(sweeper.map(|sweeper| tokio::spawn(sweeper.run())));
        background.extend(notify::workers(&store, &notifying).map_err(Error::Notify)?);
        background.extend(money(&store, stripe, backend));
        background.extend(tls.clone().map(|tls| tokio::spawn(tls.follow_files())));
        Ok(Self { address, store, router, sync, tls, listener, background })
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Its database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves until `stop` is done, then drains.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accept = async {
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (router, watcher) = (self.router.clone(), graceful.watcher());
                        let connection = greet(stream, self.tls.clone(), router, watcher);
                        tokio::spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept; trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop => {}
            () = accept => {}
        }
        drop(self.listener);
        self.sync.stop();
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still running after {} s; closing", DRAIN.as_secs());
        }
        for task in self.background {
            task.abort();
        }
        self.store.close().await;
    }
}

/// Starts what tells Stripe of overage and compares what everybody says.
fn money(store: &Store, stripe: Option<Stripe>, decisions: Backend) -> Vec<JoinHandle<()>> {
    let teller = stripe.clone().map(|stripe| OverageTeller::new(store.clone(), stripe));
    let reconciler = Reconciler::new(store.clone(), stripe, Box::new(decisions));
    let mut tasks = vec![reconcile::spawn_daily(reconciler)];
    tasks.extend(teller.map(OverageTeller::spawn));
    tasks
}

/// Whether what is sent can be read by others on the way.
fn is_exposed(address: SocketAddr, is_tls: bool) -> bool {
    !is_tls && !address.ip().to_canonical().is_loopback()
}

/// Shakes hands where TLS is spoken, then serves.
async fn greet(stream: TcpStream, tls: Option<Tls>, router: Router, watcher: Watcher) {
    // Small answers go out at once; a socket that cannot do that works all the same.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve(stream, router, watcher).await };
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, router, watcher).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn serve<S>(stream: S, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn prune(store: Store, audit_days: u32) {
    let mut rounds = 0_u32;
    loop {
        tokio::time::sleep(PRUNE_INTERVAL).await;
        loop {
            match store.prune(audit_days).await {
                // Changes go first.
                Ok(pruned) if pruned.has_more() => tokio::time::sleep(PRUNE_PAUSE).await,
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "what is old stays for now");
                    break;
                }
            }
        }
        if let Err(error) = store.prune_notifications().await {
            tracing::debug!(%error, "old events stay for now");
        }
        // It looks through a whole table, for what is months old.
        if rounds.is_multiple_of(LEDGER_ROUNDS)
            && let Err(error) = store.prune_ledger().await
        {
            tracing::debug!(%error, "accounts of what ended stay for now");
        }
        rounds = rounds.wrapping_add(1);
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
