//! One shard: connections, exchanges, connections to origins, and the budgets it owns, all on one core.
//!
//! In: connections, messages of other shards, a policy. Out: answers, forwarded requests, counts. A request flows one way:
//! accept → head → facts → decide → budget → exchange → record. Always holds: nothing here blocks or locks; whoever waits has
//! a deadline; a ticket is settled exactly once.

mod accept;
mod again;
mod connection;
mod exchange;
mod forwarding;
mod handshakes;
mod idle;
mod input;
mod links;
mod names;
mod own_answer;
mod peer;
mod plan;
mod planned;
mod policy_view;
mod proxy_protocol;
mod record;
mod relay;
mod response;
mod secure;
mod settle;
mod tasks;
mod tunnel;
mod turn;
mod upstream;
mod waits;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use ipnet::IpNet;
use policy::budget::{
    Carried, Config as BudgetConfig, LastWord, LedgerClock, Message, Now as BudgetNow,
    ShardBudgets, ShardId, Terms,
};
use policy::ids::SubscriptionIndex;
use policy::matcher::{Matcher, Settings as MatcherSettings};
use policy::snapshot::Snapshot;

use crate::clock::{Clock, Now};
use crate::config::{Deadlines, LogClient};
use crate::http1::{Limits, RequestHead, ResponseHead};
use crate::journal::ring::Writer;
use crate::message::RequestIds;
use crate::metrics::ShardMetrics;
use crate::net::{Ring, RingConfig};
use crate::offcore::resolver::ResolverHandle;
use crate::offcore::state::NodeState;
use crate::runtime;
use crate::tls::OriginTls;

use handshakes::Handshakes;
pub use links::{Links, Mail};
use names::Names;
pub use peer::Listens;
use policy_view::PolicyView;
use record::Journal;
use tasks::Tasks;
use upstream::Pools;
use waits::Waits;

/// Bytes of an output buffer kept for the next exchange; longer ones are freed.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// Output buffers kept.
const SPARES_MAX: usize = 256;

/// What every shard of a node is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds on heads.
    pub limits: Limits,
    /// How long clients and bodies are waited for.
    pub deadlines: Deadlines,
    /// How long a drain waits for what runs.
    pub drain: Duration,
    /// Client connections of the whole node.
    pub connections_max: usize,
    /// The domain whose subdomains are site slugs.
    pub gateway_domain: Box<str>,
    /// Networks whose word on the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// How much of the client's address is logged.
    pub log_client: LogClient,
    /// Requests that cannot be recorded are refused.
    pub refuses_unrecorded: bool,
    /// The port of the first TLS listener, where redirects lead; none: there is none.
    pub https_port: Option<u16>,
    /// Where the files are that a policy names without their folder.
    pub policy_folder: PathBuf,
}

/// What a shard is made of.
pub struct Parts {
    /// Its number.
    pub id: ShardId,
    /// Its listeners, one for each address, and what each takes.
    pub listeners: Vec<(OwnedFd, Listens)>,
    /// How TLS is spoken with clients, where a listener takes it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How TLS is spoken with origins.
    pub origin_tls: Arc<OriginTls>,
    /// What every shard is told.
    pub settings: Arc<Settings>,
    /// What the shards share.
    pub links: Arc<Links>,
    /// What the admin listener shows.
    pub state: Arc<NodeState>,
    /// Names to addresses.
    pub resolver: ResolverHandle,
    /// The process's clock.
    pub clock: Clock,
    /// Where request ids begin.
    pub request_ids: RequestIds,
    /// Its decision ring; none: nothing is recorded.
    pub journal: Option<Writer>,
    /// What was used before this start.
    pub carried: Arc<Carried>,
    /// The clock of the ledger that this node shares with others; none: it has its own.
    pub ledger_clock: Option<Arc<LedgerClock>>,
    /// Told once, at the end: what the shard's owner side has left to tell the ledger.
    pub last_words: std::sync::mpsc::Sender<(ShardId, Vec<LastWord>)>,
    /// Told once, when the shard accepts.
    pub ready: std::sync::mpsc::Sender<()>,
}

