//! Frames: how messages stand one after another in a body.
//!
//! In: a kind and a payload, or bytes as they come. Out: the frame's bytes, or whole frames. Always holds: no more is buffered than one
//! frame at its largest and the piece that completed it; after an error nothing more comes out.
//!
//! A frame is a head of 9 bytes and its payload: the payload's length (`u32`), the kind (`u8`), a CRC-32 (IEEE, `u32`) of length, kind
//! and payload. Numbers are little-endian.

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 9;
/// No payload of a pushed frame is longer: a change of every site of a large installation.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// No report or reply is longer.
pub const REPORT_BYTES_MAX: usize = 2 << 20;
/// No refusal is longer.
pub const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`](super::Hello)
    Hello = 1,
    /// [`BaseOffer`](super::BaseOffer)
    Base = 2,
    /// [`DeltaHead`](super::DeltaHead), then the change's own bytes
    Delta = 3,
    /// Replies and recalls of the ledger
    Ledger = 4,
    /// [`Heartbeat`](super::Heartbeat)
    Heartbeat = 5,
    /// [`Refusal`](super::Refusal)
    Refusal = 6,
    /// [`Report`](super::Report)
    Report = 16,
    /// [`ReportReply`](super::ReportReply)
    ReportReply = 17,
    /// [`Decisions`](super::Decisions)
    Decisions = 18,
    /// [`Positions`](super::Positions)
    Positions = 19,
}

impl Kind {
    /// By its number.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Base,
            3 => Self::Delta,
            4 => Self::Ledger,
            5 => Self::Heartbeat,
            6 => Self::Refusal,
            16 => Self::Report,
            17 => Self::ReportReply,
            18 => Self::Decisions,
            19 => Self::Positions,
            _ => return None,
        })
    }
}

/// Bytes that are no frame, or one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A payload would be longer than is taken.
    #[error("a frame of {bytes} bytes was announced, and at most {bytes_max} are taken")]
    TooLong {
        /// What its head says.
        bytes: usize,
        /// What is taken.
        bytes_max: usize,
    },
    /// It was changed on its way.
    #[error("a frame's checksum does not fit")]
    Checksum,
    /// The body ended within a frame, or without one where one had to be.
    #[error("the frames end in the middle of one")]
    Cut,
}

/// One whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind's number, known or not.
    pub kind: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A frame's bytes.
///
/// # Errors
/// [`FrameError::TooLong`] past [`PAYLOAD_BYTES_MAX`].
pub fn encode(kind: Kind, payload: &[&[u8]]) -> Result<Vec<u8>, FrameError> {
    let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX);
    let length = length.ok_or(FrameError::TooLong { bytes, bytes_max: PAYLOAD_BYTES_MAX })?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length.to_le_bytes());
    crc.update(&[kind as u8]);
    payload.iter().for_each(|piece| crc.update(piece));
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(&crc.finalize().to_le_bytes());
    payload.iter().for_each(|piece| frame.extend_from_slice(piece));
    Ok(frame)
}

/// Finds frames in bytes that come in pieces.
#[derive(Debug)]
pub struct Frames {
    bytes_max: usize,
    buffer: Vec<u8>,
    /// Bytes at the buffer's begin that were taken out already.
    taken: usize,
    failed: Option<FrameError>,
}

impl Frames {
    /// For payloads up to `bytes_max`.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, buffer: Vec::new(), taken: 0, failed: None }
    }

    /// Takes the next bytes. Take out all frames before more is put in.
    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame, if it is there.
    ///
    /// # Errors
    /// [`FrameError`]; from then on always the same one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let taken = self.take();
        if let Err(error) = taken {
            self.failed = Some(error);
            self.buffer = Vec::new();
            self.taken = 0;
        }
        taken.map(|frame| frame.map(|(kind, from, to)| self.copy(kind, from, to)))
    }

    /// Bytes of the payload that is awaited, as its head says; 0 where there is no head yet.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.head().map_or(0, |(length, ..)| length)
    }

    /// Whether the bytes so far end with a whole frame.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.taken == self.buffer.len()
    }

    fn copy(&mut self, kind: u8, from: usize, to: usize) -> Frame {
        let payload = self.buffer.get(from..to).unwrap_or_default().to_vec();
        if self.is_between() {
            // A large frame's memory is not kept for small ones.
            self.buffer = Vec::new();
            self.taken = 0;
        }
        Frame { kind, payload }
    }

    fn head(&self) -> Option<(usize, u8, u32)> {
        let head: &[u8; HEAD_BYTES] = self.buffer.get(self.taken..)?.first_chunk()?;
        let [a, b, c, d, kind, e, f, g, h] = *head;
        Some((u32::from_le_bytes([a, b, c, d]) as usize, kind, u32::from_le_bytes([e, f, g, h])))
    }

    /// Kind and place of the next frame, which counts as taken.
    fn take(&mut self) -> Result<Option<(u8, usize, usize)>, FrameError> {
        let Some((length, kind, expected)) = self.head() else { return Ok(None) };
        if length > self.bytes_max {
            return Err(FrameError::TooLong { bytes: length, bytes_max: self.bytes_max });
        }
        let from = self.taken + HEAD_BYTES;
        let to = from + length;
        let Some(payload) = self.buffer.get(from..to) else { return Ok(None) };
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.buffer.get(self.taken..self.taken + 5).unwrap_or_default());
        crc.update(payload);
        if crc.finalize() != expected {
            return Err(FrameError::Checksum);
        }
        self.taken = to;
        Ok(Some((kind, from, to)))
    }
}

/// The one frame that a body consists of.
///
/// # Errors
/// [`FrameError`], also where something follows it.
pub fn only(body: &[u8], bytes_max: usize) -> Result<Frame, FrameError> {
    let mut frames = Frames::new(bytes_max);
    frames.put(body);
    let frame = frames.next_frame()?.ok_or(FrameError::Cut)?;
    if frames.is_between() { Ok(frame) } else { Err(FrameError::Cut) }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
