//! Rows, a source and a sink for the shipper's tests.
//!
//! In: numbers. Out: rows with those numbers; a source that keeps blocks in memory; a sink that fails as it is told to. Always
//! holds: the sink stores what it is sent even when it then says otherwise, as servers do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use policy::decision::Reason;

use super::{Batch, Held, Position, RowAt, Source, SourceBlock, SourceError};
use crate::row::{self, Ended, Opened, Protocol, Subscriber, Texts};
use crate::sink::{Outcome, Sink, SinkError};

/// 2026-11-24T00:00:00Z.
pub(crate) const DAY_NS: i64 = 1_795_478_400_000_000_000;

/// Appends a finished row; `path` says which.
pub(crate) fn push_row(rows: &mut Vec<u8>, path: &str, time_ns: i64) {
    push_open(rows, path, time_ns);
    let start = last_row(rows);
    let ended = Ended {
        reason: Reason::Ok,
        status: Some(200),
        charge: 2,
        remaining: Some(98),
        request_bytes: 10,
        response_bytes: 1_000,
        origin_us: Some(900),
        total_us: 1_000,
    };
    assert!(row::write_end(&mut rows[start..], &ended));
}

/// Appends an open row.
pub(crate) fn push_open(rows: &mut Vec<u8>, path: &str, time_ns: i64) {
    let opened = Opened {
        opened_at: 0,
        time_ns,
        request_id: 7,
        account: None,
        reason: Reason::Ok,
        charge: 2,
        remaining: None,
        protocol: Protocol::Http11,
        client: None,
        texts: Texts {
            site: "weather",
            subscriber: Some(Subscriber {
                customer: "acme",
                subscription: "sub_acme",
                token_id: "tok_1",
            }),
            plan: Some("pro"),
            resource: Some("/api/*"),
            method: "GET",
            path,
        },
    };
    row::write_open(rows, &opened);
}

fn last_row(rows: &[u8]) -> usize {
    let (mut at, mut last) = (0, 0);
    while at < rows.len() {
        last = at;
        at += row::length(&rows[at..]).expect("a row");
    }
    last
}

/// Blocks in memory; a position's offset is an index into them.
#[derive(Clone, Default)]
pub(crate) struct Blocks {
    all: Arc<Mutex<Vec<SourceBlock>>>,
    at: usize,
}

impl Blocks {
    /// Adds a block of `count` rows whose paths are `/<epoch>/<shard>/<seq>`.
    pub(crate) fn push(&self, epoch: u64, shard: u16, first_seq: u64, count: u64) {
        let mut rows = Vec::new();
        for seq in first_seq..first_seq + count {
            push_row(&mut rows, &format!("/{epoch}/{shard}/{seq}"), DAY_NS);
            if seq % 3 == 0 {
                push_open(&mut rows, "/open", DAY_NS);
            }
        }
        self.push_bytes(epoch, shard, first_seq, rows);
    }

    pub(crate) fn push_bytes(&self, epoch: u64, shard: u16, first_seq: u64, rows: Vec<u8>) {
        let mut all = self.all.lock().unwrap();
        let end = Position { segment: 1, offset: all.len() as u64 + 1 };
        all.push(SourceBlock { epoch, shard, first_seq, rows, end });
    }
}

impl Source for Blocks {
    fn next(&mut self) -> Result<Option<SourceBlock>, SourceError> {
        let block = self.all.lock().unwrap().get(self.at).cloned();
        self.at += usize::from(block.is_some());
        Ok(block)
    }

    fn seek(&mut self, position: Position) -> Result<(), SourceError> {
        self.at = usize::try_from(position.offset).expect("an index");
        Ok(())
    }
}

/// What the sink does with the next rows it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Take,
    Refuse,
    /// Stores this share of the rows, in 256ths, and says nothing of it.
    Lose(u8),
    /// The same, and never answers.
    Hang(u8),
}

/// What the sink has, and how often.
#[derive(Default)]
pub(crate) struct Stored {
    pub rows: BTreeMap<String, u32>,
    pub sends: u32,
    pub questions: u32,
}

pub(crate) struct FakeSink {
    pub stored: Rc<RefCell<Stored>>,
    /// Chooses by how many sends there were.
    pub plan: Rc<dyn Fn(u32) -> Plan>,
    /// Rows with such a path are refused, with all that are sent with them.
    pub bad: Rc<dyn Fn(&str) -> bool>,
}

impl FakeSink {
    pub(crate) fn new(stored: &Rc<RefCell<Stored>>) -> Self {
        let stored = Rc::clone(stored);
        Self { stored, plan: Rc::new(|_| Plan::Take), bad: Rc::new(|_| false) }
    }

    fn store(&self, batch: &Batch, rows: &[RowAt]) {
        let mut stored = self.stored.borrow_mut();
        for at in rows {
            let row = batch.read(at).unwrap();
            let origin = batch.origin_of(at);
            let path = format!("/{}/{}/{}", origin.epoch, origin.shard, origin.seq);
            assert_eq!(row.opened.texts.path, path, "a row has another's number");
            *stored.rows.entry(path).or_default() += 1;
        }
    }
}

impl Sink for FakeSink {
    async fn prepare(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn send(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), SinkError> {
        self.stored.borrow_mut().sends += 1;
        let sends = self.stored.borrow().sends;
        let is_bad =
            |at: &RowAt| batch.read(at).map_or(true, |row| (self.bad)(row.opened.texts.path));
        if rows.iter().any(is_bad) {
            return Err(SinkError::new(Outcome::Rejected, "one of these rows is bad"));
        }
        let share = |part: u8| &rows[..rows.len() * usize::from(part) / 255];
        match (self.plan)(sends) {
            Plan::Take => {
                self.store(batch, rows);
                Ok(())
            }
            Plan::Refuse => Err(SinkError::new(Outcome::NotTaken, "refused")),
            Plan::Lose(part) => {
                self.store(batch, share(part));
                Err(SinkError::new(Outcome::Doubtful, "the answer was lost"))
            }
            Plan::Hang(part) => {
                self.store(batch, share(part));
                let never = std::future::pending::<()>();
                let _ = tokio::time::timeout(Duration::from_secs(3_600), never).await;
                Err(SinkError::new(Outcome::Doubtful, "no answer"))
            }
        }
    }

    async fn held(&mut self, batch: &Batch) -> Result<Held, SinkError> {
        self.stored.borrow_mut().questions += 1;
        let stored = self.stored.borrow();
        let held = batch.rows.iter().filter_map(|at| {
            let origin = batch.origin_of(at);
            let path = format!("/{}/{}/{}", origin.epoch, origin.shard, origin.seq);
            stored.rows.contains_key(&path).then(|| (batch.stream_of(at), at.seq))
        });
        Ok(Held::of_numbers(held))
    }
}
