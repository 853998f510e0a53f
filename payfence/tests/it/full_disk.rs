//! A full disk: traffic as configured, counters right, nothing twice and nothing half once there is room again.
//!
//! In: a small tmpfs as data directory or as a sink's folder, and ballast in it. Out: failures. Always holds: what is mounted is
//! unmounted with its test.

use std::io::Write;
use std::process::Command;

use serde_json::Value;

use super::client::get;
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription};
use super::wait::wait_for;

/// A file system of its own, of so many MiB; unmounted with its test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where nothing may be mounted; that is a failure under `./test`.
    fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        assert!(std::env::var_os("PAYFENCE_TEST_FULL").is_none(), "mounting a tmpfs needs root");
        let _ = std::io::stderr().write_all(b"left out: mounting a small disk needs root\n");
        None
    }

    /// Leaves no room; with this gone there is some again.
    fn fill(&self) -> std::path::PathBuf {
        let ballast = self.0.path().join("ballast");
        // Fails once there is no more room.
        let _ = std::fs::write(&ballast, vec![0; 32 << 20]);
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_does_what_was_chosen_and_recovers() {
    for (choice, refused) in [("continue", 200), ("refuse", 503)] {
        let Some(disk) = SmallDisk::mount(24) else { return };
        let tables = plan("full", "quota = { requests = 1000000, per = \"year\" }")
            + &subscription("full", "full", "");
        let origin = Origin::ok();
        let data = disk.0.path().join("data");
        let flags =
            ["--data-dir", data.to_str().unwrap(), "--journal-full", choice, "--shards", "1"];
        let Some(gateway) = Gateway::start_with(&site(origin.address, "", &tables), &flags) else {
            return;
        };
        let authorization = bearer("full");
        let path = format!("/paid/{}", "x".repeat(900));
        let request = get(&path, &[("Authorization", authorization.as_str())]);
        let ballast = disk.fill();
        let mut client = gateway.connect();
        // The ring of 8 MiB takes some 6,000 of these.
        let mut ask = |count: u64, expected: u16| {
            for _ in 0..count {
                client.send(&request);
                let answer = client.answer();
                if answer.status != expected {
                    return answer.status;
                }
            }
            expected
        };
        let status = ask(12_000, 200);
        assert_eq!(status, refused, "{choice}");
        let journal = gateway.status()["journal"].clone();
        assert!(journal["error"].to_string().contains("space"), "{journal}");
        wait_for("what is lost", || {
            (gateway.metric("payfence_decisions_lost_total", &[]) >= 1.0).then_some(())
        });
        std::fs::remove_file(&ballast).unwrap();
        wait_for("recovery", || gateway.status()["journal"]["error"].is_null().then_some(()));
        let ask_again = |gateway: &Gateway| gateway.ask(&request).status;
        wait_for("requests", || (ask_again(&gateway) == 200).then_some(()));
    }
}

/// Decisions that are in no row are in the leases all the same: a clean stop says of them what was used.
#[test]
fn what_a_full_disk_has_lost_of_the_log_is_counted_to_the_unit_after_a_clean_stop() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let tables = plan("exact", "quota = { requests = 1000000, per = \"year\" }")
        + &subscription("exact", "exact", "");
    let origin = Origin::ok();
    let data = disk.0.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap(), "--journal-full", "continue"];
    let policy = site(origin.address, "", &tables);
    let Some(mut gateway) = Gateway::start_with(&policy, &flags) else { return };
    let authorization = bearer("exact");
    let path = format!("/paid/{}", "x".repeat(900));
    let request = get(&path, &[("Authorization", authorization.as_str())]);
    let ballast = disk.fill();
    // Several connections, so that the shard that does not own the subscription holds loans too.
    let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    let mut used = 0;
    while gateway.metric("payfence_decisions_lost_total", &[]) < 100.0 {
        assert!(used < 60_000, "no decision was lost");
        for _ in 0..200 {
            for client in &mut clients {
                client.send(&request);
            }
            for client in &mut clients {
                assert_eq!(client.answer().status, 200);
                used += 1;
            }
        }
    }
    drop(clients);
    std::fs::remove_file(&ballast).unwrap();
    wait_for("recovery", || gateway.status()["journal"]["error"].is_null().then_some(()));
    gateway.signal("TERM");
    assert!(gateway.wait_end().success());
    gateway.restart(&flags);
    let recovered = gateway.status()["journal"]["recovered"].to_string();
    assert!(recovered.contains("are missing from the log"), "{recovered}");
    assert_eq!(gateway.used("exact"), used, "{recovered}");
    // And again, where nothing is amiss.
    gateway.signal("TERM");
    assert!(gateway.wait_end().success());
    gateway.restart(&flags);
    assert_eq!(gateway.used("exact"), used);
}

#[test]
fn a_full_disk_under_ndjson_files_holds_them_up_and_leaves_each_row_once() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let tables = plan("lines", "quota = { requests = 1000000, per = \"year\" }")
        + &subscription("lines", "lines", "");
    let origin = Origin::ok();
    let folder = disk.0.path().join("decisions");
    let flags = ["--ndjson-dir", folder.to_str().unwrap()];
    let Some(gateway) = Gateway::start_with(&site(origin.address, "", &tables), &flags) else {
        return;
    };
    let authorization = bearer("lines");
    let path = format!("/paid/{}", "x".repeat(900));
    let request = get(&path, &[("Authorization", authorization.as_str())]);
    let mut client = gateway.connect();
    let mut ask = |count: usize| {
        for _ in 0..count {
            client.send(&request);
            assert_eq!(client.answer().status, 200);
        }
    };
    let export = || gateway.status()["exports"][0].clone();
    ask(50);
    wait_for("the first rows", || (export()["exported"] == 50).then_some(()));
    let ballast = disk.fill();
    // Requests go on: the rows wait in the spool.
    ask(1_000);
    let told = wait_for("the failure", || Some(export()).filter(|it| it["state"] != "ok"));
    assert!(told["last_error"].to_string().contains("space"), "{told}");
    std::fs::remove_file(&ballast).unwrap();
    wait_for("every row", || (export()["exported"] == 1_050).then_some(()));
    let told = export();
    assert_eq!((&told["lost"], &told["set_aside"]), (&0.into(), &0.into()), "{told}");
    let files = std::fs::read_dir(&folder).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let all: String = texts.collect();
    let key = |line: &str| -> (u64, u64, u64) {
        let row: Value = serde_json::from_str(line).expect("whole lines only");
        let number = |name: &str| row[name].as_u64().unwrap();
        (number("epoch"), number("shard"), number("seq"))
    };
    let keys: Vec<_> = all.lines().map(key).collect();
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!((keys.len(), distinct.len()), (1_050, 1_050));
}
