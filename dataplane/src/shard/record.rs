//! What goes into the journal of a decision: when it is made, and when the request has ended.
//!
//! In: decisions and exchanges. Out: records in the shard's ring. Always holds: a decision that is logged is recorded once, before
//! its request is forwarded or with its answer; the query, header values and tokens are in no record.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use link::row::{Account, Ended, Opened, Protocol, Subscriber, Texts};
use policy::budget::Figures;
use policy::decision::{Decision, Reason};
use policy::snapshot::Snapshot;

use crate::clock::Now;
use crate::config::LogClient;
use crate::http1::Version;
use crate::journal::ring::Writer;
use crate::message::RequestId;

use super::Shard;
use super::planned::Exchange;

/// The status of a request whose client went away before anything was sent to it: no answer has it, logs of other gateways do.
const CLIENT_GONE: u16 = 499;

/// What is known of a request when it is decided.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) decided: Now,
    pub(super) request_id: &'a RequestId,
    pub(super) version: Version,
    pub(super) client: IpAddr,
    pub(super) method: &'a [u8],
    /// As received, without the query.
    pub(super) path: &'a [u8],
}

/// What was decided on it.
#[derive(Clone, Copy)]
pub(super) struct Verdict<'a> {
    /// `None` where no site was found.
    pub(super) decision: Option<&'a Decision>,
    pub(super) reason: Reason,
    pub(super) charge: u64,
    pub(super) figures: Option<&'a Figures>,
}

/// The shard's end of the journal.
pub(super) struct Journal {
    writer: Writer,
    log_client: LogClient,
    /// Requests are refused when it is full.
    refuses: bool,
}

impl Journal {
    pub(super) fn new(writer: Writer, log_client: LogClient, refuses: bool) -> Self {
        Self { writer, log_client, refuses }
    }

    /// Whether a request must be refused since it could not be recorded; the refusal is lost from the log.
    pub(super) fn is_closed(&mut self) -> bool {
        let is_closed = self.refuses && !self.writer.has_room();
        if is_closed {
            self.writer.lose();
        }
        is_closed
    }
}

impl Shard {
    /// Records a request that will be forwarded; where, to end it by.
    pub(super) fn record_begin(
        &self,
        snapshot: &Snapshot,
        known: &Known<'_>,
        verdict: &Verdict<'_>,
    ) -> Option<u64> {
        let mut journal = self.journal.borrow_mut();
        let journal = journal.as_mut()?;
        let (method, path) = (text(known.method), text(known.path));
        let opened = opened(snapshot, known, verdict, (&method, &path), journal.log_client);
        journal.writer.begin(&opened)
    }

    /// Records a request that is answered with `status` and so many bytes.
    pub(super) fn record_whole(
        &self,
        snapshot: &Snapshot,
        known: &Known<'_>,
        verdict: &Verdict<'_>,
        (status, bytes): (Option<u16>, usize),
    ) {
        let mut journal = self.journal.borrow_mut();
        let Some(journal) = journal.as_mut() else { return };
        let (method, path) = (text(known.method), text(known.path));
        let opened = opened(snapshot, known, verdict, (&method, &path), journal.log_client);
        let ended = Ended {
            reason: verdict.reason,
            status,
            charge: 0,
            remaining: opened.remaining,
            request_bytes: 0,
            response_bytes: bytes as u64,
            origin_us: None,
            total_us: self.now().mono_ns.saturating_sub(known.decided.mono_ns) / 1_000,
        };
        journal.writer.whole(&opened, &ended);
    }

    /// Records the end of a forwarded request.
    pub(super) fn record_end(&self, exchange: &Exchange, charge: u64, total_ns: u64) {
        let mut journal = self.journal.borrow_mut();
        let (Some(opened_at), Some(journal)) = (exchange.opened_at, journal.as_mut()) else {
            return;
        };
        let figures = exchange.figures.as_ref();
        journal.writer.end(
            opened_at,
            &Ended {
                reason: exchange.reason,
                status: Some(exchange.status.unwrap_or(CLIENT_GONE)),
                charge,
                remaining: figures.and_then(|figures| figures.remaining),
                request_bytes: exchange.request_bytes,
                response_bytes: exchange.response_bytes,
                origin_us: (exchange.origin_ns > 0).then_some(exchange.origin_ns / 1_000),
                total_us: total_ns / 1_000,
            },
        );
    }

    /// Whether a request must be refused since it could not be recorded.
    pub(super) fn journal_is_closed(&self) -> bool {
        self.journal.borrow_mut().as_mut().is_some_and(Journal::is_closed)
    }
}

fn opened<'a>(
    snapshot: &'a Snapshot,
    known: &Known<'_>,
    verdict: &Verdict<'_>,
    (method, path): (&'a str, &'a str),
    log_client: LogClient,
) -> Opened<'a> {
    let Verdict { decision, reason, charge, figures } = *verdict;
    let subscription = decision.and_then(|decision| snapshot.subscription(decision.subscription?));
    let token = decision.and_then(|decision| snapshot.token(decision.token?));
    let plan = decision.and_then(|decision| snapshot.plan(decision.plan?));
    let resource = decision.and_then(|decision| snapshot.resource(decision.resource?));
    Opened {
        opened_at: 0,
        time_ns: known.decided.unix_ns,
        request_id: known.request_id.number(),
        account: subscription.zip(figures).map(|(subscription, figures)| Account {
            entitlement: subscription.entitlement(),
            period: figures.period,
        }),
        reason,
        charge,
        remaining: figures.and_then(|figures| figures.remaining),
        protocol: match known.version {
            Version::Http10 => Protocol::Http10,
            Version::Http11 => Protocol::Http11,
        },
        client: logged(log_client, known.client),
        texts: Texts {
            site: decision
                .and_then(|decision| snapshot.site(decision.site))
                .map_or("", |site| site.slug()),
            subscriber: subscription.zip(token).map(|(subscription, token)| Subscriber {
                customer: subscription.customer(),
                subscription: subscription.id(),
                token_id: token.id(),
            }),
            plan: plan.map(|plan| plan.id()),
            resource: resource.map(|resource| resource.pattern()),
            method,
            path,
        },
    }
}

/// Bytes of a head as text: those that are no UTF-8 cannot be told.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The client's address as far as it is logged.
fn logged(log_client: LogClient, client: IpAddr) -> Option<IpAddr> {
    match (log_client, client) {
        (LogClient::Off, _) => None,
        (LogClient::Whole, client) => Some(client),
        (LogClient::Network, IpAddr::V4(v4)) => {
            Some(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into())
        }
        (LogClient::Network, IpAddr::V6(v6)) => {
            Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_logged_as_far_as_told() {
        let check = |log_client, address: &str, expected: Option<&str>| {
            let logged = logged(log_client, address.parse().unwrap());
            assert_eq!(logged, expected.map(|expected| expected.parse().unwrap()));
        };
        check(LogClient::Off, "203.0.113.77", None);
        check(LogClient::Whole, "203.0.113.77", Some("203.0.113.77"));
        check(LogClient::Network, "203.0.113.77", Some("203.0.113.0"));
        check(LogClient::Network, "2001:db8:1:2:3::4", Some("2001:db8:1::"));
    }
}
