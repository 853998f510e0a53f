//! What a node is told about TLS.
//!
//! In: the flags about TLS, completed by environment and file. Out: a [`TlsConfig`], none where TLS is not asked for.
//! Always holds: what makes no sense alone is refused with what is missing, so that nobody believes a flag that has no effect.

use dataplane::config::{CertificateSources, ClientAuthConfig, PairFiles, TlsConfig};

use crate::cli::TlsArgs;
use crate::failure::Failure;

/// What the data plane is told about TLS.
///
/// # Errors
/// When something is missing, or has no effect as it stands.
pub fn config(args: &TlsArgs) -> Result<Option<TlsConfig>, Failure> {
    let certificates = certificates(args)?;
    let is_given = certificates.folder.is_some() || !certificates.pairs.is_empty();
    if args.tls_listen.is_empty() {
        return match first_without_listener(args) {
            None => Ok(None),
            Some(flag) => Err(Failure::configuration(format!(
                "{flag} has no effect without --tls-listen: give --tls-listen ADDR, such as 0.0.0.0:443, or leave it out"
            ))),
        };
    }
    if !is_given {
        return Err(Failure::configuration(
            "--tls-listen needs a certificate: give --tls-cert FILE with --tls-key FILE, or --tls-certificates DIR with \
             NAME.crt and NAME.key in it",
        ));
    }
    let client_auth = args.tls_client_ca.clone().map(|authorities| ClientAuthConfig {
        authorities,
        mode: args.tls_client_auth.unwrap_or_default(),
    });
    if client_auth.is_none() && args.tls_client_auth.is_some() {
        return Err(Failure::configuration(
            "--tls-client-auth needs the authorities that certificates of clients are verified by: give --tls-client-ca FILE",
        ));
    }
    Ok(Some(TlsConfig {
        listen: args.tls_listen.clone(),
        redirect_listen: args.https_redirect_listen.clone(),
        certificates,
        client_auth,
    }))
}

/// Where certificates are, by the flags; nowhere, if none is given.
///
/// # Errors
/// When half of a pair is missing.
pub fn certificates(args: &TlsArgs) -> Result<CertificateSources, Failure> {
    let pairs = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            vec![PairFiles { certificate: certificate.clone(), key: key.clone() }]
        }
        (None, None) => Vec::new(),
        (Some(_), None) => {
            return Err(Failure::configuration(
                "--tls-cert needs its key: give --tls-key FILE (the same file, if it holds both)",
            ));
        }
        (None, Some(_)) => {
            return Err(Failure::configuration(
                "--tls-key needs its certificate: give --tls-cert FILE",
            ));
        }
    };
    Ok(CertificateSources { folder: args.tls_certificates.clone(), pairs })
}

fn first_without_listener(args: &TlsArgs) -> Option<&'static str> {
    let given = [
        ("--tls-certificates", args.tls_certificates.is_some()),
        ("--tls-cert", args.tls_cert.is_some()),
        ("--tls-client-ca", args.tls_client_ca.is_some()),
        ("--tls-client-auth", args.tls_client_auth.is_some()),
        ("--https-redirect-listen", !args.https_redirect_listen.is_empty()),
    ];
    given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
