//! Path patterns as a policy writes them, parsed once and held to bounds.
//!
//! In: text such as `/api/{version}/*`. Out: a list of segments, or an error that says what is allowed.
//! Always holds: a pattern begins with `/`, holds no dot segment, no control byte and no empty segment but a last
//! one; [`Segment::Rest`] stands last only; two [`Segment::Many`] never stand side by side (`**/**` says what `**` says,
//! and is taken as that).
//!
//! A pattern is written as a URL's path is: `%C3%A9` and a raw `é` are the same letter, and a byte that means something
//! to patterns or paths is written as its escape (`%2A` for a star, `%2F` for a slash inside a segment).

use std::fmt;

use super::bytes::hex_pair;
use super::literal::Literal;

/// Bytes a pattern may have.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Segments a pattern may have.
pub const PATTERN_SEGMENTS_MAX: usize = 64;
/// `**` segments a pattern may have, repeated ones (`**/**`) counted once. The search takes the leftmost place for what
/// stands between two of them, so its time does not depend on their number; the bound is for whoever reads the policy.
pub const PATTERN_MANY_MAX: usize = 8;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// Exactly this text. Empty only as the last segment, where the pattern ends with a slash.
    Literal(Literal),
    /// `*` or `{name}`: one segment that is not empty.
    One,
    /// A last `*`: one or more segments of any kind, so everything below.
    Rest,
    /// `**`: any number of segments, none included.
    Many,
}

/// A parsed path pattern. Compares and hashes by its text.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with which part, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let Some(path) = text.strip_prefix('/') else {
            return Err(PatternError::NotRooted);
        };
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() > PATTERN_SEGMENTS_MAX {
            return Err(PatternError::TooManySegments { segments: parts.len() });
        }
        let last = parts.len() - 1;
        let mut segments = Vec::with_capacity(parts.len());
        for (position, part) in parts.into_iter().enumerate() {
            let segment = parse_segment(part, position == last)?;
            let is_repeated = segment == Segment::Many && segments.last() == Some(&Segment::Many);
            if !is_repeated {
                segments.push(segment);
            }
        }
        let many = segments.iter().filter(|segment| **segment == Segment::Many).count();
        if many > PATTERN_MANY_MAX {
            return Err(PatternError::TooManyMany { count: many });
        }
        Ok(Self { text: text.into(), segments: segments.into() })
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

fn parse_segment(part: &str, is_last: bool) -> Result<Segment, PatternError> {
    match part {
        "*" if is_last => return Ok(Segment::Rest),
        "*" => return Ok(Segment::One),
        "**" => return Ok(Segment::Many),
        "" if !is_last => return Err(PatternError::EmptySegment),
        _ => {}
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(PatternError::BadName { segment: part.into() });
        }
        return Ok(Segment::One);
    }
    if part.contains(['*', '{', '}']) {
        return Err(PatternError::PartialWildcard { segment: part.into() });
    }
    if let Some(byte) = part.chars().find(|c| matches!(c, '?' | '#' | '\\')) {
        return Err(PatternError::NotInPath { segment: part.into(), byte });
    }
    let literal = parse_literal(part)?;
    match literal.plain() {
        b"." | b".." => Err(PatternError::DotSegment { segment: part.into() }),
        plain if plain.iter().any(u8::is_ascii_control) => {
            Err(PatternError::ControlByte { segment: part.into() })
        }
        _ => Ok(Segment::Literal(literal)),
    }
}

fn parse_literal(part: &str) -> Result<Literal, PatternError> {
    let mut plain = Vec::with_capacity(part.len());
    let mut escaped = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let Some((value, tail)) = hex_pair(tail) else {
                return Err(PatternError::BadEscape { segment: part.into() });
            };
            escaped.push(value);
            plain.push(value);
            rest = tail;
        } else {
            plain.push(byte);
        }
    }
    Ok(Literal::new(plain, escaped))
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl std::hash::Hash for Pattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a pattern, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No leading slash.
    #[error("a pattern begins with `/`, as in `/api/*`; everything is `/**`")]
    NotRooted,
    /// Over [`PATTERN_BYTES_MAX`].
    #[error("the pattern has {bytes} bytes; at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes it has.
        bytes: usize,
    },
    /// Over [`PATTERN_SEGMENTS_MAX`].
    #[error("the pattern has {segments} segments; at most {PATTERN_SEGMENTS_MAX} are allowed")]
    TooManySegments {
        /// Segments it has.
        segments: usize,
    },
    /// Over [`PATTERN_MANY_MAX`].
    #[error("the pattern has `**` {count} times; at most {PATTERN_MANY_MAX} are allowed")]
    TooManyMany {
        /// `**` it has.
        count: usize,
    },
    /// `//` inside.
    #[error(
        "the pattern holds an empty segment (`//`); write single slashes, requests are matched with repeated slashes merged too"
    )]
    EmptySegment,
    /// `/a*b`, `/v{n}`.
    #[error(
        "segment `{segment}` mixes text and wildcard; a wildcard is a whole segment (`*`, `{{name}}` or `**`), and a \
         literal star or brace is written `%2A`, `%7B`, `%7D`"
    )]
    PartialWildcard {
        /// The segment.
        segment: String,
    },
    /// `{}` or `{a b}`.
    #[error(
        "segment `{segment}` is no parameter; write `{{name}}` with letters, digits, `_`, `-`, `.`"
    )]
    BadName {
        /// The segment.
        segment: String,
    },
    /// `?`, `#` or `\`.
    #[error(
        "segment `{segment}` holds `{byte}`, which no path segment does; patterns name paths without query, and such a byte is written as its percent escape"
    )]
    NotInPath {
        /// The segment.
        segment: String,
        /// The character.
        byte: char,
    },
    /// `%` without two hex digits.
    #[error(
        "segment `{segment}` holds a `%` without two hex digits after it; a literal percent sign is `%25`"
    )]
    BadEscape {
        /// The segment.
        segment: String,
    },
    /// `.` or `..`, escaped or not.
    #[error("segment `{segment}` is a dot segment; write the path it leads to")]
    DotSegment {
        /// The segment.
        segment: String,
    },
    /// A control byte, escaped or not.
    #[error(
        "segment {segment:?} holds a control byte; requests with one are always refused, so it could never match"
    )]
    ControlByte {
        /// The segment.
        segment: String,
    },
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
