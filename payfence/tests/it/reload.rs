//! Reloads: a changed file is taken over without a request lost, a bad one is refused and said, use is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription};
use super::wait::{Stop, wait_for};

/// Replaces the policy file as editors and config maps do: a new file moved over the old one.
fn replace(gateway: &Gateway, text: &str) {
    let new = gateway.policy_file.with_extension("new");
    std::fs::write(&new, text).expect("writable");
    std::fs::rename(new, &gateway.policy_file).expect("the same folder");
}

fn sequence(gateway: &Gateway) -> f64 {
    gateway.metric("payfence_snapshot_sequence", &[])
}

#[track_caller]
fn wait_newer(gateway: &Gateway, before: f64) {
    wait_for("a newer snapshot", || (sequence(gateway) > before).then_some(()));
}

fn blocked(text: &str) -> String {
    text.replace("pattern = \"/blocked/*\"", "pattern = \"/closed/*\"")
}

#[test]
fn a_written_and_a_replaced_file_are_taken_over() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start(&policy) else { return };
    assert_eq!(gateway.ask(get("/closed/x", &[])).status, 200);
    let before = sequence(&gateway);
    std::fs::write(&gateway.policy_file, blocked(&policy)).expect("writable");
    wait_for("the written file", || {
        (gateway.ask(get("/closed/x", &[])).status == 403).then_some(())
    });
    assert_eq!(gateway.ask(get("/blocked/x", &[])).status, 200);
    replace(&gateway, &policy);
    wait_for("the replaced file", || {
        (gateway.ask(get("/closed/x", &[])).status == 200).then_some(())
    });
    // It serves by a snapshot before it says so.
    wait_newer(&gateway, before + 1.0);
}

#[test]
fn a_bad_file_is_refused_said_and_forgotten() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start(&policy) else { return };
    let before = sequence(&gateway);
    for (number, bad) in
        ["no toml at all [", "[[sites]]\nslug = \"x\"\nunknown_key = 1\n", ""].iter().enumerate()
    {
        replace(&gateway, bad);
        let expected = number as f64 + 1.0;
        gateway.wait_metric("payfence_snapshot_rejected_total", &[], expected);
        let status = gateway.status();
        assert_eq!(status["snapshot"]["rejected"].as_u64(), Some(number as u64 + 1), "{status}");
        assert!(status["snapshot"]["last_error"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(gateway.ask(get("/blocked/x", &[])).status, 403, "the old policy runs on");
        assert_eq!(gateway.admin("/readyz").status, 200);
    }
    assert!(gateway.log().contains("policy.toml"), "{}", gateway.log());
    replace(&gateway, &blocked(&policy));
    wait_newer(&gateway, before);
    assert_eq!(gateway.ask(get("/closed/x", &[])).status, 403);
}

#[test]
fn sighup_reloads() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(mut gateway) = Gateway::start(&policy) else { return };
    std::fs::write(&gateway.policy_file, blocked(&policy)).expect("writable");
    gateway.signal("HUP");
    wait_for("the reload", || (gateway.ask(get("/closed/x", &[])).status == 403).then_some(()));
    assert!(gateway.is_running());
}

#[test]
fn use_outlives_reloads_plan_changes_and_removal() {
    let tables = |limit: u32| {
        plan("kept", &format!("quota = {{ requests = {limit}, per = \"year\" }}"))
            + &subscription("kept", "kept", "")
    };
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables(10))) else { return };
    let authorization = bearer("kept");
    let ask = || gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
    for _ in 0..4 {
        assert_eq!(ask().status, 200);
    }
    // More, then fewer than are used, then none of it, then as at first.
    let steps: [(String, i64); 4] = [
        (site(origin.address, "", &tables(100)), 200),
        (site(origin.address, "", &tables(3)), 429),
        (site(origin.address, "", ""), 401),
        (site(origin.address, "", &tables(10)), 200),
    ];
    for (number, (text, status)) in steps.iter().enumerate() {
        let before = sequence(&gateway);
        replace(&gateway, text);
        wait_newer(&gateway, before);
        let answer = ask();
        assert_eq!(i64::from(answer.status), *status, "step {number}: {answer:?}");
    }
    assert_eq!(gateway.used("kept"), 6);
}

#[test]
fn reloads_under_load_lose_and_misjudge_nothing() {
    let origin = Origin::ok();
    let base = site(origin.address, "", "");
    let Some(gateway) = Gateway::start(&base) else { return };
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let authorization = bearer("plenty");
                let mut client = gateway.connect();
                while !done.load(Ordering::Relaxed) {
                    let paid = client.ask(get("/paid/x", &[("Authorization", &authorization)]));
                    assert_eq!(paid.status, 200, "{paid:?}");
                    let unpaid = client.ask(get("/paid/x", &[]));
                    assert_eq!(unpaid.reason(), "token_missing", "{unpaid:?}");
                    let never = client.ask(get("/blocked/x", &[]));
                    assert_eq!(never.reason(), "resource_blocked", "{never:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&done);
        // As many as 30 s have tenths of a second.
        for number in 0..300 {
            let before = sequence(&gateway);
            replace(
                &gateway,
                &format!(
                    "{base}\n# version {number}\n[[sites.resources]]\npattern = \"/v{number}\"\n"
                ),
            );
            wait_newer(&gateway, before);
        }
    });
    let asked = i64::try_from(asked.load(Ordering::Relaxed)).expect("few");
    assert!(asked > 0);
    gateway.wait_used("plenty", asked);
    assert!(gateway.metric("payfence_snapshot_rejected_total", &[]) < 0.5);
}

#[test]
fn a_bad_policy_ends_the_start_with_code_2() {
    for (text, said) in [
        ("[[sites]]\nslug = \"x\"\nunknown_key = 1\n", "unknown_key"),
        ("", "policy.toml"),
        ("[[sites\n", "policy.toml"),
    ] {
        let mut gateway = Gateway::launch(text, &[]);
        let status = gateway.wait_end();
        assert_eq!(status.code(), Some(2), "{text:?}: {}", gateway.log());
        wait_for(&format!("'{said}' in the message"), || {
            gateway.log().contains(said).then_some(())
        });
    }
}
