//! One node from its configuration to its end: listeners, off-core threads, shards.
//!
//! In: a `Config`. Out: a running node; an error with its remedy when it cannot start or fails. Always holds: nothing is accepted
//! before the policy is loaded and every address is bound; the off-core threads end after the shards.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use link::control::ControlError;
use link::ship::{self, Export, Shipper, SpoolSource};
use link::sink::clickhouse::{ClickHouseSink, ConfigError};
use link::sink::control::ControlSink;
use link::sink::ndjson::NdjsonSink;
use policy::budget::{Carried, LastWord, LedgerClock, ShardId};

use crate::clock::Clock;
use crate::config::{Config, JournalFull, PolicyFrom, Ready};
use crate::http1::Limits;
use crate::journal::drain::{Drain, DrainThread};
use crate::journal::ring::Writer;
use crate::journal::start::{self, JournalError, Options};
use crate::message::RequestIds;
use crate::metrics::Metrics;
use crate::net::{bind_listener, local_address, probe_address};
use crate::offcore::admin::{AdminError, AdminListener};
use crate::offcore::certificate_watch::{CertificateWatch, CertificatesError};
use crate::offcore::ledger::{self, Keeping};
use crate::offcore::policy_watch::PolicyError;
use crate::offcore::reload::WatchThread;
use crate::offcore::resolver::Resolver;
use crate::offcore::state::NodeState;
use crate::runtime;
use crate::shard::{self, Links, Listens, Parts, Settings};
use crate::tls::OriginTls;

mod source;
mod stop;

use source::Source;
use stop::Stop;

/// Descriptors kept for everything but client connections and theirs to origins.
const DESCRIPTORS_KEPT: u64 = 256;
/// More client connections than this are not served by one node, however many descriptors there are.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// How often, and after what time each, an address that is taken is tried again: two seconds in all.
const PROBES_MAX: u32 = 100;
const PROBE_PAUSE: Duration = Duration::from_millis(20);

/// How long sinks may take for the last rows, once everything else has ended.
const FLUSH: Duration = Duration::from_secs(5);

/// Why a node could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy file is missing or wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There can be no link to a control plane.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A certificate or its key is missing or wrong.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// An address of the gateway cannot be listened on.
    #[error("cannot listen on {address}: {cause}; {} with {flag}", remedy(cause))]
    Listen {
        /// What asked for it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The admin listener cannot run.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// There can be no journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A sink cannot be what was said.
    #[error("{0}")]
    Sink(ConfigError),
    /// Rows cannot be brought into sinks.
    #[error(transparent)]
    Ship(#[from] ship::StartError),
    /// A thread, a descriptor or the ring could not be had.
    #[error("the node cannot run: {0}")]
    Io(#[from] io::Error),
    /// A shard ended before its time.
    #[error("a shard failed: {0}")]
    Shard(String),
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: end it, or give another address"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: give another"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: give a higher port"
        }
        _ => "give another address",
    }
}

