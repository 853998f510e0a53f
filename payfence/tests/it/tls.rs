//! TLS from the test's side: sessions over its own sockets, and gateways that serve TLS.
//!
//! In: sockets, configurations of the library itself. Out: plain bytes, what was agreed on, how a session ended.
//! Always holds: an end without close_notify is an error (`UnexpectedEof`), never an end.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, HandshakeKind,
    RootCertStore, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use super::certificates::{Authority, Folder, Leaf};
use super::client::Client;
use super::gateway::Gateway;
use super::wait::own_address;

/// The versions that are spoken, each alone.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Either side of a session.
pub struct Session(Connection);

impl Session {
    /// Begins a session with a gateway and finishes the handshake.
    pub fn client(
        stream: &mut TcpStream,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
        Self(Connection::Client(connection)).finish_handshake(stream)
    }

    /// Answers a gateway's handshake.
    pub fn server(stream: &mut TcpStream, config: &Arc<ServerConfig>) -> std::io::Result<Self> {
        let connection = ServerConnection::new(Arc::clone(config)).expect("a configuration");
        Self(Connection::Server(connection)).finish_handshake(stream)
    }

    fn finish_handshake(mut self, stream: &mut TcpStream) -> std::io::Result<Self> {
        while self.0.is_handshaking() {
            self.0.complete_io(stream)?;
        }
        self.flush(stream)?;
        Ok(self)
    }

    fn flush(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(stream)?;
        }
        Ok(())
    }

    /// Reads plain bytes; 0 after close_notify.
    pub fn read(&mut self, stream: &mut TcpStream, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.0.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            self.0.read_tls(stream)?;
            if let Err(error) = self.0.process_new_packets() {
                let _ = self.flush(stream);
                return Err(Error::new(ErrorKind::InvalidData, error));
            }
            self.flush(stream)?;
        }
    }

    pub fn write_all(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        for piece in bytes.chunks(16_384) {
            self.0.writer().write_all(piece)?;
            self.flush(stream)?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub fn say_goodbye(&mut self, stream: &mut TcpStream) {
        self.0.send_close_notify();
        let _ = self.flush(stream);
    }

    /// Asks for new keys in both directions.
    pub fn refresh_keys(&mut self, stream: &mut TcpStream) {
        self.0.refresh_traffic_keys().expect("TLS 1.3");
        self.flush(stream).expect("an open connection");
    }

    pub fn version(&self) -> rustls::ProtocolVersion {
        self.0.protocol_version().expect("a finished handshake")
    }

    pub fn is_resumed(&self) -> bool {
        self.0.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn_protocol()
    }

    /// The certificate that the other side showed.
    pub fn peer(&self) -> Option<CertificateDer<'static>> {
        Some(self.0.peer_certificates()?.first()?.clone().into_owned())
    }

    /// The name that the client asked for; of a server's session.
    pub fn server_name(&self) -> Option<String> {
        let Connection::Server(connection) = &self.0 else { return None };
        connection.server_name().map(str::to_owned)
    }
}

/// What the library says went wrong.
pub fn cause(error: &Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A client that trusts `authority`.
pub fn trusting(authority: &Authority) -> ClientConfig {
    trusting_with(authority, &[&TLS13, &TLS12], None)
}

/// The same with these versions and, where given, a certificate of its own.
pub fn trusting_with(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    own: Option<&Leaf>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("an authority");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    match own {
        Some(own) => builder.with_client_auth_cert(own.chain(), own.key()).expect("a pair"),
        None => builder.with_no_client_auth(),
    }
}

/// A client that takes any certificate, to see which one it is given.
pub fn gullible() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth()
}

/// An origin that shows `leaf`.
pub fn serving(leaf: &Leaf) -> ServerConfig {
    serving_with(leaf, &[&TLS13, &TLS12], None)
}

/// The same with these versions, asking for certificates of `clients` where they are given.
pub fn serving_with(
    leaf: &Leaf,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<&Authority>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.expect("authorities"))
        }
    };
    builder.with_single_cert(leaf.chain(), leaf.key()).expect("a pair")
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A gateway that serves TLS beside plain HTTP.
pub struct Front {
    pub gateway: Gateway,
    /// Where it serves TLS.
    pub tls: SocketAddr,
    /// Its certificates: one of `shop.test`, and what a test puts beside it.
    pub folder: Folder,
    pub authority: Authority,
}

impl Front {
    /// Starts a gateway on two shards with a certificate of `shop.test`; `None` where nothing can run.
    #[track_caller]
    pub fn start(policy: &str, flags: &[&str]) -> Option<Self> {
        let authority = Authority::new("The test's own");
        let folder = Folder::new();
        folder.put("shop", &authority.issue(&["shop.test"]));
        Self::start_with(policy, flags, folder, authority)
    }

    /// The same with a folder that a test has filled.
    #[track_caller]
    pub fn start_with(
        policy: &str,
        flags: &[&str],
        folder: Folder,
        authority: Authority,
    ) -> Option<Self> {
        let tls = own_address();
        let (listen, path) = (tls.to_string(), folder.path().display().to_string());
        let ours = ["--tls-listen", &listen, "--tls-certificates", &path];
        let gateway = Gateway::start_with(policy, &[&ours, flags].concat())?;
        Some(Self { gateway, tls, folder, authority })
    }

    /// A client's configuration that trusts the gateway's authority.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        Arc::new(trusting(&self.authority))
    }

    /// A new session for `shop.test`.
    #[track_caller]
    pub fn connect(&self) -> Client {
        self.connect_with(&self.trusting())
    }

    /// The same with a configuration of the test's.
    #[track_caller]
    pub fn connect_with(&self, config: &Arc<ClientConfig>) -> Client {
        Client::secure(self.tls, config, "shop.test")
    }

    /// How many handshakes with clients ended so.
    #[track_caller]
    pub fn handshakes(&self, labels: &[&str]) -> f64 {
        let labels = [&["side=\"client\""], labels].concat();
        self.gateway.metric("payfence_tls_handshakes_total", &labels)
    }

    /// Waits until that many handshakes with clients failed by `cause`.
    #[track_caller]
    pub fn wait_failures(&self, cause: &str, count: f64) {
        let label = format!("cause=\"{cause}\"");
        let labels = ["side=\"client\"", label.as_str()];
        self.gateway.wait_metric("payfence_tls_handshake_failures_total", &labels, count);
    }
}

/// Takes any certificate; signatures are verified all the same.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
