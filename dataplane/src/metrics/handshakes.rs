//! What a shard counts of TLS handshakes, on either side.
//!
//! In: handshakes that ended, well or not. Out: counts by version and result, failures by cause.
//! Always holds: one handshake is counted once; the labels are few and fixed.

use rustls::ProtocolVersion;

use super::{Counter, Labelled};
use crate::tls::Cause;

/// Handshakes of one side (with clients, with origins).
#[derive(Debug, Default)]
pub struct Handshakes {
    ok: [Counter; Version::COUNT],
    resumed: [Counter; Version::COUNT],
    failed: [Counter; Version::COUNT],
    /// Failures by cause.
    pub causes: Labelled,
}

/// A version as it is labelled.
#[derive(Clone, Copy)]
enum Version {
    Tls12,
    Tls13,
    /// It failed before a version was agreed on.
    None,
}

impl Version {
    const COUNT: usize = 3;
    const LABELS: [&str; Self::COUNT] = ["1.2", "1.3", "none"];

    const fn of(version: Option<ProtocolVersion>) -> Self {
        match version {
            Some(ProtocolVersion::TLSv1_2) => Self::Tls12,
            Some(ProtocolVersion::TLSv1_3) => Self::Tls13,
            _ => Self::None,
        }
    }
}

impl Handshakes {
    /// Counts a handshake that ended well. Both arguments are what the connection says of itself.
    pub fn done(&self, version: Option<ProtocolVersion>, is_resumed: bool) {
        let of = if is_resumed { &self.resumed } else { &self.ok };
        of[Version::of(version) as usize].inc();
    }

    /// Counts a handshake that failed.
    pub fn failed(&self, version: Option<ProtocolVersion>, cause: Cause) {
        self.failed[Version::of(version) as usize].inc();
        self.causes.inc(cause.as_str());
    }

    /// Version, result and count, in a fixed order; only failures can have no version.
    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let results = [("ok", &self.ok), ("resumed", &self.resumed), ("failed", &self.failed)];
        Version::LABELS
            .into_iter()
            .enumerate()
            .flat_map(move |(version, label)| {
                let results = results.into_iter();
                results.map(move |(result, counts)| (label, result, counts[version].get()))
            })
            .filter(|(version, result, _)| *version != "none" || *result == "failed")
    }
}
