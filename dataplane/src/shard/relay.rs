//! Moving bytes: whole buffers out, request bodies to the origin, response bodies to the client.
//!
//! In: two sockets and how each body is delimited. Out: the same body, re-framed where the sides differ. Always holds: one buffer a
//! direction is in memory at a time, so the slower side sets the pace; every wait has a deadline; a body cut short is told from
//! one that ended.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use policy::ids::SiteIndex;

use crate::http1::{ChunkDecoder, ResponseFraming, write};
use crate::message::{request_trailer_passes, response_trailer_passes};
use crate::net::{Group, RecvBuf, Socket, Timer};
use crate::stream::{Stream, TlsStream};

use super::Shard;
use super::input::Input;
use super::planned::Upload;
use super::policy_view::PolicyView;

/// Body bytes that are copied behind a head rather than sent from where they are.
pub(super) const COPY_BYTES_MAX: usize = 16 * 1024;
/// Body bytes still to come from which on a client's bytes are received into large buffers.
const LARGE_BODY_BYTES: u64 = 64 * 1024;

/// Why bytes could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    /// The peer is gone.
    Gone,
    /// The peer took nothing for too long.
    Stalled,
}

/// Sends all of `bytes`, and gives the memory back unless the peer stalled.
pub(super) async fn send_all(
    shard: &Shard,
    stream: &Stream,
    bytes: Vec<u8>,
    timer: &Timer,
) -> (Result<(), SendError>, Vec<u8>) {
    let (out, kept) = match stream {
        Stream::Plain(_) => (bytes, None),
        Stream::Tls(tls) => match seal(shard, tls, &[&bytes]) {
            Ok(sealed) => (sealed, Some(bytes)),
            Err(error) => return (Err(error), bytes),
        },
    };
    let (result, out) = send_raw(shard, stream.socket(), out, timer).await;
    match kept {
        None => (result, out),
        Some(bytes) => {
            shard.give_spare(out);
            (result, bytes)
        }
    }
}

/// Tells a peer that speaks TLS that nothing more will be sent, and waits until its connection has taken that.
pub(super) async fn say_goodbye(
    shard: &Shard,
    stream: &Stream,
    timer: &Timer,
) -> Result<(), SendError> {
    let Stream::Tls(tls) = stream else { return Ok(()) };
    let mut out = shard.take_spare();
    tls.seal_goodbye(&mut out);
    let (result, out) = send_raw(shard, stream.socket(), out, timer).await;
    shard.give_spare(out);
    result
}

/// The records of all `parts`, in memory for one send.
fn seal(shard: &Shard, tls: &TlsStream, parts: &[&[u8]]) -> Result<Vec<u8>, SendError> {
    let mut out = shard.take_spare();
    for part in parts {
        tls.seal(part, &mut out).map_err(|_| SendError::Gone)?;
    }
    Ok(out)
}

/// Sends all of `bytes`, the last of a message: in the clear they are queued, and go with everything else of this turn. A
/// connection that breaks meanwhile says so when it is next used.
pub(super) async fn send_last(
    shard: &Shard,
    stream: &Stream,
    bytes: Vec<u8>,
    timer: &Timer,
) -> Result<(), SendError> {
    if let Stream::Plain(socket) = stream {
        clear(shard, socket, timer).await?;
        socket.outbox().queue(bytes);
        return Ok(());
    }
    let (result, bytes) = send_all(shard, stream, bytes, timer).await;
    shard.give_spare(bytes);
    result
}

/// Sends all of `bytes`, a whole request, as [`send_last`] does. The memory comes back, or is in the socket's outbox when they
/// have gone: they may have to be sent again on another connection.
pub(super) async fn send_request(
    shard: &Shard,
    stream: &Stream,
    bytes: Vec<u8>,
    timer: &Timer,
) -> (Result<(), SendError>, Vec<u8>) {
    let Stream::Plain(socket) = stream else { return send_all(shard, stream, bytes, timer).await };
    match clear(shard, socket, timer).await {
        Ok(()) => {
            socket.outbox().queue_and_keep(bytes);
            (Ok(()), Vec::new())
        }
        Err(error) => (Err(error), bytes),
    }
}

