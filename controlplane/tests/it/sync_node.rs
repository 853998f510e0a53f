//! A node's end of the link with a real snapshot, and a server for it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use link::control::{Control, ControlConfig, LedgerPort, Pace, PolicySink, Status};
use link::wire::NodeToken;
use parking_lot::Mutex;
use policy::budget::message::{LeaseReply, LeaseRequest};
use policy::delta::Delta;
use policy::snapshot::Snapshot;
use policy::token::TokenHash;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::Client;
use super::place::Place;
use crate::server::Server;
use crate::storage;
use crate::sync::bounds::Bounds;
use crate::world::{System, World};

/// Longer than anything here takes, on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(30);

/// Looks again and again whether something holds; false where it does not in time.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let mut looks = tokio::time::interval(Duration::from_millis(2));
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        looks.tick().await;
        if holds().await {
            return true;
        }
    }
    false
}

/// A control plane that serves.
pub struct Serving {
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Serving {
    pub async fn start(place: &Place) -> Self {
        Self::begin(place, Arc::new(System), Bounds::default()).await
    }

    /// One that keeps so much for its nodes.
    pub async fn within(place: &Place, bounds: Bounds) -> Self {
        Self::begin(place, Arc::new(System), bounds).await
    }

    /// One by another clock.
    pub async fn start_in(place: &Place, world: Arc<dyn World>) -> Self {
        Self::begin(place, world, Bounds::default()).await
    }

    async fn begin(place: &Place, world: Arc<dyn World>, bounds: Bounds) -> Self {
        let server = Server::start_within(place.config(), world, bounds).await.unwrap();
        let url = format!("http://{}", server.address);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { url, stop: Some(stop), running }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(DEADLINE, &mut self.running).await.expect("it drains").unwrap();
    }
}

/// A node and its token.
pub struct Issued {
    pub id: String,
    /// Its row's number.
    pub key: i64,
    pub token_id: String,
    pub token: NodeToken,
}

/// Makes a node with a token.
pub async fn issue(owner: &Client, place: &Place, name: &str) -> Issued {
    issue_until(owner, place, name, None).await
}

/// The same whose token ends then, Unix milliseconds.
pub async fn issue_until(owner: &Client, place: &Place, name: &str, end_ms: Option<i64>) -> Issued {
    let id = owner.post("/v1/nodes", json!({ "name": name })).await.expect(201).id();
    let body = json!({ "expires_at": end_ms.map(crate::api::time::shown) });
    let made = owner.post(&format!("/v1/nodes/{id}/tokens"), body).await.expect(201);
    let token = NodeToken::parse(made.json["secret"].as_str().unwrap()).unwrap();
    let window = storage::Window { limit: 1, starting_after: None };
    let accounts = place.store.accounts(window).await.unwrap().unwrap();
    let tenant = place.store.tenant(&accounts.rows[0].id);
    let key = tenant.get::<storage::Node>(&id).await.unwrap().unwrap().key;
    Issued { token_id: made.id(), id, key, token }
}

/// What is in force.
#[derive(Debug, Default)]
pub struct InForce(Mutex<Option<Snapshot>>);

impl PolicySink for InForce {
    type Snapshot = Snapshot;

    fn load_base(&self, file: File, _sequence: u64) -> Result<Snapshot, String> {
        Snapshot::from_file(&file).map_err(|error| error.to_string())
    }

    fn apply(&self, snapshot: &Snapshot, delta: &[u8]) -> Result<Snapshot, String> {
        let delta = Delta::decode(delta).map_err(|error| error.to_string())?;
        snapshot.apply(&delta).map_err(|error| error.to_string())
    }

    fn publish(&self, snapshot: &Snapshot, _sequence: u64) {
        *self.0.lock() = Some(snapshot.clone());
    }

    fn refused(&self, reason: &str) {
        panic!("a node refused what a control plane sent: {reason}");
    }
}

/// A node's end.
pub struct Node {
    control: Option<Control>,
    in_force: Arc<InForce>,
    pub ledger: mpsc::Sender<LeaseRequest>,
    pub replies: Arc<Mutex<Vec<LeaseReply>>>,
}

impl Node {
    pub fn start(urls: &[&str], token: &NodeToken, epoch: u64, folder: &Path) -> Self {
        let token_file = folder.join("token");
        std::fs::write(&token_file, token.reveal()).unwrap();
        let config = ControlConfig {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            token_file,
            ca_file: None,
            folder: folder.join("policy"),
            epoch,
            version: "test".to_owned(),
            pace: Pace {
                report: Duration::from_millis(100),
                retry: (Duration::from_millis(5), Duration::from_millis(50)),
                ..Pace::default()
            },
        };
        let in_force = Arc::new(InForce::default());
        let (ledger, requests) = mpsc::channel(1000);
        let replies = Arc::new(Mutex::new(Vec::new()));
        let deliver = {
            let replies = Arc::clone(&replies);
            Box::new(move |new: Vec<LeaseReply>| replies.lock().extend(new))
        };
        let port = LedgerPort { requests, deliver, observe: Box::new(|_, _| {}) };
        let control = Control::start(config, Arc::clone(&in_force), port).unwrap();
        Self { control: Some(control), in_force, ledger, replies }
    }

    pub fn status(&self) -> Status {
        self.control.as_ref().unwrap().state().status()
    }

    /// What a token is here: none, or whether it is revoked.
    pub fn token(&self, text: &str) -> Option<bool> {
        let snapshot = self.in_force.0.lock().clone()?;
        let (token, subscription) = snapshot.find_token(&TokenHash::of(text.as_bytes()))?;
        snapshot.subscription(subscription)?;
        Some(snapshot.token(token)?.is_revoked())
    }

    /// Whether a site has a resource of this pattern.
    pub fn has_pattern(&self, pattern: &str) -> bool {
        let Some(snapshot) = self.in_force.0.lock().clone() else { return false };
        snapshot.sites().any(|site| site.resources().any(|row| row.pattern() == pattern))
    }

    /// Whether a token's own list includes the resource of this pattern.
    pub fn token_includes(&self, text: &str, pattern: &str) -> bool {
        let Some(snapshot) = self.in_force.0.lock().clone() else { return false };
        let Some((token, _)) = snapshot.find_token(&TokenHash::of(text.as_bytes())) else {
            return false;
        };
        let token = snapshot.token(token).unwrap();
        snapshot.sites().any(|site| {
            site.resources()
                .any(|row| row.pattern() == pattern && token.includes(row.index(), false))
        })
    }

    /// The limit that a token's subscription has.
    pub fn limit(&self, text: &str) -> Option<u64> {
        self.limit_at(text, System.now_ms() / 1_000)
    }

    /// The same at some time, Unix seconds.
    pub fn limit_at(&self, text: &str, now_s: i64) -> Option<u64> {
        let snapshot = self.in_force.0.lock().clone()?;
        let (_, subscription) = snapshot.find_token(&TokenHash::of(text.as_bytes()))?;
        snapshot.terms(subscription, now_s)?.limit
    }

    /// Waits until something holds.
    pub async fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let waited = until(async || holds(self)).await;
        assert!(waited, "not in time: {what}; {:#?}", self.status());
    }

    /// Ends it, as a process would.
    pub async fn stop(mut self) {
        let control = self.control.take();
        tokio::task::spawn_blocking(move || drop(control)).await.unwrap();
    }
}
