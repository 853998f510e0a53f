//! The whole text of `/metrics`, golden, and the escaping of labels.

use rustls::ProtocolVersion;

use super::*;
use crate::metrics::Metrics;
use crate::tls::Cause;

fn sample_metrics() -> Metrics {
    let metrics = Metrics::new(2);
    for number in 0..2 {
        let shard = metrics.shard(number);
        let sites = shard.site_cells(["weather", "maps"]);
        sites[0].decided(Reason::Ok);
        sites[0].decided(Reason::QuotaExhausted);
        sites[1].decided(Reason::Ok);
        sites[1].usage_answers.inc();
        shard.no_site.decided(Reason::SiteUnknown);
        shard.request_duration.observe_ns(30_000);
        shard.request_duration.observe_ns(2_000_000_000);
        shard.gateway_overhead.observe_ns(9_000);
        shard.malformed.inc("bare_lf");
        shard.connections.set(number as u64 + 1);
        shard.connections_accepted.add(10);
        shard.budget_loans.inc();
        shard.client_handshakes.done(Some(ProtocolVersion::TLSv1_3), false);
        shard.client_handshakes.done(Some(ProtocolVersion::TLSv1_3), true);
        shard.client_handshakes.failed(None, Cause::Protocol);
    }
    let origins = &metrics.shard(1).origin_handshakes;
    origins.done(Some(ProtocolVersion::TLSv1_2), false);
    origins.failed(Some(ProtocolVersion::TLSv1_3), Cause::Name);
    metrics.shard(1).malformed.inc("obs_fold");
    metrics
}

#[test]
fn the_whole_text() {
    let node = NodeFigures {
        version: "1.2.3",
        uptime_s: 12.5,
        snapshot_sequence: 7,
        snapshot_loaded_s: 1_800_000_000.25,
        snapshot_rejected: 1,
        certificate_expiry_s: [("*.example.com".to_owned(), 1_900_000_000)].into(),
        certificates_rejected: 2,
        control: Some(ControlFigures {
            is_connected: true,
            last_contact_s: Some(0.5),
            sequence: 9,
            connects: 3,
            ..ControlFigures::default()
        }),
        ..NodeFigures::default()
    };
    insta::assert_snapshot!(render(&sample_metrics(), &node));
}

#[test]
fn every_sample_belongs_to_the_family_announced_before_it() {
    let text = render(&sample_metrics(), &NodeFigures::default());
    let mut family = String::new();
    let mut seen = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(family.clone()), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} after {family}");
        }
    }
    for name in [
        "payfence_decisions_total",
        "payfence_request_duration_seconds",
        "payfence_gateway_overhead_seconds",
        "payfence_requests_malformed_total",
        "payfence_connections",
        "payfence_snapshot_sequence",
        "payfence_snapshot_rejected_total",
        "payfence_decisions_exported_total",
        "payfence_decisions_lost_total",
        "payfence_export_lag_seconds",
        "payfence_ledger_lag_seconds",
        "payfence_tls_certificate_expiry_seconds",
        "payfence_tls_handshakes_total",
        "payfence_tls_handshake_failures_total",
        "payfence_tls_certificates_rejected_total",
    ] {
        assert!(seen.contains(name), "{name} is missing");
    }
}

#[test]
fn label_values_are_escaped() {
    let check = |value: &str, line: &str| {
        let mut out = String::new();
        sample(&mut out, "m", &[("l", value)], 1.0);
        assert_eq!(out, line);
    };
    check("plain", "m{l=\"plain\"} 1\n");
    check("a\"b\\c\nd", "m{l=\"a\\\"b\\\\c\\nd\"} 1\n");
    check("é", "m{l=\"é\"} 1\n");
}
