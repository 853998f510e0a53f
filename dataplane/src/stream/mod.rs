//! Byte streams to clients and origins: a socket, or TLS over one.
//!
//! In: sockets of a shard. Out: plain bytes both ways. Always holds: what is read is what the peer sent, whole and in order, or an
//! error; an end that the peer did not announce where it must is an error, never an end; an idle stream holds no buffer.

#[doc(hidden)]
pub mod bare;
mod handshake;
mod session;
mod tls;

use std::io;

pub use handshake::{HandshakeError, Hello};
pub use tls::TlsStream;

use crate::net::{Group, RecvBuf, Socket};

/// A connection to a client or an origin.
pub enum Stream {
    /// In the clear.
    Plain(Socket),
    /// TLS.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// Receives plain bytes; an empty buffer is the end of the stream. Dropped before it is done, it has taken nothing.
    ///
    /// # Errors
    /// The connection's own; with TLS also an end that was not announced, and records that are none.
    pub async fn recv(&self, group: Group) -> io::Result<RecvBuf> {
        match self {
            Self::Plain(socket) => socket.recv(group).await,
            Self::Tls(stream) => stream.recv(group).await,
        }
    }

    /// Begins to watch for bytes or an end without waiting for them.
    pub fn watch(&self, group: Group) {
        self.socket().watch(group);
    }

    /// Whether nothing has come that was not taken: neither bytes nor an end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Tls(stream) => stream.is_quiet(),
        }
    }

    /// Whether the peer has gone away altogether.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.socket().is_gone()
    }

    /// Says that nothing more will be sent.
    pub fn shutdown_write(&self) {
        self.say_goodbye();
        self.socket().shutdown_write();
    }

    /// Tells a peer that speaks TLS that nothing more will be sent, before the connection is closed.
    pub fn say_goodbye(&self) {
        if let Self::Tls(stream) = self {
            stream.close();
        }
    }

    /// Has the connection reset when it is closed, or not: a broken transfer must be seen as one.
    pub fn reset_on_close(&self, resets: bool) {
        self.socket().reset_on_close(resets);
    }
}
