//! The log: lines on standard error, for people or as JSON.
//!
//! In: a filter, a form. Out: a subscriber for the whole process.
//! Always holds: the log never goes to standard output, and what libraries say below a warning is left out unless
//! asked for.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Libraries whose own reports are about single connections and questions, and no operator's matter.
const QUIET: [&str; 3] = ["hickory_net=error", "hickory_resolver=error", "hyper=warn"];

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected `text` or `json`".to_owned()),
        }
    }
}

/// Logs from now on.
///
/// # Errors
/// When the filter is none.
pub fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    // What is asked for comes last and so wins over the quiet ones.
    let directives = format!("{},{filter}", QUIET.join(","));
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::configuration(format!(
            "--log `{filter}` is no filter ({error}); give a level (error, warn, info, debug, trace) or levels by module"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
