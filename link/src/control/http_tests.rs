use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use super::*;
use crate::wire::NodeToken;

struct Bench {
    folder: tempfile::TempDir,
    token: NodeToken,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = NodeToken::make(getrandom::fill).expect("random bytes");
        std::fs::write(folder.path().join("token"), token.reveal()).expect("it is written");
        Self { folder, token }
    }

    fn http(&self, url: &str, ca_file: Option<PathBuf>) -> Http {
        let config = ControlConfig {
            urls: vec![url.parse().expect("a good URL")],
            token_file: self.folder.path().join("token"),
            ca_file,
            folder: self.folder.path().to_owned(),
            epoch: 1,
            version: String::new(),
            pace: Pace { answer: Duration::from_secs(10), ..Pace::default() },
        };
        let state = Arc::new(LinkState::new(&config));
        Http::new(&config, state).expect("it can be made")
    }

    fn post(http: &Http) -> Result<Vec<u8>, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (_, url) = http.current();
        runtime.expect("a runtime").block_on(http.post(url.at("/node/v1/report", None), vec![7]))
    }
}

/// Reads one request and gives an answer to it; what was read.
fn answer(mut stream: impl Read + Write, head: &str) -> String {
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    // The body is the one byte 7.
    while !request.ends_with(b"\r\n\r\n\x07") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&piece[..count]),
        }
    }
    let _ = stream
        .write_all(format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\nok").as_bytes());
    let _ = stream.flush();
    String::from_utf8_lossy(&request).into_owned()
}

fn serve_tls(listener: &TcpListener, key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> String {
    let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .expect("a pair");
    let (socket, _) = listener.accept().expect("a connection");
    let session = rustls::ServerConnection::new(Arc::new(config)).expect("a session");
    answer(rustls::StreamOwned::new(session, socket), "HTTP/1.1 200 OK\r\n")
}

#[test]
fn the_token_goes_to_a_trusted_server_alone() {
    let bench = Bench::new();
    let pair = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a pair");
    let (key, other) = (pair(), pair());
    for (trusted, is_well) in [(Some(&key), true), (Some(&other), false), (None, false)] {
        let ca_file = trusted.map(|pair| {
            let path = bench.folder.path().join("ca.pem");
            std::fs::write(&path, pair.cert.pem()).expect("it is written");
            path
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let http = bench.http(&format!("https://localhost:{port}"), ca_file);
        std::thread::scope(|scope| {
            let served = scope.spawn(|| serve_tls(&listener, &key));
            let answer = Bench::post(&http);
            let request = served.join().expect("it served");
            let bearer = format!("Bearer {}", bench.token.reveal());
            assert_eq!(request.contains(&bearer), is_well);
            match answer {
                Ok(body) => assert!(is_well && body == b"ok"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!is_well && error.contains("certificate"), "{error}");
                    assert!(!error.contains(bench.token.reveal()), "a token in a message");
                }
            }
        });
    }
}

#[test]
fn no_redirect_is_followed() {
    let bench = Bench::new();
    let [first, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let url =
        |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("it is bound"));
    let http = bench.http(&url(&first), None);
    let head = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {}\r\n", url(&other));
    std::thread::scope(|scope| {
        scope.spawn(|| answer(first.accept().expect("a connection").0, &head));
        let error = Bench::post(&http).expect_err("it is no answer");
        assert!(matches!(error, HttpError::Status(StatusCode::TEMPORARY_REDIRECT)), "{error}");
    });
    other.set_nonblocking(true).expect("a socket can be made so");
    assert!(other.accept().is_err(), "nobody came");
}
