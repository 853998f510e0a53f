//! A client's connection: heads in, one exchange after the other, until either side ends it.
//!
//! In: a socket. Out: answers in the order of requests. Always holds: waiting for a head has a deadline; an idle connection holds
//! no buffer; a connection that ends after a refusal is drained first, so that the client can read the answer.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use crate::clock::Now;
use crate::net::{Group, Socket, Timer};
use crate::stream::Stream;

use super::accept::Here;
use super::forwarding::UnderWay;
use super::idle::Idle;
use super::input::Input;
use super::peer::{Listens, Peer};
use super::plan::plan;
use super::planned::{Answer, Plan, Resumed, Waiting};
use super::proxy_protocol::{self, Preface};
use super::waits::Resolved;
use super::{Shard, exchange, own_answer, relay, secure};

/// One client's connection.
pub(super) struct Connection {
    pub(super) shard: Rc<Shard>,
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) input: Input,
    /// For what is received from the client.
    pub(super) read_timer: Rc<Timer>,
    /// For what is sent to the client and received from the origin.
    pub(super) write_timer: Timer,
    /// Made at the first wait for a request.
    pub(super) idle: Option<Rc<Idle>>,
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Next,
    /// It is closed once the client has had time to read.
    Linger,
    /// It is closed.
    Close,
    /// It is closed without a word: what was sent last is not whole, and an announced end would say that it is.
    Cut,
    /// It is reset: the client is gone or takes nothing, so nothing is kept for it.
    Reset,
}

/// What is known of a request when its task takes it up.
enum Next {
    /// What is to be done.
    Planned(Plan, Now),
    /// It is with its origin.
    UnderWay(UnderWay),
}

/// What a wait for bytes came to.
enum Received {
    Bytes,
    End,
    TimedOut,
}

/// Serves `socket` until it ends.
pub(super) async fn serve(here: Here, socket: Socket, peer: SocketAddr, listens: Listens) {
    let shard = Rc::clone(here.shard());
    let _listing = shard.tasks.list().await;
    let mut connection = Connection::new(shard, socket, peer, listens);
    if !connection.preface().await {
        return;
    }
    if listens == Listens::Tls {
        // Apart: a connection that waits for its next request does not carry the handshake's state.
        match Box::pin(secure::begin(connection)).await {
            Some(secured) => connection = secured,
            None => return,
        }
    }
    loop {
        match connection.exchange().await {
            After::Next => {}
            After::Linger => return connection.linger().await,
            After::Close => return connection.close().await,
            After::Cut => return,
            After::Reset => return connection.stream.reset_on_close(true),
        }
    }
}

impl Connection {
    fn new(shard: Rc<Shard>, socket: Socket, peer: SocketAddr, listens: Listens) -> Self {
        let address = peer.ip().to_canonical();
        let is_trusted = shard.trusts(address);
        let peer = Peer { address, is_trusted, listens, tls: None, last: Cell::default() };
        let (read_timer, write_timer) = (Rc::new(shard.ring.timer()), shard.ring.timer());
        let stream = Stream::Plain(socket);
        Self { shard, stream, peer, input: Input::default(), read_timer, write_timer, idle: None }
    }

    /// Reads a trusted proxy's PROXY header, where there is one. Whether to go on.
    async fn preface(&mut self) -> bool {
        if !self.peer.is_trusted {
            return true;
        }
        let deadline = self.shard.deadline(self.shard.settings.deadlines.idle);
        loop {
            match proxy_protocol::read(self.input.bytes()) {
                Preface::None if !self.input.is_empty() => return true,
                Preface::None | Preface::Partial => {}
                Preface::Header { len, client } => {
                    self.input.consume(len);
                    if let Some(client) = client {
                        let address = client.to_canonical();
                        self.peer.address = address;
                        self.peer.is_trusted = self.shard.trusts(address);
                    }
                    return true;
                }
                Preface::Malformed => {
                    self.shard.metrics.malformed.inc("proxy_header");
                    return false;
                }
            }
            let shard = Rc::clone(&self.shard);
            match shard.unless_draining(pin!(self.receive(deadline))).await {
                Some(Received::Bytes) => {}
                Some(Received::TimedOut) => {
                    shard.metrics.timeouts.inc("idle");
                    return false;
                }
                Some(Received::End) | None => return false,
            }
        }
    }