/// Waits until what was queued on `socket` has gone.
pub(super) async fn clear(shard: &Shard, socket: &Socket, timer: &Timer) -> Result<(), SendError> {
    if socket.is_clear() {
        return Ok(());
    }
    timer.set(shard.deadline(shard.settings.deadlines.stall));
    match timer.race(pin!(socket.outbox().gone())).await {
        Some(true) => Ok(()),
        Some(false) => Err(SendError::Gone),
        None => Err(stalled(shard)),
    }
}

/// Sends all of `bytes` as they are.
async fn send_raw(
    shard: &Shard,
    socket: &Socket,
    mut bytes: Vec<u8>,
    timer: &Timer,
) -> (Result<(), SendError>, Vec<u8>) {
    if let Err(error) = clear(shard, socket, timer).await {
        return (Err(error), bytes);
    }
    let Ok(mut sent) = socket.try_send(&bytes) else { return (Err(SendError::Gone), bytes) };
    while sent < bytes.len() {
        timer.set(shard.deadline(shard.settings.deadlines.stall));
        match timer.race(pin!(socket.send(bytes, sent))).await {
            None => return (Err(stalled(shard)), Vec::new()),
            Some((result, back)) => {
                bytes = back;
                match result {
                    Ok(len) if len > 0 => sent += len,
                    Ok(_) | Err(_) => return (Err(SendError::Gone), bytes),
                }
            }
        }
    }
    (Ok(()), bytes)
}

/// Sends all of a received buffer.
pub(super) async fn send_received(
    shard: &Shard,
    stream: &Stream,
    mut buffer: RecvBuf,
    timer: &Timer,
) -> Result<(), SendError> {
    let socket = match stream {
        Stream::Plain(socket) => socket,
        Stream::Tls(tls) => {
            let sealed = seal(shard, tls, &[&buffer])?;
            drop(buffer);
            let (result, sealed) = send_raw(shard, stream.socket(), sealed, timer).await;
            shard.give_spare(sealed);
            return result;
        }
    };
    clear(shard, socket, timer).await?;
    while !buffer.is_empty() {
        timer.set(shard.deadline(shard.settings.deadlines.stall));
        match timer.race(pin!(socket.send_received(buffer, 0))).await {
            None => return Err(stalled(shard)),
            Some((Ok(len), Some(back))) if len > 0 => {
                buffer = back;
                buffer.advance(len);
            }
            Some(_) => return Err(SendError::Gone),
        }
    }
    Ok(())
}

/// Sends `head`, and `body` behind it.
async fn send_both(
    shard: &Shard,
    stream: &Stream,
    mut head: Vec<u8>,
    mut body: RecvBuf,
    timer: &Timer,
) -> (Result<(), SendError>, Vec<u8>) {
    if body.len() <= COPY_BYTES_MAX {
        head.extend_from_slice(&body);
        drop(body);
        return send_all(shard, stream, head, timer).await;
    }
    let socket = match stream {
        Stream::Plain(socket) => socket,
        Stream::Tls(tls) => {
            let sealed = match seal(shard, tls, &[&head, &body]) {
                Ok(sealed) => sealed,
                Err(error) => return (Err(error), head),
            };
            drop(body);
            let (result, sealed) = send_raw(shard, stream.socket(), sealed, timer).await;
            shard.give_spare(sealed);
            return (result, head);
        }
    };
    if let Err(error) = clear(shard, socket, timer).await {
        return (Err(error), head);
    }
    let mut sent = 0;
    while sent < head.len() + body.len() {
        timer.set(shard.deadline(shard.settings.deadlines.stall));
        match timer.race(pin!(socket.send_both(head, body, sent))).await {
            None => return (Err(stalled(shard)), Vec::new()),
            Some((Ok(len), head_back, Some(body_back))) if len > 0 => {
                sent += len;
                (head, body) = (head_back, body_back);
            }
            Some((_, head, _)) => return (Err(SendError::Gone), head),
        }
    }
    (Ok(()), head)
}

