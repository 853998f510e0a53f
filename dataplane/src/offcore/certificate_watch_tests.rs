//! Reloads of real folders: written, replaced, swapped by link; bad ones; a change every few milliseconds under handshakes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;
use crate::config::{CertificateSources, ClientAuth, ClientAuthConfig};
use crate::metrics::Metrics;
use crate::tls::fixture::{Authority, Client, Issued, Meeting, Wanted};

/// Far longer than any step takes, so that only a real failure meets it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Bench {
    folder: TempDir,
    authority: Authority,
    state: Arc<NodeState>,
    tls: Arc<ServerTls>,
    thread: WatchThread,
}

fn config(folder: &Path) -> TlsConfig {
    TlsConfig {
        listen: Vec::new(),
        redirect_listen: Vec::new(),
        certificates: CertificateSources { folder: Some(folder.to_owned()), pairs: Vec::new() },
        client_auth: None,
    }
}

fn state() -> Arc<NodeState> {
    Arc::new(NodeState::new(Clock::start(), Arc::new(Metrics::new(1))))
}

impl Bench {
    /// Serves what `prepare` puts into a folder, from `below` it.
    fn start(below: &str, prepare: impl Fn(&Path, &Authority)) -> Self {
        Self::start_with(below, prepare, |config| config)
    }

