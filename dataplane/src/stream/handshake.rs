//! The handshake: from a connected socket to a TLS stream.
//!
//! In: a socket, a configuration, bytes that had come already. Out: a stream and what came with the handshake's end, or why there is
//! none. Always holds: what a peer may send before it is known is bounded; the caller bounds the time and how many handshakes work at
//! once; an alert has been sent before an error is returned.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ProtocolVersion, ServerConfig};

use crate::net::{Group, RecvBuf, Socket};
use crate::tls::{Cause, UNRECOGNIZED_NAME_ALERT, classify, is_unknown_name};

use super::session::Session;
use super::tls::TlsStream;

/// Bytes of a handshake that may wait to be complete: a client certificate's chain is the longest part.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Content type of a handshake record (RFC 8446 §5.1), with which every session begins.
const HANDSHAKE_RECORD: u8 = 22;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer speaks plain HTTP.
    #[error("the peer does not speak TLS: it began with a plain HTTP request")]
    PlainHttp(Socket),
    /// The peer went away.
    #[error("the connection ended in the handshake: {0}")]
    Gone(io::Error),
    /// The two could not agree, or the peer cannot be trusted.
    #[error("{0}")]
    Tls(rustls::Error, Option<ProtocolVersion>),
    /// More came than a handshake needs.
    #[error("the peer sent more than {HANDSHAKE_BYTES_MAX} bytes without completing the handshake")]
    TooLong,
}

impl HandshakeError {
    /// The version that had been agreed on.
    #[must_use]
    pub const fn version(&self) -> Option<ProtocolVersion> {
        match self {
            Self::Tls(_, version) => *version,
            _ => None,
        }
    }

    /// What to count it by.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Tls(error, _) => classify(error),
            Self::PlainHttp(_) => Cause::PlainHttp,
            Self::Gone(_) => Cause::Closed,
            Self::TooLong => Cause::Malformed,
        }
    }
}

/// A finished handshake.
pub struct Hello {
    /// The stream.
    pub stream: TlsStream,
    /// Plain bytes that came with the handshake's last message.
    pub first: Option<RecvBuf>,
    /// The name that a client asked for.
    pub server_name: Option<Box<str>>,
    /// The subject of the peer's certificate, where it had to show one.
    pub peer_subject: Option<Box<str>>,
}

impl TlsStream {
    /// Answers a client's handshake. `turn` is awaited before each piece of work; `begun` are bytes that had been received.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn accept(
        socket: Socket,
        config: Arc<ServerConfig>,
        begun: Vec<u8>,
        turn: impl AsyncFn(),
    ) -> Result<Hello, HandshakeError> {
        let input = if begun.is_empty() {
            receive(&socket).await?
        } else {
            let len = begun.len();
            RecvBuf::owned(begun, len)
        };
        if input.first().is_some_and(u8::is_ascii_uppercase) {
            return Err(HandshakeError::PlainHttp(socket));
        }
        if input.first() != Some(&HANDSHAKE_RECORD) {
            let error = rustls::InvalidMessage::InvalidContentType;
            let _ = socket.try_send(&fatal_alert(AlertDescription::UnexpectedMessage));
            return Err(HandshakeError::Tls(error.into(), None));
        }
        let session = Session::server(config).map_err(|error| HandshakeError::Tls(error, None))?;
        run(socket, session, input, turn).await
    }

    /// Begins a session with an origin.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn connect(
        socket: Socket,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        turn: impl AsyncFn(),
    ) -> Result<Hello, HandshakeError> {
        let nothing = RecvBuf::owned(Vec::new(), 0);
        let session =
            Session::client(config, name).map_err(|error| HandshakeError::Tls(error, None))?;
        run(socket, session, nothing, turn).await
    }
}

async fn run(
    socket: Socket,
    mut session: Session,
    mut input: RecvBuf,
    turn: impl AsyncFn(),
) -> Result<Hello, HandshakeError> {
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let mut is_ended;
    loop {
        turn().await;
        match session.receive(&mut input, &mut plain, &mut out) {
            Ok(ended) => is_ended = ended,
            Err(error) => {
                if is_unknown_name(&error) {
                    out = UNRECOGNIZED_NAME_ALERT.to_vec();
                }
                // Whether the peer still takes it or not: what went wrong is what it did before.
                let _ = send(&socket, out).await;
                return Err(HandshakeError::Tls(error, session.version()));
            }
        }
        if !out.is_empty() {
            out = send(&socket, out).await?;
        }
        if !session.is_handshaking() {
            break;
        }
        if session.partial_len() > HANDSHAKE_BYTES_MAX {
            let _ = socket.try_send(&fatal_alert(AlertDescription::IllegalParameter));
            return Err(HandshakeError::TooLong);
        }
        input = receive(&socket).await?;
    }
    let server_name = session.take_server_name();
    let peer_subject = session.peer_subject();
    let len = plain.len();
    Ok(Hello {
        stream: TlsStream::new(socket, session, is_ended),
        first: (len > 0).then(|| RecvBuf::owned(plain, len)),
        server_name,
        peer_subject,
    })
}

/// The record of an alert before anything is encrypted (RFC 8446 §6).
fn fatal_alert(description: AlertDescription) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, u8::from(description)]
}

async fn receive(socket: &Socket) -> Result<RecvBuf, HandshakeError> {
    let received = pin!(socket.recv(Group::Small)).await.map_err(HandshakeError::Gone)?;
    if received.is_empty() {
        return Err(HandshakeError::Gone(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(received)
}

/// Sends all of `bytes`; the memory back, empty.
async fn send(socket: &Socket, mut bytes: Vec<u8>) -> Result<Vec<u8>, HandshakeError> {
    let mut sent = socket.try_send(&bytes).map_err(HandshakeError::Gone)?;
    while sent < bytes.len() {
        let (result, back) = socket.send(bytes, sent).await;
        bytes = back;
        match result.map_err(HandshakeError::Gone)? {
            0 => return Err(HandshakeError::Gone(io::ErrorKind::WriteZero.into())),
            len => sent += len,
        }
    }
    bytes.clear();
    Ok(bytes)
}
