//! Precedence key by key, and the words for files and combinations that are wrong.

use clap::Parser as _;
use dataplane::config::Deadlines;

use super::*;
use crate::cli::{Cli, Command};

fn args(flags: &str) -> NodeArgs {
    let line = format!("payfence dataplane {flags}");
    match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Dataplane(args) => args,
        other => panic!("{other:?}"),
    }
}

/// The configuration of flags and a file's text, or what is wrong.
fn settle(flags: &str, file: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), file).unwrap();
    with_file(args(flags), directory.path())
        .and_then(|args| config(args, None))
        .map_err(|failure| failure.to_string())
}

fn deadlines(ms: [u64; 6]) -> Deadlines {
    let [head, idle, stall, quiet, linger, linger_max] = ms.map(Duration::from_millis);
    Deadlines { head, idle, stall, quiet, linger, linger_max }
}

/// A file with every kind of key.
const WHOLE_FILE: &str = r#"
policy = "file/p.toml"
listen = ["127.0.0.1:1", "[::1]:2"]
admin = "127.0.0.1:3"
shards = 1
cpus = "0-1"
gateway_domain = "file.example"
trusted_proxy = "10.0.0.0/8"
drain_seconds = 7
head_timeout_ms = 1
idle_timeout_ms = 2
stall_timeout_ms = 3
quiet_timeout_ms = 4
linger_ms = 5
linger_max_ms = 6
journal_full = "refuse"
"#;

#[test]
fn flags_come_before_the_file_and_the_file_before_defaults() {
    let file = WHOLE_FILE;
    let from_file = settle("", file).unwrap();
    assert!(matches!(from_file.policy, PolicyFrom::File(path) if path == Path::new("file/p.toml")));
    assert_eq!(from_file.data_dir, Path::new("file/payfence-data"));
    assert_eq!(from_file.listen.len(), 2);
    assert_eq!(from_file.admin.port(), 3);
    assert_eq!(from_file.cpus.unwrap().numbers(), [0, 1]);
    assert_eq!(from_file.gateway_domain.as_str(), "file.example");
    assert_eq!(from_file.trusted_proxies.len(), 1);
    assert_eq!(from_file.drain, Duration::from_secs(7));
    assert_eq!(from_file.deadlines, deadlines([1, 2, 3, 4, 5, 6]));
    assert_eq!(from_file.journal_full, JournalFull::Refuse);

    let flags = "--policy p.toml --listen 127.0.0.1:9 --admin 127.0.0.1:8 --cpus 5 --data-dir d --drain-seconds 0 \
                 --gateway-domain flag.example --trusted-proxy ::1 --journal-full continue \
                 --head-timeout-ms 11 --idle-timeout-ms 12 --stall-timeout-ms 13 --quiet-timeout-ms 14 \
                 --linger-ms 15 --linger-max-ms 16";
    let from_flags = settle(flags, file).unwrap();
    assert!(matches!(from_flags.policy, PolicyFrom::File(path) if path == Path::new("p.toml")));
    assert_eq!(from_flags.data_dir, Path::new("d"));
    assert_eq!(from_flags.listen, [address("127.0.0.1:9")]);
    assert_eq!(from_flags.admin.port(), 8);
    assert_eq!(from_flags.shards.get(), 1);
    assert_eq!(from_flags.cpus.unwrap().numbers(), [5]);
    assert_eq!(from_flags.gateway_domain.as_str(), "flag.example");
    assert_eq!(from_flags.trusted_proxies[0].to_string(), "::1/128");
    assert_eq!(from_flags.drain, Duration::ZERO);
    assert_eq!(from_flags.deadlines, deadlines([11, 12, 13, 14, 15, 16]));
    assert_eq!(from_flags.journal_full, JournalFull::Continue);

    let defaults = settle("--policy p.toml", "").unwrap();
    assert_eq!(defaults.listen, [address(LISTEN_DEFAULT)]);
    assert!(defaults.tls.is_none());
    assert_eq!(defaults.admin, address(ADMIN_DEFAULT));
    assert_eq!(defaults.data_dir, Path::new("./payfence-data"));
    assert_eq!(defaults.gateway_domain.as_str(), "localhost");
    assert_eq!(defaults.drain, Duration::from_secs(30));
    // As docs/OPERATIONS.md has them.
    let documented = [20_000, 75_000, 60_000, 3_600_000, 2_000, 30_000];
    assert_eq!(defaults.deadlines, deadlines(documented));
}

