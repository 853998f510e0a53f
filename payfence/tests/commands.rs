//! The commands as a shell runs them: exit codes, what goes to which output, the words.
//!
//! In: the built binary, files in directories of their own. Out: verdicts of tables.
//! Always holds: every process started here has ended with its test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const GOOD: &str = r#"
[[sites]]
slug = "weather"
name = "Weather"
origin = "http://127.0.0.1:9"

[[sites.resources]]
pattern = "/api/*"
"#;

fn payfence(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payfence"));
    command.current_dir(directory).args(words).stdin(Stdio::null());
    // What the caller's shell has set must not change what is tested.
    for (name, _) in std::env::vars() {
        if name.starts_with("PAYFENCE_") {
            command.env_remove(name);
        }
    }
    command
}

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("good.toml", GOOD);
        desk.write("bad.toml", "[[sites]]\nslug = \"weather\"\nnmae = \"Weather\"\n");
        desk
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        finish(payfence(self.0.path(), &words).output().unwrap())
    }

    #[track_caller]
    fn check(&self, line: &str, code: i32, out: &str, err: &str) {
        let (actual, stdout, stderr) = self.run(line);
        assert_eq!(actual, code, "{line}: {stdout}{stderr}");
        assert!(stdout.contains(out), "{line}: `{out}` is not in `{stdout}`");
        assert!(stderr.contains(err), "{line}: `{err}` is not in `{stderr}`");
    }
}

fn finish(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn reconcile_says_what_it_compared() {
    let desk = Desk::new();
    desk.check("controlplane --data-dir data init", 0, "pfa_", "");
    let told = "0 subscriptions compared, 0 differences";
    desk.check("reconcile --data-dir data", 0, told, "not compared: Stripe");
    desk.check("reconcile --data-dir data --site nonsense", 2, "", "there is no site nonsense");
    desk.check("reconcile --data-dir data --period x", 2, "", "--period");
    let clickhouse = "reconcile --data-dir data --clickhouse-url";
    desk.check(&format!("{clickhouse} http://127.0.0.1:9"), 0, told, "not compared: Stripe");
    desk.check(&format!("{clickhouse} nonsense"), 2, "", "the ClickHouse address must be");
    desk.check("reconcile --data-dir data --clickhouse-user me", 2, "", "--clickhouse-url");
    desk.check("webhooks replay whe_1", 2, "", "--since");
    desk.check("billing sync --mend --dry-run", 2, "", "--dry-run");
}

#[test]
fn exit_codes_and_words() {
    let desk = Desk::new();
    desk.check("--version", 0, "payfence 0.", "");
    desk.check("--help", 0, "doctor", "");
    desk.check("", 2, "", "Usage");
    desk.check("nonsense", 2, "", "nonsense");
    desk.check("policy check good.toml", 0, "good.toml: valid: 1 site, 1 resource, 0 plans", "");
    desk.check("policy check bad.toml", 2, "", "bad.toml: line 3: sites.nmae");
    desk.check("policy check none.toml", 2, "", "cannot read the policy file none.toml");
    desk.check("policy explain bad.toml GET /", 2, "", "bad.toml: line 3");
    desk.check("token check pf_live_abc", 1, "", "found 3: was part of it lost");
    desk.check("token check secret", 1, "", "does not begin with `pf_`");
    desk.check("dataplane", 2, "", "no policy file: give --policy FILE");
    desk.check("dataplane --policy none.toml", 2, "", "none.toml");
    desk.check("dataplane --policy bad.toml", 2, "", "bad.toml: line 3");
    desk.check("dataplane --policy good.toml --listen 8080", 2, "", "such as 127.0.0.1:8080");
    desk.check("dataplane --policy good.toml --admin 127.0.0.1:8080", 2, "", "given twice");
    let tls = "dataplane --policy good.toml --tls-listen 127.0.0.1:0";
    desk.check(tls, 2, "", "--tls-listen needs a certificate: give --tls-cert FILE");
    desk.check(&format!("{tls} --tls-certificates none"), 2, "", "none: cannot be read");
    let pair = format!("{tls} --tls-cert none.crt --tls-key none.key");
    desk.check(&pair, 2, "", "none.crt: cannot be read (No such file");
    desk.check(&pair.replace("dataplane", "doctor"), 1, "FAIL  certificate none.crt", "see above");
    desk.check("dataplane --control-url http://127.0.0.1:1", 2, "", "--control-url");
    desk.check("--log =x= token new", 2, "", "is no filter");
    desk.check("dev --origin ftp://example.com", 2, "", "--origin `ftp://example.com`");
    desk.write("payfence.toml", "listen = 1");
    desk.check("dataplane --policy good.toml", 2, "", "payfence.toml");
}

#[test]
fn files_that_a_policy_names_are_told_of_and_no_more() {
    let desk = Desk::new();
    let keys = "origin = \"https://127.0.0.1:9\"\norigin_ca = \"ca.pem\"\n\
                origin_client_cert = \"/nowhere/client.pem\"\norigin_client_key = \"client.key\"";
    desk.write("tls.toml", &GOOD.replace("origin = \"http://127.0.0.1:9\"", keys));
    let valid = "tls.toml: valid: 1 site";
    let of_site = "warning: tls.toml: TLS with the origin of site \"weather\"";
    for file in ["ca.pem", "/nowhere/client.pem", "client.key"] {
        let expected = format!("{of_site}: {file}: cannot be read (No such file or directory");
        desk.check("policy check tls.toml", 0, valid, &expected);
    }
    desk.write("ca.pem", "no certificate at all");
    desk.write(
        "tls.toml",
        &GOOD.replace("http://127.0.0.1:9\"", "https://a\"\norigin_ca = \"ca.pem\""),
    );
    desk.check("policy check tls.toml", 0, valid, &format!("{of_site}: ca.pem: holds no cert"));
    desk.check("policy check tls.toml", 0, valid, "a node refuses a policy while this is so");
    desk.check("dataplane --policy tls.toml", 2, "", "ca.pem: holds no cert");
}

/// Every flag of every command is in the documents, and they name no flag that is none.
#[test]
fn flags_are_documented() {
    let documents = [
        include_str!("../../docs/OPERATIONS.md"),
        include_str!("../../docs/POLICY.md"),
        include_str!("../../README.md"),
    ]
    .concat();
    let desk = Desk::new();
    let mut known = std::collections::BTreeSet::new();
    let mut commands = vec![String::new()];
    while let Some(command) = commands.pop() {
        let (code, help, _) = desk.run(&format!("{command} --help"));
        assert_eq!(code, 0, "{command}");
        let mut in_commands = false;
        for line in help.lines() {
            let word = line.split_whitespace().next().unwrap_or_default();
            in_commands = line == "Commands:" || in_commands && !line.is_empty();
            if in_commands && line.starts_with("  ") && !line.starts_with("   ") && word != "help" {
                commands.push(format!("{command} {word}"));
            }
            known.extend(flags_in(line.split(['[', '(', ';']).next().unwrap_or_default()));
        }
    }
    let told: std::collections::BTreeSet<String> = flags_in(&documents).collect();
    assert!(known.len() > 60, "{known:?}");
    // cargo's, docker's, curl's.
    let elsewhere = ["--release", "--ulimit", "--json"].map(str::to_owned);
    let untold: Vec<_> = known.difference(&told).filter(|flag| *flag != "--help").collect();
    assert!(untold.is_empty() || untold == ["--version"], "not in the documents: {untold:?}");
    let unknown = told.difference(&known).filter(|flag| !elsewhere.contains(flag));
    // `--idle-…` and the like stand for more than one.
    let unknown: Vec<_> = unknown.filter(|flag| !flag.ends_with('-')).collect();
    assert!(unknown.is_empty(), "no flags, but in the documents: {unknown:?}");
}

/// What looks like a flag in a text.
fn flags_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.split(move |c: char| !is_part(c))
        .filter(|word| word.starts_with("--") && word.len() > 3 && !word.starts_with("---"))
        .map(str::to_owned)
}

