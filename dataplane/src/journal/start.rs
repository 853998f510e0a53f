//! A node's journal from what an earlier process left to rings that can be written.
//!
//! In: the data directory, the ring directory. Out: a ring for each shard, the drain, what was used before. Always holds: one process
//! works on a data directory; what an earlier one left is taken over before anything is written, and removed only when it is
//! durable elsewhere; where a part is gone, what was leased counts as used.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::checkpoint::{self, Checkpoint};
use link::lease_log::{self, LeaseLog};
use link::recover::{OpenRequest, Recovered, recover};
use link::row::Account;
use link::spool::{self, Spool};
use policy::budget::{Carried, Past};

use super::SHARED_MEMORY;
use super::drain::{Drain, KEEP_PERIODS_S, Sums};
use super::ring::{self, OpenError, Reader, RingId, Writer};
use super::state::JournalState;
use super::stream::{Stream, StreamError};
use crate::clock::{Clock, Now};

/// What a node's own directory of rings is called, before its id.
const RINGS: &str = "payfence-";

/// What a journal is started with.
pub struct Options<'a> {
    /// What outlives the node.
    pub data_dir: &'a Path,
    /// Where the rings are; none: shared memory.
    pub ring_dir: Option<&'a Path>,
    /// The node's name in the log.
    pub node: &'a str,
    /// How many shards.
    pub shards: u16,
    /// Bytes the spool may take.
    pub spool_bytes: u64,
}

/// A journal that can be written.
pub struct Started {
    /// For each shard its ring.
    pub writers: Vec<Writer>,
    /// What was used before.
    pub carried: Arc<Carried>,
    /// Where leases are written down.
    pub leases: LeaseLog,
    /// Empties the rings, once it is started.
    pub drain: Drain,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the data directory.
    #[error(
        "{0} is in use by another process: end that one, or give this one a directory of its own with --data-dir"
    )]
    InUse(PathBuf),
    /// A file or directory cannot be used.
    #[error("{what} {path}: {source}; see that this user may write there and that there is room, or give another place \
             with {flag}", path = path.display())]
    Files {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The flag that names the place.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What is there cannot be gone on with.
    #[error("the decision journal cannot be gone on with: {0}")]
    Spool(#[from] spool::Error),
}

fn in_data(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Files { what, path, flag: "--data-dir", source }
}

fn in_rings(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Files { what, path, flag: "--ring-dir", source }
}

/// Takes over what an earlier process left, and begins anew.
///
/// # Errors
/// When another process has the directory, or the disk does not do.
pub fn start(
    options: &Options<'_>,
    clock: Clock,
    state: &Arc<JournalState>,
) -> Result<Started, JournalError> {
    let folder = super::folder(options.data_dir);
    make_folder(&folder).map_err(in_data("cannot make", &folder))?;
    let lock = lock(&folder)?;
    let node = node_id(&folder)?;
    let rings =
        options.ring_dir.unwrap_or(Path::new(SHARED_MEMORY)).join(format!("{RINGS}{node:032x}"));
    make_folder(&rings).map_err(in_rings("cannot make", &rings))?;
    let segments = super::spool_folder(options.data_dir);
    let recovered = recover(&folder, &segments, link::books::Books::ENTRIES_MAX)?;
    let config = spool::Config {
        folder: segments,
        segment_bytes: spool::Config::SEGMENT_BYTES,
        bytes_max: options.spool_bytes,
        first_segment: recovered.next_segment,
    };
    let (spool, _) = Spool::open(config, options.node)?;
    let mut takeover = Takeover {
        clock,
        node,
        folder: &folder,
        rings: &rings,
        spool,
        missing: HashSet::new(),
        done: Vec::new(),
        logs: Vec::new(),
        read: 0,
        cut: 0,
    };
    let mut sums = takeover.run(recovered, state)?;
    let counted = takeover.count_leases(&mut sums)?;
    takeover.settle(&mut sums, counted, state)?;
    let carried = carried(&sums, takeover.journal()?);
    let Takeover { spool, .. } = takeover;
    let epoch = getrandom::u64()
        .map_err(|error| in_data("cannot draw a number for", &folder)(io::Error::other(error)))?;
    let mut leftovers = vec![write_manifest(&folder, epoch, options.shards)?];
    let (mut writers, mut streams) = (Vec::new(), Vec::new());
    for shard in 0..options.shards {
        let path = rings.join(ring_name(epoch, shard));
        let id = RingId { node, epoch, shard };
        let (writer, reader) = ring::create(&path, id, ring::RING_BYTES)
            .map_err(in_rings("cannot make the decision ring", &path))?;
        writers.push(writer);
        streams.push(Stream::new(reader));
        leftovers.push(path);
    }
    leftovers.push(rings);
    let leases = LeaseLog::create(&folder, epoch)?;
    state.enable(options.node);
    let drain = Drain {
        spool,
        streams,
        sums,
        state: Arc::clone(state),
        clock,
        epoch,
        folder,
        leftovers,
        _lock: lock,
    };
    Ok(Started { writers, carried, leases, drain })
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Keeps every other process off the directory, as long as it is held.
fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(in_data("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(JournalError::InUse(folder.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(in_data("cannot lock", &path)(error)),
    }
}

/// The number that tells this node's rings from others': drawn once, kept in the data directory.
fn node_id(folder: &Path) -> Result<u128, JournalError> {
    let path = folder.join("node-id");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let random = || getrandom::u64().map_err(io::Error::other);
            let made = random().and_then(|high| Ok(u128::from(high) << 64 | u128::from(random()?)));
            let text =
                format!("{:032x}\n", made.map_err(in_data("cannot draw a number for", &path))?);
            write_new(&path, text.as_bytes()).map_err(in_data("cannot write", &path))?;
            text
        }
        Err(error) => return Err(in_data("cannot read", &path)(error)),
    };
    u128::from_str_radix(text.trim(), 16).map_err(|_| {
        let wrong =
            io::Error::new(io::ErrorKind::InvalidData, "it holds no number of 32 hex digits");
        in_data("cannot use", &path)(wrong)
    })
}

