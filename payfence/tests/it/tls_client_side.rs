//! TLS with clients: versions, which certificate they are given, sessions that go on, certificates of their own, and what
//! requests are told by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig};

use super::certificates::{Authority, Folder, self_signed};
use super::client::{Client, get, request};
use super::origin::{Origin, reply};
use super::policy::{bearer, site};
use super::tls::{Front, VERSIONS, cause, gullible, trusting, trusting_with};
use super::wait::{Stop, own_address, wait_for};

#[test]
fn both_versions_bring_requests_to_the_origin() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let authorization = bearer("plenty");
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        let mut client = front.connect_with(&config);
        assert_eq!(client.session().version(), version.version);
        let answer = client.ask(get("/paid/x", &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{version:?}");
        assert_eq!(client.ask(get("/paid/x", &[])).reason(), "token_missing", "{version:?}");
        assert_eq!(client.ask(get("/open", &[])).text(), "ok", "the same connection");
        let seen = &origin.requests()[number * 2];
        assert_eq!(seen.header("X-Forwarded-Proto"), Some("https"));
        assert_eq!(seen.header("PayFence-Customer"), Some("plenty"));
        let label = if version.version == rustls::ProtocolVersion::TLSv1_2 { "1.2" } else { "1.3" };
        let label = format!("version=\"{label}\"");
        assert!((front.handshakes(&[&label, "result=\"ok\""]) - 1.0).abs() < 1e-9, "{version:?}");
    }
    let plain = front.gateway.ask(get("/open", &[]));
    assert_eq!(plain.status, 200, "the plain listener serves beside it");
    let proto = origin
        .requests()
        .last()
        .and_then(|seen| seen.header("X-Forwarded-Proto").map(str::to_owned));
    assert_eq!(proto.as_deref(), Some("http"));
    assert_eq!(front.gateway.used("plenty"), 2);
}

#[test]
fn keys_that_are_renewed_in_the_middle_change_nothing() {
    let origin =
        Origin::start(|request| reply("200 OK", &[], &String::from_utf8_lossy(&request.body)));
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let config = Arc::new(trusting_with(&front.authority, &[&TLS13], None));
    let mut client = front.connect_with(&config);
    for number in 0..20 {
        client.refresh_keys();
        let body = format!("number {number}");
        client.send(request("POST", "/x", &[("Content-Length", &body.len().to_string())]));
        // In the middle of a body too.
        client.send(&body[..3]);
        client.refresh_keys();
        client.send(&body[3..]);
        assert_eq!(client.answer().text(), body);
    }
}

/// What is asked for, and whose certificate is given; `None`: no session.
const NAMES: &[(Option<&str>, Option<&str>)] = &[
    (Some("shop.test"), Some("exact")),
    (Some("SHOP.test"), Some("exact")),
    (Some("a.shop.test"), Some("wildcard")),
    (Some("www.shop.test"), Some("exact www")),
    // A wildcard stands for one label.
    (Some("a.b.shop.test"), Some("default")),
    (Some("other.test"), Some("default")),
    (None, Some("default")),
];

fn offered(front: &Front, name: Option<&str>) -> std::io::Result<Vec<u8>> {
    let mut config = gullible();
    config.enable_sni = name.is_some();
    let client = Client::try_secure(front.tls, &Arc::new(config), name.unwrap_or("shop.test"))?;
    Ok(client.session().peer().expect("a certificate").to_vec())
}

#[test]
fn the_certificate_follows_the_name() {
    let origin = Origin::ok();
    let (authority, folder) = (Authority::new("The test's own"), Folder::new());
    let mut issued = Vec::new();
    for (file, who, name) in [
        ("default", "default", "fallback.test"),
        ("shop", "exact", "shop.test"),
        ("wild", "wildcard", "*.shop.test"),
        ("www", "exact www", "www.shop.test"),
    ] {
        let leaf = authority.issue(&[name]);
        folder.put(file, &leaf);
        issued.push((who, leaf.der().to_vec()));
    }
    let policy = site(origin.address, "", "");
    let Some(front) = Front::start_with(&policy, &[], folder, authority) else { return };
    for (name, expected) in NAMES {
        let given = offered(&front, *name).expect("a session");
        let who = issued.iter().find(|(_, der)| *der == given).map(|(who, _)| *who);
        assert_eq!(who, *expected, "{name:?}");
    }
    let status = front.gateway.status();
    let certificates = status["tls"]["certificates"].as_array().map_or(0, Vec::len);
    assert_eq!(certificates, 4, "{status}");
}

