//! One forwarded request: to the origin, and its answer back.
//!
//! In: a planned request. Out: the origin's answer, or 502/504; the charge settled. Always holds: a request is sent again only when
//! that is safe and nothing of an answer had come; a charge is given back when no response head went to a client that was there;
//! a broken answer is seen as broken.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use policy::decision::Reason;

use crate::message::{self, Asker, Problem};
use crate::stream::{HandshakeError, Stream};

use super::connection::{After, Connection};
use super::forwarding::UnderWay;
use super::planned::{Exchange, Upload};
use super::relay::{self, SendError, UploadEnd, Uploading};
use super::response::{Ended, Failure, Fetching};
use super::upstream::{ConnectError, Upstream};
use super::{Shard, tunnel};

/// Sends a request to its origin and the answer to the client.
pub(super) async fn forward(connection: &mut Connection, exchange: Box<Exchange>) -> After {
    carry_out(connection, exchange, None).await
}

/// Goes on with a request that is with its origin already.
pub(super) async fn resume(connection: &mut Connection, under_way: UnderWay) -> After {
    let UnderWay { mut exchange, upstream, sent_ns } = under_way;
    exchange.origin_ns += connection.shard.ring.now_ns().saturating_sub(sent_ns);
    carry_out(connection, exchange, Some((upstream, sent_ns))).await
}

/// `begun`: the connection that the whole request was sent on, and when.
async fn carry_out(
    connection: &mut Connection,
    mut exchange: Box<Exchange>,
    mut begun: Option<(Upstream, u64)>,
) -> After {
    let shard = Rc::clone(&connection.shard);
    let pool = Rc::clone(exchange.policy.pool(exchange.decision.site));
    let mut may_reuse = true;
    let after = loop {
        let (mut upstream, sent_ns) = match begun.take() {
            Some((upstream, sent_ns)) => (upstream, Some(sent_ns)),
            None => match upstream_for(connection, &exchange, may_reuse).await {
                Ok(upstream) => (upstream, None),
                Err(Some(failure)) => break fail(connection, &mut exchange, failure).await,
                Err(None) => break cut_off(connection, &mut exchange).await,
            },
        };
        let is_whole = matches!(exchange.upload, Upload::Done);
        let attempt = attempt(connection, &mut exchange, &mut upstream, sent_ns);
        let ended = shard.unless_cut_off(pin!(attempt)).await;
        match ended.unwrap_or(Ended::CutOff) {
            Ended::Whole { keep_client, keep_origin } => {
                exchange.take_request_back(&shard, &upstream);
                if keep_origin && upstream.stream.socket().is_clear() {
                    pool.put_back(upstream, shard.ring.now_ns());
                }
                break if keep_client { After::Next } else { After::Linger };
            }
            Ended::Failed(Failure::Unreachable)
                if upstream.reused && is_whole && exchange.is_idempotent =>
            {
                let timer = &connection.write_timer;
                // The connection is gone, and says so at once.
                let _ = relay::clear(&shard, upstream.stream.socket(), timer).await;
                exchange.take_request_back(&shard, &upstream);
                if exchange.request.is_empty() {
                    break fail(connection, &mut exchange, Failure::Unreachable).await;
                }
                shard.metrics.upstream_retries.inc();
                may_reuse = false;
            }
            Ended::Failed(failure) => break fail(connection, &mut exchange, failure).await,
            Ended::Broken => break After::Cut,
            Ended::BadBody(reason) => {
                upstream.stream.reset_on_close(true);
                break refuse_body(connection, &mut exchange, reason).await;
            }
            Ended::ClientGone => {
                // The origin must not take a request that was cut short for a whole one.
                upstream.stream.reset_on_close(true);
                break After::Reset;
            }
            Ended::CutOff => {
                upstream.stream.reset_on_close(true);
                break cut_off(connection, &mut exchange).await;
            }
            Ended::Switched => {
                let is_whole = tunnel_to(connection, &mut exchange, &mut upstream).await;
                break if is_whole { After::Close } else { After::Cut };
            }
        }
    };
    if !exchange.is_counted {
        let reason = exchange.reason;
        exchange.count(reason);
    }
    exchange.end(&shard);
    shard.give_spare(std::mem::take(&mut exchange.request));
    after
}

/// A connection to the origin; `None` where the drain's time was over first.
async fn upstream_for(
    connection: &Connection,
    exchange: &Exchange,
    may_reuse: bool,
) -> Result<Upstream, Option<Failure>> {
    let connecting = pin!(reuse_or_connect(connection, exchange, may_reuse));
    match connection.shard.unless_cut_off(connecting).await {
        Some(connected) => connected.map_err(Some),
        None => Err(None),
    }
}

