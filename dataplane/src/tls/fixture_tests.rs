//! Certificates made for a test, and handshakes in memory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;

use super::*;

pub const DAY_S: i64 = 86_400;

pub fn now_s() -> i64 {
    Clock::start().now().unix_s()
}

/// An authority of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
}

/// What a certificate is to be like: of a server, valid since yesterday and for 90 days, with an ECDSA key.
#[derive(Clone)]
pub struct Wanted {
    pub params: CertificateParams,
    pub is_rsa: bool,
}

impl Wanted {
    pub fn names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Self { params, is_rsa: false }.days(-1, 90)
    }

    /// Valid between days counted from today.
    pub fn days(mut self, from: i64, to: i64) -> Self {
        let at = |days| time::OffsetDateTime::from_unix_timestamp(now_s() + days * DAY_S).unwrap();
        (self.params.not_before, self.params.not_after) = (at(from), at(to));
        self
    }

    pub fn rsa(self) -> Self {
        Self { is_rsa: true, ..self }
    }

    /// Of a client with this common name.
    pub fn client(name: &str) -> Self {
        let mut wanted = Self::names(&[]);
        wanted.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        wanted.params.distinguished_name.push(DnType::CommonName, name);
        wanted
    }

    fn key(&self) -> KeyPair {
        if self.is_rsa {
            KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap()
        } else {
            KeyPair::generate().unwrap()
        }
    }

    pub fn self_signed(self) -> Issued {
        let key = self.key();
        let certificate = self.params.self_signed(&key).unwrap();
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, wanted: Wanted) -> Issued {
        let key = wanted.key();
        let certificate = wanted.params.signed_by(&key, &self.0).unwrap();
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Issued {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.crt")), &self.chain).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }

    pub fn pair(&self, file: &str, is_default: bool) -> Pair {
        let file = Path::new(file);
        let (certificate, key) = (self.chain.as_bytes(), self.key.as_bytes());
        let text = PairText { certificate_file: file, certificate, key_file: file, key };
        Pair::read(text, is_default).unwrap()
    }
}

/// What a client of the gateway is like.
pub struct Client {
    pub roots: RootCertStore,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    pub alpn: Vec<Vec<u8>>,
    pub certificate: Option<Issued>,
}

impl Client {
    pub fn of(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        Self {
            roots,
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            alpn: vec![b"http/1.1".to_vec()],
            certificate: None,
        }
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.certificate {
            Some(issued) => {
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![issued.der()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::in_memory_sessions(64);
        Arc::new(config)
    }
}

/// Two connections, and what the server sent last.
pub struct Meeting {
    pub client: ClientConnection,
    pub server: ServerConnection,
    pub last_from_server: Vec<u8>,
}

/// Which side ended a handshake, and why.
#[derive(Debug, PartialEq)]
pub enum Ended {
    Client(rustls::Error),
    Server(rustls::Error),
}

impl Meeting {
    pub fn new(client: &Arc<ClientConfig>, server: &Arc<rustls::ServerConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
            last_from_server: Vec::new(),
        }
    }

    /// Carries bytes to and fro until both are quiet, tickets included.
    pub fn shake(&mut self) -> Result<(), Ended> {
        loop {
            let mut to_server = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut to_server).unwrap();
            }
            let mut rest = &to_server[..];
            let mut ended = Ok(());
            while !rest.is_empty() && ended.is_ok() {
                self.server.read_tls(&mut rest).unwrap();
                ended = self.server.process_new_packets().map(drop).map_err(Ended::Server);
            }
            let mut to_client = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut to_client).unwrap();
            }
            self.last_from_server.clone_from(&to_client);
            ended?;
            let mut rest = &to_client[..];
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().map_err(Ended::Client)?;
            }
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
        }
    }

    pub fn is_resumed(&self) -> bool {
        self.server.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The certificate the client was shown.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.client.peer_certificates().unwrap()[0].clone().into_owned()
    }
}
