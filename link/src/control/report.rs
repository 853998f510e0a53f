//! Reports: what the node tells and asks, each second, soon after a change of policy, and whenever a lease is needed.
//!
//! In: lease requests. Out: reports, replies delivered. Always holds: one report is under way; what is not answered is said again
//! in a later one; a request that somebody waits for leaves at once, or with the next report.

use policy::budget::message::LeaseRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::ControlConfig;
use super::http::{Http, HttpError};
use super::state::LinkState;
use super::waiting::Waiting;
use super::{Deliver, Observe};
use crate::ship::backoff::Backoff;
use crate::wire::message::{REQUESTS_MAX, cut};
use crate::wire::{Figures, REPORT_PATH, Report, ReportReply};

struct Reporter<'a> {
    http: &'a Http,
    state: &'a LinkState,
    deliver: &'a Deliver,
    observe: &'a Observe,
    config: &'a ControlConfig,
    waiting: Waiting,
    /// What the report under way carries.
    sent: Vec<LeaseRequest>,
    number: u64,
}

/// Sends reports until `stopped`, then what waits once more.
pub(super) async fn run(
    http: &Http,
    state: &LinkState,
    (mut requests, deliver, observe): (mpsc::Receiver<LeaseRequest>, &Deliver, &Observe),
    mut stopped: oneshot::Receiver<()>,
    config: &ControlConfig,
) {
    let (waiting, sent) = (Waiting::default(), Vec::new());
    let mut reporter = Reporter { http, state, deliver, observe, config, waiting, sent, number: 0 };
    tokio::select! {
        _ = &mut stopped => {}
        () = reporter.run(&mut requests) => {}
    }
    while let Ok(request) = requests.try_recv() {
        reporter.waiting.put(request);
    }
    // A report that was under way may have been taken or not: what it said is said again.
    let under_way = std::mem::take(&mut reporter.sent);
    reporter.waiting.put_back(under_way);
    let _ = timeout(config.pace.last_report, reporter.send_all()).await;
}

impl Reporter<'_> {
    async fn run(&mut self, requests: &mut mpsc::Receiver<LeaseRequest>) {
        let (first, longest) = self.config.pace.retry;
        let mut backoff = Backoff::new(first, longest, self.config.epoch ^ 1);
        let mut last = Instant::now();
        loop {
            self.gather(requests, last).await;
            self.http.admitted().await;
            last = Instant::now();
            let (position, _) = self.http.current();
            match self.send().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::debug!(%error, "a report was not answered");
                    self.state.update(|status| status.reports_failed += 1);
                    self.http.turn_from(position);
                    self.take_until(requests, Instant::now() + backoff.next()).await;
                }
            }
        }
    }

    /// Waits until there is something to send: a request that somebody waits for, others and a change of policy for a moment,
    /// nothing for longer.
    async fn gather(&mut self, requests: &mut mpsc::Receiver<LeaseRequest>, last: Instant) {
        let config = self.config;
        let pace = &config.pace;
        let mut until = last + pace.report;
        self.take_what_is_there(requests);
        if !self.waiting.is_empty() {
            return;
        }
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                () = self.state.advanced() => {
                    let soon = (Instant::now() + pace.gather).max(last + pace.acknowledge);
                    until = until.min(soon);
                    continue;
                }
                () = sleep_until(until) => return,
            };
            // Once the shards are gone, reports go on at their pace until the link is stopped.
            let Some(request) = request else {
                sleep_until(until).await;
                return;
            };
            let is_needed = request.need > 0;
            self.waiting.put(request);
            self.take_what_is_there(requests);
            if is_needed || self.waiting.len() >= REQUESTS_MAX {
                return;
            }
            until = until.min(Instant::now() + self.config.pace.gather);
        }
    }

    /// Takes requests while nothing can be sent.
    async fn take_until(&mut self, requests: &mut mpsc::Receiver<LeaseRequest>, until: Instant) {
        loop {
            let is_open = !self.waiting.is_full();
            tokio::select! {
                Some(request) = requests.recv(), if is_open => self.waiting.put(request),
                () = sleep_until(until) => break,
            }
        }
        self.state.ledger_waits(self.waiting.len());
    }

    fn take_what_is_there(&mut self, requests: &mut mpsc::Receiver<LeaseRequest>) {
        while !self.waiting.is_full()
            && let Ok(request) = requests.try_recv()
        {
            self.waiting.put(request);
        }
    }

    async fn send_all(&mut self) -> Result<(), HttpError> {
        loop {
            self.send().await?;
            if self.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends one report, and delivers its answer.
    async fn send(&mut self) -> Result<(), HttpError> {
        self.number += 1;
        self.sent = self.waiting.take(REQUESTS_MAX);
        self.state.ledger_waits(self.sent.len() + self.waiting.len());
        let (_, url) = self.http.current();
        let asked_at = Instant::now();
        let asked = match self.report().encode() {
            Ok(body) => self.http.post(url.at(REPORT_PATH, None), body).await,
            Err(error) => Err(HttpError::Reach(error.to_string())),
        };
        let reply = asked.and_then(|body| {
            ReportReply::decode(&body).map_err(|error| HttpError::Reach(error.to_string()))
        });
        match reply {
            Ok(reply) => {
                self.sent.clear();
                (self.observe)(asked_at.elapsed(), reply.unix_ms);
                self.state.heard();
                self.state.update(|status| status.reports += 1);
                self.state.ledger_waits(self.waiting.len());
                let replies = reply.replies;
                if !replies.is_empty() {
                    (self.deliver)(replies);
                }
                Ok(())
            }
            Err(error) => {
                let sent = std::mem::take(&mut self.sent);
                self.waiting.put_back(sent);
                Err(error)
            }
        }
    }

    fn report(&self) -> Report {
        let status = self.state.status();
        Report {
            epoch: self.config.epoch,
            number: self.number,
            sequence: status.sequence,
            base: status.base,
            requests: self.sent.clone(),
            has_more: !self.waiting.is_empty(),
            figures: Figures {
                version: cut(&self.config.version),
                rejected: status.rejected,
                error: status.rejected_error.as_deref().map(cut),
            },
        }
    }
}
