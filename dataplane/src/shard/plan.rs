//! The synchronous part of an exchange: from a head's bytes to what will be done.
//!
//! In: the bytes received, the policy in force. Out: a `Plan`: wait for bytes, answer, wait for units, or forward. Always holds:
//! runs without waiting, on the shard's scratch; what it returns borrows nothing; `decide` says what is done, this only prepares
//! it.

mod own_path;

use std::cell::Cell;
use std::rc::Rc;

use policy::budget::{
    Admission, Admitted, Decided, Figures, Outcome as Resolved, Reason as Within, Refusal, Refused,
    Ticket, WaitId,
};
use policy::decide::decide;
use policy::decision::{Decision, Outcome, Reason};
use policy::facts::{Facts, GatewayPath, Presented, RequestLine};
use policy::matcher::Matcher;
use policy::model::OnLedgerLoss;
use policy::snapshot::SiteView;

use crate::clock::Now;
use crate::http1::{BodyFraming, Parse, Request, Upgrade, Version, parse_request};
use crate::message::{self, Asker, ClientAddress, Forward, Identity, Problem, Redirect, RequestId};

use super::Shard;
use super::again::{self, ForOrigin, Judged, Kept, Last};
use super::own_answer::refuse_head;
use super::peer::{Listens, Peer};
use super::planned::{Answer, Exchange, Plan, Resumed, Waiting, begin_upload};
use super::policy_view::PolicyView;
use super::record::{Known, Verdict};

/// Longest unread body that is skipped to keep a connection after an answer of our own.
const SKIP_BYTES_MAX: u64 = 64 * 1024;

/// A parsed request at an address that names a site.
struct Asked<'a> {
    shard: &'a Shard,
    policy: &'a Rc<PolicyView>,
    request: Request<'a>,
    peer: &'a Peer,
    client: ClientAddress,
    request_id: RequestId,
    head_len: usize,
    bytes: &'a [u8],
    started: Now,
    /// Whether the host is the site's own, so that its HSTS binds no other site.
    has_own_host: Cell<bool>,
    /// The same request, where it came before.
    kept: Option<&'a Kept>,
    /// What policy alone says, once that is known.
    judged: Cell<Option<Judged>>,
    /// Whether it was forwarded, or refused for a reason that is logged.
    is_decided: Cell<bool>,
    /// Where the head for the origin was written: its bytes, and where in it the id stands.
    written: Cell<Option<(usize, usize)>>,
}

/// Plans what to do with `bytes`, of which `seen` were too few before. `started` is when the first of them came.
pub(super) fn plan(
    shard: &Shard,
    peer: &Peer,
    bytes: &[u8],
    seen: usize,
    started: Now,
    resumed: Option<Resumed>,
) -> Plan {
    let mut scratch = shard.scratch.borrow_mut();
    let scratch = &mut *scratch;
    let policy = resumed.as_ref().map_or_else(|| shard.policy(), |of| Rc::clone(&of.policy));
    let may_repeat = resumed.is_none() && seen == 0 && matches!(peer.last.get(), Last::Kept(_));
    let again = may_repeat.then(|| policy.again().borrow_mut().take(peer, bytes)).flatten();
    let limits = &shard.settings.limits;
    let (head, head_len) = match &again {
        Some(kept) => (kept.head(), kept.head_len()),
        None => match parse_request(bytes, seen, limits, &mut scratch.request) {
            Ok(Parse::Complete { len }) => (&scratch.request, len),
            Ok(Parse::Partial) => return Plan::Partial,
            Err(error) => return refuse_head(shard, error, bytes),
        },
    };
    let request = head.view(bytes);
    let (request_id, outcome) = match resumed {
        Some(resumed) => (resumed.request_id, Some(resumed.outcome)),
        None => (shard.request_ids.borrow_mut().next_id(), None),
    };
    let trusted = if peer.is_trusted { &*shard.settings.trusted_proxies } else { &[] };
    let asked = Asked {
        shard,
        policy: &policy,
        client: message::client_address(&request, peer.address, trusted),
        request,
        peer,
        request_id,
        head_len,
        bytes,
        started,
        has_own_host: Cell::new(false),
        kept: again.as_deref(),
        judged: Cell::new(again.as_ref().map(|kept| kept.judged())),
        is_decided: Cell::new(false),
        written: Cell::new(None),
    };
    if peer.listens == Listens::Redirect {
        return asked.redirect();
    }
    let request_bytes = bytes.get(..head_len).unwrap_or_default();
    let plan = asked.plan((&mut scratch.matcher, &scratch.no_rules), outcome);
    let judged = asked.judged.get().filter(|_| asked.is_decided.get());
    let for_origin = match (&plan, asked.written.get()) {
        (Plan::Forward(exchange), Some((len, id_at))) => {
            exchange.request.get(..len).map(|bytes| ForOrigin { bytes, id_at })
        }
        _ => None,
    };
    match (again, judged) {
        (Some(kept), judged) => again::keep_on(&policy, peer, kept, judged, for_origin),
        (None, Some(judged)) => {
            let request = (&scratch.request, request_bytes);
            again::keep(shard, &policy, peer, request, judged, for_origin);
        }
        (None, None) => peer.last.set(Last::Unknown),
    }
    plan
}

