//! The admin listener: `/healthz`, `/readyz`, `/status`, `/metrics`, `/decisions`.
//!
//! In: HTTP/1 requests on a port of its own, the [`NodeState`]. Out: what the node says about itself.
//! Always holds: it runs on its own thread and only reads; connections are bounded in number, in the size and time of
//! a request's head and in their whole life, and a new one pushes out the oldest, so that slow clients cannot keep
//! others away.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::decision_feed;
use super::state::NodeState;
use crate::metrics;

/// Open connections at most.
pub const CONNECTIONS_MAX: usize = 64;
/// A request's head takes no longer, waiting for it on an open connection included.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// No connection lives longer, but for one that watches decisions; a client that wants more opens another.
pub const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(300);
/// A request's head is no larger.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The text format that `/metrics` speaks.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why the admin listener cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Somebody else listens there.
    #[error(
        "the admin address {address} is taken by another process: stop that one or choose another with --admin"
    )]
    Taken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on the admin address {address}: {cause}; choose another with --admin")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// No thread or no runtime could be made.
    #[error("cannot start the admin thread: {0}; look at the limits of processes and open files")]
    Start(io::Error),
}

/// A bound admin listener that does not answer yet.
#[derive(Debug)]
pub struct AdminListener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Takes the address, so that a port in use is known before anything else starts.
    ///
    /// # Errors
    /// When the address is taken or cannot be used.
    pub fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let bind = || -> io::Result<Self> {
            let socket = std::net::TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind().map_err(|cause| match cause.kind() {
            io::ErrorKind::AddrInUse => AdminError::Taken { address },
            _ => AdminError::Bind { address, cause },
        })
    }

    /// Where it listens; a port that was 0 is the real one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn serve(self, state: Arc<NodeState>) -> Result<AdminThread, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminError::Start)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(self.socket).map_err(AdminError::Start)?
        };
        let thread = thread::Builder::new()
            .name("payfence-admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, router(state)) => {}
                        // A dropped sender stops it as well as a sent word.
                        _ = stopped => {}
                    }
                });
            })
            .map_err(AdminError::Start)?;
        Ok(AdminThread { stop: Some(stop), thread: Some(thread) })
    }
}

/// The admin thread; it ends when this is dropped.
#[derive(Debug)]
pub struct AdminThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS_MAX
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(
                    tokio::spawn(serve_connection(stream, router.clone())).abort_handle(),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept; trying again in a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    // Whoever watches decisions stays; everybody else asks and goes.
    let watches = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&watches);
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        noted.store(request.uri().path() == "/decisions", Relaxed);
        next.run(request)
    }));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::time::timeout(CONNECTION_LIFE_MAX, connection.as_mut()).await;
    if ended.is_err() && watches.load(Relaxed) {
        // What a client does wrong on its own connection is no matter of the node's.
        let _ = connection.await;
    }
}

fn router(state: Arc<NodeState>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics_text))
        .route("/decisions", get(decision_feed::decisions))
        .with_state(state)
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<Arc<NodeState>>) -> (StatusCode, String) {
    match state.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn status(State(state): State<Arc<NodeState>>) -> Response {
    let body = format!("{:#}\n", state.status());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics_text(State(state): State<Arc<NodeState>>) -> Response {
    let body = metrics::render(state.metrics(), &state.figures());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], body).into_response()
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
