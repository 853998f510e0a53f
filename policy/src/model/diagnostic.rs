//! What is wrong with a policy file, in words for the person who wrote it.
//!
//! In: places and sentences. Out: [`PolicyError`], which prints one line per fault: file, line, key, what is wrong and
//! what is allowed.
//! Always holds: no token and no header value ever stands in a message; the number of messages is bounded.

use std::fmt;

/// Faults reported at once; further ones are only counted.
pub const DIAGNOSTICS_MAX: usize = 50;

/// One fault or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The line of the file, from 1.
    pub line: usize,
    /// The key, with the tables it stands in (`sites.plans.quota.per`); empty where the text is not TOML at all.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(formatter, "line {}: {}", self.line, self.message)
        } else {
            write!(formatter, "line {}: {}: {}", self.line, self.key, self.message)
        }
    }
}

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The file, as the caller named it.
    pub file: String,
    /// The faults in order of their lines; at least one, at most [`DIAGNOSTICS_MAX`].
    pub faults: Vec<Diagnostic>,
    /// Faults beyond those.
    pub further: usize,
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.faults.iter().enumerate() {
            let line_break = if position == 0 { "" } else { "\n" };
            write!(formatter, "{line_break}{}: {fault}", self.file)?;
        }
        if self.further > 0 {
            write!(formatter, "\n{}: and {} more", self.file, self.further)?;
        }
        Ok(())
    }
}

/// Where faults and warnings are gathered while a file is read.
pub(super) struct Sink<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    faults: Vec<Diagnostic>,
    further: usize,
    warnings: Vec<Diagnostic>,
}

impl<'t> Sink<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, line_starts, faults: Vec::new(), further: 0, warnings: Vec::new() }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn fault(&mut self, offset: usize, key: String, message: impl Into<String>) {
        if self.faults.len() == DIAGNOSTICS_MAX {
            self.further += 1;
            return;
        }
        let line = self.line_of(offset);
        self.faults.push(Diagnostic { line, key, message: message.into() });
    }

    pub(super) fn warn(&mut self, offset: usize, key: String, message: impl Into<String>) {
        if self.warnings.len() < DIAGNOSTICS_MAX {
            let line = self.line_of(offset);
            self.warnings.push(Diagnostic { line, key, message: message.into() });
        }
    }

    /// The warnings, or the faults if there are any.
    pub(super) fn finish(mut self, file: &str) -> Result<Vec<Diagnostic>, PolicyError> {
        if self.faults.is_empty() {
            self.warnings.sort_by_key(|warning| warning.line);
            return Ok(self.warnings);
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(PolicyError { file: file.to_owned(), faults: self.faults, further: self.further })
    }
}