/// Writes a small file whole or not at all, durably.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Says, until the start has ended well, that there are rings of it.
fn write_manifest(folder: &Path, epoch: u64, shards: u16) -> Result<PathBuf, JournalError> {
    let path = folder.join(format!("{MANIFEST}{epoch:016x}"));
    write_new(&path, shards.to_string().as_bytes()).map_err(in_data("cannot write", &path))?;
    Ok(path)
}

const MANIFEST: &str = "start-";
const JOURNAL_NAME: &str = "journal-name";

/// Gives the journal a new name, durably.
fn write_journal_name(folder: &Path) -> Result<u64, JournalError> {
    let path = folder.join(JOURNAL_NAME);
    let name = getrandom::u64().map_err(io::Error::other);
    let name = name.map_err(in_data("cannot draw a number for", &path))?;
    write_new(&path, format!("{name:016x}\n").as_bytes())
        .map_err(in_data("cannot write", &path))?;
    Ok(name)
}

fn ring_name(epoch: u64, shard: u16) -> String {
    format!("{epoch:016x}-{shard}.ring")
}

/// What was used, for those who count from now on.
fn carried(sums: &Sums, journal: u64) -> Arc<Carried> {
    let mut carried = Carried::with_capacity(sums.books.len());
    carried.set_journal(journal);
    for (id, charged) in sums.books.iter() {
        carried.add(id, Past { period: charged.period, used: charged.units });
    }
    Arc::new(carried)
}

/// What an earlier process left, on its way to disk.
struct Takeover<'a> {
    clock: Clock,
    node: u128,
    folder: &'a Path,
    rings: &'a Path,
    spool: Spool,
    /// Starts of which not every decision is known.
    missing: HashSet<u64>,
    /// Files that are done with.
    done: Vec<PathBuf>,
    /// Lease logs that are.
    logs: Vec<u64>,
    read: u64,
    cut: usize,
}