#[test]
fn a_name_without_a_certificate_is_refused_by_its_alert() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    for (number, name) in [Some("other.test"), None].into_iter().enumerate() {
        let error = offered(&front, name).expect_err("no certificate is for it");
        // RFC 6066 §3.
        let expected = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);
        assert_eq!(cause(&error), Some(&expected), "{name:?}: {error}");
        front.wait_failures("unknown_name", number as f64 + 1.0);
    }
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200);
}

#[test]
fn a_client_that_knows_no_ecdsa_is_given_the_rsa_certificate() {
    let origin = Origin::ok();
    let (authority, folder) = (Authority::new("The test's own"), Folder::new());
    let (ecdsa, rsa) = (authority.issue(&["shop.test"]), authority.issue_rsa(&["shop.test"]));
    folder.put("shop-ecdsa", &ecdsa);
    folder.put("shop-rsa", &rsa);
    let policy = site(origin.address, "", "");
    let Some(front) = Front::start_with(&policy, &[], folder, authority) else { return };
    assert_eq!(offered(&front, Some("shop.test")).expect("a session"), ecdsa.der().to_vec());
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{suite:?}").contains("ECDHE_RSA"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(front.authority.der().clone()).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = front.connect_with(&Arc::new(config));
    assert_eq!(client.session().peer().as_ref(), Some(rsa.der()));
    assert_eq!(client.ask(get("/x", &[])).text(), "ok");
}

#[test]
fn application_protocols_are_agreed_on_or_refused() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let offering = |protocols: &[&str]| {
        let mut config = trusting(&front.authority);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Client::try_secure(front.tls, &Arc::new(config), "shop.test")
    };
    for (protocols, agreed) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["h2", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut client = offering(protocols).expect("a session");
        assert_eq!(client.session().alpn(), agreed.map(str::as_bytes), "{protocols:?}");
        assert_eq!(client.ask(get("/x", &[])).status, 200, "{protocols:?}");
    }
    let error = offering(&["h2"]).err().expect("nothing in common");
    let expected = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(cause(&error), Some(&expected), "{error}");
    front.wait_failures("alpn", 1.0);
}

/// Asks something on a session of `config`, and tells whether it had been resumed.
#[track_caller]
fn asked(front: &Front, config: &Arc<ClientConfig>) -> bool {
    let mut client = front.connect_with(config);
    assert_eq!(client.ask(get("/x", &[])).status, 200);
    client.session().is_resumed()
}

#[test]
fn sessions_go_on_across_shards_and_reloads() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        assert!(!asked(&front, &config), "{version:?}: the first");
        // Held open, they spread over both shards; each gets a fresh ticket.
        let mut held = Vec::new();
        for number in 0..16 {
            let mut client = front.connect_with(&config);
            assert_eq!(client.ask(get("/x", &[])).status, 200);
            assert!(client.session().is_resumed(), "{version:?}: connection {number}");
            held.push(client);
        }
        let on = |shard: &str| front.gateway.metric("payfence_shard_connections", &[shard]);
        assert!(on("shard=\"0\"") > 1.0 && on("shard=\"1\"") > 1.0, "both shards resumed");
    }
    let config = Arc::new(trusting_with(&front.authority, &[&TLS13], None));
    assert!(!asked(&front, &config));
    let renewed = front.authority.issue(&["shop.test"]);
    front.folder.put("shop", &renewed);
    wait_for("the new certificate", || {
        (offered(&front, Some("shop.test")).ok()? == renewed.der().to_vec()).then_some(())
    });
    assert!(asked(&front, &config), "a ticket from before the reload");
    assert!(front.handshakes(&["result=\"resumed\""]) >= 33.0);
}

