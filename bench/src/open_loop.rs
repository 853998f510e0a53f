//! Open-loop load: requests leave on a schedule whatever the answers do, so a server's stall is seen by every request
//! that should have been sent meanwhile (no coordinated omission, which `wrk` and `h2load --rps` have).
//!
//! In: an address, a request, connections, a rate, an origin for this thread or none, the cores used. Out: the latencies, sorted,
//! without those that met a stall of the machine (`stalls.rs`).
//! Always holds: a request that waited for a free connection counts from its due time; one sent at once from its
//! sending, so that the generator's own lateness is not laid at the server's door.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::clock;
use crate::load::{Request, TRACE, TRACE_DIGITS};
use crate::near_origin::NearOrigin;
use crate::peers::HOST;
use crate::process::Server;
use crate::scatter::scatter;
use crate::stalls::{self, Stall, Watch};

/// How late the kernel may wake this thread; by default 50 µs.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::new(1_000).expect("it is not zero");
/// Beside a server on the same core requests leave in bursts this far apart: woken for each, the load would be busy with that and
/// measure itself.
const BURST: Duration = Duration::from_micros(100);
/// Requests are sent this long before they count: by then each connection is accepted and has carried some, here and at the origin.
const WARM_UP: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 256 << 10;

/// Latencies of one run.
pub struct Latencies {
    /// In nanoseconds, sorted.
    ns: Vec<u64>,
    /// Requests set aside because they met a stall of the machine.
    set_aside: usize,
}

impl Latencies {
    fn new(spans: &[(Instant, Instant)], stalls: &[Stall]) -> Self {
        let mut ns: Vec<u64> = spans
            .iter()
            .filter(|span| !stalls::met(stalls, **span))
            .map(|(sent, done)| done.saturating_duration_since(*sent).as_nanos() as u64)
            .collect();
        ns.sort_unstable();
        Self { set_aside: spans.len() - ns.len(), ns }
    }

    /// Requests that were sent.
    pub fn requests(&self) -> u64 {
        (self.ns.len() + self.set_aside) as u64
    }

    /// The share of all requests, in per cent, that was set aside for a stall of the machine.
    pub fn set_aside_percent(&self) -> f64 {
        100.0 * self.set_aside as f64 / (self.ns.len() + self.set_aside).max(1) as f64
    }

    /// The latency in microseconds that `share` (0 to 1) of all requests did not exceed.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let last = self.ns.len().saturating_sub(1);
        let at = (share * self.ns.len() as f64).ceil() as usize;
        self.ns.get(at.saturating_sub(1).min(last)).map_or(0.0, |ns| *ns as f64 / 1e3)
    }
}

struct Connection {
    stream: TcpStream,
    answer: Answer,
    since: Instant,
    /// Whether the request under way counts, or only warms up.
    counts: bool,
}

/// What is sent.
pub struct Load<'a> {
    pub address: &'a str,
    pub request: &'a Request,
    pub connections: usize,
    /// Requests a second.
    pub rate: f64,
    pub span: Duration,
}

/// Latencies of a load with whatever else the machine does kept out of them: the `servers` and this thread go first on their
/// `cores`. An `origin` given here is served by this thread, too, which does not sleep then, and requests leave at random times
/// rather than in bursts.
pub fn undisturbed(
    load: &Load<'_>,
    origin: Option<&mut NearOrigin>,
    (servers, cores): (&[&Server], &[usize]),
) -> Result<Latencies> {
    let go_first = |first| {
        servers.iter().try_for_each(|server| server.go_first(first))?;
        stalls::load_goes_first(first)
    };
    go_first(true)?;
    let latencies = open_loop(load, origin, cores);
    go_first(false)?;
    latencies
}

/// Sends the load, after some requests that do not count.
fn open_loop(
    load: &Load<'_>,
    origin: Option<&mut NearOrigin>,
    cores: &[usize],
) -> Result<Latencies> {
    ensure!(load.rate >= 1.0, "a rate of {} a second is too low to measure", load.rate);
    let watch = Watch::start(cores);
    let mut run = Run::new(load, origin)?;
    // Twice the time: a server that cannot keep the rate is not waited for.
    let driven = run.drive(load.span * 2 + Duration::from_secs(5));
    let stalls = watch.end()?;
    driven?;
    Ok(Latencies::new(&run.spans, &stalls))
}

/// When requests are due, since the start: evenly spread, or at random as those of many clients are, the same each time.
fn schedule(rate: f64, count: usize, is_random: bool) -> Vec<Duration> {
    let mut state = 1;
    let mut due = 0.0;
    let gap = |_| {
        let share = scatter(&mut state) as f64 / u64::MAX as f64;
        due += if is_random { -(1.0 - share).max(f64::EPSILON).ln() } else { 1.0 } / rate;
        Duration::from_secs_f64(due)
    };
    (0..count).map(gap).collect()
}

struct Run<'a> {
    /// Where there is one, this thread never sleeps.
    origin: Option<&'a mut NearOrigin>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    message: Vec<u8>,
    /// Where in it a number stands that is another each time.
    number_at: Option<usize>,
    status: u16,
    start: Instant,
    next_burst: Instant,
    /// When each request is due.
    schedule: Vec<Duration>,
    sent: usize,
    answered: usize,
    /// How many of the first do not count.
    warm: usize,
    buffer: Vec<u8>,
    /// From when each request counts, and when it was answered.
    spans: Vec<(Instant, Instant)>,
}

