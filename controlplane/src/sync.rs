//! The control plane's end of the control link: what nodes are told, and what they tell.
//!
//! In: the outbox and the rows it names; requests of nodes with their tokens. Out: bases and changes of the policy, the
//! ledger's replies.
//! Always holds: nothing of a node's is answered before its token was looked up; a node whose token is revoked is cut
//! off as soon as the outbox says so; what cannot be told by changes is told by a base. Which nodes: all of them get the
//! policy of all accounts, since only an operator makes nodes.
//!
//! [`feed`] follows the outbox and keeps the changes that streams are served from; [`base`] compiles whole policies;
//! [`stream`], [`report`], [`download`] and [`decisions`] are the requests of [`link::wire`]; [`mailboxes`] carries the ledger's
//! replies to streams of this process, the database to those of others.

pub(crate) mod base;
pub(crate) mod bounds;
pub(crate) mod changes;
mod decisions;
mod download;
pub(crate) mod feed;
mod mailboxes;
pub(crate) mod model;
mod report;
mod seen;
mod stream;
mod undertaker;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use link::wire::decisions::BODY_BYTES_MAX;
use link::wire::frame::{HEAD_BYTES, REPORT_BYTES_MAX};
use link::wire::{CONTENT_TYPE, NodeToken, PROTOCOL, PROTOCOL_HEADER, Refusal, Why};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::guesses::Guesses;
use crate::secrets::Keyring;
use crate::storage::{Admission, Bearer, KnownNode, Retention, StorageError, Store};
use bounds::Bounds;
use decisions::Intake;
use feed::Feed;
use mailboxes::Mailboxes;
use seen::Seen;

pub use base::BaseError;

/// What nodes are served with.
#[derive(Clone, Debug)]
pub struct Sync {
    store: Store,
    feed: Arc<Feed>,
    mailboxes: Arc<Mailboxes>,
    seen: Arc<Seen>,
    intake: Arc<Intake>,
    guesses: Arc<Guesses>,
    stopping: Arc<watch::Sender<bool>>,
}

impl Sync {
    /// Nothing is followed yet: see [`Sync::run`]. Bases are kept in `folder`, of decisions so many.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, folder: PathBuf, kept: Retention) -> Self {
        Self::within(store, keyring, folder, kept, Bounds::default())
    }

    /// The same with other bounds.
    #[must_use]
    pub(crate) fn within(
        store: Store,
        keyring: Arc<Keyring>,
        folder: PathBuf,
        kept: Retention,
        bounds: Bounds,
    ) -> Self {
        let feed = Arc::new(Feed::new(store.clone(), keyring, folder, bounds));
        let stopping = Arc::new(watch::Sender::new(false));
        let intake = Arc::new(Intake::new(kept));
        let guesses = Arc::new(Guesses::new(Bearer::NodeToken));
        let (mailboxes, seen) = (Arc::default(), Arc::default());
        Self { store, feed, mailboxes, seen, intake, guesses, stopping }
    }

    /// Begins to follow the outbox, to compile bases, to carry mail, to settle what dead nodes held and to forget old decisions.
    #[must_use]
    pub fn run(&self) -> Vec<JoinHandle<()>> {
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&self.feed).follow()),
            tokio::spawn(Arc::clone(&self.feed).keep_base()),
            tokio::spawn(undertaker::run(self.clone())),
            tokio::spawn(decisions::prune(self.clone())),
        ];
        if self.store.is_shared() {
            tasks.push(tokio::spawn(mailboxes::collect(
                self.store.clone(),
                Arc::clone(&self.mailboxes),
            )));
        }
        tasks
    }

    /// Ends all streams, so that nodes turn to another control plane.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// The routes of nodes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/node/v1/stream", get(stream::stream))
            .route("/node/v1/base/{sequence}", get(download::base))
            .route("/node/v1/report", post(report::report))
            .layer(DefaultBodyLimit::max(REPORT_BYTES_MAX))
            .merge(self.decisions())
            .with_state(self.clone())
    }

    fn decisions(&self) -> Router<Self> {
        Router::new()
            .route("/node/v1/decisions", post(decisions::take))
            .route("/node/v1/decisions/{epoch}", get(decisions::positions))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX + HEAD_BYTES))
    }

    /// The node that sends a request, or the refusal that it gets.
    async fn admit(&self, headers: &HeaderMap) -> Result<(KnownNode, [u8; 32]), Response> {
        let version = headers.get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
        if version != Some(PROTOCOL.to_string().as_str()) {
            let text = format!(
                "this control plane speaks version {PROTOCOL} of the link; bring node and control plane to the same version"
            );
            return Err(refuse(StatusCode::BAD_REQUEST, Why::Protocol, &text));
        }
        let unknown = || {
            let text =
                "the node token is unknown here; make one with POST /v1/nodes/{node_id}/tokens";
            refuse(StatusCode::UNAUTHORIZED, Why::TokenUnknown, text)
        };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(unknown)?;
        let hash = NodeToken::parse(bearer).map_err(|_| unknown())?.hash().0;
        match self.guesses.may_look_up(&self.store, &hash).await {
            Ok(true) => {}
            Ok(false) => return Err(too_many()),
            Err(error) => return Err(unavailable(&error)),
        }
        let admission = self.store.admit_node(&hash).await;
        if matches!(admission, Ok(Admission::Unknown | Admission::Revoked | Admission::Dead)) {
            self.guesses.count_failed(&self.store);
        }
        match admission {
            Ok(Admission::Known(node)) => Ok((node, hash)),
            Ok(Admission::Unknown) => Err(unknown()),
            Ok(Admission::Revoked) => {
                let text = "the node token was revoked or has expired; give the node a new one";
                Err(refuse(StatusCode::UNAUTHORIZED, Why::TokenRevoked, text))
            }
            Ok(Admission::Dead) => {
                let text = "the node was declared dead; make a new node with a token of its own";
                Err(refuse(StatusCode::FORBIDDEN, Why::NodeDead, text))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }
}

/// The answer to a node that cannot be served now.
fn unavailable(error: &StorageError) -> Response {
    tracing::warn!(%error, "a node could not be answered");
    refuse(StatusCode::SERVICE_UNAVAILABLE, Why::Unavailable, "the database is away; try again")
}

/// The answer to a token that is not looked up.
fn too_many() -> Response {
    let text = "too many requests with unknown node tokens; try again";
    let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, Why::Unavailable, text);
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

fn refuse(status: StatusCode, why: Why, text: &str) -> Response {
    let body = Refusal::new(why, text).encode().unwrap_or_default();
    frames(status, Body::from(body))
}

fn frames(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let media_type = header::HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    let no_store = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}
