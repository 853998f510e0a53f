//! The `payfence` command: wiring only.
//!
//! In: arguments, `PAYFENCE_*`, `payfence.toml`. Out: one command run, its exit code.
//! Always holds: 0 is well, 1 failed, 2 wrong use or configuration, 3 (of `apply --dry-run`) there is something to do; what a program may read goes to standard output,
//! what people read about it (log, errors, advice) to standard error.
#![forbid(unsafe_code)]

mod cli;
mod command;
mod declare;
mod failure;
mod logging;
mod output;
mod settings;

use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::cli::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            output::error(format_args!("{failure}"));
            failure.exit_code()
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let matches = settings::file::parse(Path::new("."))?;
    // What the definition does not take has ended the process already.
    let cli = Cli::from_arg_matches(&matches).map_err(Failure::configuration)?;
    logging::start(cli.log_format, &cli.log)?;
    command::run(cli.command)
}
