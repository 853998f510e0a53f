//! The files of `payfence dev`: the policy, and beside it what has to be remembered between starts.
//!
//! In: the policy file's path, an origin if one is given. Out: both files on disk, the token, a socket for the sample
//! API where one is wanted.
//! Always holds: the policy holds the token's hash alone, the token is in a file that only its owner can read; a
//! policy file that differs from what was written here is somebody's work and stays as it is.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use policy::model::Origin;
use policy::token::{Mode, TokenHash, check};
use serde::{Deserialize, Serialize};

use crate::command::token_new::fresh;
use crate::failure::Failure;
use crate::settings;

/// The site's slug.
pub const SLUG: &str = "demo";
/// Where the sample API is, if nobody else is there.
pub const SAMPLE_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);
/// What is remembered, in the data directory.
const STATE_FILE: &str = "dev.toml";

/// Everything on disk, and what it says.
pub struct Prepared {
    /// The token of the three requests.
    pub token: String,
    /// The origin that was written into the policy.
    pub origin: String,
    /// Whether that is the sample API.
    pub is_sample: bool,
    /// Where the sample API is to be served; none where another origin is used.
    pub sample: Option<TcpListener>,
}

/// What one start leaves for the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    token: String,
    origin: String,
    sample: bool,
}

/// Writes what is missing and reads what is there. The sample API is at `sample_address` if that is free.
///
/// # Errors
/// When a file cannot be read or written, the origin is no URL, or the policy file was edited and names another one.
pub fn prepare(
    policy: &Path,
    origin: Option<&str>,
    sample_address: SocketAddr,
) -> Result<Prepared, Failure> {
    if let Some(origin) = origin {
        Origin::parse(origin)
            .map_err(|error| Failure::configuration(format!("--origin `{origin}`: {error}")))?;
    }
    let state_file = settings::beside(policy).join(settings::DATA_DIR).join(STATE_FILE);
    let before = read_state(&state_file)?;
    let text = match fs::read_to_string(policy) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(broken("read", policy, &error)),
    };
    let edited = match (&text, &before) {
        (None, _) => false,
        (Some(text), Some(before)) => *text != policy_text(before),
        (Some(_), None) => true,
    };
    if edited {
        return keep_edited(policy, text.as_deref().unwrap_or_default(), before, origin);
    }
    let token = match &before {
        Some(before) => before.token.clone(),
        None => fresh(Mode::Test)?,
    };
    let (origin, sample) = match origin {
        Some(origin) => (origin.to_owned(), None),
        None => {
            let socket = sample_socket(before.as_ref(), sample_address)?;
            let address =
                socket.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
            (format!("http://{address}"), Some(socket))
        }
    };
    let state = State { token, origin, sample: sample.is_some() };
    // The token first: a policy without its token would count as edited at the next start.
    write_state(&state_file, &state)?;
    if text.as_deref() != Some(&policy_text(&state)) {
        replace(policy, &policy_text(&state), 0o644)
            .map_err(|error| broken("write", policy, &error))?;
    }
    Ok(Prepared { token: state.token, origin: state.origin, is_sample: state.sample, sample })
}

/// Takes an edited file as it is. The sample API is served where the file still names it.
fn keep_edited(
    policy: &Path,
    text: &str,
    before: Option<State>,
    origin: Option<&str>,
) -> Result<Prepared, Failure> {
    let names = |origin: &str| text.contains(&format!("\"{origin}\""));
    if let Some(origin) = origin
        && !names(origin)
    {
        return Err(Failure::configuration(format!(
            "{0} was edited, so it is not overwritten with --origin {origin}: write origin = \"{origin}\" into it, \
             or delete it, and start again",
            policy.display()
        )));
    }
    let Some(before) = before else {
        // Not written by this command: its tokens are the user's.
        let origin = origin.unwrap_or("as the policy file says").to_owned();
        return Ok(Prepared { token: String::new(), origin, is_sample: false, sample: None });
    };
    let is_sample = origin.is_none() && before.sample && names(&before.origin);
    let sample = match is_sample {
        false => None,
        true => {
            let address = before.origin.trim_start_matches("http://");
            Some(TcpListener::bind(address).map_err(|error| {
                Failure::failed(format!(
                    "cannot serve the sample API on {address}, which {} names as origin: {error}; stop what listens \
                     there, or change the origin in the file",
                    policy.display()
                ))
            })?)
        }
    };
    let origin = match (origin, is_sample || names(&before.origin)) {
        (Some(origin), _) => origin.to_owned(),
        (None, true) => before.origin,
        (None, false) => "as the policy file says".to_owned(),
    };
    Ok(Prepared { token: before.token, origin, is_sample, sample })
}

