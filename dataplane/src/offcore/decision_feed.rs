//! Decisions as they are made, for whoever watches the admin listener: `GET /decisions?site=SLUG&verdict=deny` as server-sent
//! events.
//!
//! In: blocks of rows from the drain, a filter. Out: one event a decision, and one that says how many were left out. Always holds: a
//! watcher costs the shards nothing and the drain a copy; nobody is sent more than so many decisions a second.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_lite::stream;
use link::row::{self, Origin};
use policy::decision::{Reason, Verdict};
use serde::Deserialize;

use super::state::NodeState;
use crate::journal::live::{LiveBlock, Watch};

/// Decisions a second that one watcher is sent; the others of that second are counted.
const EVENTS_PER_SECOND: u64 = 200;
/// How often new rows are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What a watcher asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    site: Option<String>,
    verdict: Option<Word>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
}

impl Filter {
    fn takes(&self, site: &str, reason: Reason) -> bool {
        let verdict = match reason.verdict() {
            Verdict::Allow => Word::Allow,
            Verdict::Deny => Word::Deny,
        };
        self.site.as_deref().is_none_or(|wanted| wanted == site)
            && self.verdict.is_none_or(|wanted| wanted == verdict)
            && self.reason.as_deref().is_none_or(|wanted| wanted == reason.as_str())
    }
}

/// The handler. `?site=`, `?verdict=allow|deny` and `?reason=` narrow what is sent.
pub(super) async fn decisions(
    State(state): State<Arc<NodeState>>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(filter)) = filter else {
        let help = "the query may hold site=SLUG, verdict=allow or verdict=deny, reason=REASON\n";
        return (StatusCode::BAD_REQUEST, help).into_response();
    };
    let Some(watch) = state.journal().live().watch() else {
        let text = "too many watch already: end one of them\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let feed = Feed { watch, filter, state, ready: VecDeque::new(), budget: Budget::default() };
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// What may still be sent in this second.
#[derive(Debug, Default)]
struct Budget {
    second: u64,
    sent: u64,
    skipped: u64,
}

impl Budget {
    /// Whether one more decision may be sent; if not, it is counted.
    fn take(&mut self) -> bool {
        let has_room = self.sent < EVENTS_PER_SECOND;
        if has_room {
            self.sent += 1;
        } else {
            self.skipped += 1;
        }
        has_room
    }

    /// Begins another second, where it is time; how many decisions the last left out.
    fn turn(&mut self, second: u64, missed: u64) -> Option<u64> {
        self.skipped += missed;
        if second == self.second {
            return None;
        }
        let skipped = std::mem::take(&mut self.skipped);
        (self.second, self.sent) = (second, 0);
        (skipped > 0).then_some(skipped)
    }
}

/// One watcher's events.
struct Feed {
    watch: Watch,
    filter: Filter,
    state: Arc<NodeState>,
    ready: VecDeque<Event>,
    budget: Budget,
}

impl Feed {
    /// The next event; `None` once the node shuts down.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.state.is_draining() {
                return None;
            }
            let second = self.state.clock().now().mono_ns / 1_000_000_000;
            if let Some(skipped) = self.budget.turn(second, self.watch.take_missed()) {
                let data = format!("{{\"decisions\":{skipped}}}");
                self.ready.push_back(Event::default().event("skipped").data(data));
            }
            match self.watch.next() {
                Some(block) => self.take(&block),
                None if self.ready.is_empty() => tokio::time::sleep(LOOK).await,
                None => {}
            }
        }
    }

    fn take(&mut self, block: &LiveBlock) {
        let (mut rest, mut seq) = (block.rows.as_slice(), block.head.first_seq);
        while let Ok((row, after)) = row::read(rest) {
            rest = after;
            if row.stage == row::Stage::Open {
                continue;
            }
            let reason = row.opened.reason;
            if self.filter.takes(row.opened.texts.site, reason) && self.budget.take() {
                let node = self.state.journal().node();
                let head = &block.head;
                let origin = Origin { node: &node, epoch: head.epoch, shard: head.shard, seq };
                if let Ok(json) = serde_json::to_string(&row.record(origin, &mut [0; 32])) {
                    self.ready.push_back(Event::default().data(json));
                }
            }
            seq += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_narrows_by_all_that_it_names() {
        let filter = |site: Option<&str>, verdict, reason: Option<&str>| Filter {
            site: site.map(Into::into),
            verdict,
            reason: reason.map(Into::into),
        };
        for (filter, expected) in [
            (filter(None, None, None), true),
            (filter(Some("a"), Some(Word::Deny), Some("token_missing")), true),
            (filter(Some("b"), None, None), false),
            (filter(None, Some(Word::Allow), None), false),
            (filter(None, None, Some("ok")), false),
        ] {
            assert_eq!(filter.takes("a", Reason::TokenMissing), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_a_second_leaves_out_is_told_in_the_next() {
        let mut budget = Budget::default();
        let sent = (0..EVENTS_PER_SECOND + 7).filter(|_| budget.take()).count();
        assert_eq!(sent as u64, EVENTS_PER_SECOND);
        assert_eq!(budget.turn(0, 5), None);
        assert_eq!(budget.turn(1, 0), Some(12));
        assert_eq!(budget.turn(2, 0), None);
        assert!(budget.take());
    }
}