    /// One request from its first byte to the end of its answer.
    async fn exchange(&mut self) -> After {
        if self.input.is_empty() {
            if self.shard.is_draining() {
                return After::Close;
            }
            match self.next().await {
                Ok(None) => {}
                // What an exchange has to keep is apart, here and below: a connection that waits does not carry it, and most
                // requests are answered without it.
                Ok(Some(Next::Planned(planned, started))) => {
                    return Box::pin(self.carry_out(planned, started)).await;
                }
                Ok(Some(Next::UnderWay(under_way))) => {
                    return Box::pin(exchange::resume(self, under_way)).await;
                }
                Err(after) => return after,
            }
        }
        let started = self.shard.now();
        let head_deadline = self.shard.deadline(self.shard.settings.deadlines.head);
        loop {
            let planned =
                plan(&self.shard, &self.peer, self.input.bytes(), self.input.seen, started, None);
            match planned {
                Plan::Partial => {
                    self.input.seen = self.input.bytes().len();
                    match self.receive(head_deadline).await {
                        Received::Bytes => {}
                        Received::End => return After::Close,
                        Received::TimedOut => return self.refuse_slow_head().await,
                    }
                }
                planned => return Box::pin(self.carry_out(planned, started)).await,
            }
        }
    }

    /// Waits for the next request's first bytes, and for what was planned on them or done already.
    async fn next(&mut self) -> Result<Option<Next>, After> {
        let shard = Rc::clone(&self.shard);
        let idle = self.idle();
        if let (Stream::Plain(socket), Some(idle)) = (&self.stream, &idle) {
            socket.tap(Rc::<Idle>::clone(idle));
        }
        let deadline = shard.deadline(shard.settings.deadlines.idle);
        let mut received = self.receive_next(deadline).await;
        // From here on what comes belongs to this request, or waits behind it.
        self.stream.socket().untap();
        if let Some(under_way) = idle.as_ref().and_then(|idle| idle.forwarding.take()) {
            // Whatever ended the wait is met again once this exchange is over: bytes are kept, an end stays one.
            return Ok(Some(Next::UnderWay(under_way)));
        }
        if matches!(received, Some(Received::TimedOut)) && !self.stream.socket().is_clear() {
            shard.metrics.timeouts.inc("stall");
            return Err(After::Reset);
        }
        if relay::clear(&shard, self.stream.socket(), &self.write_timer).await.is_err() {
            return Err(After::Reset);
        }
        let planned = idle.and_then(|idle| idle.take());
        if planned.is_some() && !matches!(received, Some(Received::Bytes)) {
            // The drain began between the plan and this task's turn: the bytes of the plan are there all the same.
            received = Some(self.receive(deadline).await);
        }
        match received {
            Some(Received::Bytes) => {
                Ok(planned.map(|(planned, started)| Next::Planned(planned, started)))
            }
            Some(Received::TimedOut) => {
                shard.metrics.timeouts.inc("idle");
                Err(After::Close)
            }
            Some(Received::End) | None => Err(After::Close),
        }
    }

    /// Receives the next request's first bytes; `None` where the drain came first. A client that does not take what was sent
    /// is waited for no longer than one to which it is being sent.
    async fn receive_next(&mut self, idle_ns: u64) -> Option<Received> {
        let shard = Rc::clone(&self.shard);
        let stall_ns = shard.deadline(shard.settings.deadlines.stall);
        let is_clear = self.stream.socket().is_clear();
        let mut deadline_ns = if is_clear { idle_ns } else { stall_ns.min(idle_ns) };
        loop {
            let received = shard.unless_draining(pin!(self.receive(deadline_ns))).await;
            let timed_out = matches!(received, Some(Received::TimedOut));
            let is_under_way =
                self.idle.as_ref().is_some_and(|idle| idle.forwarding.is_under_way());
            let is_last = deadline_ns == idle_ns || is_under_way;
            if !timed_out || is_last || !self.stream.socket().is_clear() {
                return received;
            }
            deadline_ns = idle_ns;
        }
    }

    /// What looks at this connection's bytes while it waits; nothing where they have to be decrypted first.
    fn idle(&mut self) -> Option<Rc<Idle>> {
        let Stream::Plain(socket) = &self.stream else { return None };
        let make = || {
            let (shard, timer) = (Rc::clone(&self.shard), Rc::clone(&self.read_timer));
            Rc::new(Idle::new(shard, self.peer.clone(), Rc::clone(socket.outbox()), timer))
        };
        Some(Rc::clone(self.idle.get_or_insert_with(make)))
    }

