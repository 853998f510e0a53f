//! `payfence dataplane`.
//!
//! In: flags, environment, `payfence.toml`. Out: one node, until it is told to stop.
//! Always holds: a wrong configuration, policy included, ends with code 2 before anything listens.

use std::path::Path;

use dataplane::clock::Clock;
use dataplane::config::Config;
use dataplane::preflight;

use crate::cli::NodeArgs;
use crate::failure::{Failure, Outcome};
use crate::settings;

pub fn run(args: NodeArgs) -> Outcome {
    let args = settings::with_file(args, Path::new("."))?;
    serve(settings::config(args, None)?)
}

/// Runs a node to its end, if this machine can run one.
pub fn serve(config: Config) -> Outcome {
    preflight::check(Clock::start()).map_err(|problem| Failure::Failed(problem.into()))?;
    dataplane::run(config).map_err(|error| match error {
        dataplane::Error::Policy(_) | dataplane::Error::Certificates(_) => {
            Failure::Configuration(error.into())
        }
        _ => Failure::Failed(error.into()),
    })
}
