//! `payfence apply FILE`.
//!
//! In: a policy file, a control plane. Out: the difference, a line a change, on standard output; then a control plane that is as the file says.
//! Always holds: the difference is printed before anything is changed, and with `--dry-run` nothing is; what cannot be is found before the
//! first request that changes anything; sites that the file does not name are not touched, and nothing that was bought is taken away.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use controlplane::api::gate::KEY_PREFIX;
use policy::token;

use crate::cli::{ApplyArgs, RestArgs};
use crate::declare::bought;
use crate::declare::difference::{self, Difference};
use crate::declare::perform::{label, perform};
use crate::declare::rest::Rest;
use crate::declare::state::{self, Current, StateError};
use crate::failure::Failure;
use crate::output;

/// What `--dry-run` ends with where something would change.
const DIFFERS: u8 = 3;
/// Where the key may be instead of in a file.
const KEY_VARIABLE: &str = "PAYFENCE_ADMIN_KEY";
/// Requests that are named one by one where one failed.
const NAMED_MAX: usize = 100;

pub fn run(args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let name = args.file.display().to_string();
    let bytes = fs::read(&args.file).map_err(|error| {
        let advice = "give the path of a readable file";
        Failure::configuration(format!("cannot read the policy file {name}: {error}; {advice}"))
    })?;
    let wanted = state::wanted(&name, &bytes).map_err(Failure::configuration)?;
    let rest = rest(&args.rest)?;
    runtime()?.block_on(async {
        let slugs: BTreeSet<String> = wanted.iter().map(|site| site.form.slug.clone()).collect();
        let mut current = state::current(&rest, Some(&slugs)).await.map_err(unreadable)?;
        let (wanted, notes) = bought::keep(&current, wanted);
        let found = difference::between(&current, &wanted, args.set_origin_headers);
        let difference =
            found.map_err(|faults| Failure::configuration(faults.join("\n       ")))?;
        print(&difference, &current, &notes, &name);
        if args.dry_run {
            let has_more = !difference.lines.is_empty();
            return Ok(if has_more { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS });
        }
        apply(&rest, &mut current, &difference).await
    })
}

fn print(difference: &Difference, current: &Current, notes: &[String], name: &str) {
    for slug in &current.others {
        output::line(format_args!("= {slug} site: not in {name}, left as it is"));
    }
    for note in notes {
        output::line(format_args!("= {note}"));
    }
    for line in &difference.lines {
        output::line(format_args!("{line}"));
    }
    if difference.lines.is_empty() {
        output::note(format_args!("the control plane is as {name} says"));
    }
}

async fn apply(
    rest: &Rest,
    current: &mut Current,
    difference: &Difference,
) -> Result<ExitCode, Failure> {
    let stopped = match perform(rest, &mut current.ids, &difference.steps).await {
        Ok(()) if difference.steps.is_empty() => return Ok(ExitCode::SUCCESS),
        Ok(()) => {
            output::note(format_args!("applied: {} changes", difference.lines.len()));
            return Ok(ExitCode::SUCCESS);
        }
        Err(stopped) => stopped,
    };
    for step in difference.steps.iter().take(stopped.done.min(NAMED_MAX)) {
        output::note(format_args!("done: {}", label(step)));
    }
    if stopped.done > NAMED_MAX {
        output::note(format_args!("done: {} more", stopped.done - NAMED_MAX));
    }
    Err(Failure::failed(format!("{stopped}; what was done stays done, run it again to go on")))
}

/// Why what is there cannot be compared.
pub fn unreadable(error: StateError) -> Failure {
    Failure::Failed(error.into())
}

/// Requests go one after another.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::Failed(error.into()))
}

/// The control plane that is meant, with the key that it is asked with.
pub fn rest(args: &RestArgs) -> Result<Rest, Failure> {
    let key = key(args.admin_key_file.as_deref())?;
    Rest::new(args.control_url.clone(), &key, args.control_ca.as_deref())
        .map_err(Failure::configuration)
}

fn key(file: Option<&Path>) -> Result<String, Failure> {
    let (text, place) = match file {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| {
                let file = file.display();
                Failure::configuration(format!("cannot read the admin key of {file}: {error}"))
            })?;
            (text, file.display().to_string())
        }
        None => match std::env::var(KEY_VARIABLE) {
            Ok(text) => (text, KEY_VARIABLE.to_owned()),
            Err(_) => {
                return Err(Failure::configuration(format!(
                    "no admin key; name a file that has one with --admin-key-file, or set {KEY_VARIABLE} (`payfence controlplane init` \
                     prints the first)"
                )));
            }
        },
    };
    let key = text.lines().next().unwrap_or_default().trim();
    if !token::is_key(KEY_PREFIX, key.as_bytes()) {
        return Err(Failure::configuration(format!(
            "{place}: this is no admin key, or a character of it is wrong; it begins {KEY_PREFIX}"
        )));
    }
    Ok(key.to_owned())
}
