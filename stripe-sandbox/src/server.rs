//! HTTP around the state: connections, bodies with a bound, the task that posts webhooks.
//!
//! In: a listener. Out: answers; signed POSTs to endpoints.
//! Always holds: the state is locked only while a call is worked out, never across a wait; all tasks end when the
//! sandbox is dropped.

use crate::clock::wall;
use crate::config::SignatureClock;
use crate::deliver::{Delivery, Next};
use crate::gate::{self, Reply, Request};
use crate::pages;
use crate::signature;
use crate::state::State;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Connections at once.
const CONNECTIONS_MAX: usize = 1024;
/// How often a running clock's agenda is looked at.
const TICK: Duration = Duration::from_millis(500);

/// What all tasks of a sandbox share.
#[derive(Debug)]
pub struct Shared {
    /// All that it knows.
    pub state: Mutex<State>,
    /// Something may be there to deliver, or was delivered.
    pub changed: Notify,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed on request")]
struct Closed;

/// Takes connections until the task is ended.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: one that is freed lets it go on.
            tokio::time::sleep(TICK).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| answer(request, &shared));
            // A client that goes away in the middle is no fault of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    shared: &Arc<Shared>,
) -> Result<hyper::Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(response(413, &[], "too large".to_owned()));
    };
    let body = body.to_bytes();
    let request = Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or(""),
        headers: &parts.headers,
        body: &body,
    };
    let (reply, date) = {
        let mut state = shared.state.lock();
        let reply = if pages::is_page(request.path) {
            pages::serve(&mut state, &request)
        } else {
            gate::serve(&mut state, &request)
        };
        (reply, date(&state))
    };
    shared.changed.notify_waiters();
    match reply {
        Reply::Answer { status, mut headers, body } => {
            headers.extend(date.map(|date| ("date", date)));
            Ok(response(status, &headers, body))
        }
        // The client's own patience ends it.
        Reply::Hang => std::future::pending().await,
        Reply::Reset => Err(Closed),
    }
}

/// The time of answers, where it is not the machine's: the one by which webhooks are signed.
fn date(state: &State) -> Option<String> {
    match state.config.signature_clock {
        SignatureClock::Wall => None,
        SignatureClock::Sandbox => {
            let at = jiff::Timestamp::from_second(state.library_now).ok()?;
            Some(at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        }
    }
}

fn response(
    status: u16,
    headers: &[(&'static str, String)],
    body: String,
) -> hyper::Response<Full<Bytes>> {
    let mut builder = hyper::Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder
        .body(Full::new(Bytes::from(body)))
        .unwrap_or_else(|_| hyper::Response::new(Full::new(Bytes::new())))
}

/// Moves a running clock's agenda on.
pub async fn tick(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        shared.state.lock().run_due();
        shared.changed.notify_waiters();
    }
}

/// Posts what is in the outbox until the task is ended.
pub async fn deliver(shared: Arc<Shared>, client: reqwest::Client, at_once: usize) {
    let room = Arc::new(Semaphore::new(at_once.max(1)));
    let mut posts = JoinSet::new();
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // From here on a notification counts, even if the queue is found empty just before it.
        changed.as_mut().enable();
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let now = tokio::time::Instant::now();
        let taken = shared.state.lock().take_delivery(now);
        let (delivery, sent) = match taken {
            Next::Now(delivery, due) => (*delivery, due.unwrap_or(now)),
            Next::At(due) => {
                drop(permit);
                // What changes meanwhile makes nothing due earlier, but for a pace that is given up.
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = changed => {}
                }
                continue;
            }
            Next::Nothing => {
                drop(permit);
                changed.await;
                continue;
            }
        };
        while posts.try_join_next().is_some() {}
        let (shared, client) = (shared.clone(), client.clone());
        posts.spawn(async move {
            let accepted = post(&shared, &client, &delivery).await;
            shared.state.lock().delivered(delivery, accepted, sent.elapsed());
            drop(permit);
            shared.changed.notify_waiters();
        });
    }
}

async fn post(shared: &Shared, client: &reqwest::Client, delivery: &Delivery) -> bool {
    let at = {
        let state = shared.state.lock();
        match state.config.signature_clock {
            SignatureClock::Wall => wall(),
            SignatureClock::Sandbox => state.library_now,
        }
    };
    let sent = client
        .post(&delivery.url)
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header("stripe-signature", signature::header(&delivery.secret, at, &delivery.body))
        .body(delivery.body.clone())
        .send()
        .await;
    sent.is_ok_and(|answer| answer.status().is_success())
}
