//! A client with one connection that it keeps, for few requests whose answers are looked at.
//!
//! In: requests. Out: status and body. Always holds: an answer without a length, or one that is cut, is an error.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::peers::HOST;

/// Heads and bodies together.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// One connection.
pub struct Keep {
    stream: TcpStream,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| self.text())
    }
}

impl Keep {
    pub fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { stream })
    }

    pub fn get(&mut self, path: &str, bearer: Option<&str>) -> Result<Answer> {
        self.ask("GET", path, bearer, None)
    }

    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n");
        if let Some(bearer) = bearer {
            text += &format!("Authorization: Bearer {bearer}\r\n");
        }
        match body.map(Value::to_string) {
            Some(body) => self.send(&text, "application/json", &body),
            None => self.send(&text, "", ""),
        }
    }

    /// Sends a form as a browser does.
    pub fn submit(&mut self, path: &str, form: &str) -> Result<Answer> {
        let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\n");
        self.send(&head, "application/x-www-form-urlencoded", form)
    }

    fn send(&mut self, head: &str, content_type: &str, body: &str) -> Result<Answer> {
        let described = if content_type.is_empty() {
            String::new()
        } else {
            format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len())
        };
        self.stream.write_all(format!("{head}{described}\r\n{body}").as_bytes())?;
        self.answer().with_context(|| head.lines().next().unwrap_or_default().to_owned())
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some((status, head, length)) = head_of(&bytes)? {
                match length {
                    Some(length) if bytes.len() >= head + length => {
                        return Ok(Answer { status, body: bytes.split_off(head) });
                    }
                    None => {
                        if let Some(body) = body_of_chunks(&bytes[head..])? {
                            return Ok(Answer { status, body });
                        }
                    }
                    Some(_) => {}
                }
            }
            let read = self
                .stream
                .read(&mut piece)
                .with_context(|| format!("no whole answer: {}", String::from_utf8_lossy(&bytes)))?;
            ensure!(read > 0 && bytes.len() < ANSWER_BYTES_MAX, "an answer is cut, or too long");
            bytes.extend_from_slice(&piece[..read]);
        }
    }
}

/// The body once its last chunk is there.
fn body_of_chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?, 16)?;
        let Some(chunk) = bytes.get(end + 2..end + 2 + length + 2) else { return Ok(None) };
        if length == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&chunk[..length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
}

/// Status, length of the head and of the body, once the head is there; no length: it comes in chunks.
fn head_of(bytes: &[u8]) -> Result<Option<(u16, usize, Option<usize>)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let value_of = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    if value_of("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Some((status, end + 4, None)));
    }
    let length = value_of("content-length");
    let length = length.with_context(|| format!("an answer without a length: {head}"))?.parse()?;
    Ok(Some((status, end + 4, Some(length))))
}
