//! Handshakes with clients in memory: versions, names, protocols, resumption, certificates of clients.

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, NamedGroup, ProtocolVersion};

use super::super::fixture::{Authority, Client, Ended, Meeting, Wanted};
use super::super::{Cause, classify, client_subject};
use super::*;
use crate::config::ClientAuth;

fn serve(table: CertificateTable) -> ServerTls {
    ServerTls::new(table, None, Clock::start()).unwrap()
}

fn one(authority: &Authority, name: &str) -> CertificateTable {
    CertificateTable::new(vec![authority.issue(Wanted::names(&[name])).pair("a.crt", false)])
}

#[test]
fn both_versions_and_nothing_older_or_weaker() {
    let authority = Authority::new("ca");
    let tls = serve(one(&authority, "a.example"));
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let client = Client { versions: vec![version], ..Client::of(&authority) };
        let mut meeting = Meeting::new(&client.config(), tls.config(), "a.example");
        meeting.shake().unwrap();
        assert_eq!(meeting.server.protocol_version(), Some(expected));
        assert_eq!(meeting.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let provider = tls.config().crypto_provider();
    let groups: Vec<NamedGroup> = provider.kx_groups.iter().map(|group| group.name()).collect();
    let allowed = [
        NamedGroup::X25519MLKEM768,
        NamedGroup::X25519,
        NamedGroup::secp256r1,
        NamedGroup::secp384r1,
    ];
    assert_eq!(groups, allowed);
    assert_eq!(provider.cipher_suites.len(), 9);
    assert!(!tls.config().ignore_client_order);
}

#[test]
fn a_name_without_a_certificate_is_refused_unless_there_is_a_default() {
    let authority = Authority::new("ca");
    let strict = serve(one(&authority, "a.example"));
    let client = Client::of(&authority).config();
    let mut meeting = Meeting::new(&client, strict.config(), "b.example");
    let Err(Ended::Server(error)) = meeting.shake() else { panic!("it was served") };
    assert!(is_unknown_name(&error));
    assert_eq!(classify(&error), Cause::UnknownName);
    // The alert that is sent in its place differs in its last byte alone.
    assert_eq!(meeting.last_from_server[..6], UNRECOGNIZED_NAME_ALERT[..6]);
    assert_eq!(meeting.last_from_server.len(), UNRECOGNIZED_NAME_ALERT.len());

    let default = authority.issue(Wanted::names(&["d.example"])).pair("default.crt", true);
    let shown = default.certified.cert[0].clone();
    let lenient = serve(CertificateTable::new(vec![default]));
    let mut meeting = Meeting::new(&client, lenient.config(), "b.example");
    let Err(Ended::Client(error)) = meeting.shake() else { panic!("it was believed") };
    assert_eq!(classify(&error), Cause::Name);
    let mut meeting = Meeting::new(&client, lenient.config(), "d.example");
    meeting.shake().unwrap();
    assert_eq!(meeting.shown(), shown);
}

#[test]
fn a_client_without_a_protocol_in_common_is_told_so() {
    let authority = Authority::new("ca");
    let tls = serve(one(&authority, "a.example"));
    let check = |alpn: &[&[u8]], good: bool| {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let client = Client { alpn, ..Client::of(&authority) };
        let met = Meeting::new(&client.config(), tls.config(), "a.example").shake();
        match met {
            Ok(()) => assert!(good),
            Err(Ended::Server(error)) => assert!(!good && classify(&error) == Cause::Alpn),
            Err(other) => panic!("{other:?}"),
        }
    };
    check(&[], true);
    check(&[b"h2", b"http/1.1"], true);
    check(&[b"h2"], false);
    check(&[b"http/1.0"], false);
}

#[test]
fn sessions_resume_on_every_shard_and_across_new_certificates() {
    let authority = Authority::new("ca");
    for version in [&TLS12, &TLS13] {
        let tls = serve(one(&authority, "a.example"));
        // What each shard holds.
        let shards = [Arc::clone(tls.config()), Arc::clone(tls.config())];
        let client = Client { versions: vec![version], ..Client::of(&authority) }.config();
        let mut first = Meeting::new(&client, &shards[0], "a.example");
        first.shake().unwrap();
        assert!(!first.is_resumed());
        let mut second = Meeting::new(&client, &shards[1], "a.example");
        second.shake().unwrap();
        assert!(second.is_resumed(), "{version:?}");
        tls.replace(one(&authority, "a.example"), None).unwrap();
        let mut third = Meeting::new(&client, &shards[0], "a.example");
        third.shake().unwrap();
        assert!(third.is_resumed(), "{version:?}");
        // A client that does not resume is shown the new one.
        let fresh = Client { versions: vec![version], ..Client::of(&authority) }.config();
        let mut fourth = Meeting::new(&fresh, &shards[1], "a.example");
        fourth.shake().unwrap();
        assert_eq!(fourth.shown(), tls.table().pairs()[0].certified.cert[0]);
        assert_ne!(fourth.shown(), first.shown());
    }
}

#[test]
fn a_session_for_one_name_is_none_for_another() {
    let authority = Authority::new("ca");
    let both = authority.issue(Wanted::names(&["a.example", "b.example"])).pair("a.crt", false);
    let tls = serve(CertificateTable::new(vec![both]));
    let client = Client::of(&authority).config();
    Meeting::new(&client, tls.config(), "a.example").shake().unwrap();
    let mut other = Meeting::new(&client, tls.config(), "b.example");
    other.shake().unwrap();
    assert!(!other.is_resumed());
}

fn trust(authority: &Authority, mode: ClientAuth) -> ClientTrust {
    ClientTrust::read(authority.pem().as_bytes(), mode).unwrap()
}

#[test]
fn certificates_of_clients() {
    let (servers, clients, strangers) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("strangers"));
    let good = clients.issue(Wanted::client("acme"));
    let expired = clients.issue(Wanted::client("acme").days(-10, -1));
    let stranger = strangers.issue(Wanted::client("acme"));
    let purpose = clients.issue(Wanted::names(&["acme.example"]));
    let check = |mode, certificate: Option<&_>, expected: Result<Option<&str>, Cause>| {
        let tls =
            ServerTls::new(one(&servers, "a.example"), Some(trust(&clients, mode)), Clock::start());
        let tls = tls.unwrap();
        for version in [&TLS12, &TLS13] {
            let client = Client {
                versions: vec![version],
                certificate: certificate.cloned(),
                ..Client::of(&servers)
            };
            let mut meeting = Meeting::new(&client.config(), tls.config(), "a.example");
            let met = meeting.shake().map_err(|ended| match ended {
                Ended::Server(error) => classify(&error),
                Ended::Client(error) => panic!("{error}"),
            });
            let subject = meeting.server.peer_certificates().and_then(client_subject);
            assert_eq!(met.map(|()| subject.as_deref()), expected, "{mode:?} {version:?}");
        }
    };
    check(ClientAuth::Required, Some(&good), Ok(Some("CN=acme")));
    check(ClientAuth::Required, None, Err(Cause::NoCertificate));
    check(ClientAuth::Required, Some(&expired), Err(Cause::Expired));
    check(ClientAuth::Required, Some(&stranger), Err(Cause::Issuer));
    check(ClientAuth::Required, Some(&purpose), Err(Cause::Certificate));
    check(ClientAuth::Optional, Some(&good), Ok(Some("CN=acme")));
    check(ClientAuth::Optional, None, Ok(None));
    check(ClientAuth::Optional, Some(&stranger), Err(Cause::Issuer));
}

