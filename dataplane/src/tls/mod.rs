//! TLS on both sides of the node: certificates for clients, configurations for origins.
//!
//! In: bytes of certificate and key files, read off-core by [`crate::offcore::certificate_files`]. Out: one `ServerConfig` for all
//! shards whose certificates can be replaced while they serve, and a `ClientConfig` for each way an origin is trusted.
//! Always holds: nothing here does I/O or reads a clock but the node's; verification cannot be turned off; no text holds a key.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock::Clock;

mod cause;
mod certificate;
mod client_auth;
mod origin;
mod origin_verifier;
mod pair;
mod server;
mod table;
mod tickets;

pub use cause::{Cause, classify};
pub use certificate::{Facts, client_subject};
pub use client_auth::ClientTrust;
pub use origin::{OriginFiles, OriginTls, OriginTlsError, OriginTlsKey, SystemRoots};
pub use pair::{CertificateFault, Fault, Pair, PairText};
pub use server::{ServerTls, UNRECOGNIZED_NAME_ALERT, is_unknown_name};
pub use table::CertificateTable;

/// The protocols spoken inside TLS, the preferred first (RFC 7301); the same for clients and origins.
pub const ALPN_PROTOCOLS: [&[u8]; 1] = [b"http/1.1"];

/// Primitives and the suites made of them, in the order of Mozilla's intermediate profile: everything in it has forward secrecy
/// and authenticated encryption, and AES-128 comes first because nobody gains by a longer key.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        use aws_lc_rs::cipher_suite as suite;
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                suite::TLS13_AES_128_GCM_SHA256,
                suite::TLS13_AES_256_GCM_SHA384,
                suite::TLS13_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        })
    };
    Arc::clone(PROVIDER.get_or_init(make))
}

/// The node's clock, as rustls asks it.
#[derive(Debug)]
pub(crate) struct NodeTime(pub(crate) Clock);

impl TimeProvider for NodeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_s()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
#[path = "fixture_tests.rs"]
pub(crate) mod fixture;
