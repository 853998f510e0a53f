//! Keeps the stream: one after another, of one control plane or the next.
//!
//! In: control planes' streams. Out: what [`Session`] makes of each. Always holds: a stream that fails is followed by another after a wait that
//! grows; one that ends because something is to be asked anew is followed at once, unless nothing has changed since the last time.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::config::ControlConfig;
use super::download::{FetchError, fetch};
use super::http::Http;
use super::keeper::{Keeper, Prepared};
use super::session::{End, Session};
use super::state::LinkState;
use super::{Deliver, PolicySink};
use crate::ship::backoff::Backoff;
use crate::wire::BaseOffer;

/// Between two bases that were refused, or could not be had.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_LONGEST: Duration = Duration::from_secs(60);

/// Follows for ever.
pub(super) async fn run<S: PolicySink>(
    keeper: Keeper<S>,
    http: Arc<Http>,
    deliver: Arc<Deliver>,
    state: Arc<LinkState>,
    config: &ControlConfig,
) {
    let (first, longest) = config.pace.retry;
    let mut backoff = Backoff::new(first, longest, config.epoch);
    let fetcher = Fetcher::new(Arc::clone(&http), Arc::clone(&state), config.epoch);
    let mut follower = Follower { keeper, fetcher };
    loop {
        http.admitted().await;
        let (position, url) = http.current();
        let before = follower.keeper.query(config.epoch);
        let session =
            Session::new(&http, &state, &deliver, &mut follower, &url).run(config.epoch).await;
        state.update(|status| status.connected = None);
        let has_moved = follower.keeper.query(config.epoch) != before;
        match session {
            End::Again if has_moved => {
                backoff.reset();
                continue;
            }
            End::Again => {}
            End::Failed { reason, was_good } => {
                tracing::warn!(%url, "the control plane's stream ended: {reason}");
                state.update(|status| status.error = Some(format!("{url}: {reason}")));
                http.turn_from(position);
                if was_good {
                    backoff.reset();
                }
            }
        }
        follower.wait(backoff.next()).await;
    }
}

/// The policy, and the base that is being fetched for it.
pub(super) struct Follower<S: PolicySink> {
    pub(super) keeper: Keeper<S>,
    pub(super) fetcher: Fetcher<S>,
}

impl<S: PolicySink> Follower<S> {
    /// Waits without a stream; a fetched base is put in force meanwhile.
    async fn wait(&mut self, time: Duration) {
        let wait = sleep(time);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return,
                fetched = self.fetcher.done() => { self.take_base(fetched); }
            }
        }
    }

    /// Takes a base that was offered.
    pub(super) fn offered(&mut self, offer: BaseOffer) {
        if self.keeper.wants(&offer) {
            self.fetcher.start(&self.keeper, offer);
        }
    }

    /// Fetches what was offered again before it was time.
    pub(super) fn try_again(&mut self) {
        if let Some(offer) = self.fetcher.offered_early.take() {
            self.offered(offer);
        }
    }

    /// Puts a fetched base in force, or refuses it.
    pub(super) fn take_base(&mut self, fetched: Fetched<S>) {
        let (offer, outcome) = fetched;
        let taken = match outcome {
            Ok(prepared) => self.keeper.adopt(prepared).map(|_| ()),
            Err(FetchError::Missing(text)) => {
                tracing::warn!(base = offer.sequence, "a base could not be fetched: {text}");
                self.fetcher.put_off(&offer);
                return;
            }
            Err(error) => Err(error.to_string()),
        };
        match taken {
            Ok(()) => self.fetcher.went_well(),
            Err(reason) => {
                self.keeper.refuse_base(&offer, &reason);
                self.fetcher.put_off(&offer);
            }
        }
    }
}

/// A base, and what came of fetching and checking it.
pub(super) type Fetched<S> = (BaseOffer, Result<Prepared<<S as PolicySink>::Snapshot>, FetchError>);

/// Fetches and checks one base at a time, beside everything else.
pub(super) struct Fetcher<S: PolicySink> {
    http: Arc<Http>,
    state: Arc<LinkState>,
    seed: u64,
    task: Option<(BaseOffer, Task<S>)>,
    /// The base that was refused last, and until when it is not fetched again.
    put_off: Option<(BaseOffer, Instant)>,
    /// One that was offered before that.
    offered_early: Option<BaseOffer>,
    refusals: Backoff,
}

type Task<S> = JoinHandle<Result<Prepared<<S as PolicySink>::Snapshot>, FetchError>>;

impl<S: PolicySink> Fetcher<S> {
    fn new(http: Arc<Http>, state: Arc<LinkState>, seed: u64) -> Self {
        let refusals = Backoff::new(REFUSED_FIRST, REFUSED_LONGEST, seed);
        Self { http, state, seed, task: None, put_off: None, offered_early: None, refusals }
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.task.is_some()
    }

    fn start(&mut self, keeper: &Keeper<S>, offer: BaseOffer) {
        let is_put_off =
            |(refused, until): &(BaseOffer, Instant)| *refused == offer && Instant::now() < *until;
        if self.is_busy() {
            return;
        }
        if self.put_off.as_ref().is_some_and(is_put_off) {
            self.offered_early = Some(offer);
            return;
        }
        self.offered_early = None;
        tracing::info!(base = offer.sequence, bytes = offer.bytes, "fetching a policy base");
        let path = keeper.store().part(&offer);
        let fetch = fetch(Arc::clone(&self.http), Arc::clone(&self.state), offer, path, self.seed);
        let prepare = keeper.preparation(offer);
        let task = tokio::spawn(async move {
            fetch.await?;
            let prepared = spawn_blocking(prepare).await;
            let prepared = prepared.map_err(|error| FetchError::Missing(error.to_string()))?;
            prepared.map_err(FetchError::Wrong)
        });
        self.state.update(|status| status.fetching = Some((offer.bytes, 0)));
        self.task = Some((offer, task));
    }

    /// The base that is there now; never, where none is fetched.
    pub(super) async fn done(&mut self) -> Fetched<S> {
        let Some((offer, task)) = &mut self.task else { return std::future::pending().await };
        let offer = *offer;
        let outcome = task.await;
        self.task = None;
        self.state.update(|status| status.fetching = None);
        (offer, outcome.unwrap_or_else(|error| Err(FetchError::Missing(error.to_string()))))
    }

    fn put_off(&mut self, offer: &BaseOffer) {
        self.put_off = Some((*offer, Instant::now() + self.refusals.next()));
    }

    fn went_well(&mut self) {
        self.put_off = None;
        self.refusals.reset();
    }
}