#[test]
fn a_new_token_is_alone_on_standard_output_and_checks() {
    let desk = Desk::new();
    for (line, mode) in [("token new", "live"), ("token new --test", "test")] {
        let (code, token, advice) = desk.run(line);
        assert_eq!(code, 0);
        assert!(token.starts_with(&format!("pf_{mode}_")) && token.lines().count() == 1, "{token}");
        assert!(advice.contains("sha256 = \""), "{advice}");
        desk.check(&format!("token check {}", token.trim()), 0, &format!("{mode} token"), "");
        assert_ne!(desk.run(line).1, token);
    }
}

#[test]
fn an_explanation_is_json() {
    let desk = Desk::new();
    let check = |line: &str, field: &str, expected: &str| {
        let (code, out, err) = desk.run(&format!("policy explain good.toml {line}"));
        assert_eq!(code, 0, "{err}");
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json[field], expected, "{out}");
    };
    check("GET /weather/open", "reason", "unprotected");
    check("GET /weather/%61pi/x", "reason", "token_missing");
    check("GET /weather/api/x", "resource", "/api/*");
    check("GET http://weather.localhost/api/x --token pf_x", "reason", "token_unknown");
    check("GET http://weather.gw.example/api/x --gateway-domain gw.example", "site", "weather");
    check("GET http://elsewhere.example/", "reason", "site_unknown");
}

