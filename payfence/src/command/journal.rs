//! `payfence journal cat` and `payfence journal verify`: the decision log as a node has it on disk.
//!
//! In: a data directory, which a node may be writing to. Out: decisions as JSON, one a line; what is missing.
//! Always holds: nothing is changed; what cannot be read is said and left out.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataplane::clock::Clock;
use link::row::{self, Origin, Row};
use link::ship::Stream;
use link::sink::clickhouse::{Comparison, Part};
use link::spool::{Block, BlockHead, Item, Position, Reader};
use policy::decision::Reason;

use crate::cli::{JournalCatArgs, JournalVerifyArgs, Since};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::settings;

/// How often a journal that is followed is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

/// `payfence journal cat`.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn cat(args: &JournalCatArgs) -> Outcome {
    let wanted = Wanted::new(args);
    let mut reader = open(args.data_dir.clone())?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        let item = reader.next().map_err(|error| Failure::failed(error.to_string()))?;
        let written = match item {
            Some(Item::Block(block)) => block.rows().try_for_each(|(seq, bytes)| {
                let Some(seq) = seq else { return Ok(()) };
                let head = &block.head;
                let origin = Origin { node: block.node, epoch: head.epoch, shard: head.shard, seq };
                wanted.write(&mut out, origin, bytes)
            }),
            Some(Item::Lost(loss)) => {
                output::note(format_args!("warning: {loss}"));
                Ok(())
            }
            None if args.follow => {
                let flushed = out.flush();
                std::thread::park_timeout(FOLLOW);
                flushed
            }
            None => return flushed(out.flush()),
        };
        if written.is_err() {
            return flushed(written);
        }
    }
}

/// A reader that has gone away (`| head`) is no failure.
fn flushed(result: io::Result<()>) -> Outcome {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Which rows are asked for.
struct Wanted<'a> {
    site: Option<&'a str>,
    reason: Option<Reason>,
    since_ns: i64,
}

impl<'a> Wanted<'a> {
    fn new(args: &'a JournalCatArgs) -> Self {
        let since_ns = args.since.map_or(i64::MIN, Since::unix_ns);
        Self { site: args.site.as_deref(), reason: args.reason, since_ns }
    }

    fn takes(&self, row: &Row<'_>) -> bool {
        let opened = &row.opened;
        self.site.is_none_or(|site| site == opened.texts.site)
            && self.reason.is_none_or(|reason| reason == opened.reason)
            && self.since_ns <= opened.time_ns
    }

    fn write(&self, out: &mut impl io::Write, origin: Origin<'_>, bytes: &[u8]) -> io::Result<()> {
        let Ok((row, _)) = row::read(bytes) else {
            output::note(format_args!("warning: row {} is of no known form", origin.seq));
            return Ok(());
        };
        if !self.takes(&row) {
            return Ok(());
        }
        serde_json::to_writer(&mut *out, &row.record(origin, &mut [0; 32]))?;
        out.write_all(b"\n")
    }
}

/// `payfence journal verify`.
///
/// # Errors
/// When rows are missing, damaged or there twice, on disk or in ClickHouse.
pub fn verify(args: &JournalVerifyArgs) -> Outcome {
    let mut reader = open(args.data_dir.clone())?;
    let mut found = Found::default();
    let mut compared = Compared::new(args)?;
    loop {
        match reader.next().map_err(|error| Failure::failed(error.to_string()))? {
            Some(Item::Block(block)) => {
                found.block(&block);
                if let Some(compared) = &mut compared {
                    compared.block(&block, &mut found)?;
                }
            }
            Some(Item::Lost(loss)) => found.problem(format_args!("{loss}")),
            None => break,
        }
    }
    if let Some(compared) = &mut compared {
        compared.finish(&mut found)?;
    }
    output::line(format_args!(
        "{} decisions of {} shards, {} problems",
        found.rows,
        found.streams.len(),
        found.problems
    ));
    if found.problems == 0 { Ok(()) } else { Err(Failure::failed("the journal is not whole")) }
}

/// What verifying has come to.
#[derive(Default)]
struct Found {
    rows: u64,
    problems: u64,
    streams: BTreeMap<(u64, u16), u64>,
}

impl Found {
    fn problem(&mut self, text: std::fmt::Arguments<'_>) {
        self.problems += 1;
        output::note(format_args!("{text}"));
    }