    async fn carry_out(&mut self, mut planned: Plan, started: Now) -> After {
        loop {
            match planned {
                Plan::Answer(answer) => return self.answer(answer).await,
                Plan::Forward(forward) => {
                    self.input.consume(forward.consumed);
                    return exchange::forward(self, forward).await;
                }
                Plan::Wait(Waiting { id, policy, request_id }) => {
                    let outcome = Resolved::new(Rc::clone(&self.shard), id).await;
                    let resumed = Some(Resumed { policy, request_id, outcome });
                    planned =
                        plan(&self.shard, &self.peer, self.input.bytes(), 0, started, resumed);
                }
                Plan::Partial => unreachable!("a head that was complete stays so"),
            }
        }
    }

    async fn answer(&mut self, answer: Answer) -> After {
        self.input.consume(answer.head_len);
        if !self.send(answer.bytes).await {
            return After::Close;
        }
        if answer.close {
            return After::Linger;
        }
        if self.skip(answer.skip).await { After::Next } else { After::Close }
    }

    async fn refuse_slow_head(&mut self) -> After {
        self.shard.metrics.timeouts.inc("head");
        let bytes = own_answer::head_timeout(&self.shard);
        if self.send(bytes).await { After::Linger } else { After::Close }
    }

    /// Sends an answer of our own; whether all of it went.
    pub(super) async fn send(&mut self, bytes: Vec<u8>) -> bool {
        relay::send_last(&self.shard, &self.stream, bytes, &self.write_timer).await.is_ok()
    }

    /// Skips a request's body that nobody will read; whether it came.
    async fn skip(&mut self, mut left: u64) -> bool {
        loop {
            let here = usize::try_from(left)
                .map_or(self.input.bytes().len(), |left| left.min(self.input.bytes().len()));
            self.input.consume(here);
            left -= here as u64;
            if left == 0 {
                return true;
            }
            let stall = self.shard.deadline(self.shard.settings.deadlines.stall);
            match self.receive(stall).await {
                Received::Bytes => {}
                Received::End => return false,
                Received::TimedOut => {
                    self.shard.metrics.timeouts.inc("stall");
                    return false;
                }
            }
        }
    }

    /// Receives more bytes behind those at hand.
    async fn receive(&mut self, deadline_ns: u64) -> Received {
        self.read_timer.set(deadline_ns);
        match self.read_timer.race(pin!(self.stream.recv(Group::Small))).await {
            Some(Ok(buffer)) if !buffer.is_empty() => {
                self.input.add(buffer);
                Received::Bytes
            }
            // An error here is a client that went away.
            Some(Ok(_) | Err(_)) => Received::End,
            None => Received::TimedOut,
        }
    }

    /// Closes the connection once the client has taken what was sent.
    async fn close(&self) {
        let sent = relay::clear(&self.shard, self.stream.socket(), &self.write_timer).await;
        match sent {
            Ok(()) => self.stream.say_goodbye(),
            Err(_) => self.stream.reset_on_close(true),
        }
    }

    /// Says that nothing more will be sent and reads on until the client has ended too or is silent: closing with unread bytes
    /// would reset the connection and could take the answer from the client (RFC 9112 section 9.6).
    pub(super) async fn linger(&mut self) {
        if relay::clear(&self.shard, self.stream.socket(), &self.write_timer).await.is_err() {
            return self.stream.reset_on_close(true);
        }
        // An answer without another end has this one: it must arrive.
        if relay::say_goodbye(&self.shard, &self.stream, &self.write_timer).await.is_err() {
            return;
        }
        self.stream.shutdown_write();
        let deadlines = self.shard.settings.deadlines;
        let end = self.shard.deadline(deadlines.linger_max);
        while self.shard.ring.now_ns() < end {
            self.read_timer.set(end.min(self.shard.deadline(deadlines.linger)));
            match self.read_timer.race(pin!(self.stream.recv(Group::Small))).await {
                Some(Ok(buffer)) if !buffer.is_empty() => {}
                _ => return,
            }
        }
    }
}

impl Shard {
    fn trusts(&self, address: std::net::IpAddr) -> bool {
        self.settings.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}