/// Row 0 is explained as a node would answer it.
#[test]
fn an_explanation_knows_what_is_no_request() {
    let desk = Desk::new();
    for (line, status) in [
        ("TRACE /weather/open", 405),
        ("CONNECT /weather/open", 405),
        ("G@T /weather/open", 400),
        ("GET nowhere", 400),
        ("GET ::", 400),
        ("GET http://", 400),
        ("GET http://a_b:http/x", 400),
        ("GET /weather/\u{e9}", 400),
        ("GET /weather/%00", 400),
    ] {
        let (code, out, err) = desk.run(&format!("policy explain good.toml {line}"));
        assert_eq!(code, 0, "{line}: {err}");
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["reason"], "request_malformed", "{line}: {out}");
        assert_eq!((&json["row"], &json["status"]), (&0.into(), &status.into()), "{line}: {out}");
    }
    let long = format!("policy explain good.toml {} /weather/open", "M".repeat(65));
    assert!(desk.run(&long).1.contains("\"status\": 501"));
    let long = format!("policy explain good.toml GET /weather/{}", "x".repeat(20_000));
    assert!(desk.run(&long).1.contains("\"status\": 414"));
}

#[test]
fn the_environment_comes_after_flags_and_before_the_file() {
    let desk = Desk::new();
    desk.write("payfence.toml", "policy = \"from-file.toml\"");
    let check = |flags: &[&str], variable: Option<&str>, expected: &str| {
        let mut command = payfence(desk.0.path(), &["dataplane"]);
        command.args(flags);
        if let Some(value) = variable {
            command.env("PAYFENCE_POLICY", value);
        }
        let (code, _, err) = finish(command.output().unwrap());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(expected), "{err}");
    };
    check(&[], None, "from-file.toml");
    check(&[], Some("from-env.toml"), "from-env.toml");
    check(&["--policy", "from-flag.toml"], Some("from-env.toml"), "from-flag.toml");
}

#[test]
fn a_taken_port_is_one_sentence_with_the_remedy() {
    if !can_run() {
        return;
    }
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let base = "dataplane --policy good.toml --shards 1";
    desk.check(&format!("{base} --listen {taken} --admin 127.0.0.1:0"), 1, "", "--listen");
    desk.check(&format!("{base} --listen 127.0.0.1:0 --admin {taken}"), 1, "", "--admin");
    let doctor = format!("doctor --listen {taken} --admin 127.0.0.1:0");
    desk.check(&doctor, 1, &format!("FAIL  gateway address {taken}"), "see above");
}

#[test]
fn the_doctor_looks_at_the_journal() {
    if !can_run() {
        return;
    }
    let desk = Desk::new();
    let doctor = "doctor --listen 127.0.0.1:0 --admin 127.0.0.1:0";
    let check =
        |flags: &str, code, out: &str| desk.check(&format!("{doctor} {flags}"), code, out, "");
    check("", 0, "ok    ring directory /dev/shm: ");
    check("--ring-dir none", 1, "FAIL  ring directory none: it is no directory");
    check("--ring-dir .", 0, "ring directory .: ");
    check("--data-dir made/later", 0, "ok    data directory made/later: ");
    check("--data-dir good.toml/under", 1, "FAIL  data directory good.toml/under: ");
    check("--data-dir /dev/shm/later", 0, "warn  data directory /dev/shm/later: it is in memory");
    check("--journal off", 0, "warn  journal: off");
    check("--ndjson-dir files", 0, "ok    NDJSON directory files: ");
    check("--clickhouse-url http://127.0.0.1:1", 0, "warn  ClickHouse http://127.0.0.1:1: ");
    check("--clickhouse-user reader", 1, "FAIL  journal: ");
}

#[test]
fn the_doctor_looks_at_the_database() {
    if !can_run() {
        return;
    }
    let desk = Desk::new();
    let doctor = "doctor --listen 127.0.0.1:0 --admin 127.0.0.1:0";
    let check = |url: &str, code, out: &str| {
        desk.check(&format!("{doctor} --database-url {url}"), code, out, "")
    };
    let (_, out, _) = desk.run(doctor);
    assert!(!out.contains("database"), "nobody named one: {out}");
    check("sqlite://made/later.db", 0, "ok    database: made/later.db will be made");
    assert!(!desk.0.path().join("made").exists(), "nothing is made");
    check("sqlite://good.toml/under.db", 1, "FAIL  database: ");
    check("sqlite://good.toml", 1, "FAIL  database: ");
    check("mysql://host/name", 1, "FAIL  database: the database URL begins neither");
    check("postgres://me:secret@127.0.0.1:1/none", 1, "see that the server runs");
    let (_, out, err) =
        desk.run(&format!("{doctor} --database-url postgres://me:secret@127.0.0.1:1/none"));
    assert!(!(out + &err).contains("secret"));
    desk.check("controlplane --data-dir data init", 0, "pfa_", "");
    check("sqlite://data/controlplane.db", 0, "ok    database: it answers");
}

