//! `payfence dev [--origin URL] [--tls]`: a node, a policy file to edit and, where no origin is given, a sample API.
//!
//! In: flags, the files of an earlier start. Out: a running node and three requests to try.
//! Always holds: a policy file that the user edited is never overwritten; the three requests are printed only if the
//! policy as it stands answers them as promised.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use dataplane::clock::Clock;
use dataplane::config::{OnReady, Ready};
use policy::decision::Reason;
use policy::explain::{Question, explain};
use policy::snapshot::Snapshot;

use super::{dataplane_node, load_policy};
use crate::cli::{DevArgs, NodeArgs, TlsArgs};
use crate::failure::{Failure, Outcome};
use crate::{output, settings};

mod certificate;
mod files;
mod sample_api;

use files::SLUG;

/// Where TLS is spoken when nothing is said.
const TLS_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
/// The policy file when none is named.
const POLICY_FILE: &str = "payfence-dev.toml";

pub fn run(args: DevArgs) -> Outcome {
    let policy = args.policy.clone().unwrap_or_else(|| PathBuf::from(POLICY_FILE));
    let prepared = files::prepare(&policy, args.origin.as_deref(), files::SAMPLE_ADDRESS)?;
    let loaded = load_policy(&policy)?;
    if let Some(socket) = prepared.sample {
        sample_api::serve(socket)
            .map_err(|error| Failure::failed(format!("cannot start the sample API: {error}")))?;
    }
    let paths = Paths::of(prepared.is_sample);
    let trial = Trial::new(&loaded.snapshot, paths, &prepared.token);
    let tls = tls(&args, &policy)?;
    let greeting = Greeting {
        policy: policy.display().to_string(),
        origin: match prepared.is_sample {
            true => format!("{} (a sample API)", prepared.origin),
            false => prepared.origin,
        },
        trial,
        token: prepared.token,
        certificate: tls.tls_cert.as_deref().map(absolute),
    };
    let on_ready: OnReady = Box::new(move |ready: &Ready| greeting.print(ready));
    // With TLS beside it a node listens in the clear only where it is told to.
    let plain = NodeArgs { listen: args.listen.into_iter().collect(), ..NodeArgs::default() };
    let node = NodeArgs {
        policy: Some(policy),
        listen: settings::listen(&plain),
        tls,
        admin: args.admin,
        shards: args.shards,
        ..NodeArgs::default()
    };
    dataplane_node::serve(settings::config(node, Some(on_ready))?)
}

/// What the node is told about TLS: nothing, or an address and a certificate that is there.
fn tls(args: &DevArgs, policy: &Path) -> Result<TlsArgs, Failure> {
    let default = || args.tls.then_some(TLS_LISTEN_DEFAULT);
    let Some(listen) = args.tls_listen.or_else(default) else { return Ok(TlsArgs::default()) };
    let now_s = Clock::start().now().unix_s();
    let files = certificate::prepare(policy, listen.ip(), now_s)?;
    Ok(TlsArgs {
        tls_listen: vec![listen],
        tls_cert: Some(files.certificate),
        tls_key: Some(files.key),
        ..TlsArgs::default()
    })
}

/// What is asked for in the three requests.
#[derive(Clone, Copy)]
struct Paths {
    free: &'static str,
    paid: &'static str,
}

impl Paths {
    fn of(is_sample: bool) -> Self {
        if is_sample {
            Self { free: "/hello", paid: "/api/v1/forecast" }
        } else {
            Self { free: "/", paid: "/api/v1/" }
        }
    }
}

/// Which requests the policy answers as promised.
enum Trial {
    /// All three.
    All(Paths),
    /// Not all, because the file was edited; what is to be said instead.
    Edited(&'static str),
}

impl Trial {
    fn new(snapshot: &Snapshot, paths: Paths, token: &str) -> Self {
        let reason = |path: &str, token: Option<&str>| {
            let question = Question {
                method: "GET",
                url: &format!("/{SLUG}{path}"),
                token,
                gateway_domain: "localhost",
                now_s: Clock::start().now().unix_s(),
            };
            explain(snapshot, &question).reason
        };
        if reason(paths.free, None) != Reason::Unprotected
            || reason(paths.paid, None) != Reason::TokenMissing
        {
            return Self::Edited("the policy file was edited: try the paths that it names");
        }
        if reason(paths.paid, Some(token)) != Reason::Ok {
            return Self::Edited(
                "the policy file no longer admits the token it came with: use one of yours, or delete the file to \
                 have it written afresh",
            );
        }
        Self::All(paths)
    }
}

/// What is printed when the node is ready.
struct Greeting {
    policy: String,
    origin: String,
    trial: Trial,
    token: String,
    /// Of the TLS listener, where there is one.
    certificate: Option<PathBuf>,
}

impl Greeting {
    fn print(&self, ready: &Ready) {
        let plain = ready.listen.first().map(|address| base(*address, false));
        let tls = ready.tls_listen.first().map(|address| base(*address, true));
        let certificate = self.certificate.as_deref().map(in_shell).unwrap_or_default();
        output::line(format_args!(
            "PayFence is running.\n\n\
             gateway  {}/{}\n\
             status   http://{}/status\n\
             origin   {}\n\
             policy   {} (edit it: changes apply when you save)\n",
            plain.as_deref().unwrap_or_default(),
            tls.as_deref()
                .map(|tls| format!("\n         {tls}/ (certificate: {certificate})"))
                .unwrap_or_default(),
            files::reachable(ready.admin),
            self.origin,
            self.policy,
        ));
        let curl = match tls {
            Some(_) => format!("curl -i --cacert {certificate}"),
            None => "curl -i".to_owned(),
        };
        let base = tls.or(plain).unwrap_or_default();
        match &self.trial {
            Trial::Edited(advice) => output::line(format_args!("{advice}")),
            Trial::All(Paths { free, paid }) => output::line(format_args!(
                "# not protected: 200\n\
                 {curl} {base}{free}\n\
                 # protected, no token: 401\n\
                 {curl} {base}{paid}\n\
                 # with a token: 200 and RateLimit headers\n\
                 {curl} -H 'Authorization: Bearer {}' {base}{paid}",
                self.token,
            )),
        }
    }
}

/// Where the site is reached, without a last `/`. With TLS by name where that leads to the address, as a browser would.
fn base(address: SocketAddr, is_tls: bool) -> String {
    let reachable = files::reachable(address);
    if !is_tls {
        return format!("http://{reachable}/{SLUG}");
    }
    let ip = reachable.ip();
    match ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST {
        true => format!("https://localhost:{}/{SLUG}", reachable.port()),
        false => format!("https://{reachable}/{SLUG}"),
    }
}

/// A path that holds in another terminal's directory too.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as a shell takes it for one word.
fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
#[path = "dev_tests.rs"]
mod tests;
