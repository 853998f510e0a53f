//! `payfence apply` and `payfence export` against a control plane that is run, with a node that serves what comes of it.
//!
//! In: policy files. Out: what the commands print and end with, what the node answers.

use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use policy::token::{self, Mode, TokenHash};
use serde_json::json;

use super::client::Answer;
use super::gateway::Gateway;
use super::origin::Origin;
use super::plane::Plane;
use super::wait::{Stop, wait_for};

/// A file with one site; the plane has another, `shop`.
struct Policy {
    origin: String,
    token: String,
    second: String,
    /// More keys of the site, of the plan and of the second token, and more resources.
    settings: &'static str,
    plan: &'static str,
    second_token: &'static str,
    resources: &'static str,
}

impl Policy {
    fn new(origin: &Origin) -> Self {
        let token = || token::make(Mode::Live, getrandom::fill).expect("random bytes");
        Self {
            origin: format!("http://{}", origin.address),
            token: token(),
            second: token(),
            settings: "origin_headers = { X-Gate = \"s3cret-of-the-origin\" }",
            plan: "resources = [\"/paid/*\"]",
            second_token: "",
            resources: "",
        }
    }

    fn text(&self) -> String {
        let Self { origin, token, settings, plan, second_token, resources, .. } = self;
        let second = TokenHash::of(self.second.as_bytes());
        format!(
            "[[sites]]\nslug = \"weather\"\norigin = \"{origin}\"\nhosts = [\"weather.test\"]\n{settings}\n\
             [[sites.resources]]\npattern = \"/paid/*\"\n\
             [[sites.resources]]\npattern = \"/paid/big/{{id}}\"\nmethods = [\"POST\"]\ncost = 9\n{resources}\n\
             [[sites.plans]]\nid = \"pro\"\nquota = {{ requests = 1000000000, per = \"month\" }}\n{plan}\n\
             [[sites.subscriptions]]\nid = \"sub_1\"\nplan = \"pro\"\ncustomer = \"globex\"\nstatus = \"active\"\n\
             period_anchor = 2026-01-31T12:00:00Z\n\
             tokens = [{{ id = \"tok_1\", value = \"{token}\" }}, {{ id = \"tok_2\", sha256 = \"{second}\"{second_token} }}]\n"
        )
    }
}

fn lines(output: &Output) -> Vec<&str> {
    std::str::from_utf8(&output.stdout).expect("text").lines().collect()
}

#[track_caller]
fn expect(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

fn ask(node: &Gateway, token: &str, path: &str) -> Answer {
    node.ask(format!(
        "GET {path} HTTP/1.1\r\nHost: weather.test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ))
}

#[track_caller]
fn wait_answer(node: &Gateway, token: &str, path: &str, expected: (u16, &str)) {
    wait_for(&format!("{path}: {expected:?}"), || {
        let answer = ask(node, token, path);
        ((answer.status, answer.reason().as_str()) == expected).then_some(())
    });
}

fn plane(origin: &Origin) -> Option<Plane> {
    Plane::start(origin.address, json!({ "reference": "basic" }))
}

fn changes_so_far(plane: &Plane) -> usize {
    plane.get("/v1/audit?limit=100")["data"].as_array().expect("a list").len()
}

#[test]
fn a_file_is_applied_served_changed_and_given_back() {
    let origin = Origin::ok();
    let Some(plane) = plane(&origin) else { return };
    let mut policy = Policy::new(&origin);
    let before = changes_so_far(&plane);

    let tried = plane.apply(&policy.text(), &["--dry-run"]);
    expect(&tried, 3);
    assert_eq!(lines(&tried).len(), 1 + 8, "{tried:?}");
    assert_eq!(lines(&tried)[0], "= shop site: not in policy.toml, left as it is");
    assert_eq!(changes_so_far(&plane), before, "a trial changes nothing");

    let applied = plane.apply(&policy.text(), &[]);
    expect(&applied, 0);
    assert_eq!(applied.stdout, tried.stdout);
    let shown = format!("{applied:?}");
    for secret in
        [&policy.token, "s3cret-of-the-origin", &TokenHash::of(policy.token.as_bytes()).to_string()]
    {
        assert!(!shown.contains(secret), "{shown}");
    }
    let node = plane.node("n1");
    for token in [&policy.token, &policy.second] {
        wait_answer(&node, token, "/paid/x", (200, ""));
    }
    let seen = origin.wait_request(1);
    assert_eq!(seen.header("x-gate"), Some("s3cret-of-the-origin"));

    let before = changes_so_far(&plane);
    let again = plane.apply(&policy.text(), &[]);
    expect(&again, 0);
    assert_eq!(lines(&again).len(), 1, "{again:?}");
    expect(&plane.apply(&policy.text(), &["--dry-run"]), 0);
    assert_eq!(changes_so_far(&plane), before, "the second time changes nothing");

    policy.second_token = ", revoked = true";
    policy.resources = "[[sites.resources]]\npattern = \"/more/*\"";
    policy.plan = "resources = [\"/more/*\", \"/paid/big/{id}\"]\noverage = \"allow\"";
    policy.settings = "default = \"paid\"";
    let changed = plane.apply(&policy.text(), &[]);
    expect(&changed, 0);
    wait_answer(&node, &policy.second, "/more/x", (401, "token_revoked"));
    wait_answer(&node, &policy.token, "/more/x", (200, ""));
    wait_answer(&node, &policy.token, "/paid/x", (403, "plan_excludes_resource"));
    wait_answer(&node, "", "/else", (401, "token_missing"));
    expect(&plane.apply(&policy.text(), &["--dry-run"]), 0);

    given_back(&plane);
}

/// What is exported is a policy file, and applied anew it changes nothing.
fn given_back(plane: &Plane) {
    let subscriber = plane.subscribe();
    let before = changes_so_far(plane);
    let exported = plane.run(&["export"]);
    expect(&exported, 0);
    let text = String::from_utf8(exported.stdout).expect("text");
    for part in [
        "slug = \"shop\"",
        "slug = \"weather\"",
        "revoked = true",
        "# origin_headers are kept for X-Gate",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains(&TokenHash::of(subscriber.token.as_bytes()).to_string()), "{text}");
    assert!(!text.contains("s3cret-of-the-origin") && !text.contains(&subscriber.token));
    let again = plane.apply(&text, &[]);
    expect(&again, 0);
    assert!(again.stdout.is_empty(), "{again:?}");
    assert_eq!(changes_so_far(plane), before);
    let checked = plane.run(&["policy", "check", "policy.toml"]);
    expect(&checked, 0);
}

#[test]
fn what_both_policies_admit_is_admitted_all_the_while() {
    let origin = Origin::ok();
    let Some(plane) = plane(&origin) else { return };
    let mut policy = Policy::new(&origin);
    expect(&plane.apply(&policy.text(), &[]), 0);
    let node = plane.node("n1");
    wait_answer(&node, &policy.token, "/paid/x", (200, ""));
    let texts = {
        let old = policy.text();
        policy.resources = "[[sites.resources]]\npattern = \"/paid/x\"\ncost = 2";
        policy.plan = "resources = [\"/paid/x\", \"/paid/big/{id}\"]";
        [policy.text(), old]
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = ask(&node, &policy.token, "/paid/x");
                assert_eq!((answer.status, answer.reason().as_str()), (200, ""), "request {asked}");
                asked += 1;
            }
            asked
        });
        let stop = Stop(&is_over);
        let applied: Vec<Output> = (0..6).map(|at| plane.apply(&texts[at % 2], &[])).collect();
        drop(stop);
        applied.iter().for_each(|output| expect(output, 0));
        assert!(asked.join().expect("every request was admitted") > 10);
    });
}

