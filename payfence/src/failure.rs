//! How a command ends when it does not end well.
//!
//! In: errors of what a command does. Out: text for a person and the exit code that goes with it.
//! Always holds: wrong use and wrong configuration are 2, so that a supervisor need not start the same again; anything
//! else is 1.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The user asked for something that cannot be, or a file they wrote is wrong.
    Configuration(anyhow::Error),
    /// It was asked for rightly and failed.
    Failed(anyhow::Error),
}

/// What a command returns.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// Wrong use or configuration, in words.
    pub fn configuration(text: impl fmt::Display) -> Self {
        Self::Configuration(anyhow::Error::msg(text.to_string()))
    }

    /// A failure, in words.
    pub fn failed(text: impl fmt::Display) -> Self {
        Self::Failed(anyhow::Error::msg(text.to_string()))
    }

    /// 2 or 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // With the causes, in one line.
            Self::Configuration(error) | Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}
