//! TLS with origins: who is trusted, what is shown, sessions that are used again, and every way there is none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};

use super::certificates::{Authority, Folder, Leaf, days_from_now, self_signed};
use super::client::{Answer, get};
use super::gateway::Gateway;
use super::origin::{Origin, Step, reply};
use super::policy::{bearer, site_of, token};
use super::tls::{VERSIONS, serving, serving_with};
use super::wait::{own_address, timed, wait_for};

const FAST: &str = "connect_timeout_ms = 700\nresponse_timeout_ms = 5000\n";

/// An authority, an address, and a certificate of the one for the other.
struct Place {
    authority: Authority,
    folder: Folder,
    address: SocketAddr,
    ca: String,
}

impl Place {
    fn new() -> Self {
        let (authority, folder) = (Authority::new("Of the origin"), Folder::new());
        let ca = folder.write("origin-ca.pem", &authority.pem()).display().to_string();
        Self { authority, folder, address: own_address(), ca }
    }

    fn name(&self) -> String {
        self.address.ip().to_string()
    }

    fn leaf(&self) -> Leaf {
        self.authority.issue(&[&self.name()])
    }

    /// A policy whose origin is here and trusted by the authority's certificate; `more` are further keys of the site.
    fn policy(&self, more: &str) -> String {
        let more = format!("origin_ca = {:?}\n{FAST}{more}", self.ca);
        site_of(&format!("https://{}", self.address), &more, "")
    }

    fn file(&self, name: &str, text: &str) -> String {
        self.folder.write(name, text).display().to_string()
    }
}

fn paid(gateway: &Gateway) -> Answer {
    gateway.ask(get("/paid/x", &[("Authorization", &bearer("plenty"))]))
}

fn handshakes(gateway: &Gateway, labels: &[&str]) -> f64 {
    let labels = [&["side=\"origin\""], labels].concat();
    gateway.metric("payfence_tls_handshakes_total", &labels)
}

