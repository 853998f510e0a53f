//! Node tokens: what a node shows to its control plane.
//!
//! In: random bytes, or text. Out: `pfn_` with a random part and a checksum like an API key's, and its SHA-256, the only thing of it that
//! a control plane keeps. Always holds: the text of a token is in no log and no message.

use std::fmt;

use policy::token::{self, FormError, TokenHash};

const PREFIX: &str = "pfn_";

/// A node's token.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeToken(String);

/// What a control plane keeps of one.
pub type NodeTokenHash = TokenHash;

impl NodeToken {
    /// A new one. `random` fills its argument from the operating system's source.
    ///
    /// # Errors
    /// Passes on what `random` returns.
    pub fn make<E>(random: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        token::make_key(PREFIX, random).map(Self)
    }

    /// From text without white space around it.
    ///
    /// # Errors
    /// What is wrong with its form; nothing of the text is in it.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        token::check_after(PREFIX, text.as_bytes())?;
        Ok(Self(text.to_owned()))
    }

    /// The token itself, for the header.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> NodeTokenHash {
        TokenHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for NodeToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NodeToken(pfn_…)")
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
