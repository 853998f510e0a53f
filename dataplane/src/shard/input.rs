//! What a connection has received and not taken yet.
//!
//! In: received buffers. Out: the bytes at hand, taken from the front. Always holds: a head that came in one buffer is never
//! copied; an empty input holds no buffer.

use crate::net::RecvBuf;

/// Unread bytes of one connection.
#[derive(Default)]
pub(super) struct Input {
    buffer: Option<RecvBuf>,
    /// Bytes that a parser has seen already and found too few.
    pub(super) seen: usize,
}

impl Input {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Adds what was received behind what is there.
    pub(super) fn add(&mut self, more: RecvBuf) {
        self.buffer = Some(match self.buffer.take() {
            Some(buffer) if !buffer.is_empty() => buffer.joined(&more),
            _ => more,
        });
    }

    /// Leaves out the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.seen = 0;
        if let Some(buffer) = &mut self.buffer {
            buffer.advance(count);
            if buffer.is_empty() {
                self.buffer = None;
            }
        }
    }

    /// Everything there is.
    pub(super) fn take(&mut self) -> Option<RecvBuf> {
        self.seen = 0;
        self.buffer.take().filter(|buffer| !buffer.is_empty())
    }

    /// Puts back what [`Self::take`] gave, or the rest of it.
    pub(super) fn put_back(&mut self, rest: RecvBuf) {
        if !rest.is_empty() {
            self.buffer = Some(rest);
        }
    }
}