/// Scratch of the synchronous part of an exchange: nothing in it outlives a call.
struct Scratch {
    request: RequestHead,
    response: ResponseHead,
    matcher: policy::matcher::Scratch,
    /// Knows no pattern: finds paths that no site could take.
    no_rules: Matcher,
}

pub(crate) struct Shard {
    id: ShardId,
    ring: Rc<Ring>,
    settings: Arc<Settings>,
    links: Arc<Links>,
    state: Arc<NodeState>,
    resolver: ResolverHandle,
    tls: Option<Arc<rustls::ServerConfig>>,
    origin_tls: Arc<OriginTls>,
    names: Names,
    metrics: Arc<ShardMetrics>,
    /// What is in force, as last looked up: to see that it is still so costs no atomic write.
    in_force: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    policy: RefCell<Rc<PolicyView>>,
    pools: RefCell<Pools>,
    budgets: RefCell<ShardBudgets>,
    waits: Waits,
    scratch: RefCell<Scratch>,
    spares: RefCell<Vec<Vec<u8>>>,
    request_ids: RefCell<RequestIds>,
    journal: RefCell<Option<Journal>>,
    ledger_clock: Option<Arc<LedgerClock>>,
    /// Messages that found their inbox full, in order.
    undelivered: RefCell<VecDeque<(policy::budget::Destination, Message)>>,
    /// Which shards were sent something in this turn.
    wake: RefCell<Box<[bool]>>,
    /// Requests kept so far (`again.rs`).
    kept: Cell<u64>,
    /// Tells their heads apart.
    heads: foldhash::fast::RandomState,
    connections: Cell<usize>,
    handshakes: Handshakes,
    tasks: Tasks,
    draining: Cell<bool>,
    /// The drain's time is over: exchanges end as they are.
    cut_off: Cell<bool>,
    /// Ends whatever runs still.
    ended: Cell<bool>,
}

/// Runs one shard until it is drained.
///
/// # Errors
/// When the ring cannot be made or fails.
pub async fn run(parts: Parts) -> io::Result<()> {
    let ring = Ring::new(&ring_config(parts.clock)).map_err(io::Error::other)?;
    let metrics = parts.state.metrics().shard(usize::from(parts.id.0));
    let mut pools = Pools::new();
    let sessions = (&*parts.origin_tls, &*parts.settings.policy_folder);
    let mut in_force = Cache::new(Arc::clone(parts.links.policy()));
    let view = PolicyView::new(Arc::clone(in_force.load()), &metrics, &mut pools, sessions);
    let shards = u16::try_from(parts.links.shards()).unwrap_or(u16::MAX);
    let (log_client, refuses) = (parts.settings.log_client, parts.settings.refuses_unrecorded);
    let journal = parts.journal.map(|writer| Journal::new(writer, log_client, refuses));
    let budget = BudgetConfig { shared: parts.ledger_clock.is_some(), ..BudgetConfig::default() };
    let names = Names::new(&parts.resolver, &parts.links, usize::from(parts.id.0));
    let shard = Rc::new(Shard {
        id: parts.id,
        ring: Rc::clone(&ring),
        settings: parts.settings,
        links: parts.links,
        state: parts.state,
        resolver: parts.resolver,
        tls: parts.tls,
        origin_tls: parts.origin_tls,
        names,
        metrics,
        in_force: RefCell::new(in_force),
        policy: RefCell::new(Rc::new(view)),
        pools: RefCell::new(pools),
        budgets: RefCell::new(ShardBudgets::new(parts.id, shards, budget).carrying(parts.carried)),
        waits: Waits::default(),
        scratch: RefCell::new(Scratch {
            request: RequestHead::new(),
            response: ResponseHead::new(),
            matcher: Default::default(),
            no_rules: no_rules(),
        }),
        spares: RefCell::new(Vec::new()),
        request_ids: RefCell::new(parts.request_ids),
        journal: RefCell::new(journal),
        ledger_clock: parts.ledger_clock,
        undelivered: RefCell::new(VecDeque::new()),
        wake: RefCell::new(vec![false; usize::from(shards)].into()),
        kept: Cell::new(0),
        heads: foldhash::fast::RandomState::default(),
        connections: Cell::new(0),
        handshakes: Handshakes::default(),
        tasks: Tasks::default(),
        draining: Cell::new(false),
        cut_off: Cell::new(false),
        ended: Cell::new(false),
    });
    shard.waker().attach(&ring);
    for (listener, listens) in parts.listeners {
        runtime::spawn(&ring, accept::accept(Rc::clone(&shard), listener, listens));
    }
    runtime::spawn(&ring, turn::listen_for_wakes(Rc::clone(&shard)));
    runtime::spawn(&ring, turn::keep_house(Rc::clone(&shard)));
    shard.state.set_accepting(shard.index(), true);
    // Nobody listens when another shard could not start: the drain that follows ends this one.
    let ready = parts.ready;
    let _ = ready.send(());
    // Held on to, it would keep the node waiting for a shard that could not start.
    drop(ready);
    let ended = turn::drive(&shard).await;
    let words = shard.budgets.borrow_mut().last_words();
    // Nobody listens where the node could not start.
    let _ = parts.last_words.send((shard.id, words));
    ended
}