async fn reuse_or_connect(
    connection: &Connection,
    exchange: &Exchange,
    may_reuse: bool,
) -> Result<Upstream, Failure> {
    let shard = &connection.shard;
    let site = exchange.policy.site(exchange.decision.site);
    let pool = exchange.policy.pool(exchange.decision.site);
    if may_reuse && let Some(upstream) = pool.take() {
        shard.metrics.upstream_reused.inc();
        return Ok(upstream);
    }
    let connected = pool.connect(shard, &connection.write_timer, site).await;
    connected.map_err(|error| match error {
        ConnectError::Timeout(..) => {
            shard.metrics.timeouts.inc("connect");
            Failure::Timeout
        }
        ConnectError::Tls(_, HandshakeError::Gone(_))
        | ConnectError::Resolve(..)
        | ConnectError::Connect(..)
        | ConnectError::Busy(_) => Failure::Unreachable,
        ConnectError::Tls(..) | ConnectError::Unprepared(_) => Failure::Invalid,
    })
}

/// Sends the request on `upstream`, unless it was sent at `sent_ns`, and brings the answer.
async fn attempt(
    connection: &mut Connection,
    exchange: &mut Exchange,
    upstream: &mut Upstream,
    sent_ns: Option<u64>,
) -> Ended {
    let shard = Rc::clone(&connection.shard);
    let sent = match sent_ns {
        Some(_) => Ok(()),
        None => send(connection, exchange, &upstream.stream).await,
    };
    let (upload, end) = match sent {
        Ok(()) => (std::mem::replace(&mut exchange.upload, Upload::Done), UploadEnd::Done),
        Err(SendError::Stalled) => return Ended::Failed(Failure::Timeout),
        // An origin may answer before it closes; what it said is read all the same.
        Err(SendError::Gone) => (Upload::Done, UploadEnd::Origin),
    };
    let uploaded_ns = Cell::new(sent_ns.unwrap_or_else(|| shard.ring.now_ns()));
    let uploaded = Cell::new(0);
    let upload_end = Cell::new(matches!(upload, Upload::Done).then_some(end));
    let policy = Rc::clone(&exchange.policy);
    let response_ms = u64::from(policy.site(exchange.decision.site).response_timeout_ms());
    let first_wait = Duration::from_millis(if exchange.expects_continue { response_ms } else { 0 });
    // Most requests have nothing more to upload; the state of those that have is kept apart, so that a connection which
    // waits does not carry it.
    let mut uploading = match upload {
        Upload::Done => None,
        upload => {
            let uploading = Uploading {
                shard: &shard,
                client: &connection.stream,
                input: &mut connection.input,
                origin: &upstream.stream,
                timer: &connection.read_timer,
                policy: &policy,
                site: exchange.decision.site,
                sent: &uploaded,
                first_wait,
            };
            Some(Box::pin(uploading.run(upload)))
        }
    };
    let fetching = Fetching {
        shard: &shard,
        client: &connection.stream,
        timer: &connection.write_timer,
        origin: &upstream.stream,
        input: &mut upstream.input,
        exchange,
        upload_end: &upload_end,
        uploaded_ns: &uploaded_ns,
        body_sent: &uploaded,
    };
    let note = |end| {
        upload_end.set(Some(end));
        uploaded_ns.set(shard.ring.now_ns());
    };
    let ended = side_by_side(&mut uploading, pin!(fetching.run()), note).await;
    drop(uploading);
    exchange.request_bytes += uploaded.get();
    if upload_end.get() != Some(UploadEnd::Done) {
        // The rest of the body is unread: what follows on this connection is no request.
        exchange.keep_alive = false;
    }
    ended
}

/// Sends what there is of a request.
async fn send(
    connection: &Connection,
    exchange: &mut Exchange,
    stream: &Stream,
) -> Result<(), SendError> {
    let request = std::mem::take(&mut exchange.request);
    let (shard, timer) = (&connection.shard, &connection.write_timer);
    let (sent, request) = match exchange.upload {
        Upload::Done => relay::send_request(shard, stream, request, timer).await,
        _ => relay::send_all(shard, stream, request, timer).await,
    };
    exchange.request = request;
    sent
}