/// The control plane's settings come from `payfence.toml` too, after flags and variables.
#[test]
fn a_control_plane_takes_its_settings_from_the_file() {
    let desk = Desk::new();
    desk.write("payfence.toml", "data_dir = \"of-file\"\ndatabase_url = \"sqlite://of-file.db\"\n");
    desk.check("controlplane init", 0, "pfa_", "");
    assert!(desk.0.path().join("of-file.db").exists() && desk.0.path().join("of-file").is_dir());
    desk.check("controlplane --database-url sqlite://flag.db init", 0, "pfa_", "");
    assert!(desk.0.path().join("flag.db").exists());
    desk.check("reconcile", 0, "0 differences", "");
    desk.write("payfence.toml", "audit_days = \"many\"");
    desk.check("controlplane", 2, "", "payfence.toml: invalid value 'many' for '--audit-days");
    desk.write("payfence.toml", "audit_day = 3");
    desk.check("controlplane", 2, "", "payfence.toml: line 1: unknown field `audit_day`");
    desk.check("token new", 0, "pf_live_", "");
}

#[test]
fn the_doctor_looks_at_what_a_node_of_a_control_plane_needs() {
    if !can_run() {
        return;
    }
    let desk = Desk::new();
    let token = link::wire::NodeToken::make(getrandom::fill).expect("random bytes");
    desk.write("node.token", token.reveal());
    desk.write("bad.token", "pfn_nothing");
    let doctor = "doctor --listen 127.0.0.1:0 --admin 127.0.0.1:0 --control-url http://127.0.0.1:1";
    let check =
        |flags: &str, code, out: &str| desk.check(&format!("{doctor} {flags}"), code, out, "");
    check("", 1, "FAIL  policy: no node token was given");
    check("--node-token-file none", 1, "FAIL  policy: ");
    check("--node-token-file bad.token", 1, "FAIL  policy: ");
    check(
        "--node-token-file node.token",
        0,
        "ok    policy: from http://127.0.0.1:1, with the token in node.token",
    );
}

#[test]
fn verifying_against_a_server_needs_one_that_was_shipped_to() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.0.path().join("data/journal/spool")).unwrap();
    let verify = "journal verify --data-dir data";
    desk.check(verify, 0, "0 decisions of 0 shards, 0 problems", "");
    let server = format!("{verify} --clickhouse-url http://127.0.0.1:1");
    desk.check(&server, 1, "", "nothing in data/sinks says");
    desk.check(&format!("{verify} --clickhouse-user reader"), 2, "", "--clickhouse-url");
}

/// Whether a node can run here; says why where not. Where everything must be there, that is a failure.
fn can_run() -> bool {
    match dataplane::preflight::check(dataplane::clock::Clock::start()) {
        Ok(()) => true,
        Err(problem) if std::env::var_os("PAYFENCE_TEST_FULL").is_some() => {
            panic!("no node can run here: {problem}")
        }
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "what a test left out is said")]
            {
                eprintln!("left out: no node can run here: {problem}");
            }
            false
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // As a person ends it, so that it takes its decision rings with it.
        let ended = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        if !ended.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// Starts `dev` and returns it with the three requests it prints.
fn dev(directory: &Path, flags: &[&str]) -> (Running, Vec<String>) {
    let words = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2"];
    let control = ["--control-listen", "127.0.0.1:0"];
    let mut child = payfence(directory, &words)
        .args(control)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let requests =
        lines.map(Result::unwrap).filter(|line| line.starts_with("curl ")).take(3).collect();
    (Running(child), requests)
}

#[test]
fn the_three_requests_of_dev_work_as_printed_and_again_after_a_restart() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let expected = ["HTTP/1.1 200", "HTTP/1.1 401", "HTTP/1.1 200"];
    let tls = &["--tls", "--tls-listen", "127.0.0.1:0"][..];
    for flags in [&[], &[], tls, tls] {
        let (running, requests) = dev(directory.path(), flags);
        assert_eq!(requests.len(), 3);
        for request in &requests {
            let is_tls = request.contains("--cacert ") && request.contains(" https://localhost:");
            assert_eq!(is_tls, !flags.is_empty(), "{request}");
        }
        for (request, expected) in requests.iter().zip(expected) {
            let output = Command::new("sh").args(["-c", request]).output().unwrap();
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(answer.starts_with(expected), "{request} (needs curl): {answer}");
        }
        let last = Command::new("sh").args(["-c", &requests[2]]).output().unwrap();
        let last = String::from_utf8_lossy(&last.stdout).to_ascii_lowercase();
        assert!(last.contains("\nratelimit: ") && last.contains("\nratelimit-policy: "), "{last}");
        drop(running);
    }
}