impl<'a> Run<'a> {
    fn new(load: &Load<'_>, origin: Option<&'a mut NearOrigin>) -> Result<Self> {
        let &Load { address, request, connections, rate, span } = load;
        let warm = (rate * WARM_UP.as_secs_f64()) as usize;
        let total = warm + (rate * span.as_secs_f64()) as usize;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::with_capacity(connections);
        let start = clock::now();
        for index in 0..connections {
            let stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            let answer = Answer::default();
            open.push(Connection { stream, answer, since: start, counts: false });
        }
        rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS))?;
        let authorization = request
            .token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let mut message =
            format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}", request.path);
        let number_at = request.differs.then_some(message.len() + TRACE.1);
        if request.differs {
            message += TRACE.0;
            message += "\r\n";
        }
        message += "\r\n";
        Ok(Self {
            schedule: schedule(rate, total, origin.is_some()),
            origin,
            epoll,
            connections: open,
            free: (0..connections).collect(),
            message: message.into_bytes(),
            number_at,
            status: request.status,
            start,
            next_burst: start,
            sent: 0,
            answered: 0,
            warm,
            buffer: vec![0; READ_BYTES],
            spans: Vec::with_capacity(1 << 20),
        })
    }

    /// When the next request is due; none after the last.
    fn due(&self) -> Option<Instant> {
        self.schedule.get(self.sent).map(|due| self.start + *due)
    }

    /// How long to wait for answers: until the next request is due, where it has a connection to leave on.
    fn until_due(&self) -> Timespec {
        let longest = Duration::from_secs(1);
        let due = match self.due().filter(|_| !self.free.is_empty()) {
            _ if self.origin.is_some() => Duration::ZERO,
            None => longest,
            Some(due) => {
                due.max(self.next_burst).saturating_duration_since(clock::now()).min(longest)
            }
        };
        Timespec { tv_sec: due.as_secs().cast_signed(), tv_nsec: due.subsec_nanos().into() }
    }

    fn drive(&mut self, limit: Duration) -> Result<()> {
        self.start = clock::now();
        let mut events = Vec::with_capacity(256);
        while self.answered < self.schedule.len() {
            events.clear();
            let filled = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.epoll, filled, Some(&self.until_due()))?;
            for event in &events {
                self.receive(event.data.u64() as usize)?;
            }
            if let Some(origin) = &mut self.origin {
                origin.turn()?;
            }
            self.send_due()?;
            if clock::now() > self.start + limit {
                self.give_up();
                break;
            }
        }
        Ok(())
    }

    /// A server that fell behind: what it owes counts with the time it has been owed for.
    fn give_up(&mut self) {
        let now = clock::now();
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.counts && !self.free.contains(&index) {
                self.spans.push((connection.since, now));
            }
        }
        let unsent = self.schedule.iter().skip(self.sent.max(self.warm));
        self.spans.extend(unsent.map(|due| (self.start + *due, now)));
    }

    fn send_due(&mut self) -> Result<()> {
        let now = clock::now();
        if now < self.next_burst {
            return Ok(());
        }
        if self.origin.is_none() {
            self.next_burst = now + BURST;
        }
        while let Some(due) = self.due() {
            let now = clock::now();
            if due > now {
                break;
            }
            let Some(index) = self.free.pop_front() else { break };
            self.send(index, now)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, since: Instant) -> Result<()> {
        let connection = &mut self.connections[index];
        connection.since = since;
        connection.counts = self.sent >= self.warm;
        if let Some(at) = self.number_at {
            let number = format!("{:0TRACE_DIGITS$x}", self.sent);
            self.message[at..at + TRACE_DIGITS].copy_from_slice(number.as_bytes());
        }
        self.sent += 1;
        connection.stream.write_all(&self.message).context("the server closed a connection")
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        loop {
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the server broke a connection"),
            };
            if let Some(status) = connection.answer.feed(&self.buffer[..read])? {
                // What warms up may still spend a subscription's last units.
                let is_right = status == self.status || !connection.counts;
                ensure!(is_right, "answer {status}, {} expected", self.status);
                break;
            }
        }
        let now = clock::now();
        self.answered += 1;
        let connection = &self.connections[index];
        if connection.counts {
            self.spans.push((connection.since, now));
        }
        // A request that is due already has waited for this connection since its due time.
        if let Some(due) = self.due().filter(|due| self.free.is_empty() && *due < now) {
            return self.send(index, due);
        }
        self.free.push_back(index);
        Ok(())
    }
}

/// How far an answer with a Content-Length has been received.
#[derive(Default)]
pub struct Answer {
    head: Vec<u8>,
    status: u16,
    body_left: u64,
}

impl Answer {
    /// The status once the whole answer is there.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<u16>> {
        if self.status == 0 {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                ensure!(self.head.len() < 64 << 10, "an answer's head without end");
                return Ok(None);
            };
            bytes = &bytes[end + 4 - before..];
            let head = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            self.status =
                head.get(9..12).and_then(|code| code.parse().ok()).context("no status line")?;
            self.body_left = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .context("an answer without Content-Length")?;
        }
        ensure!(bytes.len() as u64 <= self.body_left, "more bytes than the answer's length");
        self.body_left -= bytes.len() as u64;
        if self.body_left > 0 {
            return Ok(None);
        }
        let status = self.status;
        self.head.clear();
        self.status = 0;
        Ok(Some(status))
    }
}

#[cfg(test)]
#[path = "open_loop_tests.rs"]
mod tests;
