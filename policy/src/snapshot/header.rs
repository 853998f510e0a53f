//! The 64 bytes before the archive of a snapshot or a delta.
//!
//! In: bytes. Out: the sequence, or what is wrong.
//! Layout, integers little-endian: 0 magic (8 bytes), 8 format version (u32), 12 CRC-32 (IEEE) of all bytes from 16 to
//! the end (u32), 16 sequence (u64), 24 length of the archive (u64), 32 zeroes to 64.
//! Always holds: bytes that pass have exactly the length they state and the checksum they state.

/// Bytes of the header; a multiple of the archive's alignment.
pub(crate) const HEADER_BYTES: usize = 64;
/// The version of header and layout; raised with every change of either.
pub const FORMAT_VERSION: u32 = 6;
const MAGIC: [u8; 8] = *b"PFSNAP\r\n";
/// What a delta begins with.
pub(crate) const DELTA_MAGIC: [u8; 8] = *b"PFDELT\r\n";
const CHECKED_FROM: usize = 16;

/// What is wrong with a snapshot's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin as a snapshot does.
    #[error("this is not a snapshot: it does not begin with the magic bytes of one")]
    Magic,
    /// Another version of the format.
    #[error(
        "the snapshot has format {0}, this program reads format {FORMAT_VERSION}: compile it anew"
    )]
    Version(u32),
    /// The length is not what the header says.
    #[error(
        "the snapshot is cut off or has bytes too many: {found} bytes where {expected} are stated"
    )]
    Length {
        /// Bytes stated.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// The checksum does not fit.
    #[error("the snapshot's checksum does not fit: it was damaged on its way or on disk")]
    Checksum,
}

/// Fills in the header of `bytes`, which begin with room for it and end with the archive.
pub(crate) fn seal(bytes: &mut [u8], sequence: u64) {
    seal_as(MAGIC, bytes, sequence);
}

/// The same for bytes that begin with another magic.
pub(crate) fn seal_as(magic: [u8; 8], bytes: &mut [u8], sequence: u64) {
    let archive_bytes = bytes.len().saturating_sub(HEADER_BYTES) as u64;
    let mut header = [0u8; HEADER_BYTES];
    let fields = [(16, sequence), (24, archive_bytes)];
    for (at, value) in fields {
        put(&mut header, at, &value.to_le_bytes());
    }
    put(bytes, 0, &header);
    let checksum = crc32fast::hash(bytes.get(CHECKED_FROM..).unwrap_or_default());
    put(bytes, 0, &magic);
    put(bytes, 8, &FORMAT_VERSION.to_le_bytes());
    put(bytes, 12, &checksum.to_le_bytes());
}

/// Checks the header and the checksum; returns the sequence.
pub(super) fn check(bytes: &[u8]) -> Result<u64, HeaderError> {
    check_as(MAGIC, bytes)
}

/// The same for bytes that begin with another magic.
pub(crate) fn check_as(magic: [u8; 8], bytes: &[u8]) -> Result<u64, HeaderError> {
    if !bytes.starts_with(&magic) || bytes.len() < HEADER_BYTES {
        return Err(HeaderError::Magic);
    }
    let version = u32::from_le_bytes(take(bytes, 8));
    if version != FORMAT_VERSION {
        return Err(HeaderError::Version(version));
    }
    let expected = u64::from_le_bytes(take(bytes, 24)).saturating_add(HEADER_BYTES as u64);
    let found = bytes.len() as u64;
    if expected != found {
        return Err(HeaderError::Length { expected, found });
    }
    let checksum = u32::from_le_bytes(take(bytes, 12));
    if crc32fast::hash(bytes.get(CHECKED_FROM..).unwrap_or_default()) != checksum {
        return Err(HeaderError::Checksum);
    }
    Ok(u64::from_le_bytes(take(bytes, 16)))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}