/// The address of before if it is free, the usual one, or any.
fn sample_socket(before: Option<&State>, usual: SocketAddr) -> Result<TcpListener, Failure> {
    let known = before
        .filter(|before| before.sample)
        .and_then(|before| before.origin.trim_start_matches("http://").parse().ok());
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let candidates: Vec<SocketAddr> = known.into_iter().chain([usual, any]).collect();
    TcpListener::bind(&candidates[..])
        .map_err(|error| Failure::failed(format!("no port for the sample API: {error}")))
}

fn read_state(path: &Path) -> Result<Option<State>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken("read", path, &error)),
    };
    let state = toml::from_str::<State>(&text).ok().filter(|state| {
        check(state.token.as_bytes()).is_ok() && Origin::parse(&state.origin).is_ok()
    });
    match state {
        Some(state) => Ok(Some(state)),
        None => Err(Failure::configuration(format!(
            "{} is not as `payfence dev` wrote it: delete it, and the policy file if that may be written afresh",
            path.display()
        ))),
    }
}

fn write_state(path: &Path, state: &State) -> Result<(), Failure> {
    let text = toml::to_string(state)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    let text = format!(
        "# What `payfence dev` remembers. The token is a key to the demo site: keep this file to yourself.\n{text}"
    );
    make_directory(&settings::beside(path))
        .and_then(|()| replace(path, &text, 0o600))
        .map_err(|error| broken("write", path, &error))
}

/// What is kept there names customers and holds keys: for its owner alone.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Writes a file beside `path` and renames it over it, so that nobody ever reads half of it.
pub(super) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new: PathBuf = path.with_file_name(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Writes a line that only its owner may read.
pub(super) fn write_secret(file: &Path, text: &str) -> Result<(), Failure> {
    replace(file, &format!("{text}\n"), 0o600).map_err(|error| broken("write", file, &error))
}

pub(super) fn broken(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!(
        "cannot {verb} {}: {error}; start in a directory that you may write to, or give --policy FILE in one",
        path.display()
    ))
}

fn policy_text(state: &State) -> String {
    format!(
        r#"# The policy of `payfence dev`. Edit it and save: the gateway reloads it.
# docs/POLICY.md describes every key; `payfence policy check FILE` says what is wrong with one.

[[sites]]
slug = "{SLUG}"
name = "Demo"
origin = "{origin}"

# What costs something. Everything else is passed through, unless the site says default = "paid".
[[sites.resources]]
pattern = "/api/v1/*"

[[sites.plans]]
id = "basic"
quota = {{ requests = 1000, per = "day" }}
rate_limit = {{ requests = 10, per = "second", burst = 20 }}

# What plans cost is no matter of this file: it is set by REST, and was set for both at the first start.
[[sites.plans]]
id = "pro"
quota = {{ requests = 50000, per = "day" }}
rate_limit = {{ requests = 50, per = "second", burst = 100 }}

[[sites.subscriptions]]
id = "sub_demo"
plan = "basic"
customer = "you"
status = "active"
tokens = [ {{ id = "tok_demo", sha256 = "{hash}" }} ]
"#,
        origin = state.origin,
        hash = TokenHash::of(state.token.as_bytes()),
    )
}

/// An address that a client on this machine can use.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
