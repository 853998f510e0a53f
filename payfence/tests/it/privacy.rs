//! What a node keeps and says of requests: never a query string, a header value, a body or a token, and of the client's address
//! as much as was chosen.
//!
//! In: requests that carry a secret in every place there is, with every answer there is, over IPv4 and IPv6. Out: every byte that a
//! node wrote (rings, journal, NDJSON, log at its most talkative) or tells (`journal cat`, `/decisions`, `/status`, `/metrics`).
//! Always holds: each place is shown to hold the requests' paths where it has rows, so that none passes for being empty.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::client::{Client, get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Step, raw, reply};
use super::policy::{bearer, site, token};
use super::wait::{DEADLINE, wait_for};

/// Every secret of these tests has this in it, but for tokens and what is encoded.
const SECRET: &str = "secretin";
/// `user:secretinbasic`, as Basic writes it (RFC 7617).
const BASIC: &str = "dXNlcjpzZWNyZXRpbmJhc2lj";
const V4: [u8; 4] = [127, 77, 88, 99];
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x5ec1, 0x2e7a, 0xc1, 0x1e47, 0xab, 0xcd);
/// Stands in the path of the last request.
const LAST: &str = "the-very-last-one";

/// Who asks, and what is logged of it.
struct Asker {
    name: &'static str,
    from: IpAddr,
    /// What the trusted proxy between says.
    forwarded_for: Option<Ipv6Addr>,
    /// With `off`, `network` and `whole`.
    logged: [Option<&'static str>; 3],
}

const ASKERS: [Asker; 3] = [
    Asker {
        name: "v4",
        from: IpAddr::V4(std::net::Ipv4Addr::new(V4[0], V4[1], V4[2], V4[3])),
        forwarded_for: None,
        logged: [None, Some("127.77.88.0"), Some("127.77.88.99")],
    },
    Asker {
        name: "v6",
        from: IpAddr::V6(Ipv6Addr::LOCALHOST),
        forwarded_for: None,
        logged: [None, Some("::"), Some("::1")],
    },
    Asker {
        name: "v6-behind",
        from: IpAddr::V6(Ipv6Addr::LOCALHOST),
        forwarded_for: Some(V6),
        logged: [None, Some("2001:db8:5ec1::"), Some("2001:db8:5ec1:2e7a:c1:1e47:ab:cd")],
    },
];

/// What is asked, and the status it is answered with. Each path ends in `mark`.
fn requests(mark: &str, forwarded: &[(&str, &str)]) -> Vec<(u16, String)> {
    let authorization = bearer("plenty");
    let ask = |method: &str, target: &str, headers: &[(&str, &str)]| {
        request(method, target, &[headers, forwarded].concat())
    };
    let authorized = ("Authorization", authorization.as_str());
    let unknown = bearer("Secretinunknown");
    let long = format!("/paid/{mark}?a={}", "secretinquery".repeat(100));
    let chunked = ("Transfer-Encoding", "chunked");
    let body = "d\r\nsecretinchunk\r\n0\r\nTrailer-X: secretintrailer\r\n\r\n";
    let to = |place: &str| format!("/{place}/{mark}");
    let with_query = format!("/paid/{mark}?key=secretinquery&secretinquery");
    let in_query = format!("/paid/{mark}?api_key={}&x=secretinquery", token("plenty"));
    let wrong_in_query = format!("/paid/{mark}?api_key=pf_test_secretintoken");
    let absolute = format!("http://shop.test/paid/{mark}?secretinquery");
    let user_info = format!("http://user:secretinuserinfo@shop.test/paid/{mark}");
    vec![
        (200, ask("GET", &with_query, &[authorized, ("X-Note", "secretinheader")])),
        (200, ask("GET", &long, &[authorized, ("Cookie", "session=secretincookie")])),
        (200, ask("GET", &to("paid"), &[("X-API-Key", &token("plenty"))])),
        (200, ask("GET", &in_query, &[("Referer", "https://x.test/?secretinreferer")])),
        (200, ask("GET", &absolute, &[authorized])),
        (200, ask("POST", &to("paid"), &[authorized, ("Content-Length", "12")]) + "secretinbody"),
        (200, ask("POST", &to("paid"), &[authorized, chunked]) + body),
        (401, ask("GET", &with_query, &[("Cookie", "secretincookie")])),
        (401, ask("GET", &to("paid"), &[("Authorization", "Bearer pf_test_secretintoken")])),
        (401, ask("GET", &to("paid"), &[("Authorization", &unknown)])),
        (401, ask("GET", &to("paid"), &[("Authorization", &format!("Basic {BASIC}"))])),
        (401, ask("GET", &wrong_in_query, &[])),
        (403, ask("GET", &(to("blocked") + "?secretinquery"), &[authorized])),
        (502, ask("GET", &(to("garbage") + "?secretinquery"), &[authorized])),
        (502, ask("GET", &to("cut"), &[("X-Note", "secretinheader")])),
        (404, ask("GET", &with_query, &[]).replace("shop.test", "secretinhost.test")),
        (400, ask("GET", &user_info, &[authorized])),
        (400, ask("GET", &to("paid"), &[authorized, ("Bad Name secretinname", "x")])),
        (400, ask("GET", &format!("/paid/{mark}#secretinfragment"), &[authorized])),
        (400, ask("POST", &to("paid"), &[("Content-Length", "secretinlength")])),
        (400, format!("GET /paid/{mark}?secretinquery HTTP/1.1 secretinline\r\n\r\n")),
    ]
}

/// Answers with secrets, or with none at all.
fn origin() -> Origin {
    Origin::start(|asked| match asked.target.get(..4) {
        Some("/gar") => raw("HTTP/1.1 secretinstatus\r\nX: secretinheader\r\n\r\n"),
        Some("/cut") => vec![Step::Cut],
        _ => reply("200 OK", &[("Set-Cookie", "secretinanswer")], "secretinanswer"),
    })
}

/// Where `[::1]` has a free port.
fn free_v6() -> SocketAddr {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("IPv6 on the loopback");
    listener.local_addr().expect("a socket")
}

/// Asks everything in every way. The last request is made when all others are recorded.
fn ask_all(gateway: &Gateway, v6: SocketAddr) {
    for asker in &ASKERS {
        let text = asker.forwarded_for.map(|address| address.to_string());
        let forwarded: Vec<_> =
            text.iter().map(|text| ("X-Forwarded-For", text.as_str())).collect();
        let address = if asker.from.is_ipv4() { gateway.address } else { v6 };
        for (number, (status, asked)) in
            requests(&format!("mark-{}", asker.name), &forwarded).into_iter().enumerate()
        {
            let mut client = Client::connect_from(asker.from, address);
            let answer = client.ask(&asked);
            assert_eq!(answer.status, status, "{} {number}: {asked:?}: {answer:?}", asker.name);
        }
        // One that goes away in the middle of its body.
        let mut client = Client::connect_from(asker.from, address);
        let target = format!("/free/mark-{}?secretinquery", asker.name);
        let headers = [&[("Content-Length", "99")], forwarded.as_slice()].concat();
        client.send(request("POST", &target, &headers) + "secretinhalf");
        client.end_sending();
        // Whatever it is told: what was sent has been read, and its row is made.
        let _ = client.try_rest();
    }
    gateway.wait_metric("payfence_connections", &[], 0.0);
    assert_eq!(gateway.ask(get(&format!("/free/{LAST}"), &[])).status, 200);
}

/// What lies below a folder, one after the other; what was reserved and never written is left out.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
            continue;
        }
        // A file may be gone since the listing.
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        all.extend(path.to_string_lossy().bytes());
        all.extend(bytes);
    }
    all
}