impl Asked<'_> {
    fn plan(
        &self,
        (matcher, no_rules): (&mut policy::matcher::Scratch, &Matcher),
        outcome: Option<Resolved>,
    ) -> Plan {
        let domain = &self.shard.settings.gateway_domain;
        let snapshot = self.policy.snapshot();
        let path = self.request.path();
        let judged = self.judged.get();
        let found = judged.map(|judged| judged.found);
        let Some(found) = found.or_else(|| snapshot.find_site(self.request.host(), path, domain))
        else {
            if let Err(rejected) = no_rules.resolve(self.request.method(), path, matcher) {
                self.shard.metrics.malformed.inc(rejected.cause.as_str());
                return self.answer_without_site(Reason::RequestMalformed);
            }
            self.shard.metrics.no_site.decided(Reason::SiteUnknown);
            return self.answer_without_site(Reason::SiteUnknown);
        };
        if self.peer.is_tls()
            && snapshot.is_misdirected(self.peer.server_name(), found.site, domain)
        {
            return self.misdirected();
        }
        self.has_own_host.set(found.prefix_len == 0);
        let site = self.policy.site(found.site);
        let path = path.get(found.prefix_len..).unwrap_or_default();
        let line = RequestLine { method: self.request.method(), path, query: self.request.query() };
        let headers = self.request.headers().map(|header| (header.name, header.value));
        let has_body = !self.request.facts().framing.is_empty();
        let facts = Facts::extract(line, headers, site.token_places(), has_body, self.client.ip);
        let now_s = self.started.unix_s();
        if self.shard.is_draining() && outcome.is_none() {
            let decision = undecided(&site, Reason::Draining);
            if GatewayPath::of(path).is_some() {
                return self.answer(&facts, decision, None, Some(1)).0;
            }
            return self.refuse(&facts, decision, None, Some(1));
        }
        if outcome.is_none() && self.shard.journal_is_closed() {
            // Its decision could not be recorded either: it is counted, and nothing else.
            self.policy.cells(site.index()).decided(Reason::JournalFull);
            let decision = undecided(&site, Reason::JournalFull);
            return self.answer(&facts, decision, None, Some(1)).0;
        }
        if let Some(own) = GatewayPath::of(path) {
            return self.own_path(&site, &facts, own, outcome);
        }
        let decision = match judged {
            Some(judged) if judged.now_s == now_s => judged.decision,
            _ => decide(snapshot, &site, &facts, now_s, matcher),
        };
        self.judged.set(Some(Judged { found, decision, now_s }));
        match decision.outcome {
            Outcome::Refuse if decision.reason == Reason::RequestMalformed => {
                let rejected = site.matcher().resolve(line.method, facts.path, matcher).err();
                let cause = rejected.map_or("path", |rejected| rejected.cause.as_str());
                self.shard.metrics.malformed.inc(cause);
                self.answer(&facts, decision, None, None).0
            }
            Outcome::Refuse => self.refuse(&facts, decision, None, None),
            Outcome::Forward => {
                self.forward(&facts, found.prefix_len, decision, decision.reason, None)
            }
            Outcome::Meter => self.meter(&facts, found.prefix_len, decision, outcome),
        }
    }

    /// Rows 11 to 15.
    fn meter(
        &self,
        facts: &Facts<'_>,
        prefix_len: usize,
        decision: Decision,
        outcome: Option<Resolved>,
    ) -> Plan {
        let decided = match outcome {
            Some(Resolved::Decided(decided)) => decided,
            Some(Resolved::Usage(_)) => Decided::Unknown { retry_after_s: 1 },
            None => match self.admit(decision) {
                Admission::Decided(decided) => decided,
                Admission::Pending(id) => return self.wait(id),
            },
        };
        match decided {
            Decided::Admitted(admitted) => {
                let reason = match admitted.reason {
                    Within::Overage => Reason::Overage,
                    Within::Ok => decision.reason,
                };
                self.forward(facts, prefix_len, decision, reason, Some(admitted))
            }
            Decided::Refused(refusal) => {
                let decision = Decision { reason: reason_of(refusal), ..decision };
                self.refuse(facts, decision, Some(&refusal.figures), Some(refusal.retry_after_s))
            }
            Decided::Unknown { retry_after_s } => {
                match self.policy.site(decision.site).on_ledger_loss() {
                    OnLedgerLoss::Open => {
                        let admitted = self.admit_unmetered(decision);
                        self.forward(facts, prefix_len, decision, Reason::Unmetered, admitted)
                    }
                    OnLedgerLoss::Closed => {
                        let decision = Decision { reason: Reason::LedgerUnreachable, ..decision };
                        self.refuse(facts, decision, None, Some(retry_after_s))
                    }
                }
            }
        }
    }

    fn admit(&self, decision: Decision) -> Admission {
        let snapshot = self.policy.snapshot();
        let known = decision.subscription.and_then(|index| {
            Some((snapshot.subscription(index)?.entitlement(), self.shard.terms(snapshot, index)?))
        });
        let Some((entitlement, terms)) = known else {
            return Admission::Decided(Decided::Unknown { retry_after_s: 1 });
        };
        let now = self.shard.budget_now();
        self.shard.budgets.borrow_mut().admit(now, entitlement, &terms, decision.cost)
    }

    /// Counts a request that is forwarded unmetered, so that it is settled once the ledger is back.
    fn admit_unmetered(&self, decision: Decision) -> Option<Admitted> {
        let snapshot = self.policy.snapshot();
        let index = decision.subscription?;
        let (entitlement, terms) =
            (snapshot.subscription(index)?.entitlement(), self.shard.terms(snapshot, index)?);
        let now = self.shard.budget_now();
        let mut budgets = self.shard.budgets.borrow_mut();
        budgets.admit_unmetered(now, entitlement, &terms, decision.cost)
    }

    fn wait(&self, id: WaitId) -> Plan {
        self.shard.metrics.budget_waits.inc();
        Plan::Wait(Waiting { id, policy: Rc::clone(self.policy), request_id: self.request_id })
    }

    /// Whether an answer without forwarding ends the connection, and how much of the body is skipped otherwise.
    fn after_answer(&self) -> (bool, u64) {
        let facts = self.request.facts();
        let stays = facts.keep_alive && !self.shard.is_draining();
        match facts.framing {
            BodyFraming::None => (!stays, 0),
            BodyFraming::Length(length) => {
                (!stays || facts.expect_continue || length > SKIP_BYTES_MAX, length)
            }
            BodyFraming::Chunked => (true, 0),
        }
    }

    fn asker<'b>(
        &'b self,
        site: Option<SiteView<'b>>,
        origin_header: Option<&'b [u8]>,
        close: bool,
        token_sent: bool,
    ) -> Asker<'b> {
        let facts = self.request.facts();
        Asker {
            site,
            origin_header,
            is_head: self.request.is_head(),
            close,
            http10_keep_alive: !close && facts.version == Version::Http10,
            request_id: &self.request_id,
            token_sent,
            sends_hsts: self.sends_hsts(),
        }
    }

    fn sends_hsts(&self) -> bool {
        self.peer.is_tls() && self.has_own_host.get()
    }

    /// The answer of a listener that only sends clients on.
    fn redirect(&self) -> Plan {
        let (close, skip) = self.after_answer();
        let mut bytes = self.shard.take_spare();
        let asker = self.asker(None, None, close, false);
        let redirect = Redirect {
            host: self.request.host(),
            path: self.request.path(),
            query: self.request.query(),
            https_port: self.shard.settings.https_port.unwrap_or(443),
        };
        message::redirect(&mut bytes, &asker, &redirect, self.started.unix_s());
        Plan::Answer(Answer { bytes, head_len: self.head_len, skip, close })
    }

    /// The answer to a request for another site than the connection was opened for.
    fn misdirected(&self) -> Plan {
        self.shard.metrics.malformed.inc(message::MISDIRECTED_CAUSE);
        let mut bytes = self.shard.take_spare();
        let asker = self.asker(None, None, true, false);
        message::misdirected(&mut bytes, &asker, self.started.unix_s());
        self.account_own_answer();
        Plan::Answer(Answer { bytes, head_len: self.head_len, skip: 0, close: true })
    }

    fn answer_without_site(&self, reason: Reason) -> Plan {
        let (ends, skip) = self.after_answer();
        let close = ends || reason == Reason::RequestMalformed;
        let mut bytes = self.shard.take_spare();
        let asker = self.asker(None, None, close, false);
        let problem = Problem::new(reason, self.started.unix_s());
        let body_bytes = message::problem(&mut bytes, &asker, &problem);
        self.account_own_answer();
        if reason == Reason::SiteUnknown {
            let verdict = Verdict { decision: None, reason, charge: 0, figures: None };
            let sent = (reason.status(), body_bytes);
            self.shard.record_whole(self.policy.snapshot(), &self.known(), &verdict, sent);
        }
        Plan::Answer(Answer { bytes, head_len: self.head_len, skip, close })
    }

    /// Refuses: a decision that is logged.
    fn refuse(
        &self,
        facts: &Facts<'_>,
        decision: Decision,
        figures: Option<&Figures>,
        retry_after_s: Option<u64>,
    ) -> Plan {
        self.is_decided.set(true);
        self.policy.cells(decision.site).decided(decision.reason);
        let (plan, body_bytes) = self.answer(facts, decision, figures, retry_after_s);
        let reason = decision.reason;
        let verdict = Verdict { decision: Some(&decision), reason, charge: 0, figures };
        let sent = (reason.status(), body_bytes);
        self.shard.record_whole(self.policy.snapshot(), &self.known(), &verdict, sent);
        plan
    }

    /// What the journal has of any request.
    fn known(&self) -> Known<'_> {
        Known {
            decided: self.started,
            request_id: &self.request_id,
            version: self.request.facts().version,
            client: self.client.ip,
            method: self.request.method(),
            path: self.request.path(),
        }
    }

    fn answer(
        &self,
        facts: &Facts<'_>,
        decision: Decision,
        figures: Option<&Figures>,
        retry_after_s: Option<u64>,
    ) -> (Plan, usize) {
        let (ends, skip) = self.after_answer();
        let close = ends || decision.reason == Reason::RequestMalformed;
        let mut bytes = self.shard.take_spare();
        let token_sent = !matches!(facts.token, Presented::Nothing);
        let site = self.policy.site(decision.site);
        let asker = self.asker(Some(site), facts.origin, close, token_sent);
        let subscription =
            decision.subscription.filter(|_| decision.reason == Reason::ConcurrencyLimited);
        let terms = subscription.and_then(|index| self.shard.terms(self.policy.snapshot(), index));
        let problem = Problem {
            figures,
            retry_after_s,
            concurrency: terms.and_then(|terms| terms.concurrency),
            ..Problem::new(decision.reason, self.started.unix_s())
        };
        let body_bytes = self.policy.problem(&mut bytes, &asker, &problem);
        self.account_own_answer();
        (Plan::Answer(Answer { bytes, head_len: self.head_len, skip, close }), body_bytes)
    }

    fn account_own_answer(&self) {
        let took_ns = self.shard.now().mono_ns.saturating_sub(self.started.mono_ns);
        self.shard.metrics.request_duration.observe_ns(took_ns);
        self.shard.metrics.gateway_overhead.observe_ns(took_ns);
    }

    fn forward(
        &self,
        facts: &Facts<'_>,
        prefix_len: usize,
        decision: Decision,
        reason: Reason,
        admitted: Option<Admitted>,
    ) -> Plan {
        let site = self.policy.site(decision.site);
        let http = self.request.facts();
        let asks_websocket = http.upgrade == Some(Upgrade::WebSocket);
        let mut request = self.shard.take_spare();
        let is_written = self
            .kept
            .is_some_and(|kept| kept.write_request(&mut request, &decision, &self.request_id));
        if !is_written {
            let id_at = self.write_request(&mut request, facts, prefix_len, decision);
            self.written.set(Some((request.len(), id_at)));
        }
        let body = self.bytes.get(self.head_len..).unwrap_or_default();
        let (taken, upload) = match begin_upload(&site, http.framing, body, &mut request) {
            Ok(begun) => begun,
            Err(error) => {
                self.shard.metrics.malformed.inc(error.cause());
                return self.refuse_body(facts, decision, admitted, request);
            }
        };
        self.is_decided.set(true);
        let (ticket, figures) =
            admitted.map(|admitted| (admitted.ticket, admitted.figures)).unzip();
        let opened_at = self.record_begin(&decision, reason, ticket.as_ref(), figures.as_ref());
        let wants_cors = site.cors_origins().next().is_some();
        Plan::Forward(Box::new(Exchange {
            policy: Rc::clone(self.policy),
            decision,
            reason,
            ticket,
            figures,
            request_id: self.request_id,
            opened_at,
            status: None,
            request,
            consumed: self.head_len + taken,
            upload,
            request_bytes: taken as u64,
            response_bytes: 0,
            origin_ns: 0,
            is_counted: false,
            expects_continue: http.expect_continue,
            version: http.version,
            keep_alive: http.keep_alive,
            is_head: self.request.is_head(),
            sends_hsts: self.sends_hsts(),
            is_idempotent: self.request.is_idempotent(),
            asks_websocket,
            token_sent: !matches!(facts.token, Presented::Nothing),
            cors: facts.origin.filter(|_| wants_cors).map(Box::from),
            started: self.started,
        }))
    }

    /// Appends the head for the origin. Where the request's id stands in it.
    fn write_request(
        &self,
        request: &mut Vec<u8>,
        facts: &Facts<'_>,
        prefix_len: usize,
        decision: Decision,
    ) -> usize {
        let looked_up = match (&facts.token, decision.foreign_looked_up) {
            (Presented::Token(value), true) => Some(value.as_bytes()),
            _ => None,
        };
        let forward = Forward {
            site: self.policy.site(decision.site),
            prefix_len,
            peer: self.peer.address,
            peer_is_trusted: self.client.peer_is_trusted,
            client: self.client.ip,
            proto: self.peer.proto(),
            client_cert_subject: self.peer.client_subject(),
            identity: self.identity(decision),
            request_id: &self.request_id,
            looked_up_foreign: looked_up,
            expect: self.request.facts().expect_continue,
        };
        message::write_request(request, &self.request, &forward)
    }

    fn record_begin(
        &self,
        decision: &Decision,
        reason: Reason,
        ticket: Option<&Ticket>,
        figures: Option<&Figures>,
    ) -> Option<u64> {
        let charge = ticket.map_or(0, Ticket::charge);
        let verdict = Verdict { decision: Some(decision), reason, charge, figures };
        self.shard.record_begin(self.policy.snapshot(), &self.known(), &verdict)
    }

    /// The body's first bytes are no chunks: nothing is forwarded, and what was charged is given back.
    fn refuse_body(
        &self,
        facts: &Facts<'_>,
        decision: Decision,
        admitted: Option<Admitted>,
        unsent: Vec<u8>,
    ) -> Plan {
        self.shard.give_spare(unsent);
        if let Some(admitted) = admitted {
            self.shard.refund(admitted.ticket);
        }
        self.answer(facts, Decision { reason: Reason::RequestMalformed, ..decision }, None, None).0
    }

    fn identity(&self, decision: Decision) -> Option<Identity<'_>> {
        let snapshot = self.policy.snapshot();
        let subscription = snapshot.subscription(decision.subscription?)?;
        Some(Identity {
            customer: subscription.customer(),
            plan: snapshot.plan(decision.plan?)?.id(),
            subscription: subscription.id(),
            token_id: snapshot.token(decision.token?)?.id(),
        })
    }
}

fn undecided(site: &SiteView<'_>, reason: Reason) -> Decision {
    Decision {
        site: site.index(),
        outcome: Outcome::Refuse,
        reason,
        resource: None,
        token: None,
        subscription: None,
        plan: None,
        cost: 0,
        foreign_looked_up: false,
    }
}

const fn reason_of(refusal: Refusal) -> Reason {
    match refusal.by {
        Refused::Rate => Reason::RateLimited,
        Refused::Concurrency => Reason::ConcurrencyLimited,
        Refused::Quota => Reason::QuotaExhausted,
    }
}
