//! The decision journal: every decision once, with its fields; quotas over restarts and crashes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use serde_json::Value;

use super::client::{Client, get};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, plan, site, subscription};
use super::wait::{DEADLINE, Stop, wait_for};

/// Every decision that the journal of a gateway has.
pub fn rows(gateway: &Gateway) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_payfence"))
        .args(["journal", "cat", "--data-dir"])
        .arg(gateway.data_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_rows(gateway: &Gateway, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} rows"), || Some(rows(gateway)).filter(|rows| rows.len() >= count))
}

fn verify(gateway: &Gateway) {
    let output = Command::new(env!("CARGO_BIN_EXE_payfence"))
        .args(["journal", "verify", "--data-dir"])
        .arg(gateway.data_dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The charges of all rows.
pub fn charged(rows: &[Value]) -> u64 {
    rows.iter().map(|row| row["charge"].as_u64().unwrap()).sum()
}

#[test]
fn a_row_has_what_was_decided_and_how_it_ended() {
    let tables = plan("rows", "quota = { requests = 5, per = \"year\" }")
        + &subscription("rows", "rows", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start_with(
        &site(origin.address, "", &tables),
        &["--node-name", "node-7", "--log-client", "network"],
    ) else {
        return;
    };
    let authorization = bearer("rows");
    let authorized = [("Authorization", authorization.as_str())];
    let answer = gateway.ask(get("/paid/x?secret=1", &authorized));
    let row = &wait_rows(&gateway, 1)[0];
    assert_eq!(row["request_id"], answer.header("PayFence-Request-Id").unwrap());
    for (key, value) in [
        ("node", "node-7"),
        ("token_id", "tok_rows"),
        ("plan", "rows"),
        ("method", "GET"),
        ("path", "/paid/x"),
        ("protocol", "http/1.1"),
        ("verdict", "allow"),
        ("reason", "ok"),
        ("resource", "/paid/*"),
    ] {
        assert_eq!(row[key], value, "{row}");
    }
    for (key, value) in [("status", 200), ("charge", 1), ("remaining", 4), ("seq", 0)] {
        assert_eq!(row[key], value, "{row}");
    }
    assert_eq!(row["response_bytes"].as_u64().unwrap(), answer.body.len() as u64);
    assert!(row["total_us"].as_u64() >= row["origin_us"].as_u64(), "{row}");
    let client = row["client"].as_str().unwrap();
    assert!(client.starts_with("127.") && client.ends_with(".0"), "{row}");
    assert!(!row.to_string().contains("secret"));

    let refused = gateway.ask(get("/paid/x", &[]));
    gateway.ask(get("/free", &[]));
    gateway.ask("GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n");
    let rows = wait_rows(&gateway, 4);
    let of = |reason: &str| rows.iter().find(|row| row["reason"] == reason).unwrap();
    let denied = of("token_missing");
    assert_eq!((&denied["verdict"], &denied["status"]), (&"deny".into(), &401.into()));
    assert_eq!(denied["response_bytes"].as_u64().unwrap(), refused.body.len() as u64);
    assert_eq!(denied["customer"], Value::Null);
    assert_eq!(of("unprotected")["charge"], 0);
    assert_eq!(of("site_unknown")["site"], "");
    verify(&gateway);
}

#[test]
fn a_restart_goes_on_to_the_unit() {
    let tables = plan("restart", "quota = { requests = 10, per = \"year\" }")
        + &subscription("restart", "restart", "");
    let origin = Origin::ok();
    let Some(mut gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("restart");
    let ask = |gateway: &Gateway| {
        gateway.ask(get("/paid/x", &[("Authorization", authorization.as_str())])).status
    };
    for used in 1..=3 {
        assert_eq!(ask(&gateway), 200);
        assert_eq!(gateway.used("restart"), used);
    }
    gateway.crash_and_restart(&["--shards", "1"]);
    assert_eq!(gateway.used("restart"), 3, "another number of shards");
    assert_eq!(ask(&gateway), 200);
    gateway.signal("TERM");
    assert!(gateway.wait_end().success());
    gateway.restart(&[]);
    assert_eq!(gateway.used("restart"), 4, "after a drain");
    for _ in 0..6 {
        assert_eq!(ask(&gateway), 200);
    }
    assert_eq!(ask(&gateway), 429);
    gateway.crash_and_restart(&[]);
    assert_eq!(ask(&gateway), 429);
    let rows = wait_rows(&gateway, 12);
    assert_eq!((rows.len(), charged(&rows)), (12, 10));
    verify(&gateway);
}

#[test]
fn without_its_rings_what_was_leased_counts_as_used() {
    let tables = plan("gone", "quota = { requests = 1000, per = \"year\" }")
        + &subscription("gone", "gone", "");
    let origin = Origin::ok();
    let Some(mut gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("gone");
    let request = get("/paid/x", &[("Authorization", authorization.as_str())]);
    for _ in 0..20 {
        assert_eq!(gateway.ask(&request).status, 200);
    }
    gateway.crash();
    std::fs::remove_dir_all(gateway.ring_dir()).unwrap();
    gateway.restart(&[]);
    let used = gateway.used("gone");
    // A lease is a hundredth of the limit or ten seconds of demand, and never over a quarter of what is left.
    assert!((20..=270).contains(&used), "{used}");
    let recovered = gateway.status()["journal"]["recovered"].to_string();
    assert!(recovered.contains("units that were leased"), "{recovered}");
    assert_eq!(gateway.ask(&request).status, 200);
    verify(&gateway);
}

/// Loads a gateway that is killed again and again. Of a quota as many are admitted as it has, less what was under way.
#[test]
fn crashes_under_load_cost_no_unit_and_give_none_away() {
    const QUOTA: u64 = 6_000;
    const CRASHES: usize = 12;
    const CLIENTS: usize = 8;
    let tables = plan("crash", &format!("quota = {{ requests = {QUOTA}, per = \"year\" }}"))
        + &subscription("crash", "crash", "");
    let origin = Origin::ok();
    let Some(mut gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let (admitted, refused, cut) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let address = gateway.address;
    let authorization = bearer("crash");
    let request = get("/paid/x", &[("Authorization", authorization.as_str())]);
    let request = request.as_str();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let Some(mut client) = Client::try_connect(address) else {
                        std::thread::yield_now();
                        continue;
                    };
                    while !is_over.load(Ordering::Relaxed) {
                        match client.try_ask(request).map(|answer| answer.status) {
                            Some(200) => admitted.fetch_add(1, Ordering::Relaxed),
                            Some(429) => refused.fetch_add(1, Ordering::Relaxed),
                            Some(other) => panic!("answer {other}"),
                            None => {
                                cut.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                        };
                    }
                }
            });
        }
        let _stop = Stop(&is_over);
        let before = |crash: usize| QUOTA * crash as u64 / (CRASHES as u64 + 1);
        for crash in 1..=CRASHES {
            wait_for("load", || {
                let seen = admitted.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed);
                (seen >= before(crash)).then_some(())
            });
            gateway.crash_and_restart(&[]);
        }
        let target = refused.load(Ordering::Relaxed) + 200;
        wait_for("the quota's end", || (refused.load(Ordering::Relaxed) >= target).then_some(()));
    });
    let (admitted, cut) = (admitted.into_inner(), cut.into_inner());
    assert!(admitted <= QUOTA && admitted + cut >= QUOTA, "{admitted} of {QUOTA}, {cut} cut off");
    gateway.wait_used("crash", QUOTA.cast_signed());
    let made = admitted + refused.into_inner();
    let rows =
        wait_for("the last rows", || Some(rows(&gateway)).filter(|rows| rows.len() as u64 >= made));
    assert_eq!(charged(&rows), QUOTA);
    verify(&gateway);
}