#[test]
fn a_resumed_session_knows_its_client_until_the_authorities_change() {
    let (servers, clients, others) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("others"));
    for version in [&TLS12, &TLS13] {
        let before = trust(&clients, ClientAuth::Required);
        let tls = ServerTls::new(one(&servers, "a.example"), Some(before.clone()), Clock::start());
        let tls = tls.unwrap();
        let client = Client {
            versions: vec![version],
            certificate: Some(clients.issue(Wanted::client("acme"))),
            ..Client::of(&servers)
        };
        let client = client.config();
        Meeting::new(&client, tls.config(), "a.example").shake().unwrap();
        tls.replace(one(&servers, "a.example"), Some(before)).unwrap();
        let mut again = Meeting::new(&client, tls.config(), "a.example");
        again.shake().unwrap();
        assert!(again.is_resumed());
        let subject = again.server.peer_certificates().and_then(client_subject);
        assert_eq!(subject.as_deref(), Some("CN=acme"));

        let after = trust(&others, ClientAuth::Required);
        tls.replace(one(&servers, "a.example"), Some(after)).unwrap();
        let refused = Meeting::new(&client, tls.config(), "a.example").shake();
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(refused, Err(Ended::Server(unknown)), "{version:?}");
    }
}

#[test]
fn authorities_that_are_none_are_refused() {
    let read = |pem: &str| ClientTrust::read(pem.as_bytes(), ClientAuth::Required);
    assert!(read("").unwrap_err().to_string().contains("holds no certificate"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(read(broken).unwrap_err().to_string().contains("cannot be used to verify"));
}

#[test]
fn a_client_that_sends_an_alert_has_a_cause() {
    let alert = |description| classify(&Error::AlertReceived(description));
    assert_eq!(alert(AlertDescription::UnknownCA), Cause::Alert);
    assert_eq!(alert(AlertDescription::NoApplicationProtocol), Cause::Alpn);
}
