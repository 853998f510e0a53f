//! Files of origins: which is bad, whether one has changed, and a policy that is read again when one has.

use std::fs;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::offcore::policy_watch::PolicyFile;
use crate::offcore::state::NodeState;
use crate::tls::fixture::{Authority, Wanted};

fn reader() -> OriginFilesReader {
    OriginFilesReader::new(Arc::new(OriginTls::new(Clock::start())))
}

fn own_ca(path: &Path) -> OriginTlsKey {
    OriginTlsKey { ca: Some(path.to_owned()), ..OriginTlsKey::default() }
}

#[test]
fn a_missing_or_bad_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let reader = reader();
    let check = |expected: &str| {
        let error = reader.prepare([own_ca(&path)]).unwrap_err().to_string();
        assert!(error.contains(&format!("ca.pem: {expected}")), "{error}");
    };
    check("cannot be read (No such file");
    fs::write(&path, "x").unwrap();
    check("holds no certificate");
    fs::write(&path, Authority::new("ca").pem()).unwrap();
    reader.prepare([own_ca(&path)]).unwrap();
}

#[test]
fn a_change_of_any_file_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ca");
    let path = |name: &str| folder.path().join(name);
    authority.issue(Wanted::client("gateway")).write(folder.path(), "c");
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    let key = OriginTlsKey {
        client_cert: Some(path("c.crt")),
        client_key: Some(path("c.key")),
        ..own_ca(&path("ca.pem"))
    };
    let reader = reader();
    reader.prepare([key.clone()]).unwrap();
    assert_eq!(reader.paths(), [path("c.crt"), path("c.key"), path("ca.pem")]);
    assert!(!reader.have_changed());
    authority.issue(Wanted::client("gateway")).write(folder.path(), "c");
    assert!(reader.have_changed());
    reader.prepare([key.clone()]).unwrap();
    assert!(!reader.have_changed());
    fs::remove_file(path("ca.pem")).unwrap();
    assert!(reader.have_changed());
    // Refused, but seen: the same state is not tried over and over.
    reader.prepare([key]).unwrap_err();
    assert!(!reader.have_changed());
}

#[test]
fn a_policy_is_read_again_when_a_file_of_its_origins_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, ca) = (folder.path().join("p.toml"), folder.path().join("ca.pem"));
    let state = Arc::new(NodeState::new(Clock::start(), Arc::new(Metrics::new(1))));
    fs::write(&policy, "policy").unwrap();
    fs::write(&ca, Authority::new("one").pem()).unwrap();
    let reader = Arc::new(reader());
    let compile = {
        let (reader, key) = (Arc::clone(&reader), own_ca(&ca));
        move |_: &Path, _: &[u8], sequence: u64| {
            reader.prepare([key.clone()]).map_err(|error| error.to_string())?;
            Ok(sequence)
        }
    };
    let (file, _) = PolicyFile::open(&policy, Box::new(compile), state.clone()).unwrap();
    let (publish, published) = channel();
    let file = file.with_further(reader);
    let _thread = file.watch(move |sequence: Arc<u64>| publish.send(*sequence).unwrap()).unwrap();
    let deadline = Duration::from_secs(20);
    fs::write(&ca, Authority::new("two").pem()).unwrap();
    assert_eq!(published.recv_timeout(deadline), Ok(2));
    fs::write(&ca, "bad").unwrap();
    let wait = |done: &dyn Fn() -> bool| {
        let clock = Clock::start();
        while !done() {
            assert!(clock.now().mono_ns < deadline.as_nanos() as u64);
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    wait(&|| state.snapshot_rejected() > 0);
    assert!(state.snapshot_error().unwrap().contains("ca.pem: holds no certificate"));
    fs::write(&ca, Authority::new("three").pem()).unwrap();
    assert_eq!(published.recv_timeout(deadline), Ok(3));
    wait(&|| state.snapshot_error().is_none());
}
