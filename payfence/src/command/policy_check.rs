//! `payfence policy check FILE`.
//!
//! In: a policy file. Out: how much is in it, on standard output; warnings, or all its faults, on standard error.
//! Always holds: what passes here is what a node takes that has the files it names; this machine need not be the node,
//! so files that are missing here are told of and no more.

use std::path::Path;

use dataplane::clock::Clock;
use dataplane::offcore::origin_faults;
use policy::snapshot::Snapshot;

use super::load_policy;
use crate::failure::Outcome;
use crate::output;

pub fn run(file: &Path) -> Outcome {
    let loaded = load_policy(file)?;
    for warning in &loaded.warnings {
        output::note(format_args!("warning: {}: {warning}", file.display()));
    }
    let snapshot = &loaded.snapshot;
    warn_of_files(file, snapshot);
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

fn warn_of_files(file: &Path, snapshot: &Snapshot) {
    let folder = file.parent().unwrap_or(Path::new(""));
    let faults = origin_faults::find(snapshot, folder, Clock::start());
    for (slug, fault) in &faults {
        output::note(format_args!(
            "warning: {}: TLS with the origin of site \"{slug}\": {fault}",
            file.display()
        ));
    }
    if !faults.is_empty() {
        output::note(format_args!(
            "a node refuses a policy while this is so on the node's own machine; on this one it may be otherwise"
        ));
    }
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
