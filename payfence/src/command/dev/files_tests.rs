//! Starts one after another in one directory: what is written, kept, and never overwritten.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn policy(&self) -> PathBuf {
        self.directory.path().join("p.toml")
    }

    fn start(&self, origin: Option<&str>) -> Result<Prepared, String> {
        self.start_at(origin, "127.0.0.1:0".parse().unwrap())
    }

    fn start_at(&self, origin: Option<&str>, sample: SocketAddr) -> Result<Prepared, String> {
        prepare(&self.policy(), origin, sample).map_err(|failure| failure.to_string())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.policy()).unwrap()
    }

    fn edit(&self, from: &str, to: &str) {
        let text = self.text();
        assert!(text.contains(from));
        fs::write(self.policy(), text.replace(from, to)).unwrap();
    }
}

const ORIGIN: &str = "http://127.0.0.1:3000";

#[test]
fn the_first_start_writes_a_policy_with_the_hash_and_keeps_the_token_apart() {
    let desk = Desk::new();
    let prepared = desk.start(Some(ORIGIN)).unwrap();
    assert_eq!(check(prepared.token.as_bytes()), Ok(Mode::Test));
    assert!(!desk.text().contains(&prepared.token));
    assert!(desk.text().contains(&TokenHash::of(prepared.token.as_bytes()).to_string()));
    assert!(desk.text().contains(&format!("origin = \"{ORIGIN}\"")));
    let state = desk.directory.path().join("payfence-data/dev.toml");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&state).unwrap().contains(&prepared.token));
}

#[test]
fn a_later_start_has_the_same_token() {
    let desk = Desk::new();
    let first = desk.start(Some(ORIGIN)).unwrap();
    let text = desk.text();
    let second = desk.start(Some(ORIGIN)).unwrap();
    assert_eq!((second.token, desk.text()), (first.token, text));
}

#[test]
fn a_policy_as_written_follows_the_origin_asked_for() {
    let desk = Desk::new();
    let first = desk.start(Some(ORIGIN)).unwrap();
    let second = desk.start(Some("http://127.0.0.1:4000")).unwrap();
    assert_eq!(second.token, first.token);
    assert!(desk.text().contains("127.0.0.1:4000") && !desk.text().contains("127.0.0.1:3000"));
    let third = desk.start(None).unwrap();
    assert!(third.is_sample && third.sample.is_some());
    assert!(desk.text().contains(&third.origin));
}

#[test]
fn an_edited_policy_stays_and_another_origin_is_an_error() {
    let desk = Desk::new();
    let first = desk.start(Some(ORIGIN)).unwrap();
    desk.edit("requests = 1000", "requests = 7");
    let text = desk.text();
    assert_eq!(desk.start(Some(ORIGIN)).unwrap().token, first.token);
    let plain = desk.start(None).unwrap();
    assert!(!plain.is_sample && plain.origin == ORIGIN);
    let error = desk.start(Some("http://127.0.0.1:4000")).err().unwrap();
    assert!(error.contains("was edited") && error.contains("http://127.0.0.1:4000"), "{error}");
    assert_eq!(desk.text(), text);
}

#[test]
fn the_sample_api_comes_back_where_an_edited_policy_names_it() {
    let desk = Desk::new();
    let first = desk.start(None).unwrap();
    desk.edit("requests = 1000", "requests = 7");
    let origin = first.origin.clone();
    // While the first holds the port, the second says who is in the way.
    let error = desk.start(None).err().unwrap();
    assert!(error.contains("which") && error.contains("names as origin"), "{error}");
    drop(first);
    let second = desk.start(None).unwrap();
    assert!(second.is_sample && second.sample.is_some() && second.origin == origin);
    drop(second);
    desk.edit(&origin, ORIGIN);
    let third = desk.start(None).unwrap();
    assert!(!third.is_sample && third.sample.is_none());
}

#[test]
fn a_taken_port_gives_the_sample_api_another() {
    let (one, two) = (Desk::new(), Desk::new());
    let first = one.start(None).unwrap();
    let taken = first.sample.as_ref().unwrap().local_addr().unwrap();
    let second = two.start_at(None, taken).unwrap();
    assert_ne!(first.origin, second.origin);
}

#[test]
fn somebody_elses_policy_is_used_as_it_is() {
    let desk = Desk::new();
    fs::write(desk.policy(), "mine").unwrap();
    let prepared = desk.start(None).unwrap();
    assert!(prepared.token.is_empty() && !prepared.is_sample);
    assert_eq!(desk.text(), "mine");
}

#[test]
fn what_cannot_be_is_said() {
    let desk = Desk::new();
    assert!(desk.start(Some("127.0.0.1:3000")).err().unwrap().contains("--origin"));
    fs::create_dir_all(desk.directory.path().join("payfence-data")).unwrap();
    fs::write(desk.directory.path().join("payfence-data/dev.toml"), "token = 1").unwrap();
    assert!(desk.start(None).err().unwrap().contains("delete it"));
}

#[test]
fn an_unspecified_address_is_reached_by_loopback() {
    let check = |address: &str, expected: &str| {
        assert_eq!(reachable(address.parse().unwrap()).to_string(), expected);
    };
    check("0.0.0.0:80", "127.0.0.1:80");
    check("[::]:80", "[::1]:80");
    check("192.0.2.1:80", "192.0.2.1:80");
}
