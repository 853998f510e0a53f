//! The sample API: something to put behind the fence before there is an API of one's own.
//!
//! In: HTTP/1 requests on a loopback port. Out: small JSON answers, an echo.
//! Always holds: it knows nothing of PayFence, but for one answer that says what it really cost.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::supervisor::Supervisor;

/// Days that can be asked for.
const DAYS_MAX: u32 = 14;

/// Serves until the process ends.
///
/// # Errors
/// When the socket cannot be used.
pub fn serve(
    runtime: &Runtime,
    socket: TcpListener,
    supervisor: Arc<Supervisor>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::TcpListener::from_std(socket)?
    };
    runtime.spawn(async move {
        if let Err(error) = axum::serve(listener, router()).await {
            supervisor.died("the sample API", &error.to_string());
        }
    });
    Ok(())
}

fn router() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/hello", get(hello))
        .route("/api/v1/forecast", get(forecast))
        .route("/api/v1/report", get(report))
        .route("/api/v1/echo", post(echo))
        .fallback(nothing)
}

async fn index() -> Json<Value> {
    Json(json!({
        "name": "sample API",
        "free": ["GET /", "GET /hello"],
        "paid": [
            "GET /api/v1/forecast?city=NAME&days=N",
            "GET /api/v1/report (says with PayFence-Cost that it costs 5)",
            "POST /api/v1/echo",
        ],
    }))
}

async fn hello() -> Json<Value> {
    Json(json!({ "message": "Hello! This path is free for everyone." }))
}

#[derive(Deserialize)]
#[serde(default)]
struct ForecastQuery {
    city: String,
    days: u32,
}

impl Default for ForecastQuery {
    fn default() -> Self {
        Self { city: "Zurich".to_owned(), days: 3 }
    }
}

async fn forecast(Query(query): Query<ForecastQuery>) -> Response {
    if query.days > DAYS_MAX {
        let problem = json!({ "error": format!("at most {DAYS_MAX} days") });
        return (StatusCode::BAD_REQUEST, Json(problem)).into_response();
    }
    // Invented, but the same for the same question, so that answers can be compared with and without the gateway.
    let seed: u32 = query.city.bytes().map(u32::from).sum();
    let days: Vec<Value> = (0..query.days)
        .map(|day| {
            let high = 12 + (seed + 7 * day) % 15;
            json!({ "day": day, "high_c": high, "low_c": high - 8, "rain_percent": (seed * (day + 1)) % 100 })
        })
        .collect();
    Json(json!({ "city": query.city, "invented": true, "days": days })).into_response()
}

async fn report() -> impl IntoResponse {
    ([("PayFence-Cost", "5")], Json(json!({ "report": "long", "units": 5 })))
}

/// The body back, as it comes.
async fn echo(request: Request) -> Response {
    let mut response = Response::new(Body::empty());
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    *response.body_mut() = request.into_body();
    response
}

async fn nothing() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no such path; GET / lists them" })))
}