/// Runs an upload, where there is one, and the fetching of the answer until the answer has ended or the request is void.
async fn side_by_side<U: Future<Output = UploadEnd>>(
    upload: &mut Option<Pin<Box<U>>>,
    mut fetch: Pin<&mut impl Future<Output = Ended>>,
    note: impl Fn(UploadEnd),
) -> Ended {
    std::future::poll_fn(|context| {
        if let Some(running) = upload
            && let Poll::Ready(end) = running.as_mut().poll(context)
        {
            *upload = None;
            note(end);
            if let Some(void) = void(end) {
                return Poll::Ready(void);
            }
        }
        fetch.as_mut().poll(context)
    })
    .await
}

/// What becomes of an exchange whose upload ended so; `None` where the answer decides.
const fn void(end: UploadEnd) -> Option<Ended> {
    match end {
        UploadEnd::Client => Some(Ended::ClientGone),
        UploadEnd::Malformed => Some(Ended::BadBody(Reason::RequestMalformed)),
        UploadEnd::Stalled => Some(Ended::BadBody(Reason::RequestTimeout)),
        UploadEnd::Done | UploadEnd::Origin => None,
    }
}

/// Answers for an origin that did not; gives the charge back.
async fn fail(connection: &mut Connection, exchange: &mut Exchange, failure: Failure) -> After {
    let shard = Rc::clone(&connection.shard);
    let reason = match failure {
        Failure::Unreachable => Reason::OriginUnreachable,
        Failure::Invalid => Reason::OriginInvalid,
        Failure::Timeout => Reason::OriginTimeout,
    };
    exchange.refund(&shard);
    exchange.count(reason);
    let is_whole = matches!(exchange.upload, Upload::Done);
    let keeps = exchange.keep_alive && is_whole && !shard.is_draining();
    let bytes = origin_problem(&shard, exchange, reason, !keeps);
    if !connection.send(bytes).await {
        return After::Close;
    }
    if keeps { After::Next } else { After::Linger }
}

/// Ends a request that the drain's time was too short for. Without a head of an answer it costs nothing, and the client is told.
async fn cut_off(connection: &mut Connection, exchange: &mut Exchange) -> After {
    if exchange.is_counted {
        return After::Cut;
    }
    let shard = Rc::clone(&connection.shard);
    exchange.refund(&shard);
    exchange.count(Reason::Draining);
    if !connection.stream.socket().is_clear() {
        // An interim answer is on its way; nothing can be put behind it.
        return After::Reset;
    }
    let bytes = origin_problem(&shard, exchange, Reason::Draining, true);
    if connection.send(bytes).await { After::Linger } else { After::Close }
}

/// Answers a body that is none, unless an answer has begun already: the request costs nothing. Its head was decided upon, so
/// that it is in the log.
async fn refuse_body(
    connection: &mut Connection,
    exchange: &mut Exchange,
    reason: Reason,
) -> After {
    if exchange.is_counted {
        return After::Cut;
    }
    let shard = Rc::clone(&connection.shard);
    exchange.refund(&shard);
    exchange.count(reason);
    let bytes = origin_problem(&shard, exchange, reason, true);
    if connection.send(bytes).await { After::Linger } else { After::Close }
}

/// The answer for an origin that did not; what is sent of it is noted.
fn origin_problem(shard: &Shard, exchange: &mut Exchange, reason: Reason, close: bool) -> Vec<u8> {
    let asker = Asker {
        site: Some(exchange.policy.site(exchange.decision.site)),
        origin_header: exchange.cors.as_deref(),
        is_head: exchange.is_head,
        close,
        request_id: &exchange.request_id,
        token_sent: exchange.token_sent,
        sends_hsts: exchange.sends_hsts,
        http10_keep_alive: !close && exchange.version == crate::http1::Version::Http10,
    };
    let figures = exchange.figures.as_ref();
    let problem = Problem { figures, ..Problem::new(reason, shard.now().unix_s()) };
    let mut bytes = shard.take_spare();
    let body_bytes = message::problem(&mut bytes, &asker, &problem);
    exchange.status = reason.status();
    exchange.response_bytes += body_bytes as u64;
    bytes
}

/// Whether both directions ended well.
async fn tunnel_to(
    connection: &mut Connection,
    exchange: &mut Exchange,
    upstream: &mut Upstream,
) -> bool {
    let shard = Rc::clone(&connection.shard);
    let client = tunnel::End {
        stream: &connection.stream,
        input: connection.input.take(),
        timer: &connection.read_timer,
    };
    let origin = tunnel::End {
        stream: &upstream.stream,
        input: upstream.input.take(),
        timer: &connection.write_timer,
    };
    let tunnel = pin!(tunnel::run(&shard, client, origin));
    let Some(Some((up, down))) = shard.unless_cut_off(tunnel).await else { return false };
    exchange.request_bytes += up;
    exchange.response_bytes += down;
    true
}
