//! `GET /node/v1/base/{sequence}`.
//!
//! In: a sequence, maybe a range `bytes=N-`. Out: the base file from there.
//! Always holds: only the base that is offered now; of it a piece at a time is in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::Response;
use futures_lite::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use link::wire::Why;

use super::{Sync, refuse};

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// Serves the base file.
pub async fn base(
    State(sync): State<Sync>,
    Path(sequence): Path<u64>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = sync.admit(&headers).await {
        return refusal;
    }
    let offered = sync.feed.base().filter(|offered| offered.base.offer.sequence == sequence);
    let Some(base) = offered.map(|offered| offered.base) else {
        return refuse(StatusCode::GONE, Why::Gone, "another base has taken its place");
    };
    let length = base.offer.bytes;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: u64 = from.unwrap_or(0);
    if from >= length {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        put(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
        return response;
    }
    let reading = Reading { file: base.file, at: from, end: length };
    let pieces = stream::unfold(reading, |reading| async {
        if reading.at >= reading.end {
            return None;
        }
        let read = tokio::task::spawn_blocking(move || reading.read()).await;
        match read {
            Ok((Ok(piece), reading)) => Some((Ok(piece), reading)),
            Ok((Err(error), reading)) => Some((Err(error), Reading { at: reading.end, ..reading })),
            Err(_) => None,
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    if from > 0 {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{length}", length - 1);
        put(&mut response, header::CONTENT_RANGE, &range);
    }
    put(&mut response, header::CONTENT_LENGTH, &(length - from).to_string());
    put(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    response
}

fn put(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

struct Reading {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Reading {
    fn read(mut self) -> (io::Result<Bytes>, Self) {
        let left = usize::try_from(self.end - self.at).unwrap_or(PIECE);
        let mut piece = vec![0; left.min(PIECE)];
        let read = self.file.read_exact_at(&mut piece, self.at);
        self.at += piece.len() as u64;
        (read.map(|()| piece.into()), self)
    }
}
