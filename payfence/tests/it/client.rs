//! A client that sends exactly the bytes it is given and takes answers apart strictly.
//!
//! In: bytes. Out: answers, or how the connection ended.
//! Always holds: an answer that does not follow its own framing fails the test, so truncation cannot pass for success.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use super::tls::Session;
use super::wait::DEADLINE;

/// One answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The only value of `name`; `None` without one.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut same = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let value = same.next().map(|(_, value)| value.as_str());
        assert!(same.next().is_none(), "{name} is repeated: {self:?}");
        value
    }

    /// The header's number.
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}"))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `reason` of a problem body; empty where the body is no problem.
    pub fn reason(&self) -> String {
        if self.header("Content-Type") != Some("application/problem+json") {
            return String::new();
        }
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    session: Option<Session>,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the gateway accepts"))
    }

    /// Connects where somebody may listen or not.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).ok().map(Self::over)
    }

    /// Connects from an address of this machine.
    #[track_caller]
    pub fn connect_from(from: std::net::IpAddr, address: SocketAddr) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of this machine");
        socket.connect(&address.into()).expect("the gateway accepts");
        Self::over(socket.into())
    }

    #[track_caller]
    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, session: None, buffer: Vec::new() }
    }

    /// Connects and begins a TLS session, for which it asks for `name`.
    #[track_caller]
    pub fn secure(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let client = Self::try_secure(address, config, name);
        client.unwrap_or_else(|error| panic!("no TLS session for {name}: {error}"))
    }

    /// The same where it may come to nothing.
    #[track_caller]
    pub fn try_secure(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<Self> {
        Self::connect(address).into_secure(config, name)
    }

    /// Begins a TLS session on a connection that is open.
    pub fn into_secure(mut self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        self.session = Some(Session::client(&mut self.stream, config, name)?);
        Ok(self)
    }

    /// The TLS session.
    #[track_caller]
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("a connection with TLS")
    }

    /// Asks for new keys in the middle of a TLS session.
    #[track_caller]
    pub fn refresh_keys(&mut self) {
        self.session.as_mut().expect("TLS").refresh_keys(&mut self.stream);
    }

    /// Says in TLS that nothing more will be sent, and leaves the connection open.
    #[track_caller]
    pub fn say_goodbye(&mut self) {
        self.session.as_mut().expect("TLS").say_goodbye(&mut self.stream);
    }

    /// Sends bytes; the other side may have closed already.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = match &mut self.session {
            None => self.stream.write_all(bytes.as_ref()),
            Some(session) => session.write_all(&mut self.stream, bytes.as_ref()),
        };
    }

    /// Sends bytes below TLS, as they are.
    pub fn send_below(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Breaks the connection off: unlike an end, which may be half of a close, this is a client gone.
    pub fn reset(self) {
        let linger = Some(std::time::Duration::ZERO);
        socket2::SockRef::from(&self.stream).set_linger(linger).expect("a TCP socket");
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open socket");
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let head_only = request.as_ref().starts_with(b"HEAD ");
        self.send(request);
        self.answer_to(head_only)
    }

    /// The same at a gateway that may be killed meanwhile: `None` where no whole answer came. It must name its length.
    #[track_caller]
    pub fn try_ask(&mut self, request: impl AsRef<[u8]>) -> Option<Answer> {
        self.send(request);
        self.try_answer()
    }

    /// Reads the next answer of a gateway that may be killed meanwhile.
    #[track_caller]
    pub fn try_answer(&mut self) -> Option<Answer> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                let length: usize = length.and_then(|length| length.parse().ok()).expect(head);
                if body.len() >= length {
                    return Some(self.answer());
                }
            }
            match self.more() {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if is_gone(&error) => return None,
                Err(error) => panic!("the connection neither ended nor answered: {error}"),
            }
        }
    }

    /// Reads the next answer that is final.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    #[track_caller]
    fn answer_to(&mut self, head_only: bool) -> Answer {
        loop {
            let mut answer = self.head();
            if answer.status >= 200 || answer.status == 101 {
                self.body(&mut answer, head_only);
                return answer;
            }
        }
    }

    /// Reads the next head, interim or not.
    #[track_caller]
    pub fn head(&mut self) -> Answer {
        let line = self.line();
        let mut words = line.splitn(3, ' ');
        assert_eq!(
            words.next(),
            Some("HTTP/1.1"),
            "the gateway's own version (RFC 9110 §2.5): {line:?}"
        );
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        Answer { status, headers: self.fields(), ..Answer::default() }
    }

    #[track_caller]
    fn body(&mut self, answer: &mut Answer, head_only: bool) {
        if head_only || answer.status == 204 || answer.status == 304 || answer.status == 101 {
            return;
        }
        if answer.header("Transfer-Encoding") == Some("chunked") {
            assert_eq!(answer.header("Content-Length"), None, "both framings");
            loop {
                let piece = self.chunk();
                if piece.is_empty() {
                    break;
                }
                answer.body.extend(piece);
            }
            answer.trailers = self.fields();
        } else if answer.header("Content-Length").is_some() {
            let length = usize::try_from(answer.number("Content-Length")).expect("a length");
            answer.body = self.exactly(length);
        } else {
            answer.body = self.rest();
        }
    }

    /// Reads one chunk; empty for the last, whose trailers come next.
    #[track_caller]
    pub fn chunk(&mut self) -> Vec<u8> {
        let line = self.line();
        let size = usize::from_str_radix(&line, 16);
        let size = size.unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size == 0 {
            return Vec::new();
        }
        let data = self.exactly(size);
        assert_eq!(self.exactly(2), b"\r\n", "a chunk's end");
        data
    }

    /// Reads header fields up to the empty line.
    #[track_caller]
    pub fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let (name, value) =
                line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).expect("a head in UTF-8");
            }
            self.must_have_more();
        }
    }

    /// Reads `length` bytes.
    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.must_have_more();
        }
        self.buffer.drain(..length).collect()
    }

    #[track_caller]
    fn must_have_more(&mut self) {
        let how = match self.more() {
            Ok(0) => "ended".to_owned(),
            Ok(_) => return,
            Err(error) => format!("broke ({error})"),
        };
        // The end of what came tells most, and a body may be long.
        let seen = String::from_utf8_lossy(&self.buffer[self.buffer.len().saturating_sub(2000)..]);
        panic!("the connection {how} within an answer, after {seen:?}");
    }

    fn more(&mut self) -> std::io::Result<usize> {
        let mut piece = [0; 65536];
        let read = loop {
            // A ring that this process closed may interrupt a read.
            let read = match &mut self.session {
                None => self.stream.read(&mut piece),
                Some(session) => session.read(&mut self.stream, &mut piece),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// Reads until an error ends it, and tells which.
    #[track_caller]
    pub fn until_error(&mut self) -> std::io::Error {
        match self.try_rest() {
            Ok(bytes) => panic!("an orderly end after {:?}", String::from_utf8_lossy(&bytes)),
            Err(error) => error,
        }
    }

    /// Reads until the other side ends; a reset fails the test.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        self.try_rest().expect("an orderly end")
    }

    /// Reads until the other side ends, or an error does.
    pub fn try_rest(&mut self) -> std::io::Result<Vec<u8>> {
        while self.more()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads until the connection ends one way or another: what came, and whether the end was orderly.
    #[track_caller]
    pub fn until_broken(&mut self, what: &str) -> (Vec<u8>, bool) {
        loop {
            match self.more() {
                Ok(0) => return (std::mem::take(&mut self.buffer), true),
                Ok(_) => {}
                // With TLS the latter is an end that was not announced.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                    ) =>
                {
                    return (std::mem::take(&mut self.buffer), false);
                }
                Err(error) => {
                    let seen = String::from_utf8_lossy(&self.buffer);
                    panic!("{what}: the connection did not end ({error}) after {seen:?}")
                }
            }
        }
    }

    /// The connection ends without another byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let (bytes, _) = self.until_broken("after the last answer");
        assert_eq!(String::from_utf8_lossy(&bytes), "", "bytes after the last answer");
    }
}

/// Whether an error says that the other side is no more.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Sends one request on a connection of its own and reads its answer.
#[track_caller]
pub fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    Client::connect(address).ask(request)
}

/// A request of REST, on a connection of its own, with a key and a body.
#[track_caller]
pub fn rest(host: SocketAddr, key: &str, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    ask(
        host,
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// A GET of the standard site with these headers.
pub fn get(path: &str, headers: &[(&str, &str)]) -> String {
    request("GET", path, headers)
}

/// A request of the standard site, without a body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}
