//! An origin on the thread of the load: it answers from memory, and only when it is told to look.
//!
//! In: connections of proxies, on which requests without a body come one after the other. Out: of each the body its path's last
//! part names. Always holds: nothing here waits; an answer that the socket does not take whole goes on when it can.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, EventFlags};
use rustix::time::Timespec;

/// The data of the listener's events; connections have their number.
const LISTENER: u64 = u64::MAX;
/// More than a request's head.
const READ_BYTES: usize = 16 << 10;

/// The origin.
pub struct NearOrigin {
    address: String,
    listener: TcpListener,
    epoll: OwnedFd,
    /// By the end of the path: name and the whole answer.
    answers: Vec<(String, Vec<u8>)>,
    /// A place is empty when its connection has ended.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// What has come of a request's head.
    head: Vec<u8>,
    /// Which answer is under way, and how much of it has gone.
    answering: Option<(usize, usize)>,
}

impl NearOrigin {
    /// Listens on a free port; answers `/…/NAME` with so many bytes.
    pub fn bind(bodies: &[(&str, usize)]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port for the origin")?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), EventFlags::IN)?;
        let answer = |(name, bytes): &(&str, usize)| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 29 Nov 2026 06:00:00 GMT\r\n\
                 Content-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\
                 Connection: keep-alive\r\nLast-Modified: Sat, 28 Nov 2026 16:00:00 GMT\r\n\
                 ETag: \"69c1f0a2-64\"\r\nAccept-Ranges: bytes\r\n\r\n"
            );
            let mut whole = head.into_bytes();
            whole.resize(whole.len() + bytes, b'x');
            (format!("/{name}"), whole)
        };
        Ok(Self {
            address: listener.local_addr()?.to_string(),
            listener,
            epoll,
            answers: bodies.iter().map(answer).collect(),
            connections: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Where it is reached.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes what has come and sends what can go.
    pub fn turn(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&now))?;
        for event in &events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                index => self.serve(index as usize)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the origin cannot accept"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let free = self.connections.iter().position(Option::is_none);
            let index = free.unwrap_or(self.connections.len());
            let data = epoll::EventData::new_u64(index as u64);
            // Told once of each change: an idle connection can always be written to.
            epoll::add(
                &self.epoll,
                &stream,
                data,
                EventFlags::IN | EventFlags::OUT | EventFlags::ET,
            )?;
            let connection = Connection { stream, head: Vec::new(), answering: None };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
    }

    fn serve(&mut self, index: usize) -> Result<()> {
        let Some(place) = self.connections.get_mut(index) else { return Ok(()) };
        let Some(connection) = place else { return Ok(()) };
        if !connection.serve(&self.answers, &mut self.buffer)? {
            *place = None;
        }
        Ok(())
    }
}

impl Connection {
    /// False when it has ended.
    fn serve(&mut self, answers: &[(String, Vec<u8>)], buffer: &mut [u8]) -> Result<bool> {
        loop {
            if !self.answer(answers) {
                return Ok(false);
            }
            let read = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                // A proxy that ends may reset what it no longer wants.
                Err(_) => return Ok(false),
            };
            self.head.extend_from_slice(&buffer[..read]);
            if self.head.ends_with(b"\r\n\r\n") {
                let path = self.head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
                let known = answers.iter().position(|(name, _)| path.ends_with(name.as_bytes()));
                let Some(known) = known else {
                    bail!("the origin was asked for {}", String::from_utf8_lossy(path))
                };
                self.answering = Some((known, 0));
                self.head.clear();
            } else if self.head.len() > READ_BYTES {
                bail!("a request's head without end came to the origin");
            }
            if read < buffer.len() {
                // Nothing more has come; what does will be told.
                return Ok(self.answer(answers));
            }
        }
    }

    /// Sends what is left of the answer, as far as the socket takes it. False when the connection has ended.
    fn answer(&mut self, answers: &[(String, Vec<u8>)]) -> bool {
        while let Some((known, sent)) = self.answering {
            let left = &answers[known].1[sent..];
            match self.stream.write(left) {
                Ok(wrote) if wrote == left.len() => self.answering = None,
                Ok(wrote) => self.answering = Some((known, sent + wrote)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_whole_however_slowly_they_are_read() {
        let mut origin = NearOrigin::bind(&[("few", 3), ("many", 8 << 20)]).expect("a free port");
        let mut client = TcpStream::connect(origin.address()).expect("it listens");
        client.set_nonblocking(true).expect("a socket");
        for (path, bytes) in [("/paid/few", 3), ("/many", 8 << 20), ("/paid/few", 3)] {
            write!(client, "GET {path} HTTP/1.1\r\nHost: ").expect("it takes a head's beginning");
            origin.turn().expect("no failure");
            write!(client, "x\r\n\r\n").expect("it takes the rest");
            let mut got = Vec::new();
            let ends = format!("Content-Length: {bytes}\r\n");
            let is_whole = |got: &[u8]| {
                let head = got.windows(4).position(|four| four == b"\r\n\r\n");
                head.is_some_and(|head| got.len() == head + 4 + bytes)
            };
            assert!(crate::clock::wait_until(std::time::Duration::from_secs(20), || {
                for _ in 0..1000 {
                    origin.turn().expect("no failure");
                    let mut some = [0; 64 << 10];
                    if let Ok(read) = client.read(&mut some) {
                        got.extend_from_slice(&some[..read]);
                    }
                }
                is_whole(&got)
            }));
            assert!(String::from_utf8_lossy(&got[..400.min(got.len())]).contains(&ends), "{path}");
        }
        drop(client);
        assert!(crate::clock::wait_until(std::time::Duration::from_secs(20), || {
            origin.turn().expect("no failure");
            origin.connections.iter().all(Option::is_none)
        }));
    }

    #[test]
    fn what_nobody_serves_is_an_error() {
        let mut origin = NearOrigin::bind(&[("few", 3)]).expect("a free port");
        let mut client = TcpStream::connect(origin.address()).expect("it listens");
        write!(client, "GET /other HTTP/1.1\r\n\r\n").expect("a socket");
        let mut failed = false;
        assert!(crate::clock::wait_until(std::time::Duration::from_secs(20), || {
            failed |= origin.turn().is_err();
            failed
        }));
    }
}
