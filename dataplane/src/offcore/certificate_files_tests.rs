//! Folders of every layout, and what is said of those with something wrong.

use std::fs::Permissions;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::config::ClientAuth;
use crate::tls::fixture::{Authority, Wanted, now_s};

struct Bench {
    folder: TempDir,
    authority: Authority,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("ca") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a pair for `host` into two files.
    fn pair(&self, certificate: &str, key: &str, host: &str) {
        let issued = self.authority.issue(Wanted::names(&[host]));
        self.put(certificate, &issued.chain);
        self.put(key, &issued.key);
    }

    fn sources(&self) -> CertificateSources {
        CertificateSources { folder: Some(self.folder.path().to_owned()), pairs: Vec::new() }
    }

    /// First name of each pair, with a star for the default; or the faults.
    fn load(&self) -> Result<Vec<String>, String> {
        load(&self.sources(), now_s(), &[]).map(names).map_err(|faults| describe(&faults))
    }
}

fn names(loaded: Loaded) -> Vec<String> {
    let name =
        |pair: &Pair| format!("{}{}", pair.facts.names[0], if pair.is_default { "*" } else { "" });
    loaded.pairs.iter().map(name).collect()
}

#[test]
fn every_layout() {
    let bench = Bench::new();
    bench.pair("a.crt", "a.key", "a.example");
    bench.pair("b.pem", "b.key", "b.example");
    let one = bench.authority.issue(Wanted::names(&["c.example"]));
    bench.put("c.pem", format!("{}{}", one.key, one.chain));
    bench.pair("d.example/fullchain.pem", "d.example/privkey.pem", "d.example");
    bench.pair("default.crt", "default.key", "e.example");
    // What is no pair: an authority's certificate, notes, hidden and other folders.
    bench.put("ca.crt", bench.authority.pem());
    bench.put("chain.pem", bench.authority.pem());
    bench.put("README", "read me");
    bench.put(".hidden.crt", "x");
    bench.put("empty/README", "x");
    let expected = ["a.example", "b.example", "c.example", "d.example", "e.example*"];
    assert_eq!(bench.load().unwrap(), expected);
}

#[test]
fn a_folder_of_certbots_itself() {
    let bench = Bench::new();
    let chain = bench.authority.issue(Wanted::names(&["a.example"]));
    bench.put("archive/fullchain1.pem", &chain.chain);
    bench.put("archive/privkey1.pem", &chain.key);
    let live = bench.path("live");
    fs::create_dir(&live).unwrap();
    for (name, target) in [
        ("fullchain.pem", "fullchain1.pem"),
        ("privkey.pem", "privkey1.pem"),
        ("cert.pem", "fullchain1.pem"),
    ] {
        symlink(Path::new("../archive").join(target), live.join(name)).unwrap();
    }
    let sources = CertificateSources { folder: Some(live.clone()), pairs: Vec::new() };
    assert_eq!(names(load(&sources, now_s(), &[]).unwrap()), ["a.example"]);
    let set = watch_set(&sources, None);
    assert_eq!(set.files, [live.join("fullchain.pem"), live.join("privkey.pem")]);
    assert_eq!(set.folders, [live]);
}

#[test]
fn the_first_pair_named_is_the_default() {
    let bench = Bench::new();
    bench.pair("default.crt", "default.key", "a.example");
    bench.pair("own/x.crt", "own/x.key", "b.example");
    let pairs =
        vec![PairFiles { certificate: bench.path("own/x.crt"), key: bench.path("own/x.key") }];
    let both = CertificateSources { pairs, ..bench.sources() };
    assert_eq!(names(load(&both, now_s(), &[]).unwrap()), ["b.example*", "a.example"]);
}

