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

use crate::tls::client_subject;

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

/// One TLS session.
pub(super) struct Session {
    side: Side,
    is_ended: bool,
    /// It is over: rustls is not asked again after an error.
    is_failed: bool,
    /// The beginning of a record or of a message.
    partial: Vec<u8>,
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
        Ok(Self {
            side,
            is_ended: false,
            is_failed: false,
            partial: Vec::new(),
            noted: Some(noted),
        })
    }

    /// A session with an origin, known by `name`.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let side = Side::Client(UnbufferedClientConnection::new(config, name)?);
        Ok(Self { side, is_ended: false, is_failed: false, partial: Vec::new(), noted: None })
    }

    /// Whether the handshake goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.side.common().is_handshaking()
    }

    /// The version agreed on, once it is.
    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        self.side.common().protocol_version()
    }

    /// Whether an earlier session was resumed.
    pub(super) fn is_resumed(&self) -> bool {
        self.side.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The name a client asked for; once.
    pub(super) fn take_server_name(&mut self) -> Option<Box<str>> {
        self.noted.take().and_then(|noted| noted.name.get().cloned())
    }

    /// Bytes that wait for the rest of a record or message.
    pub(super) fn partial_len(&self) -> usize {
        self.partial.len()
    }

    /// The subject of a client's certificate.
    pub(super) fn peer_subject(&self) -> Option<Box<str>> {
        let Side::Server(connection) = &self.side else { return None };
        client_subject(connection.peer_certificates()?).map(Into::into)
    }

    /// Takes in `received`, which is decrypted in place: appends what it says to `plain`, and what is to be sent because of it to `out`.
    /// Whether the peer has said that it sends nothing more.
    ///
    /// # Errors
    /// When the peer breaks the protocol or cannot be trusted; the session is over.
    pub(super) fn receive(
        &mut self,
        received: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        if self.is_failed {
            return Err(Error::General("the session has failed before".to_owned()));
        }
        let was_open = !self.is_handshaking();
        let before = out.len();
        let outcome = if self.partial.is_empty() {
            let (consumed, outcome) = self.side.receive(received, plain, out);
            self.partial.extend_from_slice(received.get(consumed..).unwrap_or_default());
            outcome
        } else {
            self.partial.extend_from_slice(received);
            let (consumed, outcome) = self.side.receive(&mut self.partial, plain, out);
            self.partial.drain(..consumed);
            outcome
        };
        self.is_failed = outcome.is_err();
        self.is_ended |= outcome?;
        if was_open && out.len() > before && self.is_client_of_tls12() {
            // All that such a session has to say by itself is that it does not renegotiate. A client that asked for it sends
            // nothing else until it is answered, so nothing would go out to carry that warning: it is the end instead.
            self.is_failed = true;
            return Err(Error::General("the client asked to renegotiate".to_owned()));
        }
        if self.partial.is_empty() {
            // Between records nothing is kept.
            self.partial = Vec::new();
        }
        Ok(self.is_ended)
    }

    fn is_client_of_tls12(&self) -> bool {
        matches!(self.side, Side::Server(_)) && self.version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// Appends `bytes` as records.
    ///
    /// # Errors
    /// When the session can send nothing any more.
    pub(super) fn seal(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, sealed_len(bytes.len()), |traffic, room| traffic.seal(bytes, room))
    }

    /// Appends the alert that says that nothing more will be sent.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        // A session that cannot say so any more is over anyway.
        let _ = self.write(out, ALERT_BYTES, |traffic, room| traffic.close(room));
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        write: impl Fn(&mut dyn Traffic, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        if self.is_failed {
            return Err(Error::General("the session has failed before".to_owned()));
        }
        let mut plain = Vec::new();
        loop {
            // What is waiting to be said, as the answer to a key update, goes before it. The beginning of a message that is kept
            // here is never taken for more than that, but rustls must see it each time.
            let rest = &mut self.partial;
            let (discard, step) = match &mut self.side {
                Side::Server(connection) => write_or_step(
                    connection.process_tls_records(rest),
                    &mut plain,
                    out,
                    room,
                    &write,
                ),
                Side::Client(connection) => write_or_step(
                    connection.process_tls_records(rest),
                    &mut plain,
                    out,
                    room,
                    &write,
                ),
            };
            self.partial.drain(..discard);
            self.is_failed = step.is_err();
            match step? {
                Written::Yes => return Ok(()),
                Written::Not(Step::Again) => {}
                Written::Not(Step::Ended) => self.is_ended = true,
                Written::Not(Step::Rest) => return Err(Error::HandshakeNotComplete),
            }
        }
    }
}

impl Side {
    fn step(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Step, Error>) {
        match self {
            Self::Server(connection) => step(connection.process_tls_records(input), plain, out),
            Self::Client(connection) => step(connection.process_tls_records(input), plain, out),
        }
    }

    /// How many bytes of `input` are of no further use, and whether the peer has ended. After an error the alert is in `out`.
    fn receive(
        &mut self,
        input: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<bool, Error>) {
        let (mut consumed, mut is_ended) = (0, false);
        loop {
            let rest = input.get_mut(consumed..).unwrap_or_default();
            let (discard, step) = self.step(rest, plain, out);
            consumed += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Ended) => is_ended = true,
                Ok(Step::Rest) => return (consumed, Ok(is_ended)),
                Err(error) => {
                    self.append_alert(out);
                    return (consumed, Err(error));
                }
            }
        }
    }

    /// What rustls has to tell the peer of a failure. It must not see the bytes that caused it again, and it does not look for any
    /// while it has something to say.
    fn append_alert(&mut self, out: &mut Vec<u8>) {
        let mut plain = Vec::new();
        while self.common().wants_write() {
            if self.step(&mut [], &mut plain, out).1.is_err() {
                return;
            }
        }
    }

    fn common(&self) -> &CommonState {
        match self {
            Self::Server(connection) => connection,
            Self::Client(connection) => connection,
        }
    }
}

/// Bytes that `len` payload bytes come to as records, at most.
pub(super) const fn sealed_len(len: usize) -> usize {
    len + (len / RECORD_BYTES + 1) * RECORD_OVERHEAD
}

/// What encrypts, of either side.
trait Traffic {
    fn seal(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, EncryptError>;
    fn close(&mut self, room: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for WriteTraffic<'_, Data> {
    fn seal(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        self.encrypt(bytes, room)
    }

    fn close(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(room)
    }
}

/// What one attempt to write came to.
enum Written {
    Yes,
    Not(Step),
}

/// Writes where the session is ready to, else does what it asks for first.
fn write_or_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
    room: usize,
    write: impl Fn(&mut dyn Traffic, &mut [u8]) -> Result<usize, EncryptError>,
) -> (usize, Result<Written, Error>) {
    match status {
        UnbufferedStatus { discard, state: Ok(ConnectionState::WriteTraffic(mut traffic)) } => {
            let written = append(out, room, |room| write(&mut traffic, room));
            (discard, written.map(|()| Written::Yes))
        }
        status => {
            let (discard, step) = step(status, plain, out);
            (discard, step.map(Written::Not))
        }
    }
}

/// Appends what `write` writes into at most `room` bytes, or into as many as it then asks for: the answer to a key update goes
/// before what is written, and only rustls knows that there is one.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needed)) if needed.required_size > room => {
                room = needed.required_size;
            }
            Err(error) => {
                out.truncate(start);
                return Err(Error::General(error.to_string()));
            }
        }
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
