//! `payfence token new [--test]`.
//!
//! In: random bytes of the operating system. Out: a token, alone on standard output; its SHA-256 beside it, on
//! standard error.
//! Always holds: the token is shown once and kept nowhere.

use policy::token::{Mode, TokenHash, make};

use crate::failure::{Failure, Outcome};
use crate::output;

pub fn run(test: bool) -> Outcome {
    let mode = if test { Mode::Test } else { Mode::Live };
    let token = fresh(mode)?;
    output::line(format_args!("{token}"));
    output::note(format_args!(
        "for the policy file: {{ id = \"…\", sha256 = \"{}\" }}; the token itself is not shown again",
        TokenHash::of(token.as_bytes())
    ));
    Ok(())
}

/// A new token.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn fresh(mode: Mode) -> Result<String, Failure> {
    make(mode, getrandom::fill)
        .map_err(|error| Failure::failed(format!("the system gives no random bytes: {error}")))
}
