//! TLS for the control plane's listener: one certificate, from files that may be replaced while it serves.
//!
//! In: a PEM file with a chain, one with its key. Out: connections after their handshake.
//! Always holds: a key that does not belong to the certificate is never served: files that are half replaced, or bad, leave
//! what was served before; no text and no `Debug` holds key material; TLS 1.2 and 1.3 only.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often it is looked whether the files were replaced.
pub const LOOK: Duration = Duration::from_secs(1);
/// The largest file that is read, bytes; no chain and no key comes near it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain as PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key as PEM.
    pub key: PathBuf,
}

/// What is wrong with a certificate or its key, in which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{}: cannot be read ({cause}); give a readable file", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It holds no certificate, or one that cannot be understood.
    #[error("{}: holds no certificate that can be read{cause}; give a PEM file with the chain, the server's own first", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong, in brackets; may be empty.
        cause: String,
    },
    /// It holds no key, or one that cannot be used.
    #[error("{}: holds no private key that can be used ({cause}); give a PEM file with one, without a password", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The key is another certificate's.
    #[error("{}: does not belong to the certificate in {}; give the key that its request was made with", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The bytes of both files.
struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Texts {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.certificate.len() as u64).to_be_bytes());
        digest.update(&self.certificate);
        digest.update(&self.key);
        digest.finalize().into()
    }

    fn certified(&self, files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
        let no_certificate = |cause: String| {
            let file = files.certificate.clone();
            TlsError::Certificate { file, cause }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| no_certificate(format!(" ({error})")))?;
        if chain.is_empty() {
            return Err(no_certificate(String::new()));
        }
        let no_key = |cause: String| TlsError::Key { file: files.key.clone(), cause };
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| no_key(error.to_string()))?;
        let provider = aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                key: files.key.clone(),
                certificate: files.certificate.clone(),
            },
            rustls::Error::InvalidCertificate(cause) => no_certificate(format!(" ({cause})")),
            other => no_key(other.to_string()),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |cause| TlsError::Unreadable { file: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let cause = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, cause)));
    }
    Ok(bytes)
}

/// What is served now; a handshake that has begun keeps what it began with.
struct Served(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Served {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Served(…)")
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

/// TLS with its certificate. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    served: Arc<Served>,
    acceptor: TlsAcceptor,
    /// Of the files as they were read at the start.
    digest: [u8; 32],
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// What is wrong, in which file.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let texts = Texts::read(&files)?;
        let served = Arc::new(Served(RwLock::new(Arc::new(texts.certified(&files)?))));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { files, served, acceptor, digest: texts.digest() })
    }

    /// Shakes hands. Whoever calls bounds the time.
    ///
    /// # Errors
    /// When the client does otherwise than TLS asks, or goes away.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }

    /// Serves what the files hold whenever they were replaced, for ever. What is wrong with them is said once.
    pub async fn follow_files(self) {
        let mut seen = Seen::Files(self.digest);
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.look(seen)).await {
                Ok(now) => seen = now,
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// Looks at the files once, after what was seen last.
    fn look(&self, before: Seen) -> Seen {
        let texts = match Texts::read(&self.files) {
            Ok(texts) => texts,
            Err(error) => {
                if before != Seen::Unreadable {
                    tracing::warn!(%error, "the certificate of before is served on");
                }
                return Seen::Unreadable;
            }
        };
        let now = Seen::Files(texts.digest());
        if now == before {
            return now;
        }
        match texts.certified(&self.files) {
            Ok(certified) => {
                *self.served.0.write() = Arc::new(certified);
                tracing::info!(file = %self.files.certificate.display(), "serving the certificate that is there now");
            }
            Err(error) => tracing::warn!(%error, "the certificate of before is served on"),
        }
        now
    }
}

/// What the files were when they were last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// One could not be read.
    Unreadable,
    /// Their digest.
    Files([u8; 32]),
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
