//! TLS handshakes as load: one connection after the other, each with one request.
//!
//! In: an address, whom to trust, whether sessions are resumed. Out: how many handshakes there were.
//! Always holds: every handshake ended and was of the kind asked for; every request was answered.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::load::Request;
use crate::peers::HOST;

/// A client that trusts one certificate.
pub struct Client {
    config: Arc<ClientConfig>,
    kind: HandshakeKind,
}

impl Client {
    /// One that trusts the certificate in `file` and resumes sessions, or never does.
    pub fn new(file: &Path, resumes: bool) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = BufReader::new(File::open(file)?);
        for certificate in CertificateDer::pem_reader_iter(pem) {
            roots.add(certificate?)?;
        }
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        let kind = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        Ok(Self { config: Arc::new(config), kind })
    }

    /// A connection, its handshake not yet done.
    pub fn connect(&self, address: &str) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from(HOST)?;
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.config), name)?, socket))
    }

    /// Connects again and again until `is_over`; how many handshakes there were.
    pub fn run(&self, address: &str, request: &Request, is_over: impl Fn() -> bool) -> Result<u64> {
        let mut count = 0;
        // The first has nothing to resume.
        self.one(address, request)?;
        while !is_over() {
            let kind = self.one(address, request)?;
            ensure!(kind == Some(self.kind), "a handshake was {kind:?}, not {:?}", self.kind);
            count += 1;
        }
        Ok(count)
    }

    fn one(&self, address: &str, request: &Request) -> Result<Option<HandshakeKind>> {
        let mut stream = self.connect(address)?;
        let message = message(request, true);
        stream.write_all(message.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("no whole answer to a handshake's request")?;
        check(&answer, request.status)?;
        Ok(stream.conn.handshake_kind())
    }
}

/// The request's bytes.
pub fn message(request: &Request, closes: bool) -> String {
    let token = request.token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let close = if closes { "Connection: close\r\n" } else { "" };
    format!(
        "GET {} HTTP/1.1\r\nHost: {HOST}\r\n{close}{}\r\n",
        request.path,
        token.unwrap_or_default()
    )
}

/// Fails where an answer has another status.
pub fn check(answer: &[u8], status: u16) -> Result<()> {
    let expected = format!("HTTP/1.1 {status}");
    ensure!(answer.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(answer));
    Ok(())
}