#[test]
fn what_breaks_off_goes_on_when_it_is_run_again() {
    let origin = Origin::ok();
    let Some(plane) = plane(&origin) else { return };
    let policy = Policy::new(&origin);
    let other = |host: &str| {
        let Policy { origin, .. } = &policy;
        format!(
            "{}\n[[sites]]\nslug = \"other\"\norigin = \"{origin}\"\nhosts = [\"{host}\"]\n",
            policy.text()
        )
    };
    // The host is the shop's, which only the control plane knows.
    let stopped = plane.apply(&other("shop.test"), &[]);
    expect(&stopped, 1);
    let said = String::from_utf8_lossy(&stopped.stderr);
    for part in ["done: make site weather", "make site other", "hosts", "run it again to go on"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let rest = plane.apply(&other("other.test"), &[]);
    expect(&rest, 0);
    let name = format!("http://{}", origin.address);
    assert_eq!(
        lines(&rest)[1..],
        [format!("+ other site: hosts = [\"other.test\"], origin = \"{name}\"")]
    );
    expect(&plane.apply(&other("other.test"), &["--dry-run"]), 0);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_sent() {
    let origin = Origin::ok();
    let Some(plane) = plane(&origin) else { return };
    let policy = Policy::new(&origin);
    let before = changes_so_far(&plane);
    let check = |text: &str, arguments: &[&str], code: i32, expected: &str| {
        let output = plane.apply(text, arguments);
        expect(&output, code);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{expected}: {said}");
    };
    check("[[sites]]\nslug = \"w\"\n", &[], 2, "policy.toml");
    check(&policy.text(), &["--admin-key-file", "policy.toml"], 2, "this is no admin key");
    check(&policy.text(), &["--admin-key-file", "none"], 2, "cannot read the admin key");
    check(&policy.text(), &["--control-url", "http://192.0.2.1:1"], 2, "in the clear");
    check(&policy.text(), &["--control-url", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1");
    let viewer = plane.post("/v1/admin_keys", json!({ "label": "v", "role": "viewer" }));
    plane.write("viewer", viewer["secret"].as_str().expect("a key"));
    check(&policy.text(), &["--admin-key-file", "viewer"], 1, "make site weather");
    plane.subscribe();
    let exported = plane.run(&["export", "--admin-key-file", "viewer"]);
    expect(&exported, 1);
    assert!(String::from_utf8_lossy(&exported.stderr).contains("tokens:write"), "{exported:?}");
    // The key that was made, the subscription, its token, and the subscription written with it.
    assert!(changes_so_far(&plane) <= before + 4);
    assert_eq!(plane.get("/v1/sites")["data"].as_array().map(Vec::len), Some(1));
}
