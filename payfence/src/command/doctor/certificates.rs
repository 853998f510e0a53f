//! What `doctor` says about certificates.
//!
//! In: the flags about TLS, the files they name, when it is now. Out: a finding for each certificate, and for what is missing.
//! Always holds: a finding is broken exactly when a node would refuse to start for it.

use dataplane::offcore::certificate_files;
use dataplane::preflight::Problem;
use dataplane::tls::{CertificateFault, Pair};

use super::Finding;
use crate::cli::NodeArgs;
use crate::settings;

/// Days before its end from which a certificate is worth a word: certbot renews at 30, so at 14 it has failed for a while.
const DAYS_WARNED: i64 = 14;
const DAY_S: i64 = 86_400;

/// A finding for each certificate; none where TLS is not asked for.
pub fn examine(args: &NodeArgs, now_s: i64) -> Vec<(String, Finding)> {
    let wrong = |failure: crate::failure::Failure| {
        vec![("TLS".to_owned(), Finding::Broken(problem(&failure.to_string())))]
    };
    let config = match settings::tls::config(&args.tls) {
        Ok(None) => return Vec::new(),
        Ok(Some(config)) => config,
        Err(failure) => return wrong(failure),
    };
    let (loaded, faults) = certificate_files::inspect(&config.certificates, now_s, &[]);
    let mut findings: Vec<_> = faults.iter().map(broken).collect();
    for (file, warning) in &loaded.warnings {
        findings
            .push((format!("certificate {}", file.display()), Finding::Unwise(problem(warning))));
    }
    findings.extend(loaded.pairs.iter().map(|pair| dates(pair, now_s)));
    if let Some(clients) = &config.client_auth {
        findings.push(match certificate_files::load_client_trust(clients) {
            Ok(_) => {
                let file = clients.authorities.display();
                (format!("client authorities {file}"), Finding::Well("can be used".to_owned()))
            }
            Err(fault) => broken(&fault),
        });
    }
    findings
}

fn broken(fault: &CertificateFault) -> (String, Finding) {
    let file = fault.file.display();
    (format!("certificate {file}"), Finding::Broken(problem(&fault.fault.to_string())))
}

/// Texts of the data plane say what is wrong, then after a semicolon what to do.
fn problem(text: &str) -> Problem {
    let (what, remedy) =
        text.rsplit_once("; ").or_else(|| text.split_once(": ")).unwrap_or((text, "correct it"));
    Problem { what: what.to_owned(), remedy: remedy.to_owned() }
}

fn dates(pair: &Pair, now_s: i64) -> (String, Finding) {
    let end_s = pair.facts.not_after_s;
    let days = (end_s - now_s) / DAY_S;
    let end = jiff::Timestamp::from_second(end_s)
        .map_or_else(|_| end_s.to_string(), |time| time.to_string());
    let names = match &pair.facts.names[..] {
        [] => "no name, the default".to_owned(),
        names => names.join(", "),
    };
    let found = format!("{names}: valid until {end}, for {days} days");
    let finding = if days < DAYS_WARNED {
        Finding::Unwise(Problem {
            what: found,
            remedy: "renew it, and look why that did not happen by itself".to_owned(),
        })
    } else {
        Finding::Well(found)
    };
    (format!("certificate {}", pair.file.display()), finding)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