#[test]
fn shards_follow_the_cores_named() {
    assert_eq!(settle("--policy p --cpus 0,1,2", "").unwrap().shards.get(), 3);
    assert_eq!(settle("--policy p --cpus 0,1,2 --shards 2", "").unwrap().shards.get(), 2);
}

#[test]
fn what_is_wrong_is_named() {
    let check = |flags: &str, file: &str, expected: &str| {
        let error = settle(flags, file).err().unwrap_or_default();
        assert!(error.contains(expected), "{flags} / {file}: {error}");
    };
    check("", "", "no policy file: give --policy FILE");
    check("--policy p", "lisen = 1", "unknown field `lisen`");
    check("--policy p", "\n\nlisen = 1", "line 3");
    check("--policy p", "listen = \"8080\"", "`8080` is no address with port");
    check("--policy p", "listen = 8080", "expected a text or a list of texts");
    check("--policy p", "cpus = \"x\"", "such as `0,2-3`");
    check("--policy p", "shards = 0", "shards");
    check("--policy p", "shards = 5000", "shards: expected a number from 1 to 1024");
    check("--policy p", "drain_seconds = 100000", "drain_seconds: expected");
    check("--policy p", "idle_timeout_ms = 0", "idle_timeout_ms");
    check(
        "--policy p",
        "idle_timeout_ms = 0",
        "0 is no deadline; give milliseconds, a number from 1",
    );
    check("--policy p", "linger_ms = \"2s\"", "expected u64");
    check("--policy p", "journal_full = \"x\"", "neither `continue` nor `refuse`");
    check("--policy p", "trusted_proxy = [\"x\"]", "`x` is no network");
    check("--policy p --shards 3 --cpus 0,1", "", "3 shards on 2 cores");
    check("--policy p --listen 127.0.0.1:8081", "", "127.0.0.1:8081 is given twice");
    let tls = "--policy p --tls-certificates d --listen 127.0.0.1:1 --tls-listen";
    check(&format!("{tls} 127.0.0.1:1"), "", "127.0.0.1:1 is given twice");
    check("--policy p --tls-listen 127.0.0.1:1", "", "--tls-listen needs a certificate");
    check("--policy p", "tls_client_auth = \"x\"", "neither `optional` nor `required`");
    check("--policy p --listen 127.0.0.1:1,127.0.0.1:1", "", "127.0.0.1:1 is given twice");
}

#[test]
fn the_same_for_tls() {
    let file = r#"
policy = "p"
tls_listen = "127.0.0.1:4"
tls_certificates = "certs"
tls_client_ca = "ca.pem"
tls_client_auth = "optional"
https_redirect_listen = ["127.0.0.1:5"]
"#;
    let check = |flags: &str, ports: (u16, u16), folder: &str, mode: ClientAuth| {
        let tls = settle(flags, file).unwrap().tls.unwrap();
        assert_eq!((tls.listen[0].port(), tls.redirect_listen[0].port()), ports);
        assert_eq!(tls.certificates.folder.as_deref(), Some(Path::new(folder)));
        assert_eq!(tls.client_auth.unwrap().mode, mode);
    };
    check("", (4, 5), "certs", ClientAuth::Optional);
    let flags = "--tls-listen 127.0.0.1:7 --tls-certificates other --tls-client-auth required \
                 --https-redirect-listen 127.0.0.1:6";
    check(flags, (7, 6), "other", ClientAuth::Required);
}

#[test]
fn nothing_is_served_in_the_clear_unless_asked_for_once_tls_is() {
    let tls = "--policy p --tls-listen 127.0.0.1:4 --tls-certificates d";
    assert!(settle(tls, "").unwrap().listen.is_empty());
    assert_eq!(settle(&format!("{tls} --listen 127.0.0.1:5"), "").unwrap().listen.len(), 1);
}

#[test]
fn free_ports_may_be_asked_for_twice() {
    assert!(settle("--policy p --listen 127.0.0.1:0,127.0.0.1:0 --admin 127.0.0.1:0", "").is_ok());
}
