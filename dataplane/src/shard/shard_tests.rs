//! One shard with what stands beside it in the test's hands: the ledger that answers or does not, the names that resolve late.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::Receiver;
use policy::token::{Mode, make};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;

use super::*;
use crate::config::JournalFull;
use crate::metrics::{Metrics, NodeFigures, render};
use crate::net::{bind_listener, local_address};
use crate::offcore::ledger::{self, Keeping, LedgerThread};
use crate::offcore::policy_source::load;
use crate::offcore::resolver::{Answer, Resolver, Source};
use crate::tls::fixture::{Authority, Issued, Wanted};
use crate::tls::{OriginFiles, OriginTlsKey, SystemRoots};

/// Far longer than any step takes, so that only a real failure meets it.
const TEST_DEADLINE: Duration = Duration::from_secs(20);

/// Answers every request with 200 and closes; gives its port and how many requests came.
fn origin() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "the shard sends whole heads");
                head.extend_from_slice(&piece[..read]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            stream.write_all(answer).unwrap();
        }
    });
    (port, count)
}

/// The token of a site's subscription `number`.
fn token(site: &str, number: u8) -> String {
    let fill = |bytes: &mut [u8]| {
        bytes.iter_mut().zip(site.bytes().cycle()).for_each(|(byte, name)| *byte = name ^ number);
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(token) = make(Mode::Test, fill);
    token
}

/// A site with a metered and an unlimited subscription.
fn site(slug: &str, origin: &str, more: &str) -> String {
    let (metered, unlimited) = (token(slug, 0), token(slug, 1));
    format!(
        "[[sites]]\nslug = \"{slug}\"\nname = \"x\"\norigin = \"http://{origin}\"\n{more}\n\
         [[sites.resources]]\npattern = \"/paid/*\"\n\
         [[sites.plans]]\nid = \"metered\"\nquota = {{ requests = 1000000, per = \"year\" }}\n\
         [[sites.plans]]\nid = \"unlimited\"\n\
         [[sites.subscriptions]]\nid = \"one\"\nplan = \"metered\"\ncustomer = \"a\"\nstatus = \"active\"\n\
         tokens = [ {{ id = \"one\", value = \"{metered}\" }} ]\n\
         [[sites.subscriptions]]\nid = \"two\"\nplan = \"unlimited\"\ncustomer = \"b\"\nstatus = \"active\"\n\
         tokens = [ {{ id = \"two\", value = \"{unlimited}\" }} ]\n"
    )
}

/// A running shard, drained on drop.
struct Bench {
    address: SocketAddr,
    links: Arc<Links>,
    state: Arc<NodeState>,
    clock: Clock,
    requests: Receiver<ledger::Request>,
    thread: Option<JoinHandle<io::Result<()>>>,
    _resolver: Resolver,
}

impl Bench {
    fn start(policy: &str, names: impl Source) -> Self {
        Self::start_with(policy, names, OriginTls::new(Clock::start()))
    }

    fn start_with(policy: &str, names: impl Source, origin_tls: OriginTls) -> Self {
        let clock = Clock::start();
        let state = Arc::new(NodeState::new(clock, Arc::new(Metrics::new(1))));
        let snapshot = load(Path::new("test.toml"), policy.as_bytes(), 1).unwrap().snapshot;
        let (to_ledger, requests) = ledger::channel();
        let links = Arc::new(Links::new(1, Arc::new(snapshot), to_ledger).unwrap());
        let resolver = Resolver::with_source(names).unwrap();
        let listener = bind_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = local_address(std::os::fd::AsFd::as_fd(&listener)).unwrap();
        let (ready, is_ready) = mpsc::channel();
        let parts = Parts {
            last_words: mpsc::channel().0,
            id: ShardId(0),
            listeners: vec![(listener, Listens::Plain)],
            tls: None,
            origin_tls: Arc::new(origin_tls),
            settings: Arc::new(Settings {
                https_port: None,
                policy_folder: PathBuf::new(),
                limits: Limits::default(),
                deadlines: Deadlines::default(),
                drain: TEST_DEADLINE,
                connections_max: 1000,
                gateway_domain: "localhost".into(),
                trusted_proxies: Vec::new(),
                log_client: LogClient::Off,
                refuses_unrecorded: false,
            }),
            links: Arc::clone(&links),
            state: Arc::clone(&state),
            resolver: resolver.handle(),
            clock,
            request_ids: RequestIds::new([1, 2]),
            journal: None,
            carried: Arc::default(),
            ledger_clock: None,
            ready,
        };
        let thread = runtime::launch("test", None, move || run(parts)).unwrap();
        is_ready.recv().expect("the shard accepts");
        Self { address, links, state, clock, requests, thread: Some(thread), _resolver: resolver }
    }

    /// Has the node's own ledger answer until it is told to finish.
    fn start_ledger(&self) -> LedgerThread {
        let (links, state) = (Arc::clone(&self.links), Arc::clone(&self.state));
        let keeping = Keeping { carried: Arc::default(), log: None, full: JournalFull::Continue };
        ledger::start(self.requests.clone(), links, state, self.clock, keeping).unwrap()
    }

    /// One request with a token on a connection of its own; its whole answer.
    fn ask(&self, path: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in good order");
        answer
    }

    /// The same of a metered subscription; the answer's status.
    fn status(&self, path: &str, token: &str) -> u16 {
        let answer = self.ask(path, token);
        answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status line")
    }

    /// Asks for the usage until it is known.
    fn used(&self, slug: &str) -> u64 {
        let answer = self.wait_ok(&format!("/{slug}/.payfence/usage"), &token(slug, 0));
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        body["used"].as_u64().expect("used")
    }

    /// Asks until the answer is 200.
    fn wait_ok(&self, path: &str, token: &str) -> String {
        let began = self.clock.now();
        loop {
            let answer = self.ask(path, token);
            if answer.starts_with("HTTP/1.1 200") {
                return answer;
            }
            assert!(self.clock.now().since(began) < TEST_DEADLINE, "{path}: {answer}");
        }
    }

    /// Decisions of a site with this reason.
    fn decided(&self, site: &str, reason: &str) -> u64 {
        let text = render(self.state.metrics(), &NodeFigures::default());
        let sample = format!("payfence_decisions_total{{site=\"{site}\",reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok());
        count.unwrap_or(0)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.links.drain();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.expect("once").expect("no panic").expect("the shard is well");
        }
    }
}

/// Names are not asked for.
#[derive(Clone)]
struct NoNames;

impl Source for NoNames {
    async fn look_up(&self, name: &str) -> Result<Answer, String> {
        Err(format!("{name} is not known here"))
    }
}

#[test]
fn without_the_ledger_a_site_is_closed_or_open_as_it_says() {
    let (port, asked) = origin();
    let address = format!("127.0.0.1:{port}");
    let policy = site("shut", &address, "") + &site("open", &address, "on_ledger_loss = \"open\"");
    let bench = Bench::start(&policy, NoNames);
    for path in ["/shut/paid/x", "/shut/.payfence/usage", "/open/.payfence/usage"] {
        let slug = &path[1..5];
        let answer = bench.ask(path, &token(slug, 0));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{path}: {answer}");
        assert!(answer.contains("\"reason\":\"ledger_unreachable\""), "{path}: {answer}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing is forwarded that nobody counts");
    let open = bench.ask("/open/paid/x", &token("open", 0));
    assert!(open.starts_with("HTTP/1.1 200 ") && open.ends_with("ok"), "{open}");
    assert!(!open.contains("RateLimit"), "what is left is not known: {open}");
    for slug in ["shut", "open"] {
        assert_eq!(bench.status(&format!("/{slug}/paid/x"), &token(slug, 1)), 200, "unlimited");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert_eq!(bench.decided("shut", "ledger_unreachable"), 1);
    assert_eq!(bench.decided("open", "unmetered"), 1);
    assert_eq!(bench.decided("open", "ledger_unreachable"), 0);
    // The ledger comes: counting begins; what was not metered is settled, what was refused is not in it.
    let ledger = bench.start_ledger();
    bench.wait_ok("/shut/paid/x", &token("shut", 0));
    assert_eq!(bench.used("shut"), 1);
    assert_eq!(bench.used("open"), 1);
    ledger.finish(Vec::new());
}

#[test]
fn a_ledger_that_is_lost_costs_nothing_that_was_lent_and_nothing_that_was_used() {
    let (port, asked) = origin();
    let bench = Bench::start(&site("shut", &format!("127.0.0.1:{port}"), ""), NoNames);
    let ledger = bench.start_ledger();
    bench.wait_ok("/shut/paid/x", &token("shut", 0));
    ledger.finish(Vec::new());
    let mut admitted = 1;
    let last = loop {
        match bench.status("/shut/paid/x", &token("shut", 0)) {
            200 => admitted += 1,
            other => break other,
        }
        assert!(admitted < 100_000, "units without end");
    };
    assert_eq!(last, 503, "after {admitted} of a million: it cannot be known, it is not used up");
    assert_eq!(asked.load(Ordering::SeqCst), admitted);
    let ledger = bench.start_ledger();
    bench.wait_ok("/shut/paid/x", &token("shut", 0));
    assert_eq!(bench.used("shut"), admitted as u64 + 1);
    ledger.finish(Vec::new());
}

/// One name, which resolves once the gate is open.
#[derive(Clone)]
struct Gate {
    asked: mpsc::Sender<String>,
    is_open: watch::Receiver<bool>,
}

impl Source for Gate {
    async fn look_up(&self, name: &str) -> Result<Answer, String> {
        self.asked.send(name.to_owned()).map_err(|error| error.to_string())?;
        let opened = self.is_open.clone().wait_for(|is_open| *is_open).await.map(|_| ());
        opened.map_err(|error| error.to_string())?;
        Ok(Answer { addresses: vec![[127, 0, 0, 1].into()], ttl: TEST_DEADLINE })
    }
}

#[test]
fn requests_wait_for_a_name_and_go_on_when_it_resolves() {
    let (port, _) = origin();
    let (asked, names) = mpsc::channel();
    let (open, is_open) = watch::channel(false);
    let named = format!("origin.test:{port}");
    let policy = site("slow", &named, "connect_timeout_ms = 600000")
        + &site("fast", &named, "connect_timeout_ms = 300");
    let bench = Bench::start(&policy, Gate { asked, is_open });
    thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..10).map(|_| scope.spawn(|| bench.ask("/slow/x", "none"))).collect();
        assert_eq!(names.recv_timeout(TEST_DEADLINE).as_deref(), Ok("origin.test"));
        let late = bench.ask("/fast/x", "none");
        assert!(late.starts_with("HTTP/1.1 504 "), "its own deadline is over: {late}");
        open.send(true).unwrap();
        for answer in waiting {
            let answer = answer.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    });
}

/// A name with these addresses, in this order.
#[derive(Clone)]
struct Addresses(Vec<IpAddr>);

impl Source for Addresses {
    async fn look_up(&self, _name: &str) -> Result<Answer, String> {
        Ok(Answer { addresses: self.0.clone(), ttl: TEST_DEADLINE })
    }
}

/// Listeners on one port of several loopback addresses; `None` where a port was taken on one of them.
fn listeners(addresses: &[IpAddr]) -> Option<(u16, Vec<TcpListener>)> {
    let first = TcpListener::bind((addresses[0], 0)).unwrap();
    let port = first.local_addr().unwrap().port();
    let others = addresses[1..].iter().map(|address| TcpListener::bind((*address, port)).ok());
    Some((port, std::iter::once(Some(first)).chain(others).collect::<Option<_>>()?))
}

/// Speaks TLS and answers one request on each connection.
fn serve_tls(listener: TcpListener, issued: &Issued) {
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.der()], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket.unwrap());
            let mut head = [0; 4096];
            // A client that does not trust it goes away.
            if stream.read(&mut head).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        }
    });
}

