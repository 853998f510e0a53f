//! The listener over TLS, with real clients, while its certificate is replaced.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::place::Place;
use crate::server::{Config, Error, Server};
use crate::tls::TlsFiles;
use crate::world::System;

const DEADLINE: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A certificate that is its own authority, and its key.
struct Issued {
    certificate: String,
    key: String,
}

fn issue() -> Issued {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    Issued { certificate: cert.pem(), key: signing_key.serialize_pem() }
}

fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// What a client is answered that trusts this certificate alone.
async fn ask(address: SocketAddr, trusted: &Issued) -> std::io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Until a client that trusts `trusted` alone is answered.
async fn until_served(address: SocketAddr, trusted: &Issued) {
    let served = async {
        while ask(address, trusted).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, served).await.expect("the new certificate is served");
}

pub async fn a_certificate_is_served_and_replaced(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("site.crt"),
        key: folder.path().join("site.key"),
    };
    let (first, second) = (issue(), issue());
    put(&files.certificate, &first.certificate);
    let config = || Config { tls: Some(files.clone()), ..place.config() };
    let refused = Server::start(config(), Arc::new(System)).await;
    assert!(matches!(refused, Err(Error::Tls(_))), "without a key it does not start");
    put(&files.key, &first.key);
    let server = Server::start(config(), Arc::new(System)).await.unwrap();
    assert!(server.is_tls());
    let address = server.address;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    // One that says nothing, and one that speaks plain text, keep nobody else waiting.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(REQUEST).await.unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told).await;
    assert!(!told.starts_with(b"HTTP/"), "nothing is answered in plain text");
    let answer = ask(address, &first).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(ask(address, &second).await.is_err(), "it is not served yet");
    // Half replaced, the first one is served on; replaced as a whole, the second.
    put(&files.certificate, &second.certificate);
    ask(address, &first).await.unwrap();
    put(&files.key, &second.key);
    until_served(address, &second).await;
    assert!(ask(address, &first).await.is_err(), "the first one is served no more");
    stop.send(()).unwrap();
    drop(silent);
    tokio::time::timeout(DEADLINE, running).await.expect("it drains").unwrap();
}