#[test]
fn both_versions_reach_the_origin() {
    for version in VERSIONS {
        let place = Place::new();
        let config = serving_with(&place.leaf(), &[version], None);
        let origin = Origin::start_tls_at(place.address, config, |_| reply("200 OK", &[], "ok"));
        let Some(gateway) = Gateway::start(&place.policy("")) else { return };
        let answer = paid(&gateway);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{version:?}");
        let greeting = origin.greetings().pop().expect("a handshake");
        assert_eq!(greeting.version, version.version);
        // An address is no name (RFC 6066 §3).
        assert_eq!(greeting.name, None);
        assert_eq!(greeting.certificate, None);
        let seen = origin.request();
        assert_eq!(seen.header("Host"), Some(place.address.to_string().as_str()));
        assert_eq!(seen.header("X-Forwarded-Proto"), Some("http"), "what the client spoke");
        gateway.wait_used("plenty", 1);
        assert!((handshakes(&gateway, &["result=\"ok\""]) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_origin_is_asked_for_by_its_name() {
    let place = Place::new();
    // Where names end that belong to this machine.
    let address = SocketAddr::from(([127, 0, 0, 1], place.address.port()));
    let Ok(free) = TcpListener::bind(address) else { return };
    drop(free);
    let mut config = serving(&place.authority.issue(&["localhost"]));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let origin = Origin::start_tls_at(address, config, |_| reply("200 OK", &[], "ok"));
    let more = format!("origin_ca = {:?}", place.ca);
    let url = format!("https://localhost:{}", address.port());
    let Some(gateway) = Gateway::start(&site_of(&url, &more, "")) else { return };
    assert_eq!(paid(&gateway).status, 200);
    let greeting = origin.greetings().pop().expect("a handshake");
    assert_eq!(greeting.name.as_deref(), Some("localhost"));
    assert_eq!(greeting.alpn.as_deref(), Some(b"http/1.1".as_slice()));
}

#[test]
fn connections_are_used_again_and_sessions_resumed() {
    for version in VERSIONS {
        let place = Place::new();
        let config = serving_with(&place.leaf(), &[version], None);
        let origin = Origin::start_tls_at(place.address, config, |request| {
            let close = request.target.ends_with("/close");
            let headers: &[_] = if close { &[("Connection", "close")] } else { &[] };
            let mut steps = reply("200 OK", headers, "ok");
            if close {
                steps.push(Step::Close);
            }
            steps
        });
        let policy = place.policy("");
        let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
        let mut client = gateway.connect();
        for _ in 0..20 {
            assert_eq!(client.ask(get("/x", &[])).status, 200);
        }
        assert_eq!(origin.greetings().len(), 1, "{version:?}: one session for all");
        for _ in 0..5 {
            assert_eq!(client.ask(get("/close", &[])).status, 200);
        }
        let greetings = origin.greetings();
        assert_eq!(greetings.len(), 5, "{version:?}");
        assert!(greetings.iter().skip(1).all(|greeting| greeting.is_resumed), "{greetings:?}");
        assert!((handshakes(&gateway, &["result=\"resumed\""]) - 4.0).abs() < 1e-9);
        assert!((handshakes(&gateway, &["result=\"ok\""]) - 1.0).abs() < 1e-9);
        assert!(gateway.metric("payfence_upstream_connections_reused_total", &[]) >= 19.0);
    }
}

#[test]
fn an_origin_that_renews_its_keys_loses_nothing() {
    let place = Place::new();
    let origin = Origin::start_tls_at(place.address, serving(&place.leaf()), |_| {
        let half = |bytes: &[u8]| Step::Send(bytes.to_vec());
        vec![
            Step::RenewKeys,
            half(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha"),
            Step::RenewKeys,
            half(b"lf"),
        ]
    });
    let policy = place.policy("");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let mut client = gateway.connect();
    for number in 0..20 {
        assert_eq!(client.ask(get("/x", &[])).text(), "half", "request {number}");
    }
    assert_eq!(origin.greetings().len(), 1, "one session all along");
}

#[test]
fn a_connection_that_its_origin_closed_is_not_used_again() {
    let place = Place::new();
    let config = serving(&place.leaf());
    let origin = Origin::start_tls_at(place.address, config, |_| {
        // Nothing in the answer says that it closes.
        let mut steps = reply("200 OK", &[], "ok");
        steps.push(Step::Close);
        steps
    });
    let Some(gateway) = Gateway::start(&place.policy("")) else { return };
    let mut client = gateway.connect();
    for number in 0..30 {
        assert_eq!(client.ask(get("/x", &[])).status, 200, "request {number}");
    }
    origin.wait_all_ended();
    assert_eq!(origin.requests().len(), 30);
}

#[test]
fn the_gateway_shows_its_certificate_where_it_is_asked() {
    let clients = Authority::new("Of gateways");
    let usage = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let ours = clients.issue_with(&["gateway.test"], usage);
    for version in VERSIONS {
        let place = Place::new();
        let config = serving_with(&place.leaf(), &[version], Some(&clients));
        let origin = Origin::start_tls_at(place.address, config, |_| reply("200 OK", &[], "ok"));
        let cert = place.file("client.pem", &ours.pem());
        let key = place.file("client.key", &ours.key_pem());
        let keys = format!("origin_client_cert = {cert:?}\norigin_client_key = {key:?}\n");
        let Some(gateway) = Gateway::start(&place.policy(&keys)) else { return };
        assert_eq!(paid(&gateway).status, 200, "{version:?}");
        let greeting = origin.greetings().pop().expect("a handshake");
        assert_eq!(greeting.certificate.as_ref(), Some(ours.der()));
        let Some(without) = Gateway::start(&place.policy("")) else { return };
        let answer = paid(&without);
        assert_eq!(answer.status, 502, "{version:?}: it has none to show");
        assert_eq!(without.used("plenty"), 0);
    }
}

#[test]
fn a_key_is_pinned() {
    let place = Place::new();
    let leaf = place.leaf();
    let (right, wrong) = (leaf.pin(), self_signed(&["x.test"]).pin());
    let _origin =
        Origin::start_tls_at(place.address, serving(&leaf), |_| reply("200 OK", &[], "ok"));
    for (pins, status) in [
        (format!("{right:?}"), 200),
        (format!("{wrong:?}, {right:?}"), 200),
        (format!("{wrong:?}"), 502),
    ] {
        let policy = place.policy(&format!("origin_pins = [{pins}]\n"));
        let Some(gateway) = Gateway::start(&policy) else { return };
        let answer = paid(&gateway);
        assert_eq!(answer.status, status, "{pins}: {answer:?}");
        if status == 502 {
            expect_refusal(&gateway, &answer, "pin", "pin");
        }
    }
}

/// A 502 that tells the client nothing, and the operator what it was; nobody has paid.
#[track_caller]
fn expect_refusal(gateway: &Gateway, answer: &Answer, what: &str, cause: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (502, "origin_invalid"), "{what}");
    let told = format!("{:?} {}", answer.headers, answer.text()).to_ascii_lowercase();
    for word in ["certificate", "expired", "issuer", "tls", "pin ", "127."] {
        assert!(!told.contains(word), "{what}: the client learns '{word}': {told}");
    }
    let label = format!("cause=\"{cause}\"");
    let labels = ["side=\"origin\"", label.as_str()];
    let failures = gateway.metric("payfence_tls_handshake_failures_total", &labels);
    assert!(failures >= 1.0, "{what}: {cause}");
    let status = gateway.status();
    let origin = &status["tls"]["origins"][0];
    assert_eq!(origin["site"], "shop", "{what}: {status}");
    assert_eq!(origin["cause"], cause, "{what}: {status}");
    let log = wait_for("the log", || {
        Some(gateway.log()).filter(|log| log.contains("no TLS with the origin of this site"))
    });
    assert!(log.contains(cause), "{what}: {log}");
    assert!(!log.contains(&token("plenty")), "{what}: a token in the log");
    gateway.wait_used("plenty", 0);
}

#[test]
fn certificates_that_are_no_good_are_refused() {
    let strangers = Authority::new("Strangers");
    type Make = fn(&Place, &Authority) -> Leaf;
    let rows: [(&str, Make, &str); 8] = [
        (
            "expired",
            |place, _| {
                place.authority.issue_with(&[&place.name()], |params| {
                    params.not_before = days_from_now(-9);
                    params.not_after = days_from_now(-1);
                })
            },
            "expired",
        ),
        (
            "not yet valid",
            |place, _| {
                place.authority.issue_with(&[&place.name()], |params| {
                    params.not_before = days_from_now(1);
                })
            },
            "expired",
        ),
        ("another name", |place, _| place.authority.issue(&["other.test"]), "name"),
        ("another address", |place, _| place.authority.issue(&["127.0.0.2"]), "name"),
        (
            "its name in the subject alone",
            |place, _| {
                let name = place.name();
                place.authority.issue_with(&["other.test"], |params| {
                    params.distinguished_name.push(rcgen::DnType::CommonName, name);
                })
            },
            "name",
        ),
        ("self-signed", |place, _| self_signed(&[&place.name()]), "issuer"),
        ("an unknown issuer", |place, strangers| strangers.issue(&[&place.name()]), "issuer"),
        (
            "for clients",
            |place, _| {
                place.authority.issue_with(&[&place.name()], |params| {
                    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
                })
            },
            "certificate",
        ),
    ];
    for (what, make, cause) in rows {
        for version in VERSIONS {
            let place = Place::new();
            let config = serving_with(&make(&place, &strangers), &[version], None);
            let origin =
                Origin::start_tls_at(place.address, config, |_| reply("200 OK", &[], "ok"));
            let Some(gateway) = Gateway::start(&place.policy("")) else { return };
            expect_refusal(&gateway, &paid(&gateway), what, cause);
            assert_eq!(origin.raw(), b"", "{what}: nothing was sent");
        }
    }
}

#[test]
fn the_systems_authorities_do_not_know_ours() {
    let place = Place::new();
    let _origin =
        Origin::start_tls_at(place.address, serving(&place.leaf()), |_| reply("200 OK", &[], "ok"));
    let policy = site_of(&format!("https://{}", place.address), FAST, "");
    let Some(gateway) = Gateway::start(&policy) else { return };
    expect_refusal(&gateway, &paid(&gateway), "no origin_ca", "issuer");
}

#[test]
fn a_self_signed_certificate_that_is_named_is_trusted() {
    let place = Place::new();
    let leaf = self_signed(&[&place.name()]);
    let _origin =
        Origin::start_tls_at(place.address, serving(&leaf), |_| reply("200 OK", &[], "ok"));
    let ca = place.file("own.pem", &leaf.pem());
    let policy = site_of(&format!("https://{}", place.address), &format!("origin_ca = {ca:?}"), "");
    let Some(gateway) = Gateway::start(&policy) else { return };
    assert_eq!(paid(&gateway).status, 200);
}

#[test]
fn an_authority_that_is_replaced_counts_from_then_on() {
    let place = Place::new();
    let next = Authority::new("The next");
    let leaf = next.issue(&[&place.name()]);
    let _origin =
        Origin::start_tls_at(place.address, serving(&leaf), |_| reply("200 OK", &[], "ok"));
    let Some(gateway) = Gateway::start(&place.policy("")) else { return };
    expect_refusal(&gateway, &paid(&gateway), "before", "issuer");
    place.file("origin-ca.pem", &next.pem());
    wait_for("the new authority", || (paid(&gateway).status == 200).then_some(()));
}

/// An origin that does `behave` with each connection.
fn behaving(address: SocketAddr, behave: impl Fn(TcpStream) + Send + Sync + 'static) {
    let listener = TcpListener::bind(address).expect("an address of its own");
    let behave = Arc::new(behave);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, behave) = (stream.expect("a connection"), Arc::clone(&behave));
            std::thread::spawn(move || behave(stream));
        }
    });
}