fn journal_cat(gateway: &Gateway) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_payfence"))
        .args(["journal", "cat", "--data-dir"])
        .arg(gateway.data_dir())
        .output()
        .expect("the command");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// `/decisions`, watched from now on.
struct Watch(TcpStream, Vec<u8>);

impl Watch {
    fn start(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.admin).expect("the admin listener");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.write_all(b"GET /decisions HTTP/1.1\r\nHost: x\r\n\r\n").expect("an open socket");
        let mut watch = Self(stream, Vec::new());
        watch.read_until(b"text/event-stream");
        watch
    }

    fn read_until(&mut self, wanted: &[u8]) -> &[u8] {
        while !contains(&self.1, wanted) {
            let mut piece = [0; 65536];
            let read = self.0.read(&mut piece).expect("the last decision comes");
            assert!(read > 0, "the stream ended");
            self.1.extend(&piece[..read]);
        }
        &self.1
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

/// What may stand nowhere, whatever was chosen.
fn secrets() -> Vec<Vec<u8>> {
    // The ends of tokens: their beginnings are the same for all.
    let ends = ["plenty", "Secretinunknown"].map(|name| {
        let token = token(name);
        token.as_bytes()[token.len() - 12..].to_vec()
    });
    [SECRET, BASIC].map(|text| text.as_bytes().to_vec()).into_iter().chain(ends).collect()
}

/// What of addresses may stand nowhere with this choice: texts, and the bytes of rows.
fn addresses(choice: usize) -> Vec<Vec<u8>> {
    let (v4, v6) = (V4.to_vec(), V6.octets().to_vec());
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let (texts, rows): (Vec<Vec<u8>>, Vec<Vec<u8>>) = match choice {
        0 => (texts(&["127.77.88", "2001:db8:5ec1"]), vec![v4[..3].to_vec(), v6[..6].to_vec()]),
        1 => (texts(&["127.77.88.99", "2e7a:c1:1e47"]), vec![v4, v6[6..].to_vec()]),
        _ => return Vec::new(),
    };
    [texts, rows].concat()
}

/// Rows by who asked: each has of the address what was chosen.
fn check_clients(ndjson: &[u8], choice: usize) {
    let text = String::from_utf8(ndjson.to_vec()).expect("JSON");
    let rows: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for asker in &ASKERS {
        let end = format!("/mark-{}", asker.name);
        let is_theirs =
            |row: &&Value| row["path"].as_str().is_some_and(|path| path.ends_with(&end));
        let theirs: Vec<&Value> = rows.iter().filter(is_theirs).collect();
        assert!(theirs.len() >= 15, "{}: {} rows", asker.name, theirs.len());
        let is_cut =
            |row: &&Value| row["path"].as_str().is_some_and(|path| path.starts_with("/free/"));
        assert!(theirs.iter().any(is_cut), "{}: the one that broke off has no row", asker.name);
        for row in theirs {
            assert_eq!(row["client"].as_str(), asker.logged[choice], "{}: {row}", asker.name);
        }
    }
}

fn check_places(choice: usize, places: &[(&str, &[u8])]) {
    for needle in secrets().into_iter().chain(addresses(choice)) {
        for (place, bytes) in places {
            let is_there = contains(bytes, &needle);
            assert!(!is_there, "{:?} is in {place}", String::from_utf8_lossy(&needle));
        }
    }
}

#[test]
fn nothing_is_kept_or_told_of_a_request_but_what_was_chosen() {
    for (choice, flag) in [None, Some("network"), Some("whole")].into_iter().enumerate() {
        let origin = origin();
        let more = "token_query = \"api_key\"\norigin_headers = { X-Gateway = \"secretinpolicy\" }";
        let (ndjson, v6) = (tempfile::tempdir().expect("a folder"), free_v6());
        let (folder, listen) = (ndjson.path().display().to_string(), v6.to_string());
        // One shard: decisions then come out in the order they were made.
        let mut flags = vec!["--shards", "1", "--log", "trace", "--ndjson-dir", &folder];
        flags.extend(["--listen", &listen, "--trusted-proxy", "::1"]);
        flags.extend(flag.into_iter().flat_map(|flag| ["--log-client", flag]));
        let policy = site(origin.address, more, "");
        let Some(mut gateway) = Gateway::start_with(&policy, &flags) else { return };
        let mut watch = Watch::start(&gateway);
        ask_all(&gateway, v6);
        let received = origin.raw();
        assert!(contains(&received, b"secretinbody") && contains(&received, b"secretinpolicy"));

        let told = watch.read_until(LAST.as_bytes());
        let has_all = |bytes: Vec<u8>| Some(bytes).filter(|bytes| contains(bytes, LAST.as_bytes()));
        let spool = wait_for("the journal", || has_all(bytes_below(&gateway.data_dir())));
        let shipped = wait_for("the NDJSON files", || has_all(bytes_below(ndjson.path())));
        let rings = has_all(bytes_below(&gateway.ring_dir())).expect("the ring has it all");
        let printed = has_all(journal_cat(&gateway)).expect("what is in the spool");
        let (status, metrics) = (gateway.admin("/status").body, gateway.admin("/metrics").body);
        let log = gateway.log().into_bytes();
        for (place, bytes) in [("rings", &rings), ("spool", &spool)] {
            let is_there = contains(bytes, &V4) && contains(bytes, &V6.octets());
            assert_eq!(is_there, choice == 2, "whole addresses in {place}");
        }
        assert!(contains(&log, b"TRACE") || contains(&log, b"DEBUG"), "the log says all it can");
        #[rustfmt::skip]
        check_places(choice, &[
            ("the rings", &rings), ("the data directory", &spool), ("the NDJSON files", &shipped),
            ("/decisions", told), ("journal cat", &printed),
            ("/status", &status), ("/metrics", &metrics), ("the log", &log),
        ]);
        check_clients(&printed, choice);
        check_clients(&shipped, choice);

        gateway.signal("TERM");
        assert!(gateway.wait_end().success());
        let (left, log) = (bytes_below(&gateway.data_dir()), gateway.log());
        check_places(choice, &[("the data directory", &left), ("the log", log.as_bytes())]);
    }
}
