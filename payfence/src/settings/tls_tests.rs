//! Which flags about TLS go together, and the words where they do not.

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn settle(flags: &str) -> Result<Option<TlsConfig>, String> {
    let line = format!("payfence dataplane {flags}");
    let args = match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
        Command::Dataplane(args) => args,
        other => panic!("{other:?}"),
    };
    config(&args.tls).map_err(|failure| failure.to_string())
}

#[test]
fn what_goes_together() {
    assert!(settle("--policy p").unwrap().is_none());
    let one = settle("--tls-listen 127.0.0.1:1,[::1]:2 --tls-cert a.crt --tls-key a.key")
        .unwrap()
        .unwrap();
    assert_eq!(one.listen.len(), 2);
    let files = PairFiles { certificate: "a.crt".into(), key: "a.key".into() };
    assert_eq!(one.certificates.pairs, [files]);
    assert!(one.client_auth.is_none() && one.redirect_listen.is_empty());

    let all = "--tls-listen 127.0.0.1:1 --tls-certificates d --tls-client-ca ca.pem --https-redirect-listen 127.0.0.1:3";
    let clients = settle(all).unwrap().unwrap().client_auth.unwrap();
    assert_eq!(clients.mode, dataplane::config::ClientAuth::Required);
    let optional = settle(&format!("{all} --tls-client-auth optional")).unwrap().unwrap();
    assert_eq!(optional.client_auth.unwrap().mode, dataplane::config::ClientAuth::Optional);
    assert_eq!(optional.redirect_listen.len(), 1);
    assert!(optional.certificates.folder.is_some() && optional.certificates.pairs.is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let check = |flags: &str, expected: &str| {
        let error = settle(flags).err().unwrap_or_default();
        assert!(error.contains(expected), "{flags}: {error}");
    };
    check(
        "--tls-listen 127.0.0.1:1",
        "--tls-cert FILE with --tls-key FILE, or --tls-certificates DIR",
    );
    check("--tls-listen 127.0.0.1:1 --tls-cert a", "give --tls-key FILE");
    check("--tls-listen 127.0.0.1:1 --tls-key a", "give --tls-cert FILE");
    check("--tls-cert a --tls-key b", "--tls-cert has no effect without --tls-listen");
    check("--tls-certificates d", "--tls-certificates has no effect without --tls-listen");
    check("--https-redirect-listen 127.0.0.1:1", "--https-redirect-listen has no effect without");
    check("--tls-client-ca ca", "--tls-client-ca has no effect without");
    check(
        "--tls-listen 127.0.0.1:1 --tls-certificates d --tls-client-auth optional",
        "give --tls-client-ca FILE",
    );
}
