//! The command line as data: what is taken, and into what; what is refused.

use clap::{CommandFactory as _, Parser as _};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn node(line: &str) -> NodeArgs {
    match parse(line).unwrap().command {
        Command::Dataplane(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_contradicts_itself_nowhere() {
    Cli::command().debug_assert();
}

#[test]
fn lines_taken_and_refused() {
    let check = |line: &str, good: bool| assert_eq!(parse(line).is_ok(), good, "{line}");
    check("payfence dev", true);
    check("payfence dev --origin http://127.0.0.1:3000", true);
    check("payfence dev --tls --tls-listen 127.0.0.1:0", true);
    check("payfence dev --tls-listen localhost", false);
    check("payfence dataplane --policy p.toml", true);
    check("payfence dataplane --listen 127.0.0.1:80 --listen [::]:80", true);
    check("payfence dataplane --listen 127.0.0.1:80 [::1]:80", true);
    check("payfence dataplane --listen localhost", false);
    check("payfence dataplane --tls-listen 127.0.0.1:443 --tls-cert a --tls-key b", true);
    check("payfence dataplane --tls-listen localhost:443", false);
    check("payfence dataplane --tls-client-auth sometimes", false);
    check("payfence dataplane --https-redirect-listen 127.0.0.1:80 [::1]:80", true);
    check("payfence dataplane --shards 0", false);
    check("payfence dataplane --shards 1025", false);
    check("payfence dataplane --cpus 0,2-3", true);
    check("payfence dataplane --cpus 3-1", false);
    check("payfence dataplane --drain-seconds 86401", false);
    check("payfence dataplane --head-timeout-ms 1 --idle-timeout-ms 86400000", true);
    check("payfence dataplane --linger-ms 0", false);
    check("payfence dataplane --stall-timeout-ms 86400001", false);
    check("payfence dataplane --quiet-timeout-ms 1h", false);
    check("payfence dataplane --journal-full refuse", true);
    check("payfence dataplane --journal-full drop", false);
    check("payfence dataplane --trusted-proxy 10.0.0.0/8 --trusted-proxy ::1", true);
    check("payfence dataplane --trusted-proxy example.com", false);
    check("payfence dataplane --gateway-domain http://a", false);
    check("payfence dataplane --log-format xml", false);
    check("payfence --log-format json dataplane", true);
    check("payfence policy check p.toml", true);
    check("payfence policy check", false);
    check("payfence policy explain p.toml GET /a --token pf_x", true);
    check("payfence policy explain p.toml GET", false);
    check("payfence apply p.toml --dry-run --set-origin-headers --admin-key-file k", true);
    check("payfence apply", false);
    check("payfence apply p.toml --admin-key pfa_x", false);
    check("payfence export --control-url https://c.example:8082 --control-ca ca.pem", true);
    check("payfence export --control-url http://c.example:8082", false);
    check("payfence reconcile --site shop --period 1 --settled 0", true);
    check("payfence reconcile --settled 86400", true);
    check("payfence reconcile --settled 86401", false);
    check("payfence reconcile --settled -1", false);
    check("payfence token new", true);
    check("payfence token new --test", true);
    check("payfence token check pf_x", true);
    check("payfence token check", false);
    check("payfence doctor", true);
    check("payfence", false);
    check("payfence dataplane --control-url http://a", false);
    check("payfence controlplane", true);
    check("payfence controlplane --database-url sqlite://x.db --listen 127.0.0.1:0", true);
    check("payfence controlplane --listen localhost", false);
    check("payfence controlplane --tls-cert a.crt --tls-key a.key", true);
    check("payfence controlplane --tls-cert a.crt", false);
    check("payfence controlplane --tls-key a.key", false);
    check("payfence controlplane init --database-url sqlite://x.db --email a@b.example", true);
    check("payfence controlplane rekey", true);
    check("payfence controlplane end", false);
    check("payfence journal cat", true);
    check("payfence journal cat --follow --site a --reason ok --since 15m", true);
    check("payfence journal cat --since 2026-11-24T10:00:00Z", true);
    check("payfence journal cat --since soon", false);
    check("payfence journal cat --reason fine", false);
    check("payfence journal verify", true);
    check("payfence dataplane --node-name a/b", false);
    check("payfence dataplane --journal perhaps", false);
    check("payfence dataplane --journal-max-mib 1", false);
    check("payfence dataplane --log-client half", false);
}

#[test]
fn lists_are_gathered() {
    let args = node(
        "payfence dataplane --listen 127.0.0.1:1,127.0.0.1:2 --listen 127.0.0.1:3 --trusted-proxy 10.0.0.0/8,::1",
    );
    assert_eq!(args.listen.iter().map(SocketAddr::port).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(args.trusted_proxies.len(), 2);
}