#[test]
fn a_bad_pair_is_refused_and_the_good_one_served_on() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let before = offered(&front, Some("shop.test")).expect("a session");
    let mut open = front.connect();
    let expired = front.authority.issue_with(&["shop.test"], |params| {
        params.not_before = super::certificates::days_from_now(-30);
        params.not_after = super::certificates::days_from_now(-1);
    });
    let other_key = front.authority.issue(&["shop.test"]).key_pem();
    let good = front.authority.issue(&["shop.test"]);
    for (what, certificate, key, said) in [
        ("no PEM", "nothing", good.key_pem(), "shop.crt"),
        ("expired", expired.pem().as_str(), expired.key_pem(), "expired"),
        ("another key", good.pem().as_str(), other_key, "shop.key"),
    ] {
        front.folder.write("shop.key", &key);
        front.folder.write("shop.crt", certificate);
        let error = wait_for(what, || {
            let status = front.gateway.status();
            let error = status["tls"]["last_error"].as_str().map(str::to_owned);
            error.filter(|error| error.contains(said))
        });
        assert!(!error.contains("PRIVATE"), "{error}");
        assert_eq!(offered(&front, Some("shop.test")).expect("a session"), before, "{what}");
        assert_eq!(open.ask(get("/x", &[])).status, 200, "{what}");
    }
    assert!(front.gateway.metric("payfence_tls_certificates_rejected_total", &[]) >= 3.0);
    assert!(front.gateway.log().contains("certificates were refused"), "{}", front.gateway.log());
    front.folder.put("shop", &good);
    wait_for("the good one", || {
        (offered(&front, Some("shop.test")).ok()? == good.der().to_vec()).then_some(())
    });
    wait_for("no error", || front.gateway.status()["tls"]["last_error"].is_null().then_some(()));
    assert_eq!(open.ask(get("/x", &[])).status, 200, "a connection from before");
}

