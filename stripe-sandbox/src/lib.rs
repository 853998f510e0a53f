//! A stand-in for Stripe: stateful, in memory, one process, API version 2026-10-28.endive.
//!
//! In: the calls PayFence makes, as its client or the official ones make them. Out: Stripe's objects, errors, events,
//! signed webhooks, pages to pay on; and, on request, its misbehaviour.
//! Always holds: a parameter that Stripe does not know is refused; nothing is charged and no other host is called but
//! the webhook endpoints one names.
//!
//! [`Sandbox::start`] is the beginning; README.md shows the rest.
#![forbid(unsafe_code)]
#![recursion_limit = "512"]

mod agenda;
mod api;
mod call;
mod clock;
mod config;
mod deliver;
mod engine;
mod error;
mod events;
mod expand;
mod faults;
mod form;
mod gate;
mod idempotency;
mod ids;
mod json;
mod load;
mod pages;
mod params;
mod routes;
mod sandbox;
mod server;
pub mod signature;
mod state;
mod store;

use api::accounts as accept_account;
use api::webhook_endpoints as webhook_endpoint;

pub use clock::ClockStart;
pub use config::{API_VERSION, Config, Exhausted, SignatureClock, WebhookEndpoint};
pub use error::StripeError;
pub use faults::{Fault, Load, Planned, WebhookFaults};
pub use routes::{Route, all as routes};
pub use sandbox::{Card, Outcome, Payment, Sandbox, StartError};
