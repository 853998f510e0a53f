//! The file with a node's token.
//!
//! In: a path. Out: the token that stands there now. Always holds: a file that cannot be read, or holds no token, leaves the last good token in
//! use; the text of a token is in no message.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use policy::token::FormError;

use crate::wire::NodeToken;

/// More than any token and the white space around it.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file cannot be read.
    #[error("cannot read the node token file {}: {cause}; give a readable file with --node-token-file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It holds no token.
    #[error("{}: this is no node token: {}; `POST /v1/nodes` of the control plane issues one", path.display(), reason(*cause))]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: FormError,
    },
}

fn reason(cause: FormError) -> String {
    match cause {
        FormError::NoPrefix => "it does not begin with `pfn_`".to_owned(),
        FormError::Length(found) => format!("expected 38 characters after `pfn_`, found {found}"),
        FormError::Character => "only 0-9, A-Z and a-z may stand after `pfn_`".to_owned(),
        other => other.to_string(),
    }
}

/// A token file that was read once.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    token: NodeToken,
    /// The last attempt failed, and that was logged.
    is_bad: bool,
}

impl TokenFile {
    pub(super) fn open(path: &Path) -> Result<Self, TokenFileError> {
        Ok(Self { path: path.to_owned(), token: read(path)?, is_bad: false })
    }

    /// The token.
    pub(super) const fn token(&self) -> &NodeToken {
        &self.token
    }

    /// Reads the file again; true when it holds another token.
    pub(super) fn refresh(&mut self) -> bool {
        match read(&self.path) {
            Ok(token) => {
                self.is_bad = false;
                let is_new = token != self.token;
                self.token = token;
                is_new
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_bad, true) {
                    tracing::error!(%error, "the node's token stays as it was");
                }
                false
            }
        }
    }
}

/// Whether a node could start with this file.
///
/// # Errors
/// What is wrong with it; nothing of what it holds.
pub fn check(path: &Path) -> Result<(), TokenFileError> {
    read(path).map(|_| ())
}

fn read(path: &Path) -> Result<NodeToken, TokenFileError> {
    let text =
        read_text(path).map_err(|cause| TokenFileError::Read { path: path.to_owned(), cause })?;
    NodeToken::parse(text.trim())
        .map_err(|cause| TokenFileError::Form { path: path.to_owned(), cause })
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    (&file).take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
#[path = "token_file_tests.rs"]
mod tests;