/// Runs a node until it has drained.
///
/// # Errors
/// When it cannot start, or a shard fails.
pub fn run(config: Config) -> Result<(), Error> {
    shard::end_process_on_panic();
    let clock = Clock::start();
    let shards = config.shards.get();
    let state = Arc::new(NodeState::new(clock, Arc::new(Metrics::new(shards))));
    let origin_tls = Arc::new(OriginTls::new(clock));
    let source = Source::open(&config, &origin_tls, &state)?;
    let certificates = config.tls.as_ref();
    let certificates =
        certificates.map(|tls| CertificateWatch::open(tls, Arc::clone(&state))).transpose()?;
    let admin = AdminListener::bind(config.admin)?;
    let bound = source.is_there().then(|| bind_all(&config, shards)).transpose()?;
    let admin_address = admin.address();
    let resolver = Resolver::start_within(source.reach())?;
    let Journal { writers, drain, keeping } = open_journal(&config, clock, &state)?;
    let carried = Arc::clone(&keeping.carried);
    let stop = Stop::default();
    let signals = stop.listen(Arc::clone(&state))?;
    let admin = admin.serve(Arc::clone(&state))?;
    let Some((source, snapshot)) = source.first(&config, &state, clock, &resolver)? else {
        return Ok(());
    };
    let (ready, listeners) = bound.map_or_else(|| bind_all(&config, shards), Ok)?;
    let ready = Ready { admin: admin_address, ..ready };
    let settings = Arc::new(settings(&config, &ready)?);
    let (to_ledger, requests) = ledger::channel();
    let links = Arc::new(Links::new(shards, Arc::clone(&snapshot), to_ledger)?);
    let (source, ledger) = source.lease(requests, &links, &state, clock, keeping)?;
    let (last_words, words) = mpsc::channel();
    let shipper = drain.as_ref().map(|drain| ship(&config, drain, &state)).transpose()?.flatten();
    let drain = drain.map(Drain::start).transpose()?;
    let node = Node {
        links: Arc::clone(&links),
        state: Arc::clone(&state),
        settings,
        clock,
        tls: certificates.as_ref().map(|watch| Arc::clone(watch.tls().config())),
        origin_tls,
        carried,
        ledger_clock: source.clock(),
        last_words,
    };
    let threads = node.launch(listeners.into_iter().zip(writers), &resolver, &config)?;
    let policy = source.follow(&links, &resolver)?;
    let certificate_thread = certificates.map(CertificateWatch::watch).transpose()?;
    let watches = [policy.watch(), certificate_thread.as_ref()];
    let reloaders = watches.into_iter().flatten().map(WatchThread::reloader).collect();
    if let Some(on_ready) = config.on_ready {
        on_ready(&ready, &state);
    }
    // After it, so that whoever was called may have said that the node is to stop.
    stop.attach(&links, reloaders, &state);
    let ended = join(threads);
    drop((signals, certificate_thread, admin));
    // Every shard has ended, so what they say of use is final.
    ledger.finish(words.try_iter().collect());
    // After it: the link carries the last words.
    drop(policy);
    // Last: whatever the others did is in the rings now.
    write_out(drain, shipper);
    ended
}

/// Brings what the shards have left to disk, and from there to the sinks.
fn write_out(drain: Option<DrainThread>, shipper: Option<Shipper>) {
    if let Some(drain) = drain {
        drain.finish();
    }
    if let Some(shipper) = shipper
        && !shipper.flush(FLUSH)
    {
        tracing::warn!(
            "not every sink has all decisions; they are on disk, and the next start goes on from there"
        );
    }
}

/// What all shards are launched with.
struct Node {
    links: Arc<Links>,
    state: Arc<NodeState>,
    settings: Arc<Settings>,
    clock: Clock,
    tls: Option<Arc<rustls::ServerConfig>>,
    origin_tls: Arc<OriginTls>,
    carried: Arc<Carried>,
    ledger_clock: Option<Arc<LedgerClock>>,
    last_words: mpsc::Sender<(ShardId, Vec<LastWord>)>,
}

/// The journal's parts, each for its thread.
struct Journal {
    /// For each shard its ring; none where nothing is recorded.
    writers: Vec<Option<Writer>>,
    drain: Option<Drain>,
    keeping: Keeping,
}

/// Takes over what an earlier start left, where decisions are recorded.
fn open_journal(config: &Config, clock: Clock, state: &NodeState) -> Result<Journal, Error> {
    let shards = config.shards.get();
    let full = config.journal_full;
    let Some(journal) = &config.journal else {
        // Nothing tells what earlier starts have used: a ledger that knows what they held counts it.
        let mut carried = Carried::default();
        carried.set_journal(getrandom::u64().map_err(io::Error::other)?);
        let keeping = Keeping { carried: Arc::new(carried), log: None, full };
        return Ok(Journal { writers: (0..shards).map(|_| None).collect(), drain: None, keeping });
    };
    let options = Options {
        data_dir: &config.data_dir,
        ring_dir: config.ring_dir.as_deref(),
        node: &journal.node,
        shards: u16::try_from(shards).unwrap_or(u16::MAX),
        spool_bytes: journal.spool_bytes,
    };
    let started = start::start(&options, clock, state.journal())?;
    let keeping = Keeping { carried: started.carried, log: Some(started.leases), full };
    let writers = started.writers.into_iter().map(Some).collect();
    Ok(Journal { writers, drain: Some(started.drain), keeping })
}

