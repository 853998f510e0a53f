//! TLS sessions with clients: no bytes panic, nothing is taken for plain bytes that no peer with the keys has sent, cuts change
//! nothing, and what failed once stays failed. Before a handshake, and in the middle of a session.

#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use dataplane::stream::bare::Bare;
use libfuzzer_sys::fuzz_target;
use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

const NAME: &str = "fuzz.test";

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Begins {
    /// Nothing was said yet.
    Fresh,
    /// A client has begun a handshake: its ClientHello comes before the bytes.
    Hello,
    /// A session is open.
    Tls12,
    Tls13,
}

#[derive(Arbitrary, Debug)]
struct Input {
    begins: Begins,
    /// What the client says well before the bytes, in a session that is open.
    said: Vec<u8>,
    bytes: Vec<u8>,
    cuts: Vec<u8>,
}

static CONFIGS: LazyLock<(Arc<ServerConfig>, [Arc<ClientConfig>; 2])> = LazyLock::new(|| {
    let made = generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    let client = |version: &'static SupportedProtocolVersion| {
        let builder = ClientConfig::builder_with_protocol_versions(&[version]);
        Arc::new(builder.with_root_certificates(roots.clone()).with_no_client_auth())
    };
    (Arc::new(server), [client(&TLS12), client(&TLS13)])
});

/// Two sides, the handshake done as far as `begins` says.
fn sides(begins: Begins) -> (Bare, Bare) {
    let version = usize::from(!matches!(begins, Begins::Tls12));
    let mut server = Bare::server(Arc::clone(&CONFIGS.0)).expect("a session");
    let name = NAME.try_into().expect("a name");
    let mut client = Bare::client(Arc::clone(&CONFIGS.1[version]), name).expect("a session");
    if matches!(begins, Begins::Fresh) {
        return (server, client);
    }
    client.receive(&[]).expect("its hello");
    loop {
        server.receive(&std::mem::take(&mut client.out)).expect("they agree");
        if matches!(begins, Begins::Hello) {
            return (server, client);
        }
        client.receive(&std::mem::take(&mut server.out)).expect("they agree");
        if client.out.is_empty() {
            assert!(!server.is_handshaking() && !client.is_handshaking());
            return (server, client);
        }
    }
}

/// Feeds the bytes in pieces; whether the session failed, and what it took for plain bytes.
fn feed(input: &Input, pieces: &[&[u8]]) -> (bool, Vec<u8>) {
    let (mut server, mut client) = sides(input.begins);
    if !client.is_handshaking() && !input.said.is_empty() {
        client.send(&input.said).expect("an open session");
        server.receive(&client.out).expect("what a peer has sealed");
        assert_eq!(server.plain, input.said);
    }
    let mut is_failed = false;
    for piece in pieces {
        match server.receive(piece) {
            Ok(_) => assert!(!is_failed, "it went on after an error"),
            Err(_) => is_failed = true,
        }
        assert!(server.partial_len() <= input.bytes.len() + 5);
    }
    if is_failed {
        assert!(server.send(b"x").is_err(), "it still sends after an error");
    }
    (is_failed, server.plain)
}

fuzz_target!(|input: Input| {
    let whole = feed(&input, &[&input.bytes]);
    let open = matches!(input.begins, Begins::Tls12 | Begins::Tls13);
    assert_eq!(whole.1, if open { input.said.as_slice() } else { &[] }, "bytes that nobody sealed");
    let mut pieces = Vec::new();
    let mut rest = input.bytes.as_slice();
    for cut in &input.cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(feed(&input, &pieces), whole, "cuts {:?}", input.cuts);
});
