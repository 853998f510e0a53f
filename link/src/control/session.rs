//! One stream, from its request to its end.
//!
//! In: frames of one control plane. Out: changes and bases to the keeper, replies to the ledger's port, why the stream ended. Always holds: no
//! frame counts before [`Hello`]; a stream that brings no whole frame in time is left; after its end nothing of it is used.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::config::ControlUrl;
use super::follow::Follower;
use super::http::{Http, HttpError, reach};
use super::keeper::Took;
use super::state::LinkState;
use super::{Deliver, PolicySink};
use crate::wire::frame::PAYLOAD_BYTES_MAX;
use crate::wire::{DeltaHead, Frames, Hello, PROTOCOL, Pushed, Refusal, STREAM_PATH, Why};

/// Heartbeats that may be missing before a stream is left.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// What a control plane may name as its heartbeat.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 10..=30_000;
/// A large frame may take this much longer for each of its bytes: 64 KiB a second.
const BYTES_PER_S_MIN: u64 = 64 << 10;
/// How long a base that is needed may take to be offered: the control plane may have to make it first.
const OFFER_WAIT: Duration = Duration::from_secs(120);
/// How often what is rare is looked at: the token file, what is not durable yet.
const LOOK: Duration = Duration::from_secs(1);
/// How often changes that are missing on disk are asked for again.
const DISK_RETRY: Duration = Duration::from_secs(30);

/// Why a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// Something is to be asked for that this one does not bring.
    Again,
    /// It broke.
    Failed {
        /// How.
        reason: String,
        /// It had begun well.
        was_good: bool,
    },
}

/// One stream.
pub(super) struct Session<'a, S: PolicySink> {
    http: &'a Http,
    state: &'a LinkState,
    deliver: &'a Deliver,
    follower: &'a mut Follower<S>,
    url: &'a ControlUrl,
    began: Instant,
    heartbeat: Option<Duration>,
}

impl<'a, S: PolicySink> Session<'a, S> {
    pub(super) fn new(
        http: &'a Http,
        state: &'a LinkState,
        deliver: &'a Deliver,
        follower: &'a mut Follower<S>,
        url: &'a ControlUrl,
    ) -> Self {
        let began = Instant::now();
        Self { http, state, deliver, follower, url, began, heartbeat: None }
    }

