//! TLS over a socket of the ring: records are opened as they are received and sealed before they are sent.
//!
//! In: received buffers, plain bytes. Out: plain bytes, sealed ones. Always holds: whoever seals sends what came of it, whole and before
//! anybody seals again; the end of the connection counts as an end only after the peer's close_notify (RFC 8446 §6.1); between
//! records nothing is kept but the session.

use std::cell::{Cell, RefCell};
use std::io;

use rustls::ProtocolVersion;

use crate::net::{Group, RecvBuf, Socket};

use super::session::{Session, sealed_len};

/// Bytes of records that are not complete yet: one record at most is waited for (RFC 8446 §5.2), and messages of a handshake.
const PARTIAL_BYTES_MAX: usize = 64 * 1024;

/// A TLS session and its socket.
pub struct TlsStream {
    socket: Socket,
    session: RefCell<Session>,
    /// What the session wants to say of itself, to go before what is sealed next.
    control: RefCell<Vec<u8>>,
    is_ended: Cell<bool>,
}

impl TlsStream {
    pub(super) fn new(socket: Socket, session: Session, is_ended: bool) -> Self {
        Self {
            socket,
            session: RefCell::new(session),
            control: RefCell::default(),
            is_ended: Cell::new(is_ended),
        }
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The version agreed on.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session.borrow().version()
    }

    /// Whether the session continues an earlier one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().is_resumed()
    }

    pub(super) async fn recv(&self, group: Group) -> io::Result<RecvBuf> {
        loop {
            if self.is_ended.get() {
                return Ok(RecvBuf::owned(Vec::new(), 0));
            }
            let received = self.socket.recv(group).await?;
            if received.is_empty() {
                // Whoever cut the connection here may not be the peer: what came before may not be all.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let plain = self.open(received)?;
            if !plain.is_empty() {
                let len = plain.len();
                return Ok(RecvBuf::owned(plain, len));
            }
        }
    }

    /// The plain bytes of what was received.
    fn open(&self, mut received: RecvBuf) -> io::Result<Vec<u8>> {
        let mut session = self.session.borrow_mut();
        let mut control = self.control.borrow_mut();
        let mut plain = Vec::with_capacity(received.len() + session.partial_len());
        match session.receive(&mut received, &mut plain, &mut control) {
            Ok(_) if session.partial_len() > PARTIAL_BYTES_MAX => {
                Err(io::ErrorKind::InvalidData.into())
            }
            Ok(is_ended) => {
                self.is_ended.set(is_ended);
                Ok(plain)
            }
            Err(error) => {
                // The alert, if the socket takes it: the connection is over either way.
                let _ = self.socket.try_send(&std::mem::take(&mut *control));
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Appends `bytes` as records to `out`, which must then be sent before anything else is sealed.
    ///
    /// # Errors
    /// When the session can send nothing any more.
    pub fn seal(&self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let control = std::mem::take(&mut *self.control.borrow_mut());
        out.reserve(control.len() + sealed_len(bytes.len()));
        out.extend_from_slice(&control);
        self.session.borrow_mut().seal(bytes, out).map_err(io::Error::other)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.socket.is_quiet() && !self.is_ended.get() && self.session.borrow().partial_len() == 0
    }

    /// Appends to `out` the record that says that nothing more will be sent; nothing, the second time.
    pub fn seal_goodbye(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&std::mem::take(&mut *self.control.borrow_mut()));
        self.session.borrow_mut().close(out);
    }

    /// Tells the peer that nothing more will be sent, if the socket takes it at once.
    pub(super) fn close(&self) {
        let mut out = Vec::new();
        self.seal_goodbye(&mut out);
        let _ = self.socket.try_send(&out);
    }
}
