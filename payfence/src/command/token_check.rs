//! `payfence token check T`.
//!
//! In: a token. Out: whether its form and checksum are right, and its SHA-256.
//! Always holds: it says nothing about whether the token was ever issued.

use policy::token::{TokenHash, check};

use crate::failure::{Failure, Outcome};
use crate::output;

pub fn run(token: &str) -> Outcome {
    match check(token.as_bytes()) {
        Ok(mode) => {
            output::line(format_args!(
                "well-formed {} token, sha256 {}",
                mode.as_str(),
                TokenHash::of(token.as_bytes())
            ));
            Ok(())
        }
        Err(error) => Err(Failure::failed(format!("not a well-formed token: {error}"))),
    }
}
