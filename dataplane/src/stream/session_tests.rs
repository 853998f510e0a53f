//! Sessions against each other in memory, with bytes split in every way, cut off, and garbled.

use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};

use super::*;

const NAME: &str = "origin.example";

/// Both sides' configurations, for one version or both.
fn configs(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let server = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("they fit");
    let client = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// One side, with what has come to it and what it has to send.
struct End {
    session: Session,
    plain: Vec<u8>,
    out: Vec<u8>,
    is_ended: bool,
}

impl End {
    fn new(session: Session) -> Self {
        Self { session, plain: Vec::new(), out: Vec::new(), is_ended: false }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut bytes = bytes.to_vec();
        self.is_ended = self.session.receive(&mut bytes, &mut self.plain, &mut self.out)?;
        Ok(())
    }
}

fn pair(configs: &(Arc<ServerConfig>, Arc<ClientConfig>)) -> (End, End) {
    let server = Session::server(Arc::clone(&configs.0)).expect("a session");
    let name = ServerName::try_from(NAME).expect("a name");
    let client = Session::client(Arc::clone(&configs.1), name).expect("a session");
    (End::new(server), End::new(client))
}

/// Moves bytes both ways, `step` at a time, until neither side has any.
fn exchange(server: &mut End, client: &mut End, step: usize) -> Result<(), Error> {
    client.receive(&[])?;
    while !(client.out.is_empty() && server.out.is_empty()) {
        for piece in std::mem::take(&mut client.out).chunks(step) {
            server.receive(piece)?;
        }
        for piece in std::mem::take(&mut server.out).chunks(step) {
            client.receive(piece)?;
        }
    }
    Ok(())
}

fn connected(versions: &[&'static rustls::SupportedProtocolVersion], step: usize) -> (End, End) {
    let (mut server, mut client) = pair(&configs(versions));
    exchange(&mut server, &mut client, step).expect("they agree");
    assert!(!server.session.is_handshaking() && !client.session.is_handshaking());
    (server, client)
}

#[test]
fn both_versions_in_pieces_of_any_size() {
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        for step in [1, 7, 1_000, usize::MAX] {
            let (mut server, mut client) = connected(&[version], step);
            assert_eq!(server.session.version(), Some(expected));
            assert_eq!(server.session.take_server_name().as_deref(), Some(NAME));
            let body: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
            client.session.seal(b"GET / HTTP/1.1\r\n", &mut client.out).expect("open");
            server.session.seal(&body, &mut server.out).expect("open");
            assert!(server.out.len() <= sealed_len(body.len()));
            exchange(&mut server, &mut client, step).expect("both well");
            assert_eq!(server.plain, b"GET / HTTP/1.1\r\n");
            assert!(client.plain == body, "{expected:?} in pieces of {step}");
        }
    }
}

#[test]
fn an_announced_end_is_told_from_none() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client) = connected(&[version], usize::MAX);
        server.session.seal(b"all of it", &mut server.out).expect("open");
        let cut = server.out.clone();
        client.receive(&cut).expect("well");
        assert!(!client.is_ended);
        server.out.clear();
        server.session.close(&mut server.out);
        let end = std::mem::take(&mut server.out);
        client.receive(&end).expect("well");
        assert!(client.is_ended);
        assert_eq!(client.plain, b"all of it");
    }
}

#[test]
fn sessions_are_resumed() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(&[version]);
        let (mut server, mut client) = pair(&configs);
        exchange(&mut server, &mut client, usize::MAX).expect("they agree");
        assert!(!client.session.is_resumed());
        let (mut server, mut client) = pair(&configs);
        exchange(&mut server, &mut client, usize::MAX).expect("they agree");
        assert!(client.session.is_resumed() && server.session.is_resumed());
        assert_eq!(server.session.take_server_name().as_deref(), Some(NAME));
    }
}

#[test]
fn a_peer_that_is_refused_is_told_why() {
    let (server, _) = configs(&[&TLS13]);
    let (_, stranger) = configs(&[&TLS13]);
    let (mut server, mut client) = pair(&(server, stranger));
    let error = exchange(&mut server, &mut client, usize::MAX).expect_err("an unknown issuer");
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
    let alert = std::mem::take(&mut client.out);
    assert!(!alert.is_empty());
    let told = server.receive(&alert).expect_err("the alert");
    assert!(matches!(told, Error::AlertReceived(_)), "{told:?}");
}

#[test]
fn nothing_is_sealed_before_the_handshake_has_ended() {
    let (_, mut client) = pair(&configs(&[&TLS13]));
    assert!(client.session.seal(b"secret", &mut client.out).is_err());
    assert!(!client.out.windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn a_changed_byte_is_noticed() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client) = connected(&[version], usize::MAX);
        server.session.seal(b"one hundred units", &mut server.out).expect("open");
        let mut sealed = std::mem::take(&mut server.out);
        *sealed.last_mut().expect("bytes") ^= 1;
        client.receive(&sealed).expect_err("not what was sent");
        assert!(client.plain.is_empty());
        // And nothing is taken or said after that.
        client.receive(&sealed).expect_err("it is over");
        client.session.seal(b"more", &mut client.out).expect_err("it is over");
    }
}

proptest! {
    /// A server never panics, and answers garbage with an error or waits for more.
    #[test]
    fn garbage_is_answered(pieces in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 1..8)
    ) {
        let (mut server, _) = pair(&configs(&[&TLS13, &TLS12]));
        for piece in pieces {
            if server.receive(&piece).is_err() {
                break;
            }
        }
        prop_assert!(server.plain.is_empty());
    }
}
