//! Open-loop load: requests leave on a schedule whatever the answers do, so a server's stall is seen by every request
//! that should have been sent meanwhile (no coordinated omission, which `wrk` and `h2load --rps` have).
//!
//! In: an address, a request, connections, a rate. Out: the latencies, sorted.
//! Always holds: a request that waited for a free connection counts from its due time; one sent at once from its
//! sending, so that the generator's own lateness is not laid at the server's door.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock;
use crate::load::Request;
use crate::peers::HOST;

const TIMER: u64 = u64::MAX;
const READ_BYTES: usize = 256 << 10;

/// Latencies of one run in nanoseconds, sorted.
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// The latency in microseconds that `share` (0 to 1) of all requests did not exceed.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(at.saturating_sub(1).min(last)).map_or(0.0, |ns| *ns as f64 / 1e3)
    }
}

struct Connection {
    stream: TcpStream,
    answer: Answer,
    since: Instant,
}

/// Sends `rate` requests a second for `seconds` over `connections`.
pub fn open_loop(
    address: &str,
    request: &Request,
    connections: usize,
    rate: f64,
    seconds: u64,
) -> Result<Latencies> {
    ensure!(rate >= 1.0, "a rate of {rate} a second is too low to measure");
    let mut run = Run::new(address, request, connections, rate)?;
    let total = (rate * seconds as f64) as u64;
    run.total = total;
    // Twice the time: a server that cannot keep the rate is not waited for.
    run.drive(Duration::from_secs(seconds * 2 + 5))?;
    run.latencies_ns.sort_unstable();
    Ok(Latencies(run.latencies_ns))
}

struct Run {
    epoll: OwnedFd,
    /// Its expiries wake the loop.
    timer: OwnedFd,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    message: Vec<u8>,
    status: u16,
    start: Instant,
    period: Duration,
    sent: u64,
    total: u64,
    buffer: Vec<u8>,
    latencies_ns: Vec<u64>,
}

impl Run {
    fn new(address: &str, request: &Request, connections: usize, rate: f64) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut open = Vec::with_capacity(connections);
        let start = clock::now();
        for index in 0..connections {
            let stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            open.push(Connection { stream, answer: Answer::default(), since: start });
        }
        let period = Duration::from_secs_f64(1.0 / rate);
        let timer = periodic_timer(period)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let authorization = request
            .token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        let message =
            format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n", request.path);
        Ok(Self {
            epoll,
            timer,
            connections: open,
            free: (0..connections).collect(),
            message: message.into_bytes(),
            status: request.status,
            start,
            period,
            sent: 0,
            total: 0,
            buffer: vec![0; READ_BYTES],
            latencies_ns: Vec::new(),
        })
    }

    fn due(&self, number: u64) -> Instant {
        self.start + self.period.mul_f64(number as f64)
    }

    fn drive(&mut self, limit: Duration) -> Result<()> {
        self.start = clock::now();
        let mut events = Vec::with_capacity(256);
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        while (self.latencies_ns.len() as u64) < self.total {
            events.clear();
            let filled = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.epoll, filled, Some(&second))?;
            for event in &events {
                let index = event.data.u64();
                if index == TIMER {
                    // The kernel starts a periodic timer anew only when its expiries are read.
                    match rustix::io::read(&self.timer, &mut [0u8; 8]) {
                        Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                        Err(error) => return Err(error).context("the timer cannot be read"),
                    }
                } else {
                    self.receive(index as usize)?;
                }
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
        let owed = |since: Instant| now.saturating_duration_since(since).as_nanos() as u64;
        for (index, connection) in self.connections.iter().enumerate() {
            if !self.free.contains(&index) {
                self.latencies_ns.push(owed(connection.since));
            }
        }
        for number in self.sent..self.total {
            self.latencies_ns.push(owed(self.due(number)));
        }
    }

    fn send_due(&mut self) -> Result<()> {
        while self.sent < self.total {
            let now = clock::now();
            if self.due(self.sent) > now {
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
                ensure!(status == self.status, "answer {status}, {} expected", self.status);
                break;
            }
        }
        let now = clock::now();
        self.latencies_ns.push((now - self.connections[index].since).as_nanos() as u64);
        // A request that is due already has waited for this connection since its due time.
        let due = self.due(self.sent);
        if self.sent < self.total && self.free.is_empty() && due < now {
            return self.send(index, due);
        }
        self.free.push_back(index);
        Ok(())
    }
}

fn periodic_timer(period: Duration) -> Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let every =
        Timespec { tv_sec: period.as_secs().cast_signed(), tv_nsec: period.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: every, it_value: every };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}

/// How far an answer with a Content-Length has been received.
#[derive(Default)]
struct Answer {
    head: Vec<u8>,
    status: u16,
    body_left: u64,
}

impl Answer {
    /// The status once the whole answer is there.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<u16>> {
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
