//! `payfence billing sync`.
//!
//! In: a control plane, a mode. Out: what was done at Stripe, a line a plan, on standard output; with `--dry-run` what would be.
//! Always holds: with `--dry-run` nothing is changed; a plan that could not be brought there makes it end with 1.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::apply::{rest, runtime};
use crate::cli::BillingSyncArgs;
use crate::failure::Failure;
use crate::output;

/// What `--dry-run` ends with where something would change.
const DIFFERS: u8 = 3;

pub fn run(args: &BillingSyncArgs) -> Result<ExitCode, Failure> {
    let mode = if args.test { "test" } else { "live" };
    let body = json!({ "mode": mode, "dry_run": args.dry_run, "mend": args.mend });
    let rest = rest(&args.rest)?;
    let view = runtime()?
        .block_on(rest.create("/v1/billing/sync", &body))
        .map_err(|error| Failure::Failed(error.into()))?;
    let entries: Vec<Json> =
        view.get("entries").and_then(Json::as_array).cloned().unwrap_or_default();
    for entry in &entries {
        for line in lines(entry) {
            output::line(format_args!("{line}"));
        }
    }
    if entries.is_empty() {
        output::note(format_args!("Stripe's {mode} mode is as the plans say"));
    }
    let has_failed = entries.iter().any(|entry| entry["action"] == "failed");
    Ok(match (has_failed, args.dry_run && !entries.is_empty()) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(DIFFERS),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// A plan's lines: what becomes of it, and what is otherwise at Stripe.
fn lines(entry: &Json) -> Vec<String> {
    let word = |name: &str| entry[name].as_str().unwrap_or_default();
    let plan = format!("{} ({})", word("reference"), word("plan_id"));
    let first = match word("action") {
        "create" => format!("+ {plan}: becomes a product and a price"),
        "replace" => format!("~ {plan}: gets another price; subscriptions keep the old one"),
        "retire" => format!("- {plan}: can no longer be bought"),
        "drift" => format!("! {plan}: was changed at Stripe"),
        "mend" => format!("~ {plan}: was changed at Stripe, and is as the plan says again"),
        _ => format!("x {plan}: {}", word("reason")),
    };
    let differences = entry["differences"].as_array().into_iter().flatten();
    let told = differences.map(|one| {
        let of = |name: &str| one[name].as_str().unwrap_or_default();
        format!("    {}: {} here, {} at Stripe", of("field"), of("ours"), of("theirs"))
    });
    std::iter::once(first).chain(told).collect()
}

#[cfg(test)]
#[path = "billing_sync_tests.rs"]
mod tests;