    /// Reads the stream to its end.
    pub(super) async fn run(mut self, epoch: u64) -> End {
        let query = self.follower.keeper.query(epoch).to_text();
        let response = self.http.get(self.url.at(STREAM_PATH, Some(&query)), None).await;
        let outcome = match response {
            Ok(response) => self.read(response).await,
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) => End::Again,
            Err(reason) => End::Failed { reason, was_good: self.heartbeat.is_some() },
        }
    }

    async fn read(&mut self, mut response: Response) -> Result<(), String> {
        let mut frames = Frames::new(PAYLOAD_BYTES_MAX);
        let mut whole_at = Instant::now();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let until = whole_at + self.patience(frames.announced());
            tokio::select! {
                piece = timeout_at(until, response.chunk()) => {
                    let piece = piece_of(piece)?;
                    frames.put(&piece);
                    while let Some(frame) = frames.next_frame().map_err(|error| error.to_string())? {
                        whole_at = Instant::now();
                        let pushed = Pushed::decode(frame).map_err(|error| error.to_string())?;
                        if !self.take(pushed)? {
                            return Ok(());
                        }
                    }
                }
                fetched = self.follower.fetcher.done() => {
                    self.follower.take_base(fetched);
                    // What has gone by meanwhile, and what follows, comes by another stream.
                    return Ok(());
                }
                _ = look.tick() => self.look()?,
            }
        }
    }

    /// How long the next whole frame may take.
    fn patience(&self, announced: usize) -> Duration {
        let silence = self.heartbeat.map_or(self.http.pace.answer, |heartbeat| {
            heartbeat.saturating_mul(HEARTBEATS_MISSED_MAX)
        });
        silence + Duration::from_secs(announced as u64 / BYTES_PER_S_MIN)
    }

    /// Takes one message; false where the stream has to be asked for anew.
    fn take(&mut self, pushed: Pushed) -> Result<bool, String> {
        if self.heartbeat.is_none() && !matches!(pushed, Pushed::Hello(_) | Pushed::Refusal(_)) {
            return Err("it does not begin with a greeting".to_owned());
        }
        match pushed {
            Pushed::Hello(hello) => self.greet(hello)?,
            Pushed::Base(offer) => self.follower.offered(offer),
            Pushed::Delta(head, bytes) => return Ok(self.take_delta(head, &bytes)),
            Pushed::Ledger(replies) => {
                (self.deliver)(replies);
            }
            Pushed::Heartbeat(heartbeat) => {
                self.state.heard();
                self.state.update(|status| status.control_sequence = heartbeat.sequence);
            }
            Pushed::Refusal(refusal) => {
                self.http.note(&refusal);
                return Err(HttpError::Refused(refusal).to_string());
            }
            Pushed::Other => {}
        }
        Ok(true)
    }

    fn greet(&mut self, hello: Hello) -> Result<(), String> {
        if hello.protocol != PROTOCOL {
            let text = format!(
                "it speaks version {} of the control link, and this node version {PROTOCOL}",
                hello.protocol
            );
            self.http.note(&Refusal::new(Why::Protocol, &text));
            return Err(text);
        }
        let heartbeat_ms = hello.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
        self.heartbeat = Some(Duration::from_millis(heartbeat_ms.into()));
        self.follower.keeper.meet(hello.history);
        self.state.heard();
        let url = self.url.to_string();
        tracing::info!(%url, node = %hello.node, sequence = hello.sequence, "connected to the control plane");
        self.state.update(|status| {
            status.connected = Some(url);
            status.connects += 1;
            status.node = Some(hello.node);
            status.control_sequence = hello.sequence;
        });
        Ok(())
    }

    fn take_delta(&mut self, head: DeltaHead, bytes: &[u8]) -> bool {
        self.state.update(|status| status.control_sequence = status.control_sequence.max(head.to));
        match self.follower.keeper.take(head, bytes) {
            Took::Applied | Took::Old | Took::Awaits => true,
            // While a base is on its way, what is missing is asked for once it is there.
            Took::Gap if self.follower.fetcher.is_busy() => true,
            Took::Gap => {
                self.state.update(|status| status.gaps += 1);
                false
            }
            Took::Refused => false,
        }
    }

    fn look(&mut self) -> Result<(), String> {
        self.http.refresh_token();
        let follower = &mut *self.follower;
        follower.try_again();
        if let Some(file) = follower.keeper.unsynced() {
            spawn_blocking(move || {
                if let Err(error) = file.sync() {
                    tracing::warn!(%error, "policy changes are not durable: a loss of power would undo them here until the control plane is reached");
                }
            });
        }
        let age = self.began.elapsed();
        if follower.keeper.awaits_base() && !follower.fetcher.is_busy() && age > OFFER_WAIT {
            return Err("it offers no base".to_owned());
        }
        if follower.keeper.lags_on_disk() && age > DISK_RETRY {
            return Err("changes are missing on disk, and asked for again".to_owned());
        }
        Ok(())
    }
}

/// The next bytes, or how the stream ended.
fn piece_of(
    piece: Result<reqwest::Result<Option<Bytes>>, tokio::time::error::Elapsed>,
) -> Result<Bytes, String> {
    match piece {
        Ok(Ok(Some(piece))) => Ok(piece),
        Ok(Ok(None)) => Err("it was closed".to_owned()),
        Ok(Err(error)) => Err(reach(&error).to_string()),
        Err(_) => Err("it was silent for too long".to_owned()),
    }
}
