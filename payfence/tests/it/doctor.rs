//! `payfence doctor` beside a control plane that sells, and a stand-in for Stripe: all well, and each thing that may be wrong.
//!
//! In: flags, files, what Stripe has and answers. Out: the lines that doctor prints.
//! Always holds: no key and no secret is printed, whatever is found; nothing is made at Stripe or kept by the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use stripe_sandbox::{
    ClockStart, Config, Fault, Planned, Sandbox, SignatureClock, WebhookEndpoint,
};

use super::client::ask;
use super::plane::Plane;
use super::wait::{own_address, unix_s};

const SECRET: &str = "whsec_0123456789doctor";

/// A control plane, Stripe, and the flags for both.
struct Practice {
    runtime: tokio::runtime::Runtime,
    sandbox: Sandbox,
    plane: Plane,
    folder: tempfile::TempDir,
}

impl Practice {
    /// With Stripe's clock so many seconds ahead.
    fn open(ahead_s: i64) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (address, data) = (own_address(), tempfile::tempdir().expect("a folder"));
        let url = format!("http://{address}/stripe/webhooks/test");
        let clock = match ahead_s {
            0 => ClockStart::Real,
            ahead_s => ClockStart::Fixed(unix_s() + ahead_s),
        };
        let config = Config {
            clock,
            signature_clock: SignatureClock::Sandbox,
            webhook_endpoints: vec![WebhookEndpoint::new(url, SECRET, true)],
            ..Config::default()
        };
        let sandbox = runtime.block_on(Sandbox::start(config)).expect("a sandbox");
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("writable");
        };
        file("stripe.key", sandbox.secret_key());
        file("wrong.key", "sk_test_0123456789wrong");
        file("webhooks.secret", SECRET);
        file("wrong.secret", "whsec_0123456789wrong");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let flags = [
            "--stripe-secret-key-file".to_owned(),
            path("stripe.key"),
            "--stripe-webhook-secret-file".to_owned(),
            path("webhooks.secret"),
            "--stripe-base-url".to_owned(),
            sandbox.url(),
            "--public-url".to_owned(),
            format!("http://{address}"),
        ];
        // No request goes to the origin.
        let plan = json!({ "reference": "basic", "quota": { "requests": 5, "per": "month" } });
        let plane = Plane::start_with(address, data, &flags, own_address(), plan)?;
        Some(Self { runtime, sandbox, plane, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What doctor prints with this key, secret and address; whether it is content.
    fn doctor(&self, key: &str, secret: &str, address: SocketAddr) -> (bool, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_payfence"))
            .args(["doctor", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--stripe-secret-key-file")
            .arg(self.path(key))
            .arg("--stripe-webhook-secret-file")
            .arg(self.path(secret))
            .args(["--stripe-base-url", &self.sandbox.url()])
            .args(["--public-url", &format!("http://{address}")])
            .env_clear()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&done.stdout) + &text(&done.stderr);
        for secret in ["0123456789", self.sandbox.secret_key()] {
            assert!(!said.contains(secret), "a secret is printed: {said}");
        }
        (done.status.success(), said)
    }

    /// Runs it with what is right but for what is named, and looks for these beginnings of lines.
    #[track_caller]
    fn check(&self, key: &str, secret: &str, lines: &[&str]) -> String {
        let (is_well, said) = self.doctor(key, secret, self.plane.address);
        for line in lines {
            assert!(said.lines().any(|it| it.starts_with(line)), "no `{line}` in:\n{said}");
        }
        let is_expected = !lines.iter().any(|line| line.starts_with("FAIL"));
        assert_eq!(is_well, is_expected, "{said}");
        said
    }

    /// Changes the endpoint at Stripe as its dashboard does.
    fn change_endpoint(&self, form: &str) {
        let endpoints = self.sandbox.objects("", "webhook_endpoint");
        let id = endpoints[0]["id"].as_str().expect("an id").to_owned();
        let (host, key, length) = (self.sandbox.address(), self.sandbox.secret_key(), form.len());
        let answer = ask(
            host,
            format!(
                "POST /v1/webhook_endpoints/{id} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
                 Stripe-Version: 2026-10-28.endive\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{form}"
            ),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

const KEY_WELL: &str = "ok    Stripe key, test mode: taken, with version";
const ENDPOINT_WELL: &str = "ok    Stripe endpoint, test mode: Stripe sends all events to";
const WEBHOOKS_WELL: &str = "ok    Stripe webhooks, test mode: http://127.";
const CLOCK_WELL: &str = "ok    clock: ";

#[test]
fn what_a_shop_needs_of_stripe_is_looked_at() {
    let Some(practice) = Practice::open(0) else { return };
    let all_well = [KEY_WELL, ENDPOINT_WELL, WEBHOOKS_WELL, CLOCK_WELL];
    let said = practice.check("stripe.key", "webhooks.secret", &all_well);
    assert!(said.contains("takes what is signed with the secret alone"), "{said}");
    assert!(said.contains("listens to events on connected accounts"), "{said}");
    assert_eq!(practice.sandbox.objects("", "event").len(), 0, "nothing is made at Stripe");

    let wrong = "FAIL  Stripe key, test mode: Stripe refused with 401: Invalid API Key provided";
    let said = practice.check("wrong.key", "webhooks.secret", &[wrong, WEBHOOKS_WELL, CLOCK_WELL]);
    assert!(!said.contains("Stripe endpoint"), "{said}");

    // A restricted key, of which two rights were forgotten.
    for path in ["/v1/prices", "/v1/webhook_endpoints"] {
        practice.sandbox.plan_fault(Planned::next(Fault::Forbidden, path, u32::MAX));
    }
    let lacks = "FAIL  Stripe key, test mode: a restricted key that lacks Prices (Write): give";
    practice.check(
        "stripe.key",
        "webhooks.secret",
        &[lacks, "warn  Stripe endpoint, test mode: the endpoints at Stripe cannot be read"],
    );
    practice.sandbox.clear_faults();

    let forged = "FAIL  Stripe webhooks, test mode: http://127.";
    let said = practice.check("stripe.key", "wrong.secret", &[KEY_WELL, ENDPOINT_WELL, forged]);
    assert!(said.contains("does not take what is signed with this secret"), "{said}");

    practice.change_endpoint("enabled_events[0]=invoice.paid");
    let less = "warn  Stripe endpoint, test mode: the endpoint for http://127.";
    let said = practice.check("stripe.key", "webhooks.secret", &[KEY_WELL, less, WEBHOOKS_WELL]);
    assert!(said.contains("is not sent checkout.session.completed"), "{said}");
    practice.change_endpoint("enabled_events[0]=*&disabled=true");
    let off = "FAIL  Stripe endpoint, test mode: Stripe has disabled the endpoint for http://127.";
    practice.check("stripe.key", "webhooks.secret", &[KEY_WELL, off, WEBHOOKS_WELL]);
    practice.change_endpoint("disabled=false&url=https://elsewhere.example/");
    let none = "FAIL  Stripe endpoint, test mode: Stripe has no endpoint for http://127.";
    practice.check("stripe.key", "webhooks.secret", &[KEY_WELL, none, WEBHOOKS_WELL]);

    // Where nobody listens, or no control plane does.
    let (_, said) = practice.doctor("stripe.key", "webhooks.secret", own_address());
    assert!(said.contains("warn  Stripe webhooks, test mode: http://127."), "{said}");
    let (is_well, said) =
        practice.doctor("stripe.key", "webhooks.secret", practice.sandbox.address());
    assert!(!is_well && said.contains("FAIL  Stripe webhooks, test mode: "), "{said}");
    practice.runtime.block_on(practice.sandbox.shutdown());
}

#[test]
fn clocks_that_are_apart_are_told_of() {
    for (ahead_s, line) in [
        (100, "warn  clock: "),
        (-100, "warn  clock: "),
        (1_000, "FAIL  clock: "),
        (-1_000, "FAIL  clock: "),
    ] {
        let Some(practice) = Practice::open(ahead_s) else { return };
        let said =
            practice.check("stripe.key", "webhooks.secret", &[KEY_WELL, WEBHOOKS_WELL, line]);
        let word = if ahead_s > 0 { "s behind Stripe's" } else { "s ahead of Stripe's" };
        assert!(said.contains(word), "{said}");
    }
}
