//! The literal segments of patterns, and when a path's segment equals one.
//!
//! In: a literal as a pattern writes it. Out: its bytes, plain and folded, and which escapes count as honest.
//! Always holds: a segment equals a literal when its bytes do, or when they do once the escapes are undone that an
//! honest client has to write: those of bytes that no path may hold plain (RFC 3986, section 3.3), and of bytes that some
//! pattern of the site itself writes escaped. So `/café/*` names `/caf%C3%A9/x` as sent, and `/%6Fpen` is not `/open`.

use super::bytes::may_stand_plain;
use super::fold::fold_into;

/// A literal segment of a pattern, escapes undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Literal {
    plain: Box<[u8]>,
    folded: Box<[u8]>,
    escaped: EscapedSet,
}

impl Literal {
    /// A literal of these bytes, of which `escaped` were written as escapes.
    pub(crate) fn new(plain: Vec<u8>, escaped: Vec<u8>) -> Self {
        let mut folded = Vec::with_capacity(plain.len());
        fold_into(&plain, &mut folded);
        let mut set = EscapedSet::default();
        escaped.into_iter().for_each(|byte| set.insert(byte));
        Self { plain: plain.into(), folded: folded.into(), escaped: set }
    }

    /// Its bytes.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Its bytes with letter case folded.
    pub(crate) fn folded(&self) -> &[u8] {
        &self.folded
    }

    pub(crate) fn escaped(&self) -> EscapedSet {
        self.escaped
    }
}

/// ASCII bytes that patterns write as escapes; others need no entry, they can be written in no other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EscapedSet(u128);

impl EscapedSet {
    fn insert(&mut self, byte: u8) {
        if byte < 0x80 {
            self.0 |= 1 << byte;
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether an honest client may write `byte` as an escape.
    pub(crate) fn allows(self, byte: u8) -> bool {
        !may_stand_plain(byte) || self.0 >> byte & 1 == 1
    }
}

/// How letters compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    /// Byte for byte.
    Exact,
    /// With letter case folded.
    Folded,
}