#[test]
fn all_that_is_wrong_is_told_with_its_file() {
    let check = |prepare: &dyn Fn(&Bench), expected: &[&str]| {
        let bench = Bench::new();
        bench.pair("a.crt", "a.key", "a.example");
        prepare(&bench);
        let said = bench.load().expect_err(expected[0]);
        let folder = format!("{}/", bench.folder.path().display());
        let said: Vec<&str> =
            said.lines().map(|line| line.strip_prefix(&folder).unwrap()).collect();
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said}");
            assert!(said.contains("; "), "{said} says not what to do");
        }
    };
    check(&|bench| fs::remove_file(bench.path("a.key")).unwrap(), &["a.crt: has no key beside it"]);
    check(
        &|bench| fs::remove_file(bench.path("a.crt")).unwrap(),
        &["a.key: has no certificate beside it"],
    );
    check(&|bench| bench.put("b/privkey.pem", "x"), &["b/fullchain.pem: cannot be read"]);
    check(&|bench| bench.put("b/fullchain.pem", "x"), &["b/privkey.pem: cannot be read"]);
    check(&|bench| bench.put("a.crt", "x"), &["a.crt: holds no certificate"]);
    check(&|bench| bench.put("a.crt", vec![b'x'; 2 << 20]), &["a.crt: is larger than 1024 KiB"]);
    check(
        &|bench| bench.put("b.pem", &bench.authority.issue(Wanted::names(&["b.example"])).chain),
        &["b.pem: holds no private key"],
    );
    check(
        &|bench| {
            let old = bench.authority.issue(Wanted::names(&["o.example"]).days(-10, -1));
            let early = bench.authority.issue(Wanted::names(&["e.example"]).days(1, 10));
            old.write(bench.folder.path(), "old");
            early.write(bench.folder.path(), "early");
            bench.pair("mixed.crt", "x", "m.example");
            bench.put("mixed.key", &old.key);
        },
        &[
            "early.crt: is valid only from ",
            "mixed.key: does not belong to the certificate in ",
            "old.crt: expired at ",
        ],
    );
}

#[test]
fn a_folder_that_is_empty_or_missing() {
    let bench = Bench::new();
    assert!(bench.load().unwrap_err().contains("holds no certificate; put NAME.crt"));
    let gone = CertificateSources { folder: Some(bench.path("none")), pairs: Vec::new() };
    let said = describe(&load(&gone, now_s(), &[]).unwrap_err());
    assert!(said.contains("none: cannot be read (No such file"), "{said}");
}

#[test]
fn many_faults_are_told_in_a_few_lines() {
    let faults: Vec<_> = (0..15).map(|_| Fault::NoKey.of(Path::new("a"))).collect();
    let said = describe(&faults);
    assert_eq!(said.lines().count(), 11);
    assert!(said.ends_with("and 5 more"));
}

#[test]
fn what_runs_already_may_have_expired() {
    let bench = Bench::new();
    bench
        .authority
        .issue(Wanted::names(&["a.example"]).days(-10, 1))
        .write(bench.folder.path(), "a");
    let running = load(&bench.sources(), now_s(), &[]).unwrap().pairs;
    let later = now_s() + 3 * 86_400;
    assert!(load(&bench.sources(), later, &[]).is_err());
    let loaded = load(&bench.sources(), later, &running).unwrap();
    assert!(loaded.warnings.iter().any(|(_, text)| text.contains("expired at")), "{loaded:?}");
}

#[test]
fn a_key_that_everybody_can_read_is_unwise() {
    let bench = Bench::new();
    bench.pair("a.crt", "a.key", "a.example");
    let warnings = |mode| {
        fs::set_permissions(bench.path("a.key"), Permissions::from_mode(mode)).unwrap();
        load(&bench.sources(), now_s(), &[]).unwrap().warnings.len()
    };
    assert_eq!((warnings(0o644), warnings(0o640), warnings(0o600)), (1, 0, 0));
}

#[test]
fn authorities_of_clients() {
    let bench = Bench::new();
    bench.put("ca.pem", bench.authority.pem());
    let read = |name: &str| {
        load_client_trust(&ClientAuthConfig {
            authorities: bench.path(name),
            mode: ClientAuth::Required,
        })
    };
    assert!(read("ca.pem").is_ok());
    assert!(read("none.pem").unwrap_err().to_string().contains("none.pem: cannot be read"));
}