#[test]
fn an_address_without_tls_does_not_hide_the_next() {
    let addresses = [1, 2, 3, 4].map(|last| IpAddr::from([127, 0, 0, last]));
    let (port, mut servers) =
        std::iter::repeat_with(|| listeners(&addresses)).take(50).find_map(|found| found).unwrap();
    let authority = Authority::new("Of the origin");
    // In the order in which they are tried: no TLS, silence, a stranger's certificate, the origin.
    serve_tls(servers.remove(3), &authority.issue(Wanted::names(&["origin.test"])));
    serve_tls(servers.remove(2), &Wanted::names(&["origin.test"]).self_signed());
    let _silent = servers.remove(1);
    let garbage = servers.remove(0);
    thread::spawn(move || {
        for socket in garbage.incoming() {
            // The shard may be gone before it is told.
            let _ = socket.unwrap().write_all(b"no TLS is spoken here\r\n");
        }
    });
    let key = OriginTlsKey { ca: Some("ca.pem".into()), ..OriginTlsKey::default() };
    let files = OriginFiles { ca: Some(authority.pem().into_bytes()), ..OriginFiles::default() };
    let origin_tls = OriginTls::new(Clock::start());
    origin_tls.replace([(key, files)], &SystemRoots::default()).unwrap();
    let more = "origin_ca = \"ca.pem\"\nconnect_timeout_ms = 1000";
    let policy = site("one", &format!("origin.test:{port}"), more).replace("http:", "https:");
    let bench = Bench::start_with(&policy, Addresses(addresses.to_vec()), origin_tls);
    let answer = bench.ask("/one/x", "none");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let text = render(bench.state.metrics(), &NodeFigures::default());
    for cause in ["malformed", "timeout", "issuer"] {
        let sample = format!(
            "payfence_tls_handshake_failures_total{{side=\"origin\",cause=\"{cause}\"}} 1\n"
        );
        assert!(text.contains(&sample), "{sample} in {text}");
    }
    assert!(text.contains("payfence_upstream_connections_failed_total 0\n"), "{text}");
    let told = bench.state.tls().status()["origins"].clone();
    assert_eq!(told[0]["site"], "one", "{told}");
}

#[test]
fn without_a_good_address_the_failure_is_counted_once() {
    let addresses = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
    let (port, servers) =
        std::iter::repeat_with(|| listeners(&addresses)).take(50).find_map(|found| found).unwrap();
    for server in servers {
        serve_tls(server, &Wanted::names(&["origin.test"]).self_signed());
    }
    let key = OriginTlsKey::default();
    let origin_tls = OriginTls::new(Clock::start());
    let others = Authority::new("Of others").pem();
    let roots = SystemRoots(vec![CertificateDer::from_pem_slice(others.as_bytes()).unwrap()]);
    origin_tls.replace([(key, OriginFiles::default())], &roots).unwrap();
    let policy = site("one", &format!("origin.test:{port}"), "").replace("http:", "https:");
    let bench = Bench::start_with(&policy, Addresses(addresses.to_vec()), origin_tls);
    let answer = bench.ask("/one/x", "none");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("\"reason\":\"origin_invalid\""), "{answer}");
    let text = render(bench.state.metrics(), &NodeFigures::default());
    assert!(text.contains("payfence_upstream_connections_failed_total 1\n"), "{text}");
}
