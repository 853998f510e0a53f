//! Every head of an exchange, and the bodies of the gateway's own answers.
//!
//! In: parsed heads, a policy's views, a budget's figures, the time. Out: bytes appended to the
//! caller's buffer: requests to origins, responses to clients, the gateway's own answers.
//!
//! Always holds: no I/O, no clock, no allocation but the growth of that buffer; messages are written
//! anew from parsed parts, and no value can end its line; names listed in `Connection` never remove
//! what the gateway adds (RFC 9110 §7.6.1).
#![forbid(unsafe_code)]

pub mod answer;
pub mod client;
mod detail;
pub mod forward_request;
pub mod forward_response;
mod json;
pub mod limits;
mod opening;
pub mod redirect;
mod repeat;
pub mod request_id;
mod time;
pub mod usage;

pub use answer::{Asker, MISDIRECTED_CAUSE, Problem, misdirected, problem};
pub use client::{ClientAddress, client_address};
pub use forward_request::{Forward, Identity, request_trailer_passes, write_request};
pub use forward_response::{
    Cost, ResponseEdit, client_framing, cost_header, interim, response_trailer_passes,
    write_response,
};
pub use limits::limit_headers;
pub use redirect::{Redirect, redirect};
pub use repeat::Repeats;
pub use request_id::{RequestId, RequestIds};
pub use usage::{UsageReport, usage};

#[cfg(test)]
#[path = "fixture_tests.rs"]
mod fixture;
