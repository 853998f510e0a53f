//! Keys of secrets as an operator handles them: in the environment, another one first, `payfence controlplane rekey`, the old one away.
//!
//! In: commands, REST requests. Out: what they end with; secrets that can still be read.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::client::{Answer, rest};
use super::gateway::Process;
use super::wait::{own_address, wait_for};

const OLD: &str = "1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const KEYS: &str = "PAYFENCE_SECRET_KEYS";

/// A database and where its control plane listens.
struct Desk {
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Desk {
    /// Runs a command of the control plane with these keys: its exit code and both outputs.
    fn run(&self, keys: &str, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_payfence"));
        command.env_clear().env(KEYS, keys).stdin(Stdio::null());
        command.args(["controlplane", "--data-dir", &self.data()]).args(words);
        let done = command.output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    }

    #[track_caller]
    fn check(&self, keys: &str, words: &[&str], code: i32, out: &str, err: &str) {
        let (actual, stdout, stderr) = self.run(keys, words);
        assert_eq!(actual, Some(code), "{words:?}: {stdout}{stderr}");
        assert!(stdout.contains(out), "{words:?}: `{out}` is not in `{stdout}`");
        assert!(stderr.contains(err), "{words:?}: `{err}` is not in `{stderr}`");
        for key in [OLD, NEW] {
            let secret = key.split_once(':').expect("an id").1;
            assert!(!stdout.contains(secret) && !stderr.contains(secret), "a key is told");
        }
    }

    fn data(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// What a control plane with these keys answers.
    fn with_server<T>(&self, keys: &str, asks: impl FnOnce(&Self) -> T) -> T {
        let (data, address) = (self.data(), self.address.to_string());
        let words = ["controlplane", "--data-dir", &data, "--listen", &address];
        let mut server = Process::start(&words, &[(KEYS, keys)]);
        wait_for("the control plane", || {
            server.expect_running();
            std::net::TcpStream::connect(self.address).ok()
        });
        let answers = asks(self);
        server.signal("TERM");
        assert!(server.wait_end().success(), "{}", server.log());
        answers
    }

    fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        rest(self.address, key, method, path, &body)
    }
}

/// Whether something in a folder is called so.
fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).exists()
}

#[test]
fn secrets_go_from_key_to_key() {
    let desk = Desk { folder: tempfile::tempdir().expect("a folder"), address: own_address() };
    let init = ["init", "--account", "Test", "--email", "test@example.com"];
    desk.check("1:rubbish", &init, 2, "", KEYS);
    let (code, key, said) = desk.run(OLD, &init);
    assert_eq!(code, Some(0), "{said}");
    let key = key.trim();
    assert!(key.starts_with("pfa_") && !said.contains(key), "{said}");
    // A second time it makes nothing, and says what to do instead.
    desk.check(
        OLD,
        &init,
        2,
        "",
        "has an account already; make further keys with POST /v1/admin_keys",
    );

    let headers = json!({ "X-Gateway-Secret": "s3cret" });
    let site =
        json!({ "slug": "shop", "origin": "https://api.example.com", "origin_headers": headers });
    let hook = json!({ "url": "https://hooks.example.com/payfence" });
    let path = desk.with_server(OLD, |desk| {
        let made = desk.ask(key, "POST", "/v1/sites", &site);
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(desk.ask(key, "POST", "/v1/webhook-endpoints", &hook).status, 201);
        format!("/v1/sites/{}", made.json()["id"].as_str().expect("an id"))
    });
    let show =
        |keys: &str| desk.with_server(keys, |desk| desk.ask(key, "GET", &path, &Value::Null));
    assert!(!has(desk.folder.path(), "secrets.key"), "keys of the environment need no file");

    // Without the old key nothing can be read, nor written anew.
    assert_eq!(show(NEW).status, 500);
    desk.check(NEW, &["rekey"], 1, "", "key 1");
    let both = format!("{NEW},{OLD}");
    assert_eq!(show(&both).json()["origin_header_names"], json!(["X-Gateway-Secret"]));
    desk.check(&both, &["rekey"], 0, "2 secrets were encrypted anew", "");
    desk.check(&both, &["rekey"], 0, "0 secrets were encrypted anew", "");
    // From here on the old one is of no use, and the new one is enough.
    assert_eq!(show(OLD).status, 500);
    let shown = show(NEW);
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert_eq!(shown.json()["origin_header_names"], json!(["X-Gateway-Secret"]));
    desk.check(NEW, &["rekey"], 0, "0 secrets were encrypted anew", "");
}