impl Takeover<'_> {
    /// Rings and open requests, to the spool.
    fn run(
        &mut self,
        recovered: Recovered,
        state: &Arc<JournalState>,
    ) -> Result<Sums, JournalError> {
        let is_complete = recovered.is_use_complete();
        let Recovered { streams: ends, books, open, .. } = recovered;
        let mut sums = Sums::new(books, Arc::clone(state));
        let mut rings = self.find_rings()?;
        for (epoch, shards) in self.find_manifests()? {
            let is_whole = (0..shards).all(|shard| rings.contains_key(&(epoch, shard)));
            if !is_whole || !is_complete {
                self.missing.insert(epoch);
            }
        }
        let mut streams: HashMap<(u64, u16), Stream> = HashMap::new();
        let keys: HashSet<(u64, u16)> = rings
            .keys()
            .copied()
            .chain(open.keys().map(|request| (request.stream.epoch, request.stream.shard)))
            .collect();
        for (epoch, shard) in keys {
            let end = ends.get(&checkpoint::Stream { epoch, shard }).copied().unwrap_or_default();
            let mut reader = rings.remove(&(epoch, shard));
            if let Some(found) = &mut reader {
                let reaches = found.skip_to(end.ring_position);
                if !reaches || found.lost() > 0 {
                    self.missing.insert(epoch);
                }
                if !reaches {
                    reader = None;
                }
            }
            streams.insert((epoch, shard), Stream::after(epoch, shard, end.next_seq, reader));
        }
        for (OpenRequest { stream, opened_at }, row) in open {
            if let Some(known) = streams.get_mut(&(stream.epoch, stream.shard)) {
                known.adopt(opened_at, row);
            }
        }
        for ((epoch, _), mut stream) in streams {
            self.take(epoch, &mut stream, &mut sums)?;
        }
        Ok(sums)
    }

    fn take(
        &mut self,
        epoch: u64,
        stream: &mut Stream,
        sums: &mut Sums,
    ) -> Result<(), JournalError> {
        let now = self.clock.now();
        loop {
            match stream.step(&mut self.spool, now.unix_ns, sums) {
                Ok(written) => {
                    self.read += u64::from(written.rows);
                    if !written.has_more {
                        break;
                    }
                }
                Err(StreamError::Spool(error)) => return Err(error.into()),
                Err(StreamError::Ring(damaged)) => {
                    tracing::warn!(%damaged, "an earlier start's decisions cannot be read to the end");
                    self.missing.insert(epoch);
                    break;
                }
            }
        }
        self.cut += stream.open_requests();
        match stream.cut(&mut self.spool, now.unix_ns, sums) {
            Err(StreamError::Spool(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The rings of earlier starts.
    fn find_rings(&mut self) -> Result<HashMap<(u64, u16), Reader>, JournalError> {
        let mut rings = HashMap::new();
        for path in files(self.rings).map_err(in_rings("cannot read", self.rings))? {
            match ring::open(&path) {
                Ok(reader) if reader.id().node == self.node => {
                    rings.insert((reader.id().epoch, reader.id().shard), reader);
                }
                Ok(_) | Err(OpenError::Damaged) => {
                    tracing::warn!(path = %path.display(), "this is no decision ring of this node, or damaged: it is removed");
                }
                Err(OpenError::Io(error)) => return Err(in_rings("cannot read", &path)(error)),
            }
            self.done.push(path);
        }
        Ok(rings)
    }

    /// Earlier starts that did not end well, and how many shards they had.
    fn find_manifests(&mut self) -> Result<Vec<(u64, u16)>, JournalError> {
        let mut found = Vec::new();
        for path in files(self.folder).map_err(in_data("cannot read", self.folder))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(epoch) =
                name.strip_prefix(MANIFEST).and_then(|hex| u64::from_str_radix(hex, 16).ok())
            else {
                continue;
            };
            let text = fs::read_to_string(&path).map_err(in_data("cannot read", &path))?;
            // A number that is none asks for a ring that is not there: the start is not complete then.
            found.push((epoch, text.trim().parse().unwrap_or(u16::MAX)));
            self.done.push(path);
        }
        Ok(found)
    }

    /// The name of the journal: another one once something of it was lost that nothing stands in for.
    fn journal(&self) -> Result<u64, JournalError> {
        let path = self.folder.join(JOURNAL_NAME);
        match fs::read_to_string(&path) {
            Ok(text) => match u64::from_str_radix(text.trim(), 16) {
                Ok(name) => Ok(name),
                Err(_) => write_journal_name(self.folder),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_journal_name(self.folder)
            }
            Err(error) => Err(in_data("cannot read", &path)(error)),
        }
    }

    /// Where not every decision of a start is known, what it had leased counts as used. How many units no row has.
    fn count_leases(&mut self, sums: &mut Sums) -> Result<u64, JournalError> {
        let mut counted = 0_u64;
        let mut uncovered = self.missing.clone();
        for log in lease_log::read_all(self.folder)? {
            if log.damaged == 0 {
                uncovered.remove(&log.epoch);
            }
            if self.missing.contains(&log.epoch) {
                for ((entitlement, _), lease) in &log.leases {
                    let account = Account { entitlement: *entitlement, period: lease.period };
                    let held = lease.held().max(lease.used);
                    let known = sums.books.units(account.entitlement, account.period.id);
                    let unknown = held.saturating_sub(known);
                    if unknown > 0 {
                        super::stream::Taken::charged(sums, &account, unknown);
                        counted += unknown;
                    }
                }
            }
            self.logs.push(log.epoch);
        }
        if !uncovered.is_empty() {
            // Nothing tells what those starts held: a ledger that knows counts it as used.
            write_journal_name(self.folder)?;
        }
        Ok(counted)
    }

    /// Makes it all durable, and removes what it came from.
    fn settle(
        &mut self,
        sums: &mut Sums,
        counted: u64,
        state: &JournalState,
    ) -> Result<(), JournalError> {
        let Now { unix_ns, .. } = self.clock.now();
        sums.books.forget((unix_ns / 1_000_000_000).saturating_sub(KEEP_PERIODS_S));
        let position = self.spool.rotate([])?;
        let checkpoint = Checkpoint { position, streams: Vec::new(), books: sums.books.clone() };
        checkpoint::write(self.folder, &checkpoint)?;
        self.spool.checkpointed(position);
        for path in std::mem::take(&mut self.done) {
            fs::remove_file(&path).map_err(in_data("cannot remove", &path))?;
        }
        for epoch in std::mem::take(&mut self.logs) {
            lease_log::remove(self.folder, epoch)?;
        }
        let (read, cut) = (self.read, self.cut);
        if self.missing.is_empty() {
            if read + cut as u64 > 0 {
                tracing::info!(
                    read,
                    cut,
                    "the journal of an earlier start was taken over, no decision is missing"
                );
            }
            return Ok(());
        }
        let text = format!(
            "decisions of an earlier start are missing from the log: its decision rings are gone, damaged or overflowed; \
             {counted} units that were leased and that no row accounts for count as used; {read} rows were found, {cut} \
             requests were cut off"
        );
        tracing::warn!("{text}");
        state.set_recovered(text);
        Ok(())
    }
}

/// The files of a directory.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

#[cfg(test)]
#[path = "start_tests.rs"]
mod tests;
