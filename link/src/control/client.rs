//! Clients of control planes: how a connection is made, how an answer is read.
//!
//! In: a file of authorities. Out: a client; bodies; what errors say.
//! Always holds: no redirect and no proxy is followed, so a token goes to the control planes named and to nobody else; no body is read past
//! its bound.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response};

use crate::tls;

/// A client that trusts the system's authorities and those of the file.
///
/// # Errors
/// Text for a person: the file is missing or bad, or there are no authorities at all.
pub fn client(ca_file: Option<&Path>, connect_timeout: Duration) -> Result<Client, String> {
    Client::builder()
        .tls_backend_preconfigured(tls::client_config(ca_file)?)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(2)
        .build()
        .map_err(|error| chain(&error))
}

/// A body, as long as it may be.
///
/// # Errors
/// Text for a person: it broke off, or is longer than `bytes_max`.
pub async fn body_of(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + piece.len() > bytes_max {
            return Err(format!("the answer is longer than {bytes_max} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// What an error says, with its causes.
#[must_use]
pub fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