fn stalled(shard: &Shard) -> SendError {
    shard.metrics.timeouts.inc("stall");
    SendError::Stalled
}

/// How long an origin is waited for before the client is looked at: most answers come sooner.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(500);
/// The longest time between two such looks.
const LOOK_AFTER_MAX: Duration = Duration::from_secs(8);

/// What a wait for the origin came to.
pub(super) enum Heard {
    /// Bytes, the end (an empty buffer), or the connection's error.
    Received(std::io::Result<RecvBuf>),
    /// The client went away.
    ClientGone,
    /// The deadline passed.
    TimedOut,
}

/// Receives from `origin`; looks at `client` every now and then, so that an origin is not waited for on behalf of nobody. Adds
/// what it waited to `waited_ns`.
pub(super) async fn hear(
    shard: &Shard,
    origin: &Stream,
    client: &Stream,
    timer: &Timer,
    waited_ns: &mut u64,
    deadline_ns: impl Fn() -> u64,
) -> Heard {
    let began_ns = shard.ring.now_ns();
    let mut look_after = LOOK_AFTER;
    let mut receive = pin!(origin.recv(Group::Large));
    let heard = loop {
        let deadline = deadline_ns();
        if shard.ring.now_ns() >= deadline {
            break Heard::TimedOut;
        }
        timer.set(deadline.min(shard.deadline(look_after)));
        match timer.race(receive.as_mut()).await {
            Some(received) => break Heard::Received(received),
            None if client.is_gone() => break Heard::ClientGone,
            None => look_after = (look_after * 2).min(LOOK_AFTER_MAX),
        }
    };
    *waited_ns += shard.ring.now_ns().saturating_sub(began_ns);
    heard
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadEnd {
    /// The whole body is with the origin.
    Done,
    /// The client went away: the request is void.
    Client,
    /// What the client sent is no body, or ends before it does.
    Malformed,
    /// The client sent nothing for too long.
    Stalled,
    /// The origin takes no more; it may have answered.
    Origin,
}

/// What an upload works on.
pub(super) struct Uploading<'a> {
    pub(super) shard: &'a Shard,
    pub(super) client: &'a Stream,
    pub(super) input: &'a mut Input,
    pub(super) origin: &'a Stream,
    pub(super) timer: &'a Timer,
    pub(super) policy: &'a PolicyView,
    pub(super) site: SiteIndex,
    pub(super) sent: &'a Cell<u64>,
    /// How much longer the first byte may take.
    pub(super) first_wait: Duration,
}

