//! What `payfence dev` prints once it serves.
//!
//! In: the policy in force, addresses. Out: where everything is, and requests to try.
//! Always holds: the three requests are printed only if the policy as it stands answers them as promised; no key is printed, but for the
//! token of the demo site.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use dataplane::clock::Clock;
use dataplane::config::Ready;
use policy::decision::Reason;
use policy::explain::{Question, explain};
use policy::snapshot::Snapshot;

use super::files::{self, SLUG};
use super::shop::Shop;
use crate::output;

/// What is asked for in the three requests.
#[derive(Clone, Copy)]
pub struct Paths {
    free: &'static str,
    paid: &'static str,
}

impl Paths {
    pub fn of(is_sample: bool) -> Self {
        if is_sample {
            Self { free: "/hello", paid: "/api/v1/forecast" }
        } else {
            Self { free: "/", paid: "/api/v1/" }
        }
    }
}

/// Which requests the policy answers as promised.
pub enum Trial {
    /// All three.
    All(Paths),
    /// Not all, because the file was edited; what is to be said instead.
    Edited(&'static str),
}

impl Trial {
    pub fn new(snapshot: &Snapshot, paths: Paths, token: &str) -> Self {
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
pub struct Greeting {
    pub policy: String,
    pub origin: String,
    pub trial: Trial,
    pub token: String,
    /// Of the TLS listener, where there is one.
    pub certificate: Option<PathBuf>,
    /// The control plane.
    pub control: SocketAddr,
    /// Where the admin key is.
    pub admin_key: PathBuf,
    /// What is sold.
    pub selling: Selling,
}

/// What is printed of selling.
pub struct Selling {
    /// Where buyers reach pages.
    pub pages: String,
    /// Where the stand-in for Stripe is, where there is one.
    pub stand_in: Option<String>,
    /// What is sold.
    pub shop: Shop,
    /// Where mails go.
    pub mail: PathBuf,
}

impl Selling {
    fn lines(&self) -> String {
        let mut lines = String::new();
        if let Some(site) = &self.shop.site {
            lines.push_str(&format!(
                "pricing  {}/pay/{site} (buy a plan as a customer does)\n",
                self.pages
            ));
        }
        match &self.stand_in {
            Some(url) => lines.push_str(&format!(
                "stripe   {url} (a stand-in: no account is needed, no money moves; --stripe-secret-key-file FILE for Stripe's test mode)\n"
            )),
            None => lines.push_str("stripe   Stripe's test mode (no money moves)\n"),
        }
        if let Some(advice) = &self.shop.advice {
            lines.push_str(&format!("         {advice}\n"));
        }
        lines.push_str(&format!("mail     {} (what buyers are sent)\n", self.mail.display()));
        lines
    }
}

impl Greeting {
    pub fn print(&self, ready: &Ready) {
        let plain = ready.listen.first().map(|address| base(*address, false));
        let tls = ready.tls_listen.first().map(|address| base(*address, true));
        let certificate = self.certificate.as_deref().map(in_shell).unwrap_or_default();
        output::line(format_args!(
            "PayFence is running.\n\n\
             gateway  {}/{}\n\
             status   http://{}/status\n\
             origin   {}\n\
             policy   {} (edit it: changes apply when you save)\n\
             control  http://{control} (REST, described at http://{control}/docs)\n\
             key      {key} (the admin key: keep it to yourself)\n\
             rest     curl -H \"Authorization: Bearer $(cat {key})\" http://{control}/v1/sites\n\
             {}",
            plain.as_deref().unwrap_or_default(),
            tls.as_deref()
                .map(|tls| format!("\n         {tls}/ (certificate: {certificate})"))
                .unwrap_or_default(),
            files::reachable(ready.admin),
            self.origin,
            self.policy,
            self.selling.lines(),
            control = files::reachable(self.control),
            key = in_shell(&self.admin_key),
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
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as a shell takes it for one word.
fn in_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
#[path = "greeting_tests.rs"]
mod tests;