const fn ring_config(clock: Clock) -> RingConfig {
    RingConfig { entries: 1024, small: (64, 4 * 1024), large: (32, 64 * 1024), clock }
}

fn no_rules() -> Matcher {
    let settings = MatcherSettings { default_paid: false, case_sensitive: false };
    Matcher::new(&[], settings).expect("no two rules conflict")
}

impl Shard {
    fn index(&self) -> usize {
        usize::from(self.id.0)
    }

    fn waker(&self) -> &crate::net::ShardWaker {
        self.links.waker(self.index())
    }

    fn now(&self) -> Now {
        self.ring.now()
    }

    fn budget_now(&self) -> BudgetNow {
        let now = self.ring.now();
        let mono_us = now.mono_ns / 1_000;
        let shared = self.ledger_clock.as_ref().and_then(|clock| clock.unix_s(mono_us));
        BudgetNow { mono_us, unix_s: shared.unwrap_or_else(|| now.unix_s()) }
    }

    /// What limits a subscription now.
    fn terms(&self, snapshot: &Snapshot, index: SubscriptionIndex) -> Option<Terms> {
        snapshot.terms(index, self.budget_now().unix_s)
    }

    /// When `timeout` from now is, as timers take it.
    fn deadline(&self, timeout: Duration) -> u64 {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.ring.now_ns().saturating_add(timeout_ns)
    }

    /// The policy in force, the same for the whole of a request.
    fn policy(&self) -> Rc<PolicyView> {
        let mut in_force = self.in_force.borrow_mut();
        let current = in_force.load();
        let view = Rc::clone(&self.policy.borrow());
        if view.is(current) {
            return view;
        }
        let snapshot = Arc::clone(current);
        let fresh = Rc::new(if view.snapshot().has_sites_of(&snapshot) {
            view.with(snapshot)
        } else {
            let sessions = (&*self.origin_tls, &*self.settings.policy_folder);
            PolicyView::new(snapshot, &self.metrics, &mut self.pools.borrow_mut(), sessions)
        });
        self.policy.replace(Rc::clone(&fresh));
        fresh
    }

    /// An empty output buffer.
    fn take_spare(&self) -> Vec<u8> {
        self.spares.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(4096))
    }

    /// Keeps an output buffer for the next exchange.
    fn give_spare(&self, mut spare: Vec<u8>) {
        let mut spares = self.spares.borrow_mut();
        if (1..=SPARE_BYTES_MAX).contains(&spare.capacity()) && spares.len() < SPARES_MAX {
            spare.clear();
            spares.push(spare);
        }
    }

    fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// Set by the panic hook's owner: a shard that panicked must not be waited for.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Makes any panic end the process: a shard without one of its tasks would serve on with wrong counts.
pub fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if !PANICKED.swap(true, Ordering::SeqCst) {
            tracing::error!(%panic, "a shard failed in a way that must not happen: the process ends; please report this");
            std::process::exit(1);
        }
    }));
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
