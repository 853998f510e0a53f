//! What `doctor` says about the decision journal.
//!
//! In: the flags about it, its folders, the ClickHouse server. Out: a finding for each of them. Always holds: nothing is made; a
//! finding is broken where a node would not start, unwise where it would lose decisions or hold up what waits for them.

use std::path::{Path, PathBuf};

use dataplane::clock::Clock;
use dataplane::journal::{SHARED_MEMORY, ring::RING_BYTES};
use dataplane::preflight::Problem;
use link::sink::clickhouse::{ClickHouseConfig, probe};
use rustix::fs::{Access, access, statfs};

use super::Finding;
use crate::cli::NodeArgs;
use crate::settings;

/// The type of a file system in memory (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Seconds by which the server's clock may differ before times of rows look wrong beside its own.
const CLOCK_S: u64 = 5;

/// The findings.
pub fn examine(args: &NodeArgs) -> Vec<(String, Finding)> {
    let config =
        match settings::journal::config(&args.journal, !args.control.control_url.is_empty()) {
            Ok(Some(config)) => config,
            Ok(None) => {
                let what = "off: decisions are in no log, and a restart forgets what was used";
                return vec![("journal".to_owned(), unwise(what, "leave out --journal off"))];
            }
            Err(failure) => {
                let finding = broken(&failure.to_string(), "correct the flag");
                return vec![("journal".to_owned(), finding)];
            }
        };
    let rings = args.ring_dir.as_deref().unwrap_or(Path::new(SHARED_MEMORY));
    let needed = RING_BYTES * settings::shards(args).get() as u64;
    let mut findings =
        vec![(format!("ring directory {}", rings.display()), ring_dir(rings, needed))];
    findings.push(match settings::data_dir(args.data_dir.clone()) {
        Ok(folder) => {
            (format!("data directory {}", folder.display()), data_dir(&folder, config.spool_bytes))
        }
        Err(failure) => ("data directory".to_owned(), broken(&failure.to_string(), "name one")),
    });
    if let Some(server) = &config.sinks.clickhouse {
        findings.push((format!("ClickHouse {}", server.url), clickhouse(server)));
    }
    if let Some(files) = &config.sinks.ndjson {
        let folder = &files.folder;
        let finding = match place(folder) {
            Ok(place) => well(place.free, ""),
            Err(problem) => Finding::Unwise(problem),
        };
        findings.push((format!("NDJSON directory {}", folder.display()), finding));
    }
    findings
}

fn ring_dir(folder: &Path, needed: u64) -> Finding {
    if !folder.is_dir() {
        return broken("it is no directory", "make it, or name another with --ring-dir");
    }
    match place(folder) {
        Err(problem) => Finding::Broken(problem),
        Ok(place) if place.free < needed => broken(
            &format!(
                "{} MiB are free, and the shards' rings take {}",
                mib(place.free),
                mib(needed)
            ),
            "make room there, name another with --ring-dir, or give fewer --shards",
        ),
        Ok(place) if !place.is_in_memory => unwise(
            "it is on a disk: a shard may have to wait for that",
            "name one in memory (tmpfs) with --ring-dir",
        ),
        Ok(place) => well(place.free, ", in memory"),
    }
}

fn data_dir(folder: &Path, spool_bytes: u64) -> Finding {
    match place(folder) {
        Err(problem) => Finding::Broken(problem),
        Ok(place) if place.is_in_memory => unwise(
            "it is in memory: after a reboot neither decisions nor what was used are there",
            "name one on a disk with --data-dir",
        ),
        Ok(place) if place.free < spool_bytes => unwise(
            &format!(
                "{} MiB are free, and the journal may take {}",
                mib(place.free),
                mib(spool_bytes)
            ),
            "make room there, or give less with --journal-max-mib",
        ),
        Ok(place) => well(place.free, ""),
    }
}

/// What a folder, or the one above it where it is to be made, is like.
pub(super) struct Place {
    is_in_memory: bool,
    /// Bytes that this user may take.
    pub(super) free: u64,
}

pub(super) fn place(folder: &Path) -> Result<Place, Problem> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder));
    let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let wrong = |what: String| Problem {
        what: format!("{}: {what}", there.display()),
        remedy: "let the user that runs the node write there, or name another".to_owned(),
    };
    if !there.is_dir() {
        return Err(wrong("it is no directory".to_owned()));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| wrong(error.to_string()))?;
    let status = statfs(there).map_err(|error| wrong(error.to_string()))?;
    let block_bytes = u64::try_from(status.f_bsize).unwrap_or(0);
    Ok(Place {
        is_in_memory: status.f_type as u64 == TMPFS_MAGIC,
        free: status.f_bavail.saturating_mul(block_bytes),
    })
}

fn clickhouse(config: &ClickHouseConfig) -> Finding {
    let found = match probe(config) {
        Ok(found) => found,
        // A node starts all the same, and ships what has gathered once it answers.
        Err(error) => {
            let remedy = "see that the server runs and lets this user in; decisions wait on disk until it does";
            return unwise(&error.to_string(), remedy);
        }
    };
    let now_s = u64::try_from(Clock::start().now().unix_s()).unwrap_or(0);
    let apart_s = now_s.abs_diff(u64::from(found.now_s));
    if apart_s > CLOCK_S {
        return unwise(
            &format!("its clock and this machine's are {apart_s} s apart"),
            "set both by NTP",
        );
    }
    let schema = match found.schema {
        Some(step) if step == found.schema_wanted => "its schema is up to date".to_owned(),
        Some(step) if step > found.schema_wanted => {
            let what = format!("its schema is of a later PayFence (step {step})");
            return unwise(&what, "bring this node to that version too");
        }
        _ => "its schema is made when a node starts".to_owned(),
    };
    Finding::Well(format!("version {}, {} form; {schema}", found.version, found.form))
}

fn well(free: u64, more: &str) -> Finding {
    Finding::Well(format!("{} MiB are free{more}", mib(free)))
}

const fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn unwise(what: &str, remedy: &str) -> Finding {
    Finding::Unwise(Problem { what: what.to_owned(), remedy: remedy.to_owned() })
}

fn broken(what: &str, remedy: &str) -> Finding {
    Finding::Broken(Problem { what: what.to_owned(), remedy: remedy.to_owned() })
}
