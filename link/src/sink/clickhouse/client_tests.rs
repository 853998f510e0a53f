//! What errors mean, and text in SQL.

use std::sync::Arc;

use super::*;

#[test]
fn an_error_says_what_it_means_for_the_rows() {
    let bad = |text: &str| Error::BadResponse(text.into());
    let table = [
        (bad("Code: 27. DB::Exception: Cannot parse input"), Outcome::Rejected),
        (bad("Code: 469, e.displayText() = DB::Exception: Constraint"), Outcome::Rejected),
        (bad("Code: 395. DB::Exception: Value passed to 'throwIf'"), Outcome::NotTaken),
        (bad("Code: 516. DB::Exception: Authentication failed"), Outcome::NotTaken),
        (bad("Code: 252. DB::Exception: Too many parts"), Outcome::Doubtful),
        (bad("Code: 60. DB::Exception: Table of a view does not exist"), Outcome::Doubtful),
        (bad("502 Bad Gateway"), Outcome::Doubtful),
        (bad("Code: "), Outcome::Doubtful),
        (Error::TimedOut, Outcome::Doubtful),
        (Error::Network("reset".into()), Outcome::Doubtful),
    ];
    for (error, outcome) in table {
        let text = error.to_string();
        let found = sink_error(error);
        assert_eq!(found.outcome, outcome, "{text}");
        assert!(found.text.starts_with("ClickHouse: "), "{}", found.text);
    }
}

#[test]
fn texts_in_sql_stay_texts() {
    assert_eq!(quote(r"it's \ x"), r"'it\'s \\ x'");
}

/// Answers one request over TLS with the number 7; false where the client did not want to know.
fn serve_tls(listener: &std::net::TcpListener, key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> bool {
    use std::io::{Read, Write};
    let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .unwrap();
    let (socket, _) = listener.accept().unwrap();
    let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
    let mut stream = rustls::StreamOwned::new(session, socket);
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    while !request.windows(13).any(|part| part == b"SELECT+toUInt" || part == b"SELECT toUInt") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return false,
            Ok(count) => request.extend_from_slice(&piece[..count]),
        }
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &7_u32.to_le_bytes()].concat()).is_ok()
        && stream.flush().is_ok()
}

#[test]
fn a_server_is_spoken_to_over_tls_when_its_authority_is_trusted_and_not_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let ca_of_other = folder.path().join("other.pem");
    std::fs::write(&ca_of_other, other.cert.pem()).unwrap();
    for (trusted, is_well) in [(ca, true), (ca_of_other, false)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut config = ClickHouseConfig::new(&format!("https://localhost:{port}"));
        config.is_compressed = false;
        config.ca_file = Some(trusted);
        let key = &key;
        std::thread::scope(|scope| {
            let served = scope.spawn(move || serve_tls(&listener, key));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let clock = runtime.unwrap().block_on(Server::new(&config).unwrap().read_clock());
            assert_eq!(clock.is_ok(), is_well, "{clock:?}");
            match clock {
                Ok(now_s) => assert_eq!(now_s, 7),
                Err(error) => assert!(error.text.contains("certificate"), "{error}"),
            }
            assert_eq!(served.join().unwrap(), is_well);
        });
    }
}
