//! `payfence export`.
//!
//! In: a control plane. Out: all its account's sites as a policy file, on standard output.
//! Always holds: `payfence apply` of what is printed changes nothing; no secret is printed.

use super::apply::{rest, runtime, unreadable};
use crate::cli::RestArgs;
use crate::declare::state;
use crate::declare::text::export;
use crate::failure::Outcome;
use crate::output;

pub fn run(args: &RestArgs) -> Outcome {
    let rest = rest(args)?;
    let current = runtime()?.block_on(state::current(&rest, None)).map_err(unreadable)?;
    if current.sites.is_empty() {
        output::note(format_args!("the account has no site; a policy file has at least one"));
        return Ok(());
    }
    let exported = export(&current);
    output::line(format_args!("{}", exported.text.trim_end()));
    for note in &exported.notes {
        output::note(format_args!("warning: {note}"));
    }
    Ok(())
}
