//! Starts one after another: when the certificate is kept, and when it is made anew.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// 2026-11-23T21:00:00Z
const NOW_S: i64 = 1_795_467_600;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn policy(&self) -> PathBuf {
        self.0.path().join("p.toml")
    }

    /// The certificate after a start.
    fn start(&self, listen: IpAddr, now_s: i64) -> String {
        let files = prepare(&self.policy(), listen, now_s).unwrap();
        assert!(is_good(&files, &Names::of(listen), now_s));
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::read_to_string(&files.certificate).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(settings::DATA_DIR).join(name)
    }
}

#[test]
fn the_first_start_makes_one_for_this_machine() {
    let desk = Desk::new();
    let files = prepare(&desk.policy(), LOOPBACK, NOW_S).unwrap();
    assert_eq!(files.certificate, desk.path("dev-tls.crt"));
    let sources = CertificateSources { folder: None, pairs: vec![files] };
    let loaded = certificate_files::load(&sources, NOW_S, &[]).unwrap();
    let facts = &loaded.pairs[0].facts;
    assert_eq!(facts.names, ["localhost", "demo.localhost"]);
    assert_eq!(facts.addresses, [LOOPBACK, Ipv6Addr::LOCALHOST.into()]);
    assert_eq!((facts.not_before_s, facts.not_after_s), (NOW_S - DAY_S, NOW_S + VALID_S));
    assert!(!facts.is_authority && loaded.warnings.is_empty());
}

#[test]
fn it_is_kept_while_it_is_good_for_a_month() {
    let desk = Desk::new();
    let first = desk.start(LOOPBACK, NOW_S);
    let last_s = NOW_S + VALID_S - LEFT_S_MIN;
    assert_eq!(desk.start(LOOPBACK, last_s), first);
    assert_eq!(desk.start(Ipv6Addr::UNSPECIFIED.into(), last_s), first);
    let second = desk.start(LOOPBACK, last_s + 1);
    assert_ne!(second, first);
    // Before it begins.
    assert_ne!(desk.start(LOOPBACK, NOW_S), second);
}

#[test]
fn it_is_made_anew_where_it_does_not_serve() {
    let desk = Desk::new();
    let mut last = desk.start(LOOPBACK, NOW_S);
    let mut check = |what: &str, spoil: &dyn Fn()| {
        spoil();
        let next = desk.start(LOOPBACK, NOW_S);
        assert_ne!(next, last, "{what}");
        last = next;
    };
    check("the key is gone", &|| fs::remove_file(desk.path(KEY_FILE)).unwrap());
    check("the certificate is broken", &|| fs::write(desk.path(CERTIFICATE_FILE), "x").unwrap());
    check("the key is another's", &|| {
        let other = Desk::new();
        other.start(LOOPBACK, NOW_S);
        fs::copy(other.path(KEY_FILE), desk.path(KEY_FILE)).unwrap();
    });
    check("everybody can read the key", &|| {
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(desk.path(KEY_FILE), open).unwrap();
    });
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    assert_ne!(desk.start(elsewhere, NOW_S), last, "it names another address too");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_of() {
    let desk = Desk::new();
    fs::write(desk.0.path().join(settings::DATA_DIR), "a file").unwrap();
    let error = prepare(&desk.policy(), LOOPBACK, NOW_S).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains(settings::DATA_DIR), "{error}");
}