/// Starts bringing rows into sinks, where there are any.
fn ship(config: &Config, drain: &Drain, state: &NodeState) -> Result<Option<Shipper>, Error> {
    let Some(journal) = &config.journal else { return Ok(None) };
    let source = || {
        let (tail, folder) = drain.tail();
        SpoolSource::new(folder, tail)
    };
    let mut exports = Vec::new();
    if let Some(clickhouse) = &journal.sinks.clickhouse {
        let sink = ClickHouseSink::new(clickhouse.clone()).map_err(Error::Sink)?;
        exports.push(Export::new("clickhouse", ship::Limits::default(), sink, source()));
    }
    if let Some(ndjson) = &journal.sinks.ndjson {
        let sink = NdjsonSink::new(ndjson.clone());
        exports.push(Export::new("ndjson", ship::Limits::default(), sink, source()));
    }
    if let (true, PolicyFrom::Control(from)) = (journal.sinks.control, &config.policy) {
        let sink = ControlSink::new(source::link_to(config, from)?)?;
        exports.push(Export::new("control", ControlSink::limits(), sink, source()));
    }
    if exports.is_empty() {
        return Ok(None);
    }
    let shipper = Shipper::start(&config.data_dir, &journal.node, exports)?;
    state.journal().set_exports(shipper.states().to_vec());
    Ok(Some(shipper))
}

type ShardThread = JoinHandle<io::Result<()>>;

impl Node {
    /// Launches every shard and waits until all accept.
    fn launch(
        &self,
        shards: impl ExactSizeIterator<Item = (Listeners, Option<Writer>)>,
        resolver: &Resolver,
        config: &Config,
    ) -> Result<Vec<ShardThread>, Error> {
        let count = shards.len();
        let cpus = match &config.cpus {
            Some(cpus) => cpus.numbers().to_vec(),
            // Fewer shards than cores, and nobody said which: the kernel places them.
            None => {
                Some(runtime::allowed_cpus()).filter(|cpus| cpus.len() == count).unwrap_or_default()
            }
        };
        let (ready, is_ready) = mpsc::channel();
        let mut threads = Vec::with_capacity(count);
        for (id, (listeners, journal)) in shards.enumerate() {
            let parts = Parts {
                id: ShardId(u16::try_from(id).unwrap_or(u16::MAX)),
                listeners,
                tls: self.tls.clone(),
                origin_tls: Arc::clone(&self.origin_tls),
                settings: Arc::clone(&self.settings),
                links: Arc::clone(&self.links),
                state: Arc::clone(&self.state),
                resolver: resolver.handle(),
                clock: self.clock,
                request_ids: RequestIds::new(random()?),
                journal,
                carried: Arc::clone(&self.carried),
                ledger_clock: self.ledger_clock.clone(),
                last_words: self.last_words.clone(),
                ready: ready.clone(),
            };
            let cpu = cpus.get(id % cpus.len().max(1)).copied();
            let (links, state) = (Arc::clone(&self.links), Arc::clone(&self.state));
            threads.push(runtime::launch(&format!("payfence-{id}"), cpu, move || async move {
                let ended = shard::run(parts).await;
                if let Err(error) = &ended {
                    // Its connections and what it owns are lost: a node with a hole must not serve on.
                    tracing::error!(%error, "a shard failed: the node stops");
                    state.set_draining();
                    links.drain();
                }
                ended
            })?);
        }
        drop(ready);
        // A shard that cannot start drops its end without a word; joining tells why.
        if (0..count).any(|_| is_ready.recv().is_err()) {
            self.links.drain();
            join(threads)?;
            return Err(Error::Shard("it did not start".to_owned()));
        }
        Ok(threads)
    }
}

