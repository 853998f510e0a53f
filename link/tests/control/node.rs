//! A node's end with a policy that is only lines of text, so that what is in force can be read off.
//!
//! In: URLs, a token, a folder. Out: a running link, and what it has put in force and refused. Always holds: every wait has a deadline.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::control::{Control, ControlConfig, LedgerPort, Pace, PolicySink, Status};
use link::wire::NodeToken;
use parking_lot::Mutex;
use policy::budget::message::{LeaseReply, LeaseRequest};
use tokio::sync::mpsc;

/// Longer than anything here takes, on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(12);

/// A base: its lines, each the word of one change.
pub fn base(lines: &[&str]) -> Vec<u8> {
    format!("base\n{}", lines.join("\n")).into_bytes()
}

/// The policy in force.
#[derive(Debug, Default)]
pub struct Lines {
    published: Mutex<Vec<(u64, Vec<String>)>>,
    refused: Mutex<Vec<String>>,
}

impl PolicySink for Lines {
    type Snapshot = Arc<Vec<String>>;

    fn load_base(&self, mut file: File, _sequence: u64) -> Result<Self::Snapshot, String> {
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let lines = text.strip_prefix("base\n").ok_or("it is no base")?;
        Ok(Arc::new(lines.lines().map(str::to_owned).collect()))
    }

    fn apply(&self, snapshot: &Self::Snapshot, delta: &[u8]) -> Result<Self::Snapshot, String> {
        let word = std::str::from_utf8(delta).map_err(|error| error.to_string())?;
        if word.starts_with("bad") {
            return Err(format!("`{word}` is bad"));
        }
        let mut lines = snapshot.to_vec();
        lines.push(word.to_owned());
        Ok(Arc::new(lines))
    }

    fn publish(&self, snapshot: &Self::Snapshot, sequence: u64) {
        self.published.lock().push((sequence, snapshot.to_vec()));
    }

    fn refused(&self, reason: &str) {
        self.refused.lock().push(reason.to_owned());
    }
}

/// A node.
pub struct Node {
    control: Option<Control>,
    pub lines: Arc<Lines>,
    pub ledger: mpsc::Sender<LeaseRequest>,
    pub replies: Arc<Mutex<Vec<LeaseReply>>>,
    pub token_file: PathBuf,
}

impl Node {
    /// Starts one with its data in `folder`.
    pub fn start(urls: &[String], token: &NodeToken, folder: &Path) -> Self {
        Self::start_that_reports(Duration::from_millis(50), urls, token, folder)
    }

    /// One that has nothing to say for `report` reports then.
    pub fn start_that_reports(
        report: Duration,
        urls: &[String],
        token: &NodeToken,
        folder: &Path,
    ) -> Self {
        let token_file = folder.join("token");
        std::fs::write(&token_file, token.reveal()).expect("it is written");
        let config = ControlConfig {
            urls: urls.iter().map(|url| url.parse().expect("a good URL")).collect(),
            token_file: token_file.clone(),
            ca_file: None,
            folder: folder.join("policy"),
            epoch: 7,
            version: "test".into(),
            pace: Pace {
                answer: Duration::from_millis(500),
                piece: Duration::from_millis(500),
                report,
                retry: (Duration::from_millis(5), Duration::from_millis(20)),
                refused: Duration::from_secs(60),
                ..Pace::default()
            },
        };
        let lines = Arc::new(Lines::default());
        let (ledger, requests) = mpsc::channel(1000);
        let replies = Arc::new(Mutex::new(Vec::new()));
        let deliver = {
            let replies = Arc::clone(&replies);
            Box::new(move |new: Vec<LeaseReply>| replies.lock().extend(new))
        };
        let port = LedgerPort { requests, deliver, observe: Box::new(|_, _| {}) };
        let control = Control::start(config, Arc::clone(&lines), port).expect("it starts");
        Self { control: Some(control), lines, ledger, replies, token_file }
    }

    pub fn status(&self) -> Status {
        self.control.as_ref().expect("it runs").state().status()
    }

    /// The sequence and the lines in force.
    pub fn in_force(&self) -> (u64, Vec<String>) {
        self.lines.published.lock().last().cloned().unwrap_or_default()
    }

    pub fn refused(&self) -> Vec<String> {
        self.lines.refused.lock().clone()
    }

    /// Waits until this is in force.
    pub fn reaches(&self, sequence: u64, lines: &[&str]) {
        let expected = (sequence, lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        self.wait(&format!("{expected:?}"), || self.in_force() == expected);
    }

    /// Waits until something holds.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < DEADLINE,
                "not in time: {what}; in force: {:?}; refused: {:?}; {:#?}",
                self.in_force(),
                self.refused(),
                self.status()
            );
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// No sequence was followed by a lower one.
    pub fn never_went_back(&self) {
        let published = self.lines.published.lock();
        assert!(published.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{published:?}");
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.control = None;
    }
}
