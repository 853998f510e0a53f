//! Between the sink and a server, and not always on the sink's side.
//!
//! In: connections. Out: the same, or what goes wrong with them. Always holds: a fault is one of those that networks and servers
//! have; the server never knows of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// What happens to connections and requests from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    None,
    /// Connections are closed at once.
    Refuse,
    /// Every request is answered with 500 and reaches nobody.
    Answer500,
    /// Nothing is read or answered.
    Hang,
    /// The server gets the request, and the answer is lost.
    LoseAnswer,
    /// The server gets the request, and the answer never comes, nor an end.
    HoldAnswer,
    /// The server gets the first part of the request.
    CutRequest,
    /// The server gets the request long after the client has given up.
    DeliverLate,
}

const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::Refuse,
    Fault::Answer500,
    Fault::Hang,
    Fault::LoseAnswer,
    Fault::HoldAnswer,
    Fault::CutRequest,
    Fault::DeliverLate,
];

/// How late, in turn: while what was sent may still be stored, and after that.
const LATE: [Duration; 3] =
    [Duration::from_millis(4_500), Duration::from_millis(4_500), Duration::from_millis(8_000)];

pub struct Proxy {
    pub url: String,
    fault: Arc<AtomicU8>,
    /// How often a fault has struck.
    pub struck: Arc<AtomicU64>,
    /// Requests that are still to be delivered.
    pub late: Arc<AtomicU64>,
}

impl Proxy {
    /// To a server on this port.
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (fault, struck) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let late = Arc::new(AtomicU64::new(0));
        let late_count = Arc::clone(&late);
        let (of_thread, count) = (Arc::clone(&fault), Arc::clone(&struck));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (fault, struck) = (Arc::clone(&of_thread), Arc::clone(&count));
                let late = Arc::clone(&late_count);
                // A connection that ends in an error has ended.
                thread::spawn(move || drop(serve(client, to, &fault, &struck, &late)));
            }
        });
        Self { url, fault, struck, late }
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, SeqCst);
    }
}

/// Never returns: holds what it has.
fn hold() {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_secs(600));
}

/// Questions get through where only what stores something is to suffer.
fn spares(fault: Fault, request: &[u8]) -> bool {
    let is_insert =
        request.starts_with(b"POST") && contains(&request[..request.len().min(2_000)], b"INSERT");
    let spares_questions = matches!(
        fault,
        Fault::LoseAnswer | Fault::HoldAnswer | Fault::CutRequest | Fault::DeliverLate
    );
    spares_questions && !is_insert
}

fn serve(
    mut client: TcpStream,
    to: u16,
    fault: &AtomicU8,
    struck: &AtomicU64,
    late: &AtomicU64,
) -> std::io::Result<()> {
    if FAULTS[usize::from(fault.load(SeqCst))] == Fault::Refuse {
        struck.fetch_add(1, SeqCst);
        return Ok(());
    }
    let mut strikes = 0;
    loop {
        let request = match read_request(&mut client) {
            Some(request) => request,
            None => return Ok(()),
        };
        let now = FAULTS[usize::from(fault.load(SeqCst))];
        let now = if spares(now, &request) { Fault::None } else { now };
        if now != Fault::None {
            strikes = struck.fetch_add(1, SeqCst);
        }
        match now {
            Fault::Refuse => return Ok(()),
            Fault::Hang => {
                hold();
                return Ok(());
            }
            Fault::Answer500 => {
                client.write_all(
                    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\nnot today",
                )?;
                continue;
            }
            _ => {}
        }
        if now == Fault::DeliverLate {
            let (_sender, receiver) = mpsc::channel::<()>();
            late.fetch_add(1, SeqCst);
            let _ = receiver.recv_timeout(LATE[strikes as usize % LATE.len()]);
        }
        let mut server = TcpStream::connect(("127.0.0.1", to))?;
        if now == Fault::CutRequest {
            server.write_all(&request[..request.len() * 2 / 3])?;
            server.shutdown(Shutdown::Both)?;
            return Ok(());
        }
        server.write_all(&request)?;
        let answer = read_answer(&mut server);
        match now {
            Fault::LoseAnswer => return Ok(()),
            Fault::DeliverLate => {
                late.fetch_sub(1, SeqCst);
                return Ok(());
            }
            Fault::HoldAnswer => {
                hold();
                return Ok(());
            }
            _ => client.write_all(&answer)?,
        }
        if answer.is_empty() {
            return Ok(());
        }
    }
}

/// A whole request: a head, and a body by length or in chunks.
fn read_request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = read_until(stream, &mut bytes, |bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4))?;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        // An empty chunk ends it; looked for at the end only, since any bytes may stand within.
        read_until(stream, &mut bytes, |bytes| {
            bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len())
        })?;
    } else {
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        read_until(stream, &mut bytes, |bytes| (bytes.len() >= head + length).then_some(0))?;
    }
    Some(bytes)
}

fn read_answer(server: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An answer that ends early is passed on as it is.
    let _ = read_answer_into(server, &mut bytes);
    bytes
}

fn read_answer_into(server: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<usize> {
    let head = read_until(server, bytes, |bytes| find(bytes, b"\r\n\r\n").map(|at| at + 4))?;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        read_until(server, bytes, |bytes| {
            (bytes.ends_with(b"\r\n0\r\n\r\n") || bytes[head..] == *b"0\r\n\r\n")
                .then_some(bytes.len())
        })
    } else {
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        read_until(server, bytes, |bytes| (bytes.len() >= head + length).then_some(0))
    }
}

fn read_until(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    is_enough: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let mut piece = vec![0; 64 << 10];
    loop {
        if let Some(at) = is_enough(bytes) {
            return Some(at);
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    find(bytes, part).is_some()
}
