//! What the control link is told at its start.
//!
//! In: words. Out: a [`ControlConfig`]. Always holds: a URL is `https`, or `http` to this machine alone, and has no path, user or query.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;

/// Everything the link needs.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Control planes, at least one; tried in this order, then from the first again.
    pub urls: Vec<ControlUrl>,
    /// The file with the node's token.
    pub token_file: PathBuf,
    /// PEM with authorities besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Where bases and changes are kept; the link's alone.
    pub folder: PathBuf,
    /// The random number of this start of the node.
    pub epoch: u64,
    /// The program's version.
    pub version: String,
    /// Deadlines.
    pub pace: Pace,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until an answer's head is there, and all of a report's answer.
    pub answer: Duration,
    /// Between the pieces of a base file.
    pub piece: Duration,
    /// Between two reports when nothing waits.
    pub report: Duration,
    /// How long a request that nobody waits for is held, so that several go in one report.
    pub gather: Duration,
    /// Between a report and one that only says which policy is in force now: who sells a key waits for it, and a flood of changes
    /// must not become a flood of reports.
    pub acknowledge: Duration,
    /// The first wait after a failure, and the longest.
    pub retry: (Duration, Duration),
    /// The wait after a control plane has refused the token; a changed token file ends it.
    pub refused: Duration,
    /// For what waits when the node ends.
    pub last_report: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(5),
            piece: Duration::from_secs(10),
            report: Duration::from_secs(1),
            gather: Duration::from_millis(20),
            acknowledge: Duration::from_millis(250),
            retry: (Duration::from_millis(100), Duration::from_secs(5)),
            refused: Duration::from_secs(30),
            last_report: Duration::from_secs(2),
        }
    }
}

/// A control plane's address.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlUrl(Url);

/// Why some text is no address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL, or has more than a scheme, a host and a port.
    #[error(
        "`{0}` is no control plane's address; give one such as https://control.example.com:8082"
    )]
    Form(String),
    /// A token would cross a network in the clear.
    #[error(
        "`{0}` would send a secret in the clear; give an https address, http is for this machine alone"
    )]
    Clear(String),
}

impl ControlUrl {
    /// A path there, with its query.
    #[must_use]
    pub fn at(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url.set_query(query);
        url
    }
}

impl FromStr for ControlUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let form = || UrlError::Form(text.chars().take(200).collect());
        let url: Url = text.parse().map_err(|_| form())?;
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else { return Err(form()) };
        if has_more || has_user || url.fragment().is_some() {
            return Err(form());
        }
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_here => Ok(Self(url)),
            "http" => Err(UrlError::Clear(text.to_owned())),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ControlUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
