//! An origin that records every byte it receives and answers as the test says.
//!
//! In: a script, which gives each request its reply. Out: requests as received, and raw bytes, whole or not.
//! Always holds: it understands requests as strictly as they are framed and nothing else, so what a gateway smuggles
//! through shows as one request more.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::tls::Session;
use super::wait::{DEADLINE, own_address, wait_for};

/// One whole request as the origin received it.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Received {
    /// The values of `name`, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of `name`; `None` without one.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "the origin received {name} {} times: {self:?}", values.len());
        values.first().copied()
    }
}

/// What the origin does in answer to a request, step by step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends bytes below TLS, as they are.
    SendBelow(Vec<u8>),
    /// Asks for new keys in both directions (TLS 1.3).
    RenewKeys,
    /// Waits until the test calls `release` with this name.
    Await(&'static str),
    /// Sends back whatever comes, until the other side ends.
    Echo,
    /// Ends its side of the connection, then the connection; with TLS it says so first.
    Close,
    /// The same without a word.
    Cut,
    /// Breaks the connection off with a reset.
    Reset,
}

/// What a gateway agreed on in a handshake with this origin.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub version: rustls::ProtocolVersion,
    pub is_resumed: bool,
    /// The name it asked for.
    pub name: Option<String>,
    /// The certificate it showed.
    pub certificate: Option<CertificateDer<'static>>,
    pub alpn: Option<Vec<u8>>,
}

type Script = dyn Fn(&Received) -> Vec<Step> + Send + Sync;

#[derive(Default)]
struct Seen {
    requests: Vec<Received>,
    raw: Vec<Vec<u8>>,
    ended: Vec<bool>,
    released: Vec<String>,
    greetings: Vec<Greeting>,
}

/// A running origin; its threads end with the test's process.
#[derive(Clone)]
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    tls: Option<Arc<ServerConfig>>,
}

impl Origin {
    /// An origin that answers as `script` says.
    pub fn start(script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_at(own_address(), script)
    }

    /// The same at an address that was refused so far.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::run(address, None, script)
    }

    /// An origin that speaks TLS; whoever issues its certificate must know its address first.
    pub fn start_tls_at(
        address: SocketAddr,
        config: ServerConfig,
        script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::run(address, Some(Arc::new(config)), script)
    }

    fn run(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("an address of its own");
        let address = listener.local_addr().expect("a socket has an address");
        let origin = Self { address, seen: Arc::default(), tls };
        let accepting = origin.clone();
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (origin, script) = (accepting.clone(), Arc::clone(&script));
                std::thread::spawn(move || origin.serve(stream.expect("a connection"), &*script));
            }
        });
        origin
    }

    /// Answers every request with 200 and the body `ok`.
    pub fn ok() -> Self {
        Self::start(|_| reply("200 OK", &[], "ok"))
    }

    /// The whole requests received so far.
    pub fn requests(&self) -> Vec<Received> {
        self.lock().requests.clone()
    }

    /// The only request received so far.
    #[track_caller]
    pub fn request(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the origin: {requests:?}");
        requests.into_iter().next().expect("one")
    }

    /// Waits for the request number `count` (from 1) and returns it.
    #[track_caller]
    pub fn wait_request(&self, count: usize) -> Received {
        wait_for(&format!("request {count} at the origin"), || {
            self.lock().requests.get(count - 1).cloned()
        })
    }

    /// The handshakes that ended well so far, in order.
    pub fn greetings(&self) -> Vec<Greeting> {
        self.lock().greetings.clone()
    }

    /// All plain bytes received so far, on all connections.
    pub fn raw(&self) -> Vec<u8> {
        self.lock().raw.concat()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.lock().raw.len()
    }

    /// Waits until all connections have ended.
    #[track_caller]
    pub fn wait_all_ended(&self) {
        wait_for("the end of all connections to the origin", || {
            self.lock().ended.iter().all(|ended| *ended).then_some(())
        });
    }

    /// Lets every `Step::Await(name)` go on, now and later.
    pub fn release(&self, name: &str) {
        self.lock().released.push(name.to_owned());
        self.seen.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.0.lock().expect("no thread of the origin panics under the lock")
    }

    fn await_release(&self, name: &str) {
        let released = |seen: &mut Seen| !seen.released.iter().any(|found| found == name);
        let (_guard, timeout) =
            self.seen.1.wait_timeout_while(self.lock(), DEADLINE, released).expect("no panic");
        assert!(!timeout.timed_out(), "'{name}' was never released");
    }

    fn serve(&self, stream: TcpStream, script: &Script) {
        let number = {
            let mut seen = self.lock();
            seen.raw.push(Vec::new());
            seen.ended.push(false);
            seen.raw.len() - 1
        };
        let mut reader = Reader { origin: self, stream, session: None, number, buffer: Vec::new() };
        if let Some(config) = &self.tls
            && !reader.greet(config)
        {
            self.lock().ended[number] = true;
            return;
        }
        while let Some(request) = reader.request() {
            self.lock().requests.push(request.clone());
            if !reader.play(script(&request)) {
                break;
            }
        }
        self.lock().ended[number] = true;
    }
}