    fn start_with(
        below: &str,
        prepare: impl Fn(&Path, &Authority),
        change: impl Fn(TlsConfig) -> TlsConfig,
    ) -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ca"));
        prepare(folder.path(), &authority);
        let state = state();
        let config = change(config(&folder.path().join(below)));
        let watch = CertificateWatch::open(&config, Arc::clone(&state)).unwrap();
        let tls = Arc::clone(watch.tls());
        Self { folder, authority, state, tls, thread: watch.watch().unwrap() }
    }

    fn issue(&self, name: &str) -> Issued {
        self.authority.issue(Wanted::names(&[name]))
    }

    fn names(&self) -> Vec<String> {
        let table = self.tls.table();
        table.pairs().iter().flat_map(|pair| pair.facts.names.clone()).collect()
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let clock = Clock::start();
        while !done() {
            assert!(
                clock.now().mono_ns < DEADLINE.as_nanos() as u64,
                "no {what}; {:?}",
                self.names()
            );
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn expect(&self, names: &[&str]) {
        self.wait(&format!("{names:?}"), || self.names() == names);
    }

    #[track_caller]
    fn expect_refusals(&self, count: u64) {
        self.wait(&format!("refusal number {count}"), || self.state.tls().rejected() >= count);
    }
}

fn one_pair(folder: &Path, authority: &Authority) {
    authority.issue(Wanted::names(&["a.example"])).write(folder, "a");
}

#[test]
fn pairs_that_are_written_moved_in_added_and_removed() {
    let bench = Bench::start("", one_pair);
    let folder = bench.folder.path();
    bench.expect(&["a.example"]);
    bench.issue("b.example").write(folder, "a");
    bench.expect(&["b.example"]);
    bench.issue("c.example").write(folder, "c");
    bench.expect(&["b.example", "c.example"]);
    let certbots = bench.issue("d.example");
    fs::create_dir(folder.join("d.example")).unwrap();
    fs::write(folder.join("d.example/fullchain.pem"), &certbots.chain).unwrap();
    fs::write(folder.join("d.example/privkey.pem"), &certbots.key).unwrap();
    bench.expect(&["b.example", "c.example", "d.example"]);
    fs::remove_file(folder.join("c.key")).unwrap();
    fs::remove_file(folder.join("c.crt")).unwrap();
    bench.expect(&["b.example", "d.example"]);
    bench.wait("a word in /status", || bench.state.tls().expiry_s().len() == 2);
    bench.wait("a clean state", || bench.state.tls().last_error().is_none());
}

#[test]
fn with_one_bad_pair_nothing_changes_until_it_is_mended() {
    let bench = Bench::start("", one_pair);
    let folder = bench.folder.path();
    bench.issue("b.example").write(folder, "b");
    bench.expect(&["a.example", "b.example"]);
    bench.authority.issue(Wanted::names(&["b.example"]).days(-10, -1)).write(folder, "b");
    bench.issue("c.example").write(folder, "c");
    bench.expect_refusals(1);
    bench.wait("the name of the file", || {
        bench.state.tls().last_error().unwrap_or_default().contains("b.crt: expired at")
    });
    assert_eq!(bench.names(), ["a.example", "b.example"]);
    bench.issue("b.example").write(folder, "b");
    bench.expect(&["a.example", "b.example", "c.example"]);
    bench.wait("the end of the error", || bench.state.tls().last_error().is_none());
}

#[test]
fn links_that_are_swapped_as_kubernetes_and_certbot_do() {
    let kubernetes = Bench::start("mount", |folder, authority| {
        fs::create_dir_all(folder.join("mount/..1")).unwrap();
        authority.issue(Wanted::names(&["a.example"])).write(&folder.join("mount/..1"), "tls");
        symlink("..1", folder.join("mount/..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), folder.join("mount").join(name)).unwrap();
        }
    });
    for round in 2..5 {
        let mount = kubernetes.folder.path().join("mount");
        let next = format!("..{round}");
        fs::create_dir(mount.join(&next)).unwrap();
        let name = format!("r{round}.example");
        kubernetes.issue(&name).write(&mount.join(&next), "tls");
        symlink(&next, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        kubernetes.expect(&[&name]);
    }

    let put = |folder: &Path, issued: &Issued, round: u32| {
        let (archive, live) = (folder.join("archive/a"), folder.join("live/a"));
        fs::create_dir_all(&archive).unwrap();
        fs::create_dir_all(&live).unwrap();
        for (name, text) in [("fullchain", &issued.chain), ("privkey", &issued.key)] {
            fs::write(archive.join(format!("{name}{round}.pem")), text).unwrap();
            let link = live.join(format!("{name}.pem"));
            let _ = fs::remove_file(&link);
            symlink(format!("../../archive/a/{name}{round}.pem"), link).unwrap();
        }
    };
    let certbot = Bench::start("live", |folder, authority| {
        put(folder, &authority.issue(Wanted::names(&["a.example"])), 1);
    });
    for round in 2..5 {
        let name = format!("r{round}.example");
        put(certbot.folder.path(), &certbot.issue(&name), round);
        certbot.expect(&[&name]);
    }
}

#[test]
fn a_demand_reads_what_is_there_and_tells_of_each_refusal() {
    let bench = Bench::start("", one_pair);
    fs::remove_file(bench.folder.path().join("a.key")).unwrap();
    bench.expect_refusals(1);
    bench.thread.reloader().reload();
    bench.expect_refusals(2);
    assert_eq!(bench.names(), ["a.example"]);
}

#[test]
fn authorities_of_clients_are_read_again() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let bench = Bench::start_with(
        "certs",
        |folder, authority| {
            fs::create_dir(folder.join("certs")).unwrap();
            one_pair(&folder.join("certs"), authority);
            fs::write(folder.join("clients.pem"), first.pem()).unwrap();
        },
        |config| {
            let folder = config.certificates.folder.clone().unwrap();
            let authorities = folder.parent().unwrap().join("clients.pem");
            let mode = ClientAuth::Required;
            TlsConfig { client_auth: Some(ClientAuthConfig { authorities, mode }), ..config }
        },
    );
    let client = |authority: &Authority| {
        let certificate = Some(authority.issue(Wanted::client("acme")));
        Client { certificate, ..Client::of(&bench.authority) }.config()
    };
    let (old, new) = (client(&first), client(&second));
    let met = |client| Meeting::new(client, bench.tls.config(), "a.example").shake().is_ok();
    assert!(met(&old) && !met(&new));
    fs::write(bench.folder.path().join("clients.pem"), second.pem()).unwrap();
    bench.wait("the new authority", || met(&new));
    assert!(!met(&old));
}

#[test]
fn a_start_with_a_bad_file_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let error = CertificateWatch::open(&config(folder.path()), state()).err().unwrap().to_string();
    assert!(error.contains("holds no certificate; put NAME.crt"), "{error}");
    one_pair(folder.path(), &Authority::new("ca"));
    fs::write(folder.path().join("a.crt"), "x").unwrap();
    let error = CertificateWatch::open(&config(folder.path()), state()).err().unwrap().to_string();
    assert!(error.contains("a.crt: holds no certificate"), "{error}");
}

#[test]
fn no_handshake_fails_while_certificates_change_all_the_time() {
    let bench = Bench::start("", one_pair);
    let client = Client::of(&bench.authority).config();
    let over = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let shaking = scope.spawn(|| {
            let mut served = 0_u64;
            while !over.load(Ordering::Relaxed) {
                Meeting::new(&client, bench.tls.config(), "a.example").shake().unwrap();
                served += 1;
            }
            served
        });
        for _ in 0..100 {
            bench.issue("a.example").write(bench.folder.path(), "a");
            bench.thread.reloader().reload();
        }
        let last = bench.issue("a.example");
        last.write(bench.folder.path(), "a");
        bench.wait("the last one", || bench.tls.table().pairs()[0].certified.cert[0] == last.der());
        over.store(true, Ordering::Relaxed);
        shaking.join().unwrap()
    });
    assert!(served > 0);
}