    fn block(&mut self, block: &Block<'_>) {
        let head = &block.head;
        let next = self.streams.entry((head.epoch, head.shard)).or_insert(head.first_seq);
        let is_twice = head.first_seq < *next;
        *next = head.first_seq + u64::from(head.rows);
        if is_twice {
            self.problem(format_args!(
                "rows from {} of shard {} in epoch {:016x} are there twice",
                head.first_seq, head.shard, head.epoch
            ));
        }
        for (seq, bytes) in block.rows() {
            if row::read(bytes).is_err() {
                self.problem(format_args!("a row at {} is of no known form", block.start));
            }
            self.rows += u64::from(seq.is_some());
        }
    }
}

/// What a server has of the decisions that were shipped to it.
struct Compared {
    comparison: Comparison,
    /// Up to there it was said to have them.
    delivered: Position,
    node: String,
    parts: BTreeMap<(u64, u16), Part>,
    rows: u64,
    /// Decisions that it is not said to have yet.
    waiting: u64,
}

impl Compared {
    /// `None` where no server is named.
    fn new(args: &JournalVerifyArgs) -> Result<Option<Self>, Failure> {
        let Some(config) = settings::journal::clickhouse(&args.clickhouse)? else {
            return Ok(None);
        };
        let data_dir = settings::data_dir(args.data_dir.clone())?;
        let delivered = link::ship::delivered(&data_dir, "clickhouse").map_err(|error| {
            Failure::failed(format!(
                "cannot read how far ClickHouse was brought, in {}: {error}",
                shown(&data_dir.join("sinks"))
            ))
        })?;
        let delivered = delivered.ok_or_else(|| {
            Failure::failed(format!(
                "nothing in {} says that this node has shipped decisions to ClickHouse: give the data directory of a node that \
                 was started with --clickhouse-url",
                shown(&data_dir.join("sinks"))
            ))
        })?;
        let comparison = Comparison::new(&config).map_err(Failure::failed)?;
        let (node, parts) = (String::new(), BTreeMap::new());
        Ok(Some(Self { comparison, delivered, node, parts, rows: 0, waiting: 0 }))
    }

    fn block(&mut self, block: &Block<'_>, found: &mut Found) -> Outcome {
        if block.end > self.delivered {
            self.waiting += u64::from(block.head.rows);
            return Ok(());
        }
        block.node.clone_into(&mut self.node);
        let BlockHead { epoch, shard, .. } = block.head;
        let stream = Stream { epoch, shard };
        for (seq, bytes) in block.rows() {
            let (Some(seq), Ok((row, _))) = (seq, row::read(bytes)) else { continue };
            let begin = || Part::new(stream, seq);
            let part = self.parts.entry((epoch, shard)).or_insert_with(begin);
            if !part.add(seq, &row) {
                let full = std::mem::replace(part, begin());
                part.add(seq, &row);
                self.compare(&full, found)?;
            }
            self.rows += 1;
        }
        Ok(())
    }

    fn compare(&mut self, part: &Part, found: &mut Found) -> Outcome {
        let problems = self.comparison.part(&self.node, part).map_err(Failure::failed)?;
        problems.iter().for_each(|problem| found.problem(format_args!("{problem}")));
        Ok(())
    }

    fn finish(&mut self, found: &mut Found) -> Outcome {
        for part in std::mem::take(&mut self.parts).into_values() {
            self.compare(&part, found)?;
        }
        let problems = self.comparison.roll_ups().map_err(Failure::failed)?;
        problems.iter().for_each(|problem| found.problem(format_args!("{problem}")));
        if !problems.is_empty() {
            output::note(format_args!(
                "roll-ups lag behind while a node writes: run this again before you trust it"
            ));
        }
        output::line(format_args!(
            "{} decisions compared with ClickHouse, {} not shipped yet",
            self.rows, self.waiting
        ));
        Ok(())
    }
}

fn open(data_dir: Option<PathBuf>) -> Result<Reader, Failure> {
    let data_dir = settings::data_dir(data_dir)?;
    let spool = dataplane::journal::spool_folder(&data_dir);
    if !spool.is_dir() {
        return Err(Failure::failed(format!(
            "no decision journal in {}: give the node's data directory with --data-dir",
            shown(&data_dir)
        )));
    }
    Ok(Reader::open(spool, Position::START))
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

impl Since {
    /// The time that is meant, Unix nanoseconds.
    fn unix_ns(self) -> i64 {
        let now_ns = || Clock::start().now().unix_ns;
        match self {
            Self::At(at) => i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX),
            Self::Ago(ago) => {
                now_ns().saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))
            }
        }
    }
}
