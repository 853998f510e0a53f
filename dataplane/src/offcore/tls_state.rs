//! What the node says about TLS: its certificates, refused reloads, origins whose certificates are no good.
//!
//! In: the certificate thread says what is in force, shards say which origin failed. Out: `tls` of `/status`, figures for metrics.
//! Always holds: a shard never waits here; what is kept about origins is bounded, one entry a site, the latest error of each.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::state::timestamp;
use crate::clock::Now;
use crate::tls::{Cause, CertificateTable};

/// Sites whose last certificate error is kept.
pub const ORIGINS_MAX: usize = 64;
/// One site's errors are logged no more often than this, in nanoseconds.
const LOG_EVERY_NS: u64 = 10_000_000_000;

/// TLS as the node sees it.
#[derive(Debug, Default)]
pub struct TlsState {
    certificates: Mutex<Vec<Certificate>>,
    expiry_s: Mutex<BTreeMap<String, i64>>,
    rejected: AtomicU64,
    last_error: Mutex<Option<String>>,
    origins: Mutex<VecDeque<OriginFailure>>,
}

#[derive(Debug)]
struct Certificate {
    names: Vec<String>,
    not_after_s: i64,
    file: String,
    is_default: bool,
}

#[derive(Debug)]
struct OriginFailure {
    site: Box<str>,
    cause: Cause,
    detail: String,
    at: Now,
    count: u64,
    logged_ns: u64,
}

impl TlsState {
    /// Says which certificates are served from now on; the last error is over.
    pub fn loaded(&self, table: &CertificateTable) {
        let certificates = table.pairs().iter().map(|pair| Certificate {
            names: pair.facts.names.clone(),
            not_after_s: pair.facts.not_after_s,
            file: pair.file.display().to_string(),
            is_default: pair.is_default,
        });
        *self.certificates.lock() = certificates.collect();
        *self.expiry_s.lock() = table.expiry_s();
        *self.last_error.lock() = None;
    }

    /// Says that certificates were refused, and why; those before are served on.
    pub fn refused(&self, error: String) {
        *self.last_error.lock() = Some(error);
        // Only the certificate thread writes it.
        self.rejected.store(self.rejected.load(Relaxed) + 1, Relaxed);
    }

    /// Says that the handshake with the origin of `site` failed, for the log and `/status`. The client is told nothing of it.
    /// Called by shards: where another thread is at it, this one error is left out.
    pub fn origin_failed(&self, site: &str, cause: Cause, detail: &dyn Display, now: Now) {
        let Some(mut origins) = self.origins.try_lock() else { return };
        let known = origins.iter().position(|failure| &*failure.site == site);
        let before = known.and_then(|at| origins.remove(at));
        let mut failure = before.unwrap_or_else(|| OriginFailure {
            site: site.into(),
            cause,
            detail: String::new(),
            at: now,
            count: 0,
            logged_ns: 0,
        });
        let is_news = failure.count == 0 || failure.cause != cause;
        let is_due = now.mono_ns.saturating_sub(failure.logged_ns) >= LOG_EVERY_NS;
        failure.count += 1;
        failure.cause = cause;
        failure.at = now;
        if is_news || is_due {
            failure.detail = detail.to_string();
            failure.logged_ns = now.mono_ns;
            tracing::warn!(
                site,
                cause = cause.as_str(),
                detail = failure.detail,
                "no TLS with the origin of this site: its requests are answered 502"
            );
        }
        if origins.len() >= ORIGINS_MAX {
            origins.pop_front();
        }
        origins.push_back(failure);
    }

    /// How many reloads of certificates were refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Why the last one was refused, unless a good one came after it.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Until when each name has a certificate, in Unix seconds.
    #[must_use]
    pub fn expiry_s(&self) -> BTreeMap<String, i64> {
        self.expiry_s.lock().clone()
    }

    /// `tls` of `/status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let certificates: Vec<Value> =
            self.certificates.lock().iter().map(Certificate::status).collect();
        let origins: Vec<Value> =
            self.origins.lock().iter().rev().map(OriginFailure::status).collect();
        json!({
            "certificates": certificates,
            "rejected": self.rejected(),
            "last_error": self.last_error(),
            "origins": origins,
        })
    }
}

impl Certificate {
    fn status(&self) -> Value {
        let not_after = jiff::Timestamp::from_second(self.not_after_s);
        json!({
            "names": self.names,
            "not_after": not_after.map(|time| time.to_string()).ok(),
            "file": self.file,
            "default": self.is_default,
        })
    }
}

impl OriginFailure {
    fn status(&self) -> Value {
        json!({
            "site": self.site,
            "cause": self.cause.as_str(),
            "detail": self.detail,
            "count": self.count,
            "at": timestamp(self.at.unix_ns),
        })
    }
}

#[cfg(test)]
#[path = "tls_state_tests.rs"]
mod tests;
