//! The commands, one file each.
//!
//! In: a parsed command line. Out: the command's work done.
//! Always holds: what a command decides lives in the libraries; here files are read, parts are started and words are
//! printed.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use dataplane::offcore::policy_source::{self, Loaded};

use crate::cli::{
    BillingCommand, Command, JournalCommand, PolicyCommand, TokenCommand, WebhooksCommand,
};
use crate::failure::Failure;

mod apply;
mod billing_inbox;
mod billing_sync;
mod controlplane;
mod dataplane_node;
mod dev;
mod doctor;
mod export;
mod journal;
mod policy_check;
mod policy_explain;
mod reconcile;
mod token_check;
mod token_new;
mod webhooks;

/// Runs one command.
///
/// # Errors
/// Whatever makes it fail.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    let outcome = match command {
        // Those whose success has two codes.
        Command::Apply(args) => return apply::run(&args),
        Command::Billing(BillingCommand::Sync(args)) => return billing_sync::run(&args),
        Command::Reconcile(args) => return reconcile::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Dev(args) => dev::run(args),
        Command::Dataplane(args) => dataplane_node::run(args),
        Command::Controlplane(args) => controlplane::run(args),
        Command::Policy(PolicyCommand::Check { file }) => policy_check::run(&file),
        Command::Policy(PolicyCommand::Explain(args)) => policy_explain::run(&args),
        Command::Token(TokenCommand::New { test }) => token_new::run(test),
        Command::Token(TokenCommand::Check { token }) => token_check::run(&token),
        Command::Journal(JournalCommand::Cat(args)) => journal::cat(&args),
        Command::Journal(JournalCommand::Verify(args)) => journal::verify(&args),
        Command::Billing(BillingCommand::Events(args)) => billing_inbox::events(&args),
        Command::Billing(BillingCommand::Replay(args)) => billing_inbox::replay(&args),
        Command::Billing(BillingCommand::Sweep(args)) => billing_inbox::sweep(&args),
        Command::Webhooks(WebhooksCommand::Replay(args)) => webhooks::replay(&args),
        Command::Doctor(args) => doctor::run(*args),
    };
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Loads a policy file as a node would.
fn load_policy(file: &Path) -> Result<Loaded, Failure> {
    let bytes = fs::read(file).map_err(|error| {
        Failure::configuration(format!(
            "cannot read the policy file {}: {error}; give the path of a readable file",
            file.display()
        ))
    })?;
    policy_source::load(file, &bytes, 1).map_err(Failure::configuration)
}