#[test]
fn certificates_swapped_under_load_fail_no_request() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    // How often; PAYFENCE_TEST_SWAPS lengthens it.
    let swaps =
        std::env::var("PAYFENCE_TEST_SWAPS").map_or(6, |text| text.parse().expect("a number"));
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (front, done, asked) = (&front, &done, &asked);
            scope.spawn(move || {
                let authorization = bearer("plenty");
                let config = front.trusting();
                let mut client = front.connect_with(&config);
                while !done.load(Ordering::Relaxed) {
                    if worker % 2 == 0 {
                        client = front.connect_with(&config);
                    }
                    let paid = client.ask(get("/paid/x", &[("Authorization", &authorization)]));
                    assert_eq!(paid.status, 200, "{paid:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&done);
        for number in 0..swaps {
            let next = front.authority.issue(&["shop.test"]);
            front.folder.put("shop", &next);
            wait_for(&format!("certificate {number}"), || {
                (offered(&front, Some("shop.test")).ok()? == next.der().to_vec()).then_some(())
            });
        }
    });
    let asked = i64::try_from(asked.load(Ordering::Relaxed)).expect("few");
    front.gateway.wait_used("plenty", asked);
    assert!(asked > 0 && front.handshakes(&["result=\"failed\""]) < 0.5);
}

/// Whether a client must show a certificate, what it shows, what the origin is told, and the alert where nothing comes of it.
#[test]
fn certificates_of_clients_are_verified_and_told_to_the_origin() {
    let origin = Origin::ok();
    let clients = Authority::new("Clients");
    let subject = |leaf: &mut rcgen::CertificateParams| {
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme");
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "billing");
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let good = clients.issue_with(&["billing.acme.test"], subject);
    let old = clients.issue_with(&["billing.acme.test"], |params| {
        subject(params);
        params.not_after = super::certificates::days_from_now(-1);
        params.not_before = super::certificates::days_from_now(-9);
    });
    let stranger = Authority::new("Strangers").issue_with(&["billing.acme.test"], subject);
    let own = self_signed(&["billing.acme.test"]);
    for mode in ["optional", "required"] {
        let folder = Folder::new();
        let ca = folder.write("clients.pem", &clients.pem()).display().to_string();
        let flags = ["--tls-client-ca", &ca, "--tls-client-auth", mode];
        let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
        let rows = [
            ("good", Some(&good), Ok(Some("CN=billing,O=Acme"))),
            ("none", None, if mode == "optional" { Ok(None) } else { Err("no_certificate") }),
            ("expired", Some(&old), Err("expired")),
            ("of another authority", Some(&stranger), Err("issuer")),
            ("self-signed", Some(&own), Err("issuer")),
        ];
        for version in VERSIONS {
            for (what, shown, expected) in &rows {
                let before = origin.requests().len();
                let config = Arc::new(trusting_with(&front.authority, &[version], *shown));
                let what = format!("{mode} {what} {version:?}");
                show(&front, &config, &what, *expected);
                let told = origin.requests().into_iter().skip(before).next_back();
                let told =
                    told.map(|seen| seen.header("PayFence-Client-Cert-Subject").map(str::to_owned));
                assert_eq!(told, expected.ok().map(|subject| subject.map(str::to_owned)), "{what}");
            }
        }
    }
}

/// Asks something with a header of the name that only the gateway may set; counts the failure where none may come of it.
#[track_caller]
fn show(
    front: &Front,
    config: &Arc<ClientConfig>,
    what: &str,
    expected: Result<Option<&str>, &str>,
) {
    let forged =
        [("PayFence-Client-Cert-Subject", "CN=root"), ("payfence_client_cert_subject", "CN=r")];
    let count = |cause: &str| {
        let label = format!("cause=\"{cause}\"");
        let labels = ["side=\"client\"", label.as_str()];
        front.gateway.metric("payfence_tls_handshake_failures_total", &labels)
    };
    let before = expected.err().map_or(0.0, count);
    let client = Client::try_secure(front.tls, config, "shop.test");
    let Err(cause_word) = expected else {
        let mut client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(client.ask(get("/x", &forged)).status, 200, "{what}");
        return;
    };
    // In TLS 1.3 a client is done before its certificate is looked at.
    let error = match client {
        Err(error) => error,
        Ok(mut client) => {
            client.send(get("/x", &forged));
            client.until_error()
        }
    };
    let alert = matches!(cause(&error), Some(rustls::Error::AlertReceived(_)));
    assert!(alert, "{what}: the client is told: {error:?}");
    front.wait_failures(cause_word, before + 1.0);
}

#[test]
fn authorities_of_clients_that_change_make_tickets_worthless() {
    let origin = Origin::ok();
    let (first, second) = (Authority::new("First"), Authority::new("Second"));
    let folder = Folder::new();
    let ca = folder.write("clients.pem", &first.pem()).display().to_string();
    let flags = ["--tls-client-ca", &ca];
    let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
    let usage = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let (old, new) = (first.issue_with(&["a.test"], usage), second.issue_with(&["b.test"], usage));
    let old = Arc::new(trusting_with(&front.authority, &[&TLS13], Some(&old)));
    let new = Arc::new(trusting_with(&front.authority, &[&TLS13], Some(&new)));
    assert!(!asked(&front, &old));
    assert!(asked(&front, &old));
    folder.write("clients.pem", &second.pem());
    wait_for("the second authority", || {
        let mut client = Client::try_secure(front.tls, &new, "shop.test").ok()?;
        client.send(get("/x", &[("Connection", "close")]));
        client.try_rest().ok()?.starts_with(b"HTTP/1.1 200").then_some(())
    });
    show(&front, &old, "the first's client", Err("issuer"));
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(front) = Front::start(&policy, &["--trusted-proxy", "127.0.0.0/8"]) else { return };
    let config = front.trusting();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x01, 0xbb]);
    for cut in [header.len(), 1, 13, 20] {
        let mut client = Client::connect(front.tls);
        client.send(&header[..cut]);
        client.send(&header[cut..]);
        let mut client = client.into_secure(&config, "shop.test").expect("a session");
        assert_eq!(client.ask(get("/x", &[])).status, 200, "cut at {cut}");
        let seen = origin.requests();
        let seen = seen.last().expect("a request");
        assert_eq!(seen.header("X-Forwarded-For"), Some("203.0.113.7"), "cut at {cut}");
        assert_eq!(seen.header("X-Forwarded-Proto"), Some("https"));
    }
    let mut without = Client::secure(front.tls, &config, "shop.test");
    assert_eq!(without.ask(get("/x", &[])).status, 200, "a peer without one");
    let Some(untrusting) = Front::start(&policy, &[]) else { return };
    let mut client = Client::connect(untrusting.tls);
    client.send(&header);
    assert!(client.into_secure(&untrusting.trusting(), "shop.test").is_err(), "not from anybody");
    untrusting.wait_failures("malformed", 1.0);
}

