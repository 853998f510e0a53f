//! Load on a server that dies and comes back: each connection asks one request after the other, and connects anew when it is cut off.
//!
//! In: an address, a request. Out: how many answers of each kind came whole, and how many requests were cut off.
//! Always holds: what is counted as answered was received to its last byte; what was sent without that counts as cut off.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;
use crate::open_loop::Answer;

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a connection is tried while nobody listens.
const RETRY: Duration = Duration::from_millis(5);

/// What is asked of whom, and what came of it.
pub struct Load {
    address: String,
    message: String,
    is_over: AtomicBool,
    /// Answers with 200.
    pub admitted: AtomicU64,
    /// Answers with 429.
    pub refused: AtomicU64,
    /// Any other answer.
    pub other: AtomicU64,
    /// Requests without a whole answer.
    pub cut: AtomicU64,
}

impl Load {
    /// Nothing is asked yet.
    pub fn new(address: &str, message: String) -> Self {
        let none = AtomicU64::default;
        let (address, is_over) = (address.to_owned(), AtomicBool::new(false));
        Self {
            address,
            message,
            is_over,
            admitted: none(),
            refused: none(),
            other: none(),
            cut: none(),
        }
    }

    /// Tells all connections to stop after their current request.
    pub fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// One connection's requests.
    pub fn ask_until_over(&self) {
        while !self.is_over() {
            let Ok(mut stream) = self.connect() else {
                clock::wait_until(RETRY, || self.is_over());
                continue;
            };
            while !self.is_over() {
                let status = self.ask(&mut stream);
                let count = match status {
                    Some(200) => &self.admitted,
                    Some(429) => &self.refused,
                    Some(_) => &self.other,
                    None => &self.cut,
                };
                count.fetch_add(1, Relaxed);
                if status.is_none() {
                    break;
                }
            }
        }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// The status of an answer that came whole.
    fn ask(&self, stream: &mut TcpStream) -> Option<u16> {
        stream.write_all(self.message.as_bytes()).ok()?;
        let (mut answer, mut piece) = (Answer::default(), [0; 4096]);
        loop {
            let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
            if let Some(status) = answer.feed(&piece[..read]).ok()? {
                return Some(status);
            }
        }
    }
}
