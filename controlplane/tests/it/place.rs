//! A database of its own with an API around it.

use std::sync::Arc;

use axum::Router;

use crate::api::{self, ApiSettings, App};
use crate::init;
use crate::notify::mail::MailSettings;
use crate::secrets::Keyring;
use crate::server::Config;
use crate::storage::{Actor, Retention, Store};
use crate::world::{System, World};

use super::client::Client;

/// Tables with what those that sell leave, each before those that it refers to.
const TABLES: &[&str] = &[
    "tokens",
    "overage_events",
    "overage_books",
    "entitlement_names",
    "claims",
    "free_requests",
    "stripe_reversals",
    "stripe_subscriptions",
    "checkouts",
    "stripe_calls",
    "stripe_events",
    "stripe_sweeps",
    "stripe_leases",
    "webhook_deliveries",
    "mails",
    "events",
    "subscriptions",
    "stripe_customers",
    "customers",
    "plan_prices",
    "plans",
    "site_hosts",
    "sites",
    "slug_owners",
    "stripe_accounts",
    "admin_keys",
    "members",
    "audit_log",
    "outbox",
    "idempotency_keys",
    "accounts",
];

/// What a case gets.
#[derive(Clone)]
pub struct Place {
    pub url: String,
    pub store: Store,
    pub keyring: Arc<Keyring>,
    /// The text of the keys.
    pub text: String,
    world: Arc<dyn World>,
    _directory: Option<Arc<tempfile::TempDir>>,
}

impl Place {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("controlplane.db").display());
        Self::at(url, Some(directory))
    }

    pub fn at(url: String, directory: Option<tempfile::TempDir>) -> Self {
        // The pool is opened within a runtime, by `prepare`'s caller.
        let text = Keyring::generate(&System);
        let keyring = Arc::new(Keyring::parse(&text).unwrap());
        let world: Arc<dyn World> = Arc::new(System);
        let store = Store::open(&url, 8, world.clone()).unwrap();
        Self { url, store, keyring, text, world, _directory: directory.map(Arc::new) }
    }

    /// The same database in another time.
    pub fn in_time_of(&self, world: Arc<dyn World>) -> Self {
        let store = Store::open(&self.url, 8, world.clone()).unwrap();
        Self { store, world, ..self.clone() }
    }

    /// Another database of the same kind, empty.
    pub async fn beside(&self, number: usize) -> Self {
        if self.url.starts_with("sqlite") {
            return Self::sqlite();
        }
        // The host is a folder, so the last slash is not the name's.
        let (base, host) = self.url.split_once('?').unwrap();
        let (server, name) = base.rsplit_once('/').unwrap();
        let beside = format!("{name}_{number}");
        self.store.raw(&format!("CREATE DATABASE {beside}")).await;
        Self::at(format!("{server}/{beside}?{host}"), None)
    }

    pub async fn prepare(&self) {
        self.store.migrate().await.unwrap();
    }

    /// Takes away what those that sell left.
    pub async fn clear(&self) {
        let sql: Vec<String> = TABLES.iter().map(|table| format!("DELETE FROM {table}")).collect();
        self.store.raw(&sql.join("; ")).await;
    }

    /// What a server of this database is told.
    pub fn config(&self) -> Config {
        Config {
            database_url: self.url.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            keyring: self.keyring.clone(),
            api: ApiSettings::default(),
            billing: None,
            webhook_secrets: Arc::default(),
            mail: MailSettings::default(),
            audit_days: 0,
            folder: std::env::temp_dir(),
            kept: Retention::default(),
            clickhouse: None,
        }
    }

    /// The same database through a pool of its own, as another process has it.
    pub fn another_store(&self) -> Store {
        Store::open(&self.url, 8, self.world.clone()).unwrap()
    }

    /// Makes the database what a backup of before this token would have been, with this last number.
    pub async fn forget_after_token(&self, token: &str, sequence: u64) {
        let hash = policy::token::TokenHash::of(token.as_bytes());
        let hex: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let literal = match self.url.starts_with("sqlite") {
            true => format!("x'{hex}'"),
            false => format!("'\\x{hex}'"),
        };
        self.store.raw(&format!("DELETE FROM tokens WHERE hash = {literal}")).await;
        self.store.raw(&format!("DELETE FROM outbox WHERE sequence > {sequence}")).await;
        self.store.raw(&format!("UPDATE outbox_head SET sequence = {sequence}")).await;
    }

    pub fn router(&self) -> Router {
        self.router_with(ApiSettings::default())
    }

    pub fn router_with(&self, settings: ApiSettings) -> Router {
        api::router(App::new(self.store.clone(), self.keyring.clone(), settings))
    }

    /// A client of the first account, its owner.
    pub async fn owner(&self) -> Client {
        let made = init::init(&self.store, "First", "first@example.com").await.unwrap();
        Client::new(self.router(), made.key)
    }

    /// A client of a further account, its owner.
    pub async fn stranger(&self) -> Client {
        let account = crate::ids::new_id("acct", &System);
        let mut change = self.store.change(&account, actor()).await.unwrap();
        let key = init::make_account(&mut change, "Other", "other@example.com", false);
        let (_, key) = key.await.unwrap();
        change.commit().await.unwrap();
        Client::new(self.router(), key)
    }
}

pub fn actor() -> Actor {
    Actor { kind: "command", id: "test".to_owned(), request_id: None }
}
