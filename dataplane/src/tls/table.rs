//! Which certificate a client is given.
//!
//! In: checked pairs; the name a client asks for and the signatures it can verify. Out: the certificate to serve.
//! Always holds: an exact name comes before a wildcard, which stands for one label (RFC 6125 section 6.4.3), and both before the
//! default; of several certificates for one name the first that the client can verify is served, ECDSA before RSA.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::Pair;

/// Certificates by name. Empty, it serves nobody.
#[derive(Debug, Default)]
pub struct CertificateTable {
    pairs: Vec<Pair>,
    exact: HashMap<Box<str>, Choices>,
    /// Without their `*.`.
    wildcard: HashMap<Box<str>, Choices>,
    default: Choices,
}

/// Positions in `pairs`, the preferred first.
type Choices = Vec<usize>;

impl CertificateTable {
    /// A table of these pairs. Where two with the same kind of key claim one name, the one that is valid longer is served.
    #[must_use]
    pub fn new(pairs: Vec<Pair>) -> Self {
        let mut table = Self { pairs, ..Self::default() };
        let mut order: Vec<usize> = (0..table.pairs.len()).collect();
        order.sort_by_key(|&at| {
            let pair = &table.pairs[at];
            let is_rsa = pair.certified.key.algorithm() == SignatureAlgorithm::RSA;
            (is_rsa, std::cmp::Reverse(pair.facts.not_after_s), pair.file.clone())
        });
        for at in order {
            let pair = &table.pairs[at];
            for name in &pair.facts.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut table.wildcard, parent),
                    None => (&mut table.exact, name.as_str()),
                };
                let choices = names.entry(name.into()).or_default();
                if !choices.contains(&at) {
                    choices.push(at);
                }
            }
            if pair.is_default {
                table.default.push(at);
            }
        }
        table
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`.
    #[must_use]
    pub fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let choices = name.and_then(|name| self.named(name)).unwrap_or(&self.default);
        let fits = |&&at: &&usize| self.pairs[at].certified.key.choose_scheme(schemes).is_some();
        // Where none fits the first is served: the failure then says so, instead of that there is no certificate.
        let at = choices.iter().find(fits).or_else(|| choices.first())?;
        Some(Arc::clone(&self.pairs[*at].certified))
    }

    fn named(&self, name: &str) -> Option<&Choices> {
        let exact = || self.exact.get(name);
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        exact().or_else(wildcard)
    }

    /// The pairs, in the order they were given.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }
}
