//! A client that asks for a new handshake within its session is refused, and nothing else comes of it.
//!
//! In: OpenSSL's command, since no TLS library of Rust sends such a thing. Out: what both sides say, how sessions end.
//! Always holds: OpenSSL says that it has asked, so that a client which did not cannot pass for one that was refused.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::client::get;
use super::gateway::say;
use super::origin::Origin;
use super::policy::site;
use super::tls::Front;
use super::wait::wait_for;

/// OpenSSL's client in a TLS 1.2 session with a gateway: what is typed is sent, `R` alone in a line asks for a new handshake.
struct OpenSsl {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl OpenSsl {
    fn start(front: &Front) -> Self {
        let authority = front.folder.write("authority.pem", &front.authority.pem());
        // The kernel ends it with the test.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "openssl", "s_client", "-tls1_2"])
            .args(["-connect", &front.tls.to_string(), "-servername", "shop.test"])
            .args(["-verify_return_error", "-CAfile"])
            .arg(authority)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("setpriv (Debian: util-linux)");
        let said = Arc::<Mutex<String>>::default();
        let (out, errors) = (child.stdout.take().expect("piped"), child.stderr.take());
        let readers: [Box<dyn Read + Send>; 2] = [Box::new(out), Box::new(errors.expect("piped"))];
        for mut reader in readers {
            let copy = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = reader.read(&mut piece) {
                    let text = String::from_utf8_lossy(&piece[..read]).to_lowercase();
                    copy.lock().expect("no panic").push_str(&text);
                }
            });
        }
        Self { child, said }
    }

    fn type_in(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// Waits until it has printed this, in lower case.
    #[track_caller]
    fn wait_said(&self, wanted: &str) {
        wait_for(&format!("{wanted} of OpenSSL"), || {
            self.said.lock().expect("no panic").contains(wanted).then_some(())
        });
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            say(&format!("OpenSSL said:\n{}\n", self.said.lock().expect("no panic")));
        }
    }
}

/// Whether OpenSSL's command is there. Without it a test is left out, which is a failure under `./test`.
fn has_openssl() -> bool {
    let is_there = Command::new("openssl").arg("version").output().is_ok();
    let is_required = std::env::var_os("PAYFENCE_TEST_FULL").is_some();
    assert!(is_there || !is_required, "openssl is missing; run: apt-get install openssl");
    if !is_there {
        say("left out: renegotiation needs openssl\n");
    }
    is_there
}

#[test]
fn a_session_is_never_renegotiated() {
    const CLIENTS: usize = 8;
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    if !has_openssl() {
        return;
    }
    let mut served = front.connect();
    assert_eq!(served.ask(get("/x", &[])).status, 200);
    let before_kib = front.gateway.rss_kib();
    let mut clients: Vec<OpenSsl> = (0..CLIENTS).map(|_| OpenSsl::start(&front)).collect();
    for client in &mut clients {
        client.type_in(&get("/x", &[]));
        client.wait_said("http/1.1 200");
    }
    let done = front.handshakes(&["result=\"ok\""]);
    assert!((done - (CLIENTS as f64 + 1.0)).abs() < 1e-9, "{done} handshakes");
    for client in &mut clients {
        client.type_in("R\n");
    }
    for client in &mut clients {
        client.wait_said("renegotiating");
        client.wait_said("no renegotiation");
        // OpenSSL ends a session that is not renegotiated; by itself, since nothing ends its input.
        wait_for("OpenSSL's end", || client.child.try_wait().expect("our own child"));
    }
    front.gateway.wait_metric("payfence_connections", &[], 1.0);
    let done_after = front.handshakes(&[]);
    assert!((done_after - done).abs() < 1e-9, "{done_after} handshakes after {done}");
    assert_eq!(served.ask(get("/x", &[])).status, 200, "an open session is served");
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200, "new ones are taken");
    let grown_kib = front.gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 16 << 10, "{grown_kib} KiB for {CLIENTS} refusals");
    assert_eq!(origin.requests().len(), CLIENTS + 3);
}
