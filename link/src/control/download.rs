//! Fetching a base file.
//!
//! In: an offer. Out: the file's bytes under its `.part` name, durable, of the offered length and SHA-256. Always holds: what is there of this
//! very base already is not fetched again; no more than the offered length is ever written; bytes that do not fit the hash are
//! removed.
//!
//! Disk and hash are worked on threads that may block, a piece of [`PIECE_BYTES`] at a time, so that reports and the stream go on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::http::{Http, HttpError, reach};
use super::state::LinkState;
use crate::ship::backoff::Backoff;
use crate::wire::{BASE_PATH, BaseOffer, Refusal, Why};

const PIECE_BYTES: usize = 1 << 20;
/// A server that brings less than this between two looks is left.
const RATE_BYTES_MIN: u64 = 64 << 10;
/// Attempts without a new byte, over all control planes, before the offer is given up.
const BARREN_MAX: u32 = 8;

/// Why there is no base file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The bytes are not what was offered.
    #[error("{0}")]
    Wrong(String),
    /// It cannot be had now.
    #[error("{0}")]
    Missing(String),
    /// The disk fails.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// What is here so far.
struct Part {
    file: File,
    hasher: Sha256,
    length: u64,
}

/// Fetches the base to `path`.
pub(super) async fn fetch(
    http: Arc<Http>,
    state: Arc<LinkState>,
    offer: BaseOffer,
    path: PathBuf,
    seed: u64,
) -> Result<(), FetchError> {
    let disk = |cause| FetchError::Disk { path: path.clone(), cause };
    let mut part = {
        let path = path.clone();
        blocking(move || open(&path, offer.bytes)).await.map_err(disk)?
    };
    let (first, longest) = http.pace.retry;
    let mut backoff = Backoff::new(first, longest, seed);
    let mut barren = 0;
    while part.length < offer.bytes {
        let before = part.length;
        let (position, _) = http.current();
        let (back, ended) = attempt(&http, &state, &offer, part, &path).await;
        part = back?;
        match ended {
            Ok(()) => {}
            Err(HttpError::Refused(Refusal { why: Why::Gone, text })) => {
                return Err(FetchError::Missing(text));
            }
            Err(error) => {
                tracing::debug!(%error, have = part.length, of = offer.bytes, "fetching a base was broken off");
                barren = if part.length > before { 0 } else { barren + 1 };
                if part.length > before {
                    backoff.reset();
                }
                if barren == BARREN_MAX {
                    return Err(FetchError::Missing(error.to_string()));
                }
                http.turn_from(position);
                sleep(backoff.next()).await;
                http.admitted().await;
            }
        }
    }
    let Part { file, hasher, .. } = part;
    if <[u8; 32]>::from(hasher.finalize()) != offer.sha256 {
        remove(&path);
        return Err(FetchError::Wrong("its bytes do not have the hash that was announced".into()));
    }
    blocking(move || file.sync_all()).await.map_err(disk)
}

/// One request. Gives back what is here after it, and how it ended.
async fn attempt(
    http: &Http,
    state: &LinkState,
    offer: &BaseOffer,
    mut part: Part,
    path: &Path,
) -> (Result<Part, FetchError>, Result<(), HttpError>) {
    let (_, url) = http.current();
    let from = Some(part.length).filter(|length| *length > 0);
    let url = url.at(&format!("{BASE_PATH}{}", offer.sequence), None);
    let mut response = match http.get(url, from).await {
        Ok(response) => response,
        Err(error) => return (Ok(part), Err(error)),
    };
    if let Err(text) = begins_at(&response, part.length) {
        if response.status() != StatusCode::OK {
            return (Ok(part), Err(HttpError::Reach(text)));
        }
        // Ranges are not served: from the beginning.
        let restarted = blocking(move || restart(part)).await;
        part = match restarted {
            Ok(part) => part,
            Err(cause) => return (Err(FetchError::Disk { path: path.to_owned(), cause }), Ok(())),
        };
    }
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut look = (Instant::now() + http.pace.piece, 0);
    loop {
        let chunk = timeout(http.pace.piece, response.chunk()).await;
        let ended = match chunk {
            Ok(Ok(Some(chunk))) => {
                if part.length + (piece.len() + chunk.len()) as u64 > offer.bytes {
                    Some(Err(HttpError::Reach("it is longer than was announced".into())))
                } else {
                    piece.extend_from_slice(&chunk);
                    too_slow(&mut look, chunk.len(), http)
                }
            }
            Ok(Ok(None)) => Some(Ok(())),
            Ok(Err(error)) => Some(Err(reach(&error))),
            Err(_) => Some(Err(HttpError::Reach("nothing more came".into()))),
        };
        if piece.len() >= PIECE_BYTES || ended.is_some() {
            let bytes = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            part = match blocking(move || append(part, &bytes)).await {
                Ok(part) => part,
                Err(cause) => {
                    return (Err(FetchError::Disk { path: path.to_owned(), cause }), Ok(()));
                }
            };
            state.update(|status| status.fetching = Some((offer.bytes, part.length)));
        }
        match ended {
            None => {}
            Some(Ok(())) if part.length < offer.bytes => {
                return (Ok(part), Err(HttpError::Reach("it ended early".into())));
            }
            Some(ended) => return (Ok(part), ended),
        }
    }
}

/// Whether too few bytes have come since the last look.
fn too_slow(look: &mut (Instant, u64), bytes: usize, http: &Http) -> Option<Result<(), HttpError>> {
    look.1 += bytes as u64;
    if Instant::now() < look.0 {
        return None;
    }
    let brought = std::mem::take(&mut look.1);
    look.0 = Instant::now() + http.pace.piece;
    (brought < RATE_BYTES_MIN).then(|| Err(HttpError::Reach("it comes too slowly".into())))
}

/// Whether an answer's body goes on where we are.
fn begins_at(response: &Response, at: u64) -> Result<(), String> {
    if response.status() == StatusCode::OK {
        return if at == 0 {
            Ok(())
        } else {
            Err("all of it came where a part was asked for".into())
        };
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    match begin.and_then(|(begin, _)| begin.parse::<u64>().ok()) {
        Some(begin) if begin == at => Ok(()),
        _ => Err(format!("another part came than the one asked for ({})", range.unwrap_or("none"))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// What an earlier attempt has left, hashed.
fn open(path: &Path, bytes_max: u64) -> io::Result<Part> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path)?;
    let mut part = Part { file: file.try_clone()?, hasher: Sha256::new(), length: 0 };
    if file.metadata()?.len() > bytes_max {
        return restart(part);
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(part),
            Ok(read) => {
                part.hasher.update(piece.get(..read).unwrap_or_default());
                part.length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn restart(part: Part) -> io::Result<Part> {
    part.file.set_len(0)?;
    Ok(Part { hasher: Sha256::new(), length: 0, ..part })
}

fn append(mut part: Part, bytes: &[u8]) -> io::Result<Part> {
    if let Err(error) = part.file.write_all(bytes) {
        // What was written of it would be hashed twice.
        part.file.set_len(part.length)?;
        return Err(error);
    }
    part.hasher.update(bytes);
    part.length += bytes.len() as u64;
    Ok(part)
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "a base that does not fit cannot be removed");
    }
}
