//! Sessions without sockets, for fuzzing: the same code that connections run, fed by hand.
//!
//! In: bytes in pieces of any size. Out: plain bytes, what would be sent, errors. Always holds: nothing here waits or does I/O.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, ServerConfig};

use super::session::Session;

/// One side of a session, and what came of it so far.
pub struct Bare {
    session: Session,
    /// What the peer has said.
    pub plain: Vec<u8>,
    /// What is to be sent.
    pub out: Vec<u8>,
}

impl Bare {
    /// A session with a client.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Session::server(config).map(Self::of)
    }

    /// A session with an origin.
    ///
    /// # Errors
    /// When rustls refuses the configuration.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Session::client(config, name).map(Self::of)
    }

    const fn of(session: Session) -> Self {
        Self { session, plain: Vec::new(), out: Vec::new() }
    }

    /// Takes in `bytes`; whether the peer has ended.
    ///
    /// # Errors
    /// When the session is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        self.session.receive(&mut bytes.to_vec(), &mut self.plain, &mut self.out)
    }

    /// Seals `bytes` to be sent.
    ///
    /// # Errors
    /// When the session can send nothing.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.session.seal(bytes, &mut self.out)
    }

    /// Whether the handshake goes on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Bytes that wait for the rest of a record or message.
    #[must_use]
    pub fn partial_len(&self) -> usize {
        self.session.partial_len()
    }
}