#[test]
fn the_journal_can_be_followed_and_filtered() {
    let tables = plan("follow", "quota = { requests = 5, per = \"year\" }")
        + &subscription("follow", "follow", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    gateway.ask(get("/free", &[]));
    let mut follower = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_payfence"), "journal", "cat", "--follow"])
        .args(["--reason", "token_missing", "--since", "1h", "--data-dir"])
        .arg(gateway.data_dir())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    gateway.ask(get("/paid/x", &[]));
    let (told, first) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        // Who has waited for it in vain is gone.
        let _ = told.send(line);
    });
    let line = first.recv_timeout(DEADLINE).expect("a line comes");
    reader.join().unwrap();
    let row: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(row["reason"], "token_missing");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_payfence"))
        .args(["journal", "cat", "--since", "2999-01-01T00:00:00Z", "--data-dir"])
        .arg(gateway.data_dir())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
}

#[test]
fn decisions_can_be_watched_as_they_are_made() {
    let tables = plan("watch", "quota = { requests = 5, per = \"year\" }")
        + &subscription("watch", "watch", "");
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    assert_eq!(gateway.admin("/decisions?verdict=maybe").status, 400);
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = "GET /decisions?site=shop&verdict=deny HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut read_until = |wanted: &str| {
        while !seen.contains(wanted) {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        std::mem::take(&mut seen)
    };
    assert!(read_until("\r\n\r\n").contains("text/event-stream"));
    gateway.ask(get("/free", &[]));
    gateway.ask(get("/paid/one", &[]));
    let event = read_until("\n\n");
    assert!(event.contains("data: {") && event.contains("/paid/one") && !event.contains("/free"));
    // More than a watcher is sent in a second: it is told how many were left out.
    let mut client = gateway.connect();
    for _ in 0..30 {
        client.send(get("/paid/many", &[]).repeat(50));
        (0..50).for_each(|_| assert_eq!(client.answer().status, 401));
    }
    assert!(read_until("event: skipped").contains("/paid/many"));
}

#[test]
fn every_decision_reaches_a_sink_once_over_crashes() {
    let tables = plan("sink", "quota = { requests = 100000, per = \"year\" }")
        + &subscription("sink", "sink", "");
    let origin = Origin::ok();
    let folder = tempfile::tempdir().unwrap();
    let ndjson = folder.path().to_str().unwrap();
    let flags = ["--ndjson-dir", ndjson];
    let Some(mut gateway) = Gateway::start_with(&site(origin.address, "", &tables), &flags) else {
        return;
    };
    let authorization = bearer("sink");
    let request = get("/paid/x", &[("Authorization", authorization.as_str())]);
    for _ in 0..3 {
        let mut client = gateway.connect();
        for _ in 0..500 {
            client.send(&request);
            assert_eq!(client.answer().status, 200);
        }
        gateway.crash_and_restart(&flags);
    }
    assert_eq!(gateway.ask(get("/free", &[])).status, 200);
    let shipped = || -> Vec<(u64, u64, u64)> {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let all: String = texts.collect();
        let rows = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
        rows.map(|row| (number(&row, "epoch"), number(&row, "shard"), number(&row, "seq")))
            .collect()
    };
    let rows = wait_for("every row", || Some(shipped()).filter(|rows| rows.len() >= 1501));
    let distinct: std::collections::HashSet<_> = rows.iter().collect();
    assert_eq!((rows.len(), distinct.len()), (1501, 1501));
    gateway.wait_metric("payfence_decisions_lost_total", &[], 0.0);
    let export = &gateway.status()["exports"][0];
    assert_eq!((&export["sink"], &export["state"]), (&"ndjson".into(), &"ok".into()), "{export}");
}