fn until_end(mut stream: &TcpStream) {
    let mut piece = [0; 4096];
    while stream.read(&mut piece).is_ok_and(|read| read > 0) {}
}

fn reset(stream: TcpStream) {
    let mut hello = [0; 16];
    let _ = (&stream).read(&mut hello);
    let linger = Some(std::time::Duration::ZERO);
    socket2::SockRef::from(&stream).set_linger(linger).expect("a TCP socket");
}

fn says(bytes: &'static [u8]) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        until_end(&stream);
    }
}

/// The start of a ServerHello's record that never ends.
const HALF: &[u8] = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03";

#[test]
fn origins_that_fail_in_the_handshake() {
    type Behaves = Box<dyn Fn(TcpStream) + Send + Sync>;
    let silent = |stream: TcpStream| until_end(&stream);
    let stops = |mut stream: TcpStream| {
        let _ = stream.write_all(HALF);
        until_end(&stream);
    };
    let rows: [(&str, Behaves, u16, &str); 9] = [
        ("never answers", Box::new(silent), 504, "origin_timeout"),
        ("stops in its answer", Box::new(stops), 504, "origin_timeout"),
        ("resets", Box::new(reset), 502, "origin_unreachable"),
        ("closes", Box::new(drop), 502, "origin_unreachable"),
        ("closes in its answer", Box::new(says(HALF)), 502, "origin_unreachable"),
        (
            "speaks plain HTTP",
            Box::new(says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")),
            502,
            "origin_invalid",
        ),
        (
            "speaks something else",
            Box::new(says(b"220 mail.test ESMTP\r\n")),
            502,
            "origin_invalid",
        ),
        ("alerts", Box::new(says(b"\x15\x03\x03\x00\x02\x02\x28")), 502, "origin_invalid"),
        ("too long a record", Box::new(says(b"\x16\x03\x03\xff\xff\x02")), 502, "origin_invalid"),
    ];
    for (what, behaves, status, reason) in rows {
        let place = Place::new();
        behaving(place.address, behaves);
        let Some(gateway) = Gateway::start(&place.policy("")) else { return };
        let (answer, took) = timed(|| paid(&gateway));
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{what}");
        if status == 504 {
            assert!(took.as_millis() >= 600, "{what}: {took:?} is before the deadline");
        }
        assert_eq!(answer.number("X-RateLimit-Remaining"), 1_000_000, "{what}: given back");
        let failures = ["side=\"origin\""];
        assert!(
            gateway.metric("payfence_tls_handshake_failures_total", &failures) >= 1.0,
            "{what}: it is counted"
        );
        gateway.wait_used("plenty", 0);
    }
}

#[test]
fn an_endless_handshake_of_an_origin_is_bounded() {
    let place = Place::new();
    behaving(place.address, |mut stream| {
        // One message of 16 MiB less one, in records of 16 KiB.
        let mut record = vec![0x16, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff];
        record.resize(5 + 0x4000, 0);
        while stream.write_all(&record).is_ok() {}
    });
    let Some(gateway) = Gateway::start(&place.policy("")) else { return };
    let answer = paid(&gateway);
    assert_eq!((answer.status, answer.reason().as_str()), (502, "origin_invalid"));
    assert!(gateway.rss_kib() < 256 << 10);
}

#[test]
fn versions_that_are_too_old_are_refused() {
    // A ServerHello of TLS 1.0: the version alone decides.
    let mut hello = vec![0x16, 3, 1, 0, 0x2a, 2, 0, 0, 0x26, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let hello: &'static [u8] = hello.leak();
    let place = Place::new();
    behaving(place.address, says(hello));
    let Some(gateway) = Gateway::start(&place.policy("")) else { return };
    let answer = paid(&gateway);
    assert_eq!((answer.status, answer.reason().as_str()), (502, "origin_invalid"));
}

#[test]
fn what_comes_behind_an_answer_is_nobodys_answer() {
    let place = Place::new();
    let origin = Origin::start_tls_at(place.address, serving(&place.leaf()), |_| {
        let bytes =
            |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        vec![Step::Send((bytes("ok") + &bytes("forged")).into_bytes())]
    });
    let policy = place.policy("");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let mut client = gateway.connect();
    for number in 1..20 {
        assert_eq!(client.ask(get("/x", &[])).text(), "ok");
        assert_eq!(origin.requests().len(), number);
    }
}

#[test]
fn both_versions_are_offered_at_once() {
    let place = Place::new();
    let config = serving_with(&place.leaf(), &[&TLS13, &TLS12], None);
    let origin = Origin::start_tls_at(place.address, config, |_| reply("200 OK", &[], "ok"));
    let Some(gateway) = Gateway::start(&place.policy("")) else { return };
    assert_eq!(paid(&gateway).status, 200);
    assert_eq!(origin.greetings()[0].version, rustls::ProtocolVersion::TLSv1_3);
}