/// A plain reply with Content-Length.
pub fn reply(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<Step> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    vec![Step::Send(format!("{text}\r\n{body}").into_bytes())]
}

/// Bytes as they are.
pub fn raw(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec())]
}

struct Reader<'a> {
    origin: &'a Origin,
    stream: TcpStream,
    session: Option<Session>,
    number: usize,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Does the handshake; whether it came to something.
    fn greet(&mut self, config: &Arc<ServerConfig>) -> bool {
        let Ok(session) = Session::server(&mut self.stream, config) else { return false };
        self.origin.lock().greetings.push(Greeting {
            version: session.version(),
            is_resumed: session.is_resumed(),
            name: session.server_name(),
            certificate: session.peer(),
            alpn: session.alpn().map(<[u8]>::to_vec),
        });
        self.session = Some(session);
        true
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.session {
            None => self.stream.write_all(bytes),
            Some(session) => session.write_all(&mut self.stream, bytes),
        }
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 65536];
        let read = match &mut self.session {
            None => self.stream.read(&mut piece),
            Some(session) => session.read(&mut self.stream, &mut piece),
        };
        let Ok(read @ 1..) = read else { return false };
        let mut seen = self.origin.lock();
        // The first bytes tell all there is to tell; a gigabyte of body would only fill memory.
        if seen.raw[self.number].len() < 1 << 20 {
            seen.raw[self.number].extend_from_slice(&piece[..read]);
        }
        self.buffer.extend_from_slice(&piece[..read]);
        true
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect::<Vec<u8>>();
                return Some(line.iter().map(|byte| char::from(*byte)).collect());
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more() {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn request(&mut self) -> Option<Received> {
        let line = self.line()?;
        let mut words = line.split(' ').map(str::to_owned);
        let mut request = Received {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            version: words.next().unwrap_or_default(),
            headers: self.fields()?,
            ..Received::default()
        };
        if request.header("Expect").is_some() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if request.header("Transfer-Encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).ok()?;
                if size == 0 {
                    break;
                }
                request.body.extend(self.exactly(size)?);
                self.exactly(2)?;
            }
            request.trailers = self.fields()?;
        } else if let Some(length) = request.header("Content-Length") {
            request.body = self.exactly(length.parse().ok()?)?;
        }
        Some(request)
    }

    /// Whether the connection goes on.
    fn play(&mut self, steps: Vec<Step>) -> bool {
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    if self.send(&bytes).is_err() {
                        return false;
                    }
                }
                Step::SendBelow(bytes) => {
                    if self.stream.write_all(&bytes).is_err() {
                        return false;
                    }
                }
                Step::RenewKeys => {
                    let session = self.session.as_mut().expect("TLS");
                    session.refresh_keys(&mut self.stream);
                }
                Step::Await(name) => self.origin.await_release(name),
                Step::Echo => {
                    let mut pending = std::mem::take(&mut self.buffer);
                    while self.send(&pending).is_ok() && self.more() {
                        pending = std::mem::take(&mut self.buffer);
                    }
                    return false;
                }
                Step::Close | Step::Cut => {
                    if let (Step::Close, Some(session)) = (&step, &mut self.session) {
                        session.say_goodbye(&mut self.stream);
                    }
                    let _ = self.stream.shutdown(Shutdown::Write);
                    return false;
                }
                Step::Reset => {
                    let socket = socket2::SockRef::from(&self.stream);
                    socket.set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket");
                    return false;
                }
            }
        }
        true
    }
}
