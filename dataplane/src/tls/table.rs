//! Which certificate a client is given.
//!
//! In: checked pairs; the name a client asks for and the signatures it can verify. Out: the certificate to serve.
//! Always holds: an exact name comes before a wildcard, which stands for one label (RFC 6125 section 6.4.3), and both before the
//! default; of several certificates for one name the first that the client can verify is served, ECDSA before RSA.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
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
        let table = Self { pairs, ..Self::default() };
        let mut order: Vec<usize> = (0..table.pairs.len()).collect();
        order.sort_by_key(|&at| {
            let facts = &table.pairs[at].facts;
            (table.algorithm(at) == SignatureAlgorithm::RSA, Reverse(facts.not_after_s), at)
        });
        let mut exact = HashMap::new();
        let mut wildcard = HashMap::new();
        let mut default = Choices::new();
        for at in order {
            let pair = &table.pairs[at];
            for name in &pair.facts.names {
                let choices = match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.into()).or_default(),
                    None => exact.entry(name.as_str().into()).or_default(),
                };
                table.offer(choices, at);
            }
            if pair.is_default {
                table.offer(&mut default, at);
            }
        }
        Self { exact, wildcard, default, ..table }
    }

    fn algorithm(&self, at: usize) -> SignatureAlgorithm {
        self.pairs[at].certified.key.algorithm()
    }

    /// Adds a pair to the choices for a name, unless a better one of its kind is there.
    fn offer(&self, choices: &mut Choices, at: usize) {
        let algorithm = self.algorithm(at);
        if choices.iter().all(|&other| self.algorithm(other) != algorithm) {
            choices.push(at);
        }
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`.
    #[must_use]
    pub fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let choices = name.and_then(|name| self.named(name)).unwrap_or(&self.default);
        if let [only] = choices[..] {
            return Some(Arc::clone(&self.pairs[only].certified));
        }
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

    /// Until when each name has a certificate, in Unix seconds; of an ECDSA and an RSA one the earlier. A default that names nobody
    /// is called `default`.
    #[must_use]
    pub fn expiry_s(&self) -> BTreeMap<String, i64> {
        let exact = self.exact.iter().map(|(name, choices)| (name.to_string(), choices));
        let wildcard = self.wildcard.iter().map(|(name, choices)| (format!("*.{name}"), choices));
        let nameless = |at: &&usize| self.pairs[**at].facts.names.is_empty();
        let default = self.default.iter().any(|at| nameless(&at));
        let default = default.then(|| ("default".to_owned(), &self.default));
        let until = |choices: &Choices| {
            choices.iter().map(|&at| self.pairs[at].facts.not_after_s).min().unwrap_or_default()
        };
        let all = exact.chain(wildcard).chain(default);
        all.map(|(name, choices)| (name, until(choices))).collect()
    }

    /// The pairs, in the order they were given.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
