//! What a certificate says: its names, its dates, whose it is.
//!
//! In: DER. Out: [`Facts`]; a client's subject as text for a header.
//! Always holds: bytes from outside lead to an error, never to a panic; names are in lower case; a subject is printable ASCII of a
//! bounded length.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::time::Time;

/// The longest subject that is passed on.
const SUBJECT_BYTES_MAX: usize = 1024;

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names of its subjectAltName in lower case, wildcards (`*.example.com`) among them.
    pub names: Vec<String>,
    /// Addresses of its subjectAltName.
    pub addresses: Vec<IpAddr>,
    /// When it begins to be valid, in Unix seconds.
    pub not_before_s: i64,
    /// The last second in which it is valid, in Unix seconds.
    pub not_after_s: i64,
    /// Whether it is an authority's.
    pub is_authority: bool,
}

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// What is wrong with its encoding.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?;
        let body = certificate.tbs_certificate();
        let alternative =
            body.get_extension::<SubjectAltName>().map_err(|error| error.to_string())?;
        let constraints =
            body.get_extension::<BasicConstraints>().map_err(|error| error.to_string())?;
        let mut facts = Self {
            names: Vec::new(),
            addresses: Vec::new(),
            not_before_s: unix_s(body.validity().not_before),
            not_after_s: unix_s(body.validity().not_after),
            is_authority: constraints.is_some_and(|(_, constraints)| constraints.ca),
        };
        for name in alternative.map(|(_, names)| names.0).unwrap_or_default() {
            match name {
                GeneralName::DnsName(name) => facts.names.push(name.as_str().to_ascii_lowercase()),
                GeneralName::IpAddress(bytes) => facts.addresses.extend(address(bytes.as_bytes())),
                _ => {}
            }
        }
        Ok(facts)
    }
}

fn unix_s(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The subject of a client's certificate as RFC 4514 writes it, the most specific part first, for a header of the request to the
/// origin. Every byte that is not printable ASCII is written `\XX` (RFC 4514 section 2.4), so that no name can end the header.
/// None where there is no certificate that can be read, or its subject is empty or longer than 1,024 bytes.
#[must_use]
pub fn client_subject(chain: &[CertificateDer<'_>]) -> Option<String> {
    let certificate = Certificate::from_der(chain.first()?).ok()?;
    let text = certificate.tbs_certificate().subject().to_string();
    let mut subject = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => subject.push(char::from(byte)),
            other => subject.push_str(&format!("\\{other:02X}")),
        }
    }
    (1..=SUBJECT_BYTES_MAX).contains(&subject.len()).then_some(subject)
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