/// The flag that names such listeners.
const fn flag_of(listens: Listens) -> &'static str {
    match listens {
        Listens::Plain => "--listen",
        Listens::Tls => "--tls-listen",
        Listens::Redirect => "--https-redirect-listen",
    }
}

fn join(threads: Vec<JoinHandle<io::Result<()>>>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = Err(Error::Shard(error.to_string())),
            Err(_) => outcome = Err(Error::Shard("it panicked".to_owned())),
        }
    }
    outcome
}

/// The listeners of one shard, one for each address, and what each takes.
type Listeners = Vec<(OwnedFd, Listens)>;

/// Every shard's listeners, and where they are; the admin listener's address is not known yet.
fn bind_all(config: &Config, shards: usize) -> Result<(Ready, Vec<Listeners>), Error> {
    let mut listeners: Vec<Listeners> = (0..shards).map(|_| Vec::new()).collect();
    let mut bind = |addresses: &[SocketAddr], listens| {
        let bound = addresses.iter().map(|address| bind(*address, listens, &mut listeners));
        bound.collect::<Result<Vec<_>, _>>()
    };
    let (tls, redirect) = match &config.tls {
        Some(tls) => (tls.listen.as_slice(), tls.redirect_listen.as_slice()),
        None => Default::default(),
    };
    let ready = Ready {
        listen: bind(&config.listen, Listens::Plain)?,
        tls_listen: bind(tls, Listens::Tls)?,
        redirect_listen: bind(redirect, Listens::Redirect)?,
        admin: config.admin,
    };
    Ok((ready, listeners))
}

/// Has each of `shards` listen on `address`; port 0 becomes the same free port for all of them.
fn bind(
    address: SocketAddr,
    listens: Listens,
    shards: &mut [Listeners],
) -> Result<SocketAddr, Error> {
    let failed = |cause| Error::Listen { flag: flag_of(listens), address, cause };
    // Shared ports would let a second program bind beside the first and take half of its connections.
    probe(address).map_err(failed)?;
    let mut actual = address;
    for own in shards {
        let listener = bind_listener(actual).map_err(failed)?;
        actual = local_address(listener.as_fd()).map_err(failed)?;
        own.push((listener, listens));
    }
    Ok(actual)
}

/// Waits a moment for an address that is taken: the kernel closes the sockets of a process that was killed a little after its end,
/// and whoever starts it again must not fail for that.
fn probe(address: SocketAddr) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match probe_address(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < PROBES_MAX => {
                tries += 1;
                std::thread::park_timeout(PROBE_PAUSE);
            }
            probed => return probed,
        }
    }
}

fn settings(config: &Config, ready: &Ready) -> Result<Settings, Error> {
    let descriptors = crate::net::raise_descriptor_limit()?;
    // Three of four for clients: most of theirs are idle, and those that are not share connections to origins.
    let connections_max =
        (descriptors.saturating_sub(DESCRIPTORS_KEPT) / 4 * 3).clamp(16, CONNECTIONS_MAX);
    Ok(Settings {
        limits: Limits::default(),
        deadlines: config.deadlines,
        drain: config.drain,
        connections_max: usize::try_from(connections_max).unwrap_or(usize::MAX),
        gateway_domain: config.gateway_domain.as_str().into(),
        trusted_proxies: config.trusted_proxies.clone(),
        log_client: config.log_client,
        refuses_unrecorded: config.journal_full == JournalFull::Refuse,
        policy_folder: source::folder(config),
        https_port: ready.tls_listen.first().map(SocketAddr::port),
    })
}

fn random() -> io::Result<[u64; 2]> {
    let number = || getrandom::u64().map_err(io::Error::other);
    Ok([number()?, number()?])
}
