//! `payfence policy check FILE`.
//!
//! In: a policy file. Out: how much is in it, on standard output; warnings, or all its faults, on standard error.
//! Always holds: what passes here is what a node takes.

use std::path::Path;

use super::load_policy;
use crate::failure::Outcome;
use crate::output;

pub fn run(file: &Path) -> Outcome {
    let loaded = load_policy(file)?;
    for warning in &loaded.warnings {
        output::note(format_args!("warning: {}: {warning}", file.display()));
    }
    let snapshot = &loaded.snapshot;
    let (mut resources, mut plans) = (0, 0);
    for site in snapshot.sites() {
        resources += site.resources().count();
        plans += site.plans().count();
    }
    output::line(format_args!(
        "{}: valid: {}, {}, {}, {}, {}",
        file.display(),
        count(snapshot.sites().len(), "site"),
        count(resources, "resource"),
        count(plans, "plan"),
        count(snapshot.subscriptions_len(), "subscription"),
        count(snapshot.tokens_len(), "token"),
    ));
    Ok(())
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