#[test]
fn the_redirect_listener_only_sends_on() {
    let origin = Origin::ok();
    let redirect = own_address();
    let flags = ["--https-redirect-listen", &redirect.to_string()];
    let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
    let port = front.tls.port();
    let authorization = bearer("plenty");
    let mut client = Client::connect(redirect);
    for (asked, expected) in [
        (get("/a%20b?c=d&e", &[]), Some(format!("https://shop.test:{port}/a%20b?c=d&e"))),
        (
            get("//evil.test/%2e%2e", &[]),
            Some(format!("https://shop.test:{port}//evil.test/%2e%2e")),
        ),
        (
            get("/paid/x", &[("Authorization", &authorization)]),
            Some(format!("https://shop.test:{port}/paid/x")),
        ),
        (
            "GET / HTTP/1.1\r\nHost: shop.test:8080\r\n\r\n".to_owned(),
            Some(format!("https://shop.test:{port}/")),
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_owned(), None),
    ] {
        let answer = client.ask(&asked);
        assert_eq!(answer.header("Location"), expected.as_deref(), "{asked}");
        assert_eq!(answer.status, if expected.is_some() { 308 } else { 400 }, "{asked}");
        assert_eq!(answer.header("Strict-Transport-Security"), None, "not in the clear");
    }
    let posted =
        Client::connect(redirect).ask(request("POST", "/x", &[("Content-Length", "2")]) + "hi");
    assert_eq!(posted.status, 308);
    assert_eq!(origin.raw(), b"", "nothing is forwarded");
    assert_eq!(front.gateway.used("plenty"), 0);
}

#[test]
fn browsers_are_told_to_use_https_alone_over_tls_only() {
    let origin =
        Origin::start(|_| reply("200 OK", &[("Strict-Transport-Security", "max-age=1")], "ok"));
    let more = "hsts = { max_age_seconds = 300, include_subdomains = true }";
    let Some(front) = Front::start(&site(origin.address, more, ""), &[]) else { return };
    let mut client = front.connect();
    for (path, status) in [("/x", 200), ("/paid/x", 401), ("/blocked/x", 403)] {
        let answer = client.ask(get(path, &[]));
        assert_eq!(answer.status, status);
        let told = answer.header("Strict-Transport-Security");
        assert_eq!(told, Some("max-age=300; includeSubDomains"), "{path}");
    }
    let plain = front.gateway.ask(get("/blocked/x", &[]));
    assert_eq!((plain.status, plain.header("Strict-Transport-Security")), (403, None));
}

#[test]
fn a_session_for_one_site_asks_nothing_of_another() {
    let origin = Origin::ok();
    let other = format!(
        "[[sites]]\nslug = \"other\"\norigin = \"http://{}\"\nhosts = [\"other.test\"]\n",
        origin.address
    );
    let (authority, folder) = (Authority::new("The test's own"), Folder::new());
    folder.put("default", &authority.issue(&["shop.test", "other.test", "third.test"]));
    let policy = site(origin.address, "", &other);
    let Some(front) = Front::start_with(&policy, &[], folder, authority) else { return };
    let config = front.trusting();
    for (name, host, status) in [
        ("shop.test", "shop.test", 200),
        ("shop.test", "SHOP.test.", 200),
        ("shop.test", "other.test", 421),
        ("other.test", "shop.test", 421),
        // No site has this name: it agrees with all.
        ("third.test", "other.test", 200),
    ] {
        let before = origin.requests().len();
        let mut client = Client::secure(front.tls, &config, name);
        let answer = client.ask(format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.status, status, "{name}, then {host}");
        assert_eq!(origin.requests().len() - before, usize::from(status == 200), "{name}, {host}");
        if status == 421 {
            assert_eq!(answer.header("Connection"), Some("close"));
            client.expect_end();
        }
    }
    let misdirected = ["cause=\"misdirected\""];
    front.gateway.wait_metric("payfence_requests_malformed_total", &misdirected, 2.0);
}