impl Uploading<'_> {
    /// Moves the rest of a request's body to the origin.
    pub(super) async fn run(mut self, mut upload: Upload) -> UploadEnd {
        loop {
            let result = match &mut upload {
                Upload::Done => return UploadEnd::Done,
                Upload::Length(left) => self.length(left).await,
                Upload::Chunked(decoder) => self.chunked(decoder).await,
            };
            match result {
                Ok(true) => upload = Upload::Done,
                Ok(false) => {}
                Err(end) => return end,
            }
        }
    }

    async fn receive(&mut self, group: Group) -> Result<RecvBuf, UploadEnd> {
        if let Some(buffer) = self.input.take() {
            return Ok(buffer);
        }
        let stall = self.shard.settings.deadlines.stall;
        // Before the origin has said `100 Continue` it is the origin's time that runs, not the client's.
        let patience = if self.sent.get() == 0 { stall + self.first_wait } else { stall };
        self.timer.set(self.shard.deadline(patience));
        match self.timer.race(pin!(self.client.recv(group))).await {
            Some(Ok(buffer)) if !buffer.is_empty() => Ok(buffer),
            Some(Ok(_)) => {
                self.shard.metrics.malformed.inc("body_truncated");
                Err(UploadEnd::Malformed)
            }
            Some(Err(_)) => Err(UploadEnd::Client),
            None => {
                self.shard.metrics.timeouts.inc("stall");
                self.shard.metrics.malformed.inc("timeout");
                Err(UploadEnd::Stalled)
            }
        }
    }

    async fn length(&mut self, left: &mut u64) -> Result<bool, UploadEnd> {
        let group = if *left > LARGE_BODY_BYTES { Group::Large } else { Group::Small };
        let mut buffer = self.receive(group).await?;
        let mine = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if mine < buffer.len() {
            self.input.put_back(RecvBuf::copy_of(&buffer[mine..]));
            buffer.truncate(mine);
        }
        *left -= mine as u64;
        self.sent.set(self.sent.get() + mine as u64);
        send_received(self.shard, self.origin, buffer, self.timer)
            .await
            .map_err(|_| UploadEnd::Origin)?;
        Ok(*left == 0)
    }

    async fn chunked(&mut self, decoder: &mut ChunkDecoder) -> Result<bool, UploadEnd> {
        let mut buffer = self.receive(Group::Small).await?;
        let mut out = self.shard.take_spare();
        let site = self.policy.site(self.site);
        let passes = |name: &[u8]| request_trailer_passes(&site, name);
        let step = decoder.transcode(&buffer, &mut out, passes).map_err(|error| {
            self.shard.metrics.malformed.inc(error.cause());
            UploadEnd::Malformed
        })?;
        buffer.advance(step.consumed);
        self.input.put_back(buffer);
        self.sent.set(self.sent.get() + step.data_bytes as u64);
        let (result, out) = send_all(self.shard, self.origin, out, self.timer).await;
        self.shard.give_spare(out);
        result.map_err(|_| UploadEnd::Origin)?;
        Ok(step.done)
    }
}

/// Why a response's body did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayError {
    /// The client is gone or stalled.
    Client,
    /// The origin broke off, stalled, or sent what is no body.
    Origin,
}

/// What a download works on.
pub(super) struct Downloading<'a> {
    pub(super) shard: &'a Shard,
    pub(super) client: &'a Stream,
    pub(super) origin: &'a Stream,
    /// Received from the origin and not taken yet; what is left when the body is whole belongs to nobody.
    pub(super) input: &'a mut Option<RecvBuf>,
    pub(super) timer: &'a Timer,
    /// Without a byte from the origin.
    pub(super) quiet: Duration,
    pub(super) sent: &'a mut u64,
    /// What the origin was waited for, nanoseconds.
    pub(super) waited_ns: &'a mut u64,
}

