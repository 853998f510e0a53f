//! A Stripe that answers as it was told, for tests of the client.
//!
//! In: answers in order. Out: a server on loopback; the requests that came.
//! Always holds: a request that no answer is left for gets a 418, which no test expects.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::Value as Json;

/// An answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// A status, headers, a body.
    Answer(u16, Vec<(&'static str, &'static str)>, String),
    /// An answer whose body breaks off.
    Broken,
    /// None, ever.
    Silent,
}

impl Step {
    pub fn json(status: u16, body: Json) -> Self {
        Self::Answer(status, Vec::new(), body.to_string())
    }

    pub fn with(self, name: &'static str, value: &'static str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name, value));
                Self::Answer(status, headers, body)
            }
            other => other,
        }
    }
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Came {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Came {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The server.
#[derive(Clone, Default)]
pub struct Scripted {
    steps: Arc<Mutex<VecDeque<Step>>>,
    came: Arc<Mutex<Vec<Came>>>,
}

/// A body that gives an error.
struct BrokenBody;

impl hyper::body::Body for BrokenBody {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("broken on purpose"))))
    }
}

impl Scripted {
    /// A server with these answers; its address.
    pub async fn start(steps: impl IntoIterator<Item = Step>) -> (Self, String) {
        let scripted = Self::default();
        scripted.steps.lock().extend(steps);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(scripted.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (scripted, address)
    }

    pub fn came(&self) -> Vec<Came> {
        self.came.lock().clone()
    }
}

async fn answer(State(scripted): State<Scripted>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    scripted.came.lock().push(Came {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().unwrap().to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let step = scripted.steps.lock().pop_front();
    match step {
        None => Response::builder().status(418).body(Body::empty()).unwrap(),
        Some(Step::Silent) => std::future::pending().await,
        Some(Step::Broken) => Response::new(Body::new(BrokenBody)),
        Some(Step::Answer(status, headers, body)) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
    }
}
