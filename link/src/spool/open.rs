//! Opening the spool after whatever has become of the last process, and making segments.
//!
//! In: a folder. Out: a spool that goes on after the last whole block, and a word on what was not whole. Always holds: only bytes
//! after the last whole block are cut; a segment gets its name when its first blocks are durable, and then
//! nothing is appended to the one before.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::format::{self, BlockHead, NODE_BYTES_MAX, Packer, SEGMENT_HEAD_BYTES, SegmentHead};
use super::segments::{self, list, path_of};
use super::{
    Config, Error, Loss, Position, RowRange, Segment, Spool, Tail, check_block, write_block,
};
use crate::disk::{self, Disk, DiskFile, FileSystem};

/// What was found on opening. Only the last segment is looked at; readers find out about the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What the last process had not finished writing.
    pub torn: Option<Torn>,
    /// Damage before that.
    pub losses: Vec<Loss>,
}

/// The end of a segment that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it was cut.
    pub at: Position,
    /// Bytes that went.
    pub bytes: u64,
}

/// A segment that was just made: durable, but for its name.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) segment: u64,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) length: u64,
}

impl Spool {
    /// Opens the spool in a folder, and makes it where there is none. `node` is the name that rows are known by elsewhere.
    ///
    /// # Errors
    /// When another process has it open, a file is of another version, or the disk fails.
    pub fn open(config: Config, node: &str) -> Result<(Self, Opened), Error> {
        Self::open_on(Arc::new(FileSystem), config, node)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        config: Config,
        node: &str,
    ) -> Result<(Self, Opened), Error> {
        if node.is_empty() || node.len() > NODE_BYTES_MAX {
            return Err(Error::Invalid("a node's name has 1 to 200 bytes"));
        }
        let folder = &config.folder;
        disk::create_folder(folder)
            .map_err(|source| Error::io("cannot make the folder", folder, source))?;
        let lock = lock(folder)?;
        let mut opened = Opened::default();
        let mut segments = std::collections::BTreeMap::new();
        for number in list(folder)? {
            let path = path_of(folder, number);
            let bytes = std::fs::metadata(&path)
                .map_err(|source| Error::io("cannot read", &path, source))?
                .len();
            segments.insert(number, Segment { bytes, ranges: None });
        }
        let last = segments.keys().next_back().copied().unwrap_or(0);
        // Of a rotation that was not finished.
        let _ = disk.remove(&path_of(folder, last + 1).with_extension("new"));
        let kept = match last {
            0 => None,
            last => keep(disk.as_ref(), folder, last, node, &mut opened)?,
        };
        let kept = kept.filter(|_| last >= config.first_segment);
        let (new, ranges) = match kept {
            Some((new, ranges)) => (new, ranges),
            None => {
                let next = (last + 1).max(config.first_segment);
                (create_segment(disk.as_ref(), folder, next, node, [])?, Vec::new())
            }
        };
        let mut spool = Self {
            node: node.to_owned(),
            disk,
            _lock: lock,
            file: Arc::from(new.file),
            current: new.segment,
            length: new.length,
            base: SEGMENT_HEAD_BYTES,
            synced: new.length,
            is_ragged: false,
            is_doubtful: false,
            is_named: false,
            segments,
            checkpointed: 0,
            dropped: Vec::new(),
            tail: Arc::new(Tail::default()),
            packer: Packer::default(),
            config,
        };
        if let Some(torn) = opened.torn
            && let Some(segment) = spool.segments.get_mut(&torn.at.segment)
        {
            segment.bytes = torn.at.offset;
        }
        let current = Segment { bytes: spool.length, ranges: Some(ranges) };
        spool.segments.insert(spool.current, current);
        spool.sync()?;
        Ok((spool, opened))
    }
}

/// Holds other processes off until the file is dropped.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("spool.lock");
    let failed = |source| Error::io("cannot lock", &path, source);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Cuts the last segment after its last whole block; the segment, where it may be gone on with.
fn keep(
    disk: &dyn Disk,
    folder: &Path,
    segment: u64,
    node: &str,
    opened: &mut Opened,
) -> Result<Option<(NewSegment, Vec<RowRange>)>, Error> {
    let path = path_of(folder, segment);
    let failed = |source| Error::io("cannot read", &path, source);
    let file = disk.open(&path).map_err(failed)?;
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    let read = file.read_at(&mut head, 0).map_err(failed)?;
    let bytes = file.length().map_err(failed)?;
    let its_node = match format::read_segment_head(head.get(..read).unwrap_or_default(), segment) {
        SegmentHead::Known(node) => node,
        SegmentHead::OtherVersion(found) => {
            return Err(Error::Version { path, found, known: format::VERSION });
        }
        SegmentHead::Damaged => {
            let at = Position { segment, offset: 0 };
            opened.losses.push(Loss::Damaged { at, bytes, rows: None });
            return Ok(None);
        }
    };
    let contents = segments::walk(file.as_ref(), segment, SEGMENT_HEAD_BYTES).map_err(failed)?;
    for (offset, head) in &contents.damaged {
        opened.losses.push(Loss::Damaged {
            at: Position { segment, offset: *offset },
            bytes: head.block_bytes(),
            rows: Some(RowRange::of(&head.head)),
        });
    }
    let length = contents.whole_until;
    if bytes > length {
        file.set_length(length).map_err(|source| Error::io("cannot cut", &path, source))?;
        let at = Position { segment, offset: length };
        opened.torn = Some(Torn { at, bytes: bytes - length });
    }
    // What the last process wrote need not have become durable yet.
    file.sync().map_err(|source| Error::io("cannot make durable", &path, source))?;
    let kept = (NewSegment { segment, file, length }, contents.ranges);
    Ok((its_node == node).then_some(kept))
}

/// Makes a segment that begins with these blocks.
pub(super) fn create_segment<'a>(
    disk: &dyn Disk,
    folder: &Path,
    segment: u64,
    node: &str,
    blocks: impl IntoIterator<Item = (BlockHead, &'a [u8])>,
) -> Result<NewSegment, Error> {
    let path = path_of(folder, segment);
    let unnamed = path.with_extension("new");
    let written = write_segment(disk, &unnamed, segment, node, blocks).and_then(|new| {
        disk.rename(&unnamed, &path).map_err(|source| Error::io("cannot name", &path, source))?;
        Ok(new)
    });
    if written.is_err() {
        // It holds nothing that is not elsewhere, and takes space.
        let _ = disk.remove(&unnamed);
    }
    written
}

fn write_segment<'a>(
    disk: &dyn Disk,
    path: &Path,
    segment: u64,
    node: &str,
    blocks: impl IntoIterator<Item = (BlockHead, &'a [u8])>,
) -> Result<NewSegment, Error> {
    let failed = |source: io::Error| Error::io("cannot write", path, source);
    let file = disk.create(path).map_err(failed)?;
    file.write_at(&format::segment_head(segment, node), 0).map_err(failed)?;
    let mut length = SEGMENT_HEAD_BYTES;
    let mut packer = Packer::default();
    for (head, rows) in blocks {
        check_block(&head, rows)?;
        let stored = packer.pack(rows);
        length += write_block(file.as_ref(), length, (segment, &head), stored).map_err(failed)?;
    }
    file.sync().map_err(failed)?;
    Ok(NewSegment { segment, file, length })
}