impl Downloading<'_> {
    /// Sends `head` and the body that follows it.
    pub(super) async fn run(
        self,
        head: Vec<u8>,
        from: ResponseFraming,
        to: ResponseFraming,
    ) -> Result<(), RelayError> {
        let client = self.client;
        let is_unframed = to == ResponseFraming::UntilClose;
        if is_unframed {
            // It has no end but the connection's: until it is whole, whatever ends this, a deadline or the end of a drain
            // too, must reset.
            client.reset_on_close(true);
        }
        let result = self.body(head, from, to).await;
        if is_unframed && result.is_ok() {
            client.reset_on_close(false);
        }
        result
    }

    async fn body(
        mut self,
        head: Vec<u8>,
        from: ResponseFraming,
        to: ResponseFraming,
    ) -> Result<(), RelayError> {
        match from {
            ResponseFraming::None | ResponseFraming::Length(0) => {
                let sent = send_last(self.shard, self.client, head, self.timer).await;
                sent.map_err(|_| RelayError::Client)
            }
            ResponseFraming::Length(length) => self.length(head, length).await,
            ResponseFraming::Chunked => self.chunked(head, to == ResponseFraming::Chunked).await,
            ResponseFraming::UntilClose => {
                self.until_close(head, to == ResponseFraming::Chunked).await
            }
        }
    }

    /// The next bytes of the origin; `None` at its end.
    async fn receive(&mut self) -> Result<Option<RecvBuf>, RelayError> {
        if let Some(buffer) = self.input.take().filter(|buffer| !buffer.is_empty()) {
            return Ok(Some(buffer));
        }
        let deadline = self.shard.deadline(self.quiet);
        let waited = &mut *self.waited_ns;
        match hear(self.shard, self.origin, self.client, self.timer, waited, || deadline).await {
            Heard::Received(Ok(buffer)) => Ok(Some(buffer).filter(|buffer| !buffer.is_empty())),
            Heard::Received(Err(_)) => Err(RelayError::Origin),
            Heard::ClientGone => Err(RelayError::Client),
            Heard::TimedOut => {
                self.shard.metrics.timeouts.inc("stall");
                Err(RelayError::Origin)
            }
        }
    }

    async fn length(&mut self, head: Vec<u8>, length: u64) -> Result<(), RelayError> {
        let mut left = length;
        let mut head = Some(head);
        // A head whose body takes its time goes out at once.
        if self.input.is_none() {
            self.send(head.take().unwrap_or_default()).await?;
        }
        while left > 0 {
            let mut buffer = self.receive().await?.ok_or(RelayError::Origin)?;
            let mine = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            if mine < buffer.len() {
                // More than was announced: the connection is not used again.
                *self.input = Some(RecvBuf::copy_of(&buffer[mine..]));
                buffer.truncate(mine);
            }
            left -= mine as u64;
            *self.sent += mine as u64;
            let result = match head.take() {
                None => send_received(self.shard, self.client, buffer, self.timer).await,
                Some(head) => {
                    let (result, head) =
                        send_both(self.shard, self.client, head, buffer, self.timer).await;
                    self.shard.give_spare(head);
                    result
                }
            };
            result.map_err(|_| RelayError::Client)?;
        }
        Ok(())
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), RelayError> {
        let (result, bytes) = send_all(self.shard, self.client, bytes, self.timer).await;
        self.shard.give_spare(bytes);
        result.map_err(|_| RelayError::Client)
    }

    async fn chunked(&mut self, head: Vec<u8>, as_chunks: bool) -> Result<(), RelayError> {
        let mut decoder = ChunkDecoder::new();
        let mut out = head;
        if self.input.is_none() {
            self.send(std::mem::take(&mut out)).await?;
            out = self.shard.take_spare();
        }
        loop {
            let mut buffer = self.receive().await?.ok_or(RelayError::Origin)?;
            let step = if as_chunks {
                decoder.transcode(&buffer, &mut out, response_trailer_passes)
            } else {
                decoder.decode(&buffer, &mut out)
            };
            let Ok(step) = step else {
                // What was good goes out, the last chunk does not: the client sees where it broke.
                self.send(out).await?;
                return Err(RelayError::Origin);
            };
            *self.sent += step.data_bytes as u64;
            if step.consumed < buffer.len() {
                buffer.advance(step.consumed);
                *self.input = Some(buffer);
            }
            if step.done {
                let sent = send_last(self.shard, self.client, out, self.timer).await;
                return sent.map_err(|_| RelayError::Client);
            }
            let (result, back) = send_all(self.shard, self.client, out, self.timer).await;
            result.map_err(|_| RelayError::Client)?;
            out = back;
            out.clear();
        }
    }

    async fn until_close(&mut self, head: Vec<u8>, as_chunks: bool) -> Result<(), RelayError> {
        let mut out = head;
        loop {
            if !out.is_empty() {
                let (result, back) = send_all(self.shard, self.client, out, self.timer).await;
                result.map_err(|_| RelayError::Client)?;
                out = back;
                out.clear();
            }
            let Some(buffer) = self.receive().await? else { break };
            *self.sent += buffer.len() as u64;
            if as_chunks {
                write::chunk(&mut out, &buffer);
            } else {
                out.extend_from_slice(&buffer);
            }
        }
        if as_chunks {
            write::last_chunk(&mut out, std::iter::empty(), |_| false);
        }
        self.send(out).await
    }
}
