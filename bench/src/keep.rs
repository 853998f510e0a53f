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
            Some(body) => {
                let length = body.len();
                text += &format!(
                    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
            None => text += "\r\n",
        }
        self.stream.write_all(text.as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some((status, head, length)) = head_of(&bytes)?
                && bytes.len() >= head + length
            {
                return Ok(Answer { status, body: bytes.split_off(head) });
            }
            let read = self.stream.read(&mut piece)?;
            ensure!(read > 0 && bytes.len() < ANSWER_BYTES_MAX, "an answer is cut, or too long");
            bytes.extend_from_slice(&piece[..read]);
        }
    }
}

/// Status, length of the head and of the body, once the head is there.
fn head_of(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    let length = length.with_context(|| format!("an answer without a length: {head}"))?.parse()?;
    Ok(Some((status, end + 4, length)))
}
