//! REST `/v1`: one endpoint a file, what they share beside them.
//!
//! In: HTTP requests with an admin key. Out: JSON, problems, and changes in the store.
//! Always holds: an endpoint reaches rows through [`gate::Gate`] alone, which checks who may; every route is described
//! in the OpenAPI document, since both come from one list ([`endpoints::routes`]).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use http::header;
use serde_json::Value as Json;
use utoipa_axum::router::OpenApiRouter;

pub mod answer;
mod docs_page;
pub mod endpoints;
pub mod extract;
pub mod gate;
pub mod layers;
pub mod openapi;
pub mod problem;
pub mod rate;
pub mod time;

use crate::analytics::Backend;
use crate::billing::{Billing, BillingError};
use crate::secrets::Keyring;
use crate::storage::Store;
use crate::world::World;
use gate::Gate;
use problem::Problem;
use rate::{Limiter, RateLimit};

/// What endpoints are given.
#[derive(Clone, Debug)]
pub struct App {
    /// The way to the rows.
    pub gate: Gate,
    /// Seals and opens what is secret in them.
    pub keyring: Arc<Keyring>,
    /// Time and randomness.
    pub world: Arc<dyn World>,
    /// What the operator set.
    pub settings: ApiSettings,
    /// Money, where it is set up.
    pub billing: Option<Billing>,
}

/// What the operator can set of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiSettings {
    /// Whether origins may be at private, loopback, link-local and metadata addresses.
    pub allow_private_origins: bool,
    /// Whether webhooks may be sent there, and in plain text.
    pub allow_private_webhooks: bool,
    /// How many requests a key may send.
    pub rate_limit: RateLimit,
}

/// The id of a request, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl App {
    /// All that endpoints need, around a store.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, settings: ApiSettings) -> Self {
        let world = store.world().clone();
        let gate = Gate::new(store, Limiter::new(settings.rate_limit));
        Self { gate, keyring, world, settings, billing: None }
    }

    /// The same with money.
    #[must_use]
    pub fn with_billing(self, billing: Option<Billing>) -> Self {
        Self { billing, ..self }
    }

    /// Money.
    ///
    /// # Errors
    /// 409 where it is not set up.
    pub fn billing(&self) -> Result<&Billing, Problem> {
        let why = "the control plane was started without a secret key of Stripe";
        self.billing.as_ref().ok_or_else(|| BillingError::NotSetUp(why).into())
    }

    /// The same with others who answer about decisions and use.
    #[must_use]
    pub fn with_analytics(self, backend: Backend) -> Self {
        Self { gate: self.gate.with_analytics(backend), ..self }
    }
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> Json {
    let (_, document) = OpenApiRouter::new().nest("/v1", endpoints::routes()).split_for_parts();
    openapi::complete(document)
}

/// All routes.
pub fn router(app: App) -> Router {
    let (routes, _) = OpenApiRouter::new().nest("/v1", endpoints::routes()).split_for_parts();
    let document = document();
    let page = docs_page::page(&document);
    let text = document.to_string();
    let json = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    routes
        .route("/openapi.json", get(json))
        .route("/docs", get(move || async move { Html(page) }))
        .route("/healthz", get(healthz))
        .fallback(layers::nothing_here)
        .method_not_allowed_fallback(layers::wrong_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), layers::frame))
        .with_state(app)
}

/// Whether requests can be served: 200, or 503 while the database is away.
async fn healthz(State(app): State<App>) -> Response {
    match app.gate.ping().await {
        Ok(()) => "ok\n".into_response(),
        Err(problem) => problem.into_response(),
    }
}
