//! Session tickets: one set of keys for all shards, over all reloads.
//!
//! In: sessions to seal, tickets to open. Out: tickets that any shard of this node can open for twelve hours.
//! Always holds: keys rotate every six hours and never leave the process; once the authorities of clients change, no ticket from
//! before opens, since it may vouch for a client that is no longer trusted.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

/// The ticket keys in force.
#[derive(Debug)]
pub(super) struct Tickets(ArcSwap<Arc<dyn ProducesTickets>>);

impl Tickets {
    /// Fresh keys.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self(ArcSwap::from_pointee(Ticketer::new()?)))
    }

    /// Makes all tickets given out so far worthless.
    pub(super) fn forget(&self) -> Result<(), rustls::Error> {
        self.0.store(Arc::new(Ticketer::new()?));
        Ok(())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.load().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.load().decrypt(cipher)
    }
}
