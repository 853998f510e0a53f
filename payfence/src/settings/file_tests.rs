//! Which commands take which keys.

use clap::FromArgMatches as _;

use super::*;
use crate::cli;

/// What `line` comes to with a file's text.
fn parsed(line: &str, text: &str) -> Result<cli::Command, String> {
    check_keys(text)?;
    let file: Table = toml::from_str(text).unwrap();
    let name = line.split_whitespace().next().unwrap();
    let command = complete(Cli::command(), name, &file)?;
    let words = format!("payfence {line}");
    let matches = command
        .try_get_matches_from(words.split_whitespace())
        .map_err(|error| error.to_string())?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command).map_err(|error| error.to_string())
}

const WHOLE: &str = r#"
log = "debug"
listen = ["127.0.0.1:1", "127.0.0.1:2"]
database_url = "sqlite://file.db"
data_dir = "of-file"
control_listen = "127.0.0.1:3"
allow_private_origins = "on"
allow_private_webhooks = true
audit_days = 7
mail = "log"
control_url = ["http://127.0.0.1:4", "http://127.0.0.1:5"]
"#;

#[test]
fn a_control_plane_takes_its_keys_from_the_file_after_flags() {
    let cli::Command::Controlplane(args) = parsed("controlplane --audit-days 9", WHOLE).unwrap()
    else {
        panic!("another command")
    };
    assert_eq!(args.database_url.as_deref(), Some("sqlite://file.db"));
    assert_eq!(args.data_dir.as_deref(), Some(Path::new("of-file")));
    assert_eq!(args.listen.map(|address| address.port()), Some(3), "not the gateway's");
    assert!(args.allow_private_origins && args.notify.allow_private_webhooks);
    assert_eq!(args.audit_days, Some(9), "the flag's");
    assert_eq!(args.notify.mail.as_deref(), Some("log"));
    let bare = parsed("controlplane", "").unwrap();
    let cli::Command::Controlplane(args) = bare else { panic!("another command") };
    assert!(args.database_url.is_none() && !args.allow_private_origins);
}

#[test]
fn other_commands_take_theirs() {
    let cli::Command::Export(args) = parsed("export", WHOLE).unwrap() else { panic!("another") };
    assert!(args.control_url.to_string().starts_with("http://127.0.0.1:4"), "{args:?}");
    let cli::Command::Doctor(args) = parsed("doctor", WHOLE).unwrap() else { panic!("another") };
    assert_eq!(args.database_url.as_deref(), Some("sqlite://file.db"));
    assert_eq!(args.node.data_dir, None, "the keys of a node go another way");
    parsed("controlplane init", WHOLE).unwrap();
    parsed("dataplane", WHOLE).unwrap();
}

#[test]
fn what_is_wrong_is_said() {
    for (line, text, expected) in [
        ("controlplane", "audit_day = 1", "line 1: unknown field `audit_day`"),
        ("controlplane", "origin = \"http://a\"", "unknown field `origin`"),
        ("controlplane", "audit_days = \"x\"", "'x' for '--audit-days"),
        ("controlplane", "audit_days = { a = 1 }", "audit_days: expected a text"),
    ] {
        let error = parsed(line, text).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// A node's file is read into a struct that passes over what it does not know.
#[test]
fn every_key_of_a_node_is_known_to_its_reader() {
    for key in node_keys() {
        assert!(super::super::is_node_key(&key), "{key}");
    }
}
