//! One TLS session without a socket: records in, plain bytes out, and the other way.
//!
//! In: bytes as received, plain bytes to be sent. Out: plain bytes, records to be sent. Always holds: what is appended to `out` goes to
//! the peer in that order; after an error `out` ends with the alert that tells the peer of it; nothing here waits.

use std::sync::{Arc, OnceLock};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, CommonState, Error, HandshakeKind, ProtocolVersion, ServerConfig};

/// Payload bytes of one record (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 * 1024;
/// Bytes that a record adds to its payload at most: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 40;
/// Bytes of an alert record at most.
const ALERT_BYTES: usize = 64;

/// Either side of a session.
enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Chooses a certificate as the configuration does, and notes what name was asked for: an unbuffered session does not tell.
#[derive(Debug)]
struct Noting {
    chooses: Arc<dyn ResolvesServerCert>,
    name: OnceLock<Box<str>>,
}

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            // Asked again after a retry it is the same name.
            let _ = self.name.set(name.into());
        }
        self.chooses.resolve(hello)
    }
}

/// What a session has come to with the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes at the beginning of the input that are of no further use.
    pub consumed: usize,
    /// The peer has said that it sends nothing more.
    pub is_ended: bool,
}

/// One TLS session.
pub(super) struct Session {
    side: Side,
    is_ended: bool,
    /// Until the handshake's end.
    noted: Option<Arc<Noting>>,
}

/// What one look at the records gave.
enum Step {
    Again,
    Ended,
    /// More bytes are needed, or there is nothing left to do.
    Rest,
}

impl Session {
    /// A session with a client.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let chooses = Arc::clone(&config.cert_resolver);
        let noted = Arc::new(Noting { chooses, name: OnceLock::new() });
        // Shallow: tickets, sessions and certificates stay shared.
        let mut config = ServerConfig::clone(&config);
        config.cert_resolver = Arc::<Noting>::clone(&noted);
        let side = Side::Server(UnbufferedServerConnection::new(Arc::new(config))?);
        Ok(Self { side, is_ended: false, noted: Some(noted) })
    }

    /// A session with an origin, known by `name`.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let side = Side::Client(UnbufferedClientConnection::new(config, name)?);
        Ok(Self { side, is_ended: false, noted: None })
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Whether the handshake goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The version agreed on, once it is.
    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        self.common().protocol_version()
    }

    /// Whether an earlier session was resumed.
    pub(super) fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name a client asked for; once.
    pub(super) fn take_server_name(&mut self) -> Option<Box<str>> {
        self.noted.take().and_then(|noted| noted.name.get().cloned())
    }

    /// The peer's own certificate, in DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.common().peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    /// Takes in `input`: appends what it says to `plain`, and what is to be sent because of it to `out`.
    ///
    /// # Errors
    /// When the peer breaks the protocol or cannot be trusted; the session is over.
    pub(super) fn receive(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let mut consumed = 0;
        loop {
            let rest = input.get_mut(consumed..).unwrap_or_default();
            let (discard, step) = match &mut self.side {
                Side::Server(connection) => step(connection.process_tls_records(rest), plain, out),
                Side::Client(connection) => step(connection.process_tls_records(rest), plain, out),
            };
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Ended) => self.is_ended = true,
                Ok(Step::Rest) => return Ok(Progress { consumed, is_ended: self.is_ended }),
                Err(error) => {
                    self.append_alert(out);
                    return Err(error);
                }
            }
        }
    }

    /// The alert that goes with an error.
    fn append_alert(&mut self, out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        loop {
            let step = match &mut self.side {
                Side::Server(connection) => {
                    step(connection.process_tls_records(&mut []), &mut plain, out).1
                }
                Side::Client(connection) => {
                    step(connection.process_tls_records(&mut []), &mut plain, out).1
                }
            };
            if !matches!(step, Ok(Step::Again)) {
                return;
            }
        }
    }

    /// Appends `bytes` as records.
    ///
    /// # Errors
    /// When the session can send nothing any more.
    pub(super) fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, sealed_len(bytes.len()), |mut traffic, room| traffic.seal(bytes, room))
    }

    /// Appends the alert that says that nothing more will be sent.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        // A session that cannot say so any more is over anyway.
        let _ = self.write(out, ALERT_BYTES, |mut traffic, room| traffic.close(room));
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        write: impl FnOnce(Traffic<'_, '_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        let mut plain = Vec::new();
        loop {
            // What is waiting to be said, as the answer to a key update, goes before it.
            let step = match &mut self.side {
                Side::Server(connection) => match connection.process_tls_records(&mut []) {
                    UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(mut traffic)), .. } => {
                        return append(out, room, |room| write(Traffic::Server(&mut traffic), room));
                    }
                    status => step(status, &mut plain, out).1?,
                },
                Side::Client(connection) => match connection.process_tls_records(&mut []) {
                    UnbufferedStatus { state: Ok(ConnectionState::WriteTraffic(mut traffic)), .. } => {
                        return append(out, room, |room| write(Traffic::Client(&mut traffic), room));
                    }
                    status => step(status, &mut plain, out).1?,
                },
            };
            match step {
                Step::Again => {}
                Step::Ended => self.is_ended = true,
                Step::Rest => return Err(Error::HandshakeNotComplete),
            }
        }
    }
}

/// Bytes that `len` payload bytes come to as records, at most.
pub(super) const fn sealed_len(len: usize) -> usize {
    len + (len / RECORD_BYTES + 1) * RECORD_OVERHEAD
}

/// Both kinds of what encrypts.
enum Traffic<'a, 'c> {
    Server(&'a mut WriteTraffic<'c, rustls::server::ServerConnectionData>),
    Client(&'a mut WriteTraffic<'c, rustls::client::ClientConnectionData>),
}

impl Traffic<'_, '_> {
    fn seal(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        match self {
            Self::Server(traffic) => traffic.encrypt(bytes, room),
            Self::Client(traffic) => traffic.encrypt(bytes, room),
        }
    }

    fn close(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        match self {
            Self::Server(traffic) => traffic.queue_close_notify(room),
            Self::Client(traffic) => traffic.queue_close_notify(room),
        }
    }
}

/// Appends what `write` writes into at most `room` bytes, or into as many as it then asks for.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let start = out.len();
    out.resize(start + room, 0);
    let written = out.get_mut(start..).map(write);
    match written {
        Some(Ok(written)) => {
            out.truncate(start + written);
            Ok(())
        }
        Some(Err(error)) => {
            out.truncate(start);
            Err(Error::General(error.to_string()))
        }
        None => Err(Error::EncryptError),
    }
}

/// Does what one state asks for; how many bytes of the input are done with, and how to go on.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut result = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::Ended),
        Ok(
            ConnectionState::Closed
            | ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_),
        ) => Ok(Step::Rest),
        // Data before the handshake's end can be sent twice by anyone (RFC 8446 §8); it was not offered.
        Ok(_) => Err(Error::General("early data came that was not offered".to_owned())),
    };
    (discard, step)
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<Step, Error> {
    let start = out.len();
    let mut room = RECORD_OVERHEAD;
    loop {
        out.resize(start + room, 0);
        match data.encode(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(Step::Again);
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
