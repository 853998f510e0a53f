//! `payfence doctor`.
//!
//! In: the same settings as `dataplane`, this machine. Out: one line for each thing a node needs: well, or what was
//! found and what to do.
//! Always holds: it changes nothing that outlives it; it fails exactly when a node would not run as it should.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use dataplane::clock::Clock;
use dataplane::preflight::{self, Problem};
use link::control::check_token_file;

use super::load_policy;
use crate::cli::{DoctorArgs, NodeArgs};
use crate::failure::{Failure, Outcome};
use crate::{output, settings};

mod certificates;
mod database;
mod journal;
mod stripe;
mod stripe_webhooks;

/// What came of looking at one thing.
#[derive(Debug)]
enum Finding {
    /// All well; what was found.
    Well(String),
    /// A node runs, but not as well as it could.
    Unwise(Problem),
    /// A node does not run.
    Broken(Problem),
}

pub fn run(args: DoctorArgs) -> Outcome {
    let node = settings::with_file(args.node, Path::new("."))?;
    let mut findings = examine(&node);
    findings.extend(database::examine(args.database_url.as_deref()));
    let database_url = args.database_url.as_deref();
    findings.extend(stripe::examine(&args.billing, &args.webhook_secrets, database_url));
    for (thing, finding) in &findings {
        match finding {
            Finding::Well(found) => output::line(format_args!("ok    {thing}: {found}")),
            Finding::Unwise(problem) => output::line(format_args!("warn  {thing}: {problem}")),
            Finding::Broken(problem) => output::line(format_args!("FAIL  {thing}: {problem}")),
        }
    }
    let broken = findings.iter().filter(|(_, f)| matches!(f, Finding::Broken(_))).count();
    match broken {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing is missing; see above")),
        more => Err(Failure::failed(format!("{more} things are missing; see above"))),
    }
}

fn examine(args: &NodeArgs) -> Vec<(String, Finding)> {
    let shards = settings::shards(args).get();
    let release = preflight::kernel_release();
    let mut findings = vec![
        ("kernel".to_owned(), needed(preflight::check_kernel(&release), &release)),
        (
            "io_uring".to_owned(),
            needed(preflight::check_io_uring(Clock::start()), &"this process may use it"),
        ),
        ("locked memory".to_owned(), memlock(shards)),
        ("open files".to_owned(), open_files()),
        ("cores".to_owned(), cores(shards)),
    ];
    for address in settings::listen(args) {
        findings.push((format!("gateway address {address}"), port(address, "--listen")));
    }
    for address in &args.tls.tls_listen {
        findings.push((format!("TLS address {address}"), port(*address, "--tls-listen")));
    }
    for address in &args.tls.https_redirect_listen {
        let finding = port(*address, "--https-redirect-listen");
        findings.push((format!("redirect address {address}"), finding));
    }
    findings.extend(certificates::examine(args, Clock::start().now().unix_s()));
    findings.extend(journal::examine(args));
    let admin = settings::admin(args);
    findings.push((format!("admin address {admin}"), port(admin, "--admin")));
    findings.push(("policy".to_owned(), policy(args)));
    findings
}

fn needed(result: Result<(), Problem>, found: &dyn std::fmt::Display) -> Finding {
    match result {
        Ok(()) => Finding::Well(found.to_string()),
        Err(problem) => Finding::Broken(problem),
    }
}

fn limit(limit: Option<u64>, unit: &str) -> String {
    limit.map_or_else(|| "no limit".to_owned(), |limit| format!("{limit}{unit}"))
}

fn memlock(shards: usize) -> Finding {
    let bytes = preflight::memlock_bytes();
    let found = limit(bytes.map(|bytes| bytes / 1024), " KiB");
    match (preflight::check_memlock(bytes, 1), preflight::check_memlock(bytes, shards)) {
        (Err(problem), _) => Finding::Broken(problem),
        (_, Err(problem)) => Finding::Unwise(problem),
        _ => Finding::Well(found),
    }
}

fn open_files() -> Finding {
    let files = preflight::raise_open_files();
    let check = |wanted| preflight::check_open_files(files, wanted);
    match (check(preflight::OPEN_FILES_MIN), check(preflight::OPEN_FILES_WISE)) {
        (Err(problem), _) => Finding::Broken(problem),
        (_, Err(problem)) => Finding::Unwise(problem),
        _ => Finding::Well(limit(files, "")),
    }
}

fn cores(shards: usize) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    if shards > cores {
        return Finding::Unwise(Problem {
            what: format!("{shards} shards on {cores} cores get in each other's way"),
            remedy: "give --shards at most the number of cores".to_owned(),
        });
    }
    Finding::Well(format!("{cores}, for {shards} shards"))
}

fn port(address: SocketAddr, flag: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::Well("free".to_owned()),
        Err(error) => Finding::Broken(Problem {
            what: format!("cannot listen ({error})"),
            remedy: format!(
                "stop what listens there (a node that runs already is one), or choose another address with {flag}"
            ),
        }),
    }
}

fn policy(args: &NodeArgs) -> Finding {
    if !args.control.control_url.is_empty() {
        return control(args);
    }
    let Some(file) = &args.policy else {
        return Finding::Unwise(Problem {
            what: "no policy file was given".to_owned(),
            remedy: "give --policy FILE to have it checked".to_owned(),
        });
    };
    match load_policy(file) {
        Ok(_) => Finding::Well(format!("{} is valid", file.display())),
        Err(failure) => Finding::Broken(Problem {
            what: failure.to_string(),
            remedy: "correct the file; docs/POLICY.md describes every key".to_owned(),
        }),
    }
}

/// What a node of a control plane needs to ask it.
fn control(args: &NodeArgs) -> Finding {
    let urls: Vec<String> = args.control.control_url.iter().map(ToString::to_string).collect();
    let remedy =
        "give --node-token-file FILE with a token that POST /v1/nodes/{node_id}/tokens has made"
            .to_owned();
    let Some(file) = &args.control.node_token_file else {
        return Finding::Broken(Problem { what: "no node token was given".to_owned(), remedy });
    };
    match check_token_file(file) {
        Ok(()) => {
            Finding::Well(format!("from {}, with the token in {}", urls.join(", "), file.display()))
        }
        Err(error) => Finding::Broken(Problem { what: error.to_string(), remedy }),
    }
}
