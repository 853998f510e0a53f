//! The Prometheus text of all figures (text exposition format 0.0.4).
//!
//! In: the shards' cells and the node's own figures. Out: text.
//! Always holds: each family has HELP and TYPE once, its series together; series come in a fixed order, so that the
//! same figures give the same text; label values are escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::decision::Reason;

use super::{DURATION_BOUNDS_NS, Handshakes, Histogram, Labelled, Metrics, ShardMetrics};
use crate::offcore::control_state::ControlFigures;

/// Figures of the node as a whole, which no shard counts.
#[derive(Clone, Debug, Default)]
pub struct NodeFigures {
    /// The version of the program.
    pub version: &'static str,
    /// Seconds since the node started.
    pub uptime_s: f64,
    /// The sequence number of the snapshot in use; 0 before there is one.
    pub snapshot_sequence: u64,
    /// When it was loaded, in Unix seconds; 0 before there is one.
    pub snapshot_loaded_s: f64,
    /// Snapshots and reloads that were refused.
    pub snapshot_rejected: u64,
    /// Decisions that a sink has taken.
    pub decisions_exported: u64,
    /// Decisions dropped from the log before any sink took them.
    pub decisions_lost: u64,
    /// Age in seconds of the oldest decision that waits to be exported; 0 when none waits.
    pub export_lag_s: f64,
    /// Seconds that the ledger has owed an answer to the oldest request it has taken; 0 when it owes none.
    pub ledger_lag_s: f64,
    /// Until when certificates are valid, in Unix seconds, by name; a name with several has its earliest.
    pub certificate_expiry_s: BTreeMap<String, i64>,
    /// Reloads of certificates that were refused.
    pub certificates_rejected: u64,
    /// The link to the control plane; none where policy is a file.
    pub control: Option<ControlFigures>,
}

/// The text of `/metrics`.
#[must_use]
pub fn render(metrics: &Metrics, node: &NodeFigures) -> String {
    let mut out = String::with_capacity(16 * 1024);
    decisions(&mut out, metrics);
    durations(&mut out, metrics);
    for family in LABELLED {
        labelled(&mut out, metrics, family);
    }
    connections(&mut out, metrics);
    for (name, help, of) in COUNTERS {
        family(&mut out, name, help, "counter");
        sample(&mut out, name, &[], metrics.sum(of) as f64);
    }
    for (name, help, of) in GAUGES {
        family(&mut out, name, help, "gauge");
        sample(&mut out, name, &[], metrics.sum(of) as f64);
    }
    handshakes(&mut out, metrics);
    certificates(&mut out, node);
    node_figures(&mut out, node);
    if let Some(figures) = &node.control {
        control(&mut out, figures);
    }
    out
}

type Of = fn(&ShardMetrics) -> u64;

const COUNTERS: [(&str, &str, Of); 16] = [
    ("payfence_connections_accepted_total", "Client connections accepted.", |s| {
        s.connections_accepted.get()
    }),
    (
        "payfence_connections_handed_over_total",
        "Client connections given to an emptier shard.",
        |s| s.connections_handed_over.get(),
    ),
    ("payfence_connections_refused_total", "Client connections closed at once at a limit.", |s| {
        s.connections_refused.get()
    }),
    ("payfence_request_bytes_total", "Body bytes received from clients.", |s| {
        s.request_bytes.get()
    }),
    ("payfence_response_bytes_total", "Body bytes sent to clients.", |s| s.response_bytes.get()),
    ("payfence_upstream_connections_opened_total", "Connections opened to origins.", |s| {
        s.upstream_opened.get()
    }),
    ("payfence_upstream_connections_reused_total", "Requests sent on a reused connection.", |s| {
        s.upstream_reused.get()
    }),
    ("payfence_upstream_connections_failed_total", "Connections to origins that failed.", |s| {
        s.upstream_failed.get()
    }),
    (
        "payfence_upstream_retries_total",
        "Requests sent again after a reused connection failed.",
        |s| s.upstream_retries.get(),
    ),
    ("payfence_cost_corrections_total", "Charges corrected by PayFence-Cost.", |s| {
        s.cost_corrections.get()
    }),
    ("payfence_cost_ignored_total", "PayFence-Cost values ignored as no valid number.", |s| {
        s.cost_ignored.get()
    }),
    ("payfence_refunds_total", "Charges given back.", |s| s.refunds.get()),
    ("payfence_budget_loans_total", "Loans granted between shards.", |s| s.budget_loans.get()),
    ("payfence_budget_recalls_total", "Loans called back before a refusal.", |s| {
        s.budget_recalls.get()
    }),
    ("payfence_budget_waits_total", "Requests that waited for a loan.", |s| s.budget_waits.get()),
    ("payfence_budget_wait_timeouts_total", "Requests that got no loan in time.", |s| {
        s.budget_wait_timeouts.get()
    }),
];

const GAUGES: [(&str, &str, Of); 4] = [
    ("payfence_tunnels", "Tunnels (WebSocket) open.", |s| s.tunnels.get()),
    ("payfence_upstream_connections", "Connections to origins open.", |s| {
        s.upstream_connections.get()
    }),
    ("payfence_budget_entitlements", "Entitlements counted, once for each shard that does.", |s| {
        s.budget_entitlements.get()
    }),
    ("payfence_budget_loaned_units", "Quota units lent to shards and not used.", |s| {
        s.budget_loaned_units.get()
    }),
];

struct LabelledFamily {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    of: fn(&ShardMetrics) -> &Labelled,
}

const LABELLED: [LabelledFamily; 3] = [
    LabelledFamily {
        name: "payfence_requests_malformed_total",
        help: "Requests refused because they cannot be understood one way only, by cause.",
        label: "cause",
        of: |s| &s.malformed,
    },
    LabelledFamily {
        name: "payfence_timeouts_total",
        help: "Deadlines that passed, by which one.",
        label: "deadline",
        of: |s| &s.timeouts,
    },
    LabelledFamily {
        name: "payfence_queue_full_total",
        help: "Bounded queues found full, by queue.",
        label: "queue",
        of: |s| &s.queue_full,
    },
];

fn decisions(out: &mut String, metrics: &Metrics) {
    let mut decisions: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let mut usage: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |site: &super::SiteCells| {
        for (reason, counter) in Reason::ALL.iter().zip(&site.decisions) {
            if counter.get() > 0 {
                *decisions.entry((site.slug().to_owned(), reason.as_str())).or_default() +=
                    counter.get();
            }
        }
        if site.usage_answers.get() > 0 {
            *usage.entry(site.slug().to_owned()).or_default() += site.usage_answers.get();
        }
    };
    for shard in metrics.shards() {
        add(&shard.no_site);
        shard.all_sites().iter().for_each(|site| add(site));
    }
    let name = "payfence_decisions_total";
    family(out, name, "Decisions by site and reason.", "counter");
    for ((site, reason), count) in decisions {
        sample(out, name, &[("site", &site), ("reason", reason)], count as f64);
    }
    let name = "payfence_usage_answers_total";
    family(out, name, "Answers to /.payfence/usage by site.", "counter");
    for (site, count) in usage {
        sample(out, name, &[("site", &site)], count as f64);
    }
}

fn durations(out: &mut String, metrics: &Metrics) {
    histogram(
        out,
        metrics,
        "payfence_request_duration_seconds",
        "From a request's first byte to its answer's last.",
        |shard| &shard.request_duration,
    );
    histogram(
        out,
        metrics,
        "payfence_gateway_overhead_seconds",
        "The same, less the time the origin took.",
        |shard| &shard.gateway_overhead,
    );
}

fn histogram(
    out: &mut String,
    metrics: &Metrics,
    name: &str,
    help: &str,
    of: fn(&ShardMetrics) -> &Histogram,
) {
    family(out, name, help, "histogram");
    let mut counts = [0_u64; super::DURATION_BUCKETS];
    let mut sum_ns = 0_u128;
    for shard in metrics.shards() {
        let (buckets, sum) = of(shard).read();
        counts.iter_mut().zip(buckets).for_each(|(total, count)| *total += count);
        sum_ns += u128::from(sum);
    }
    let mut below = 0;
    let bounds = DURATION_BOUNDS_NS.iter().map(|&ns| number(ns as f64 / 1e9));
    for (count, bound) in counts.iter().zip(bounds.chain(["+Inf".to_owned()])) {
        below += count;
        sample(out, &format!("{name}_bucket"), &[("le", &bound)], below as f64);
    }
    sample(out, &format!("{name}_sum"), &[], sum_ns as f64 / 1e9);
    sample(out, &format!("{name}_count"), &[], below as f64);
}

fn labelled(out: &mut String, metrics: &Metrics, of: LabelledFamily) {
    family(out, of.name, of.help, "counter");
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for shard in metrics.shards() {
        for (label, count) in (of.of)(shard).read() {
            *counts.entry(label).or_default() += count;
        }
    }
    for (label, count) in counts {
        sample(out, of.name, &[(of.label, label)], count as f64);
    }
}

fn connections(out: &mut String, metrics: &Metrics) {
    let name = "payfence_connections";
    family(out, name, "Client connections open.", "gauge");
    sample(out, name, &[], metrics.sum(|shard| shard.connections.get()) as f64);
    let name = "payfence_shard_connections";
    family(out, name, "Client connections open, by shard.", "gauge");
    for (number, shard) in metrics.shards().iter().enumerate() {
        let number = number.to_string();
        sample(out, name, &[("shard", &number)], shard.connections.get() as f64);
    }
}

fn handshakes(out: &mut String, metrics: &Metrics) {
    type Side = (&'static str, fn(&ShardMetrics) -> &Handshakes);
    const SIDES: [Side; 2] =
        [("client", |s| &s.client_handshakes), ("origin", |s| &s.origin_handshakes)];
    let name = "payfence_tls_handshakes_total";
    family(out, name, "TLS handshakes by side, version and result.", "counter");
    for (side, of) in SIDES {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for shard in metrics.shards() {
            for (version, result, count) in of(shard).read() {
                *counts.entry((version, result)).or_default() += count;
            }
        }
        for ((version, result), count) in counts {
            let labels = [("side", side), ("version", version), ("result", result)];
            sample(out, name, &labels, count as f64);
        }
    }
    let name = "payfence_tls_handshake_failures_total";
    family(out, name, "TLS handshakes that failed, by side and cause.", "counter");
    for (side, of) in SIDES {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for shard in metrics.shards() {
            for (cause, count) in of(shard).causes.read() {
                *counts.entry(cause).or_default() += count;
            }
        }
        for (cause, count) in counts {
            sample(out, name, &[("side", side), ("cause", cause)], count as f64);
        }
    }
}

fn certificates(out: &mut String, node: &NodeFigures) {
    let name = "payfence_tls_certificate_expiry_seconds";
    family(out, name, "Until when the certificate of a name is valid, in Unix time.", "gauge");
    for (host, not_after_s) in &node.certificate_expiry_s {
        sample(out, name, &[("name", host)], *not_after_s as f64);
    }
    let name = "payfence_tls_certificates_rejected_total";
    family(out, name, "Reloads of certificates refused.", "counter");
    sample(out, name, &[], node.certificates_rejected as f64);
}

fn node_figures(out: &mut String, node: &NodeFigures) {
    let rows: [(&str, &str, &str, f64); 8] = [
        (
            "payfence_snapshot_sequence",
            "Sequence number of the policy snapshot in use.",
            "gauge",
            node.snapshot_sequence as f64,
        ),
        (
            "payfence_snapshot_loaded_timestamp_seconds",
            "When the snapshot in use was loaded.",
            "gauge",
            node.snapshot_loaded_s,
        ),
        (
            "payfence_snapshot_rejected_total",
            "Policy snapshots and reloads refused.",
            "counter",
            node.snapshot_rejected as f64,
        ),
        (
            "payfence_decisions_exported_total",
            "Decisions that a sink has taken.",
            "counter",
            node.decisions_exported as f64,
        ),
        (
            "payfence_decisions_lost_total",
            "Decisions dropped from the log before a sink took them.",
            "counter",
            node.decisions_lost as f64,
        ),
        (
            "payfence_export_lag_seconds",
            "Age of the oldest decision that waits to be exported.",
            "gauge",
            node.export_lag_s,
        ),
        (
            "payfence_ledger_lag_seconds",
            "How long the ledger has owed an answer to the oldest request; 0 when it owes none.",
            "gauge",
            node.ledger_lag_s,
        ),
        ("payfence_uptime_seconds", "Time since the node started.", "gauge", node.uptime_s),
    ];
    for (name, help, kind, value) in rows {
        family(out, name, help, kind);
        sample(out, name, &[], value);
    }
    family(out, "payfence_build_info", "The program's version; always 1.", "gauge");
    sample(out, "payfence_build_info", &[("version", node.version)], 1.0);
}

fn control(out: &mut String, figures: &ControlFigures) {
    let rows = [
        (
            "payfence_control_connected",
            "1 while a control plane's stream is read.",
            "gauge",
            f64::from(u8::from(figures.is_connected)),
        ),
        (
            "payfence_control_refused",
            "1 while the control plane refuses this node: its token is unknown or revoked, or it was declared dead.",
            "gauge",
            f64::from(u8::from(figures.is_refused)),
        ),
        (
            "payfence_control_sequence",
            "The last change of policy that the control plane has told of.",
            "gauge",
            figures.sequence as f64,
        ),
        (
            "payfence_control_connects_total",
            "Streams of a control plane that began.",
            "counter",
            figures.connects as f64,
        ),
        (
            "payfence_control_reports_failed_total",
            "Reports to the control plane without an answer; they are sent again.",
            "counter",
            figures.reports_failed as f64,
        ),
        (
            "payfence_control_disk_failing",
            "1 while changes of policy in force cannot be written down.",
            "gauge",
            f64::from(u8::from(figures.is_disk_failing)),
        ),
    ];
    for (name, help, kind, value) in rows {
        family(out, name, help, kind);
        sample(out, name, &[], value);
    }
    let name = "payfence_control_last_contact_seconds";
    let help = "Time since the control plane was last heard; absent before it ever was.";
    family(out, name, help, "gauge");
    if let Some(age_s) = figures.last_contact_s {
        sample(out, name, &[], age_s);
    }
}

fn family(out: &mut String, name: &str, help: &str, kind: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all text");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    out.push_str(name);
    for (index, (label, text)) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(label);
        out.push_str("=\"");
        escape(out, text);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
    out.push(' ');
    out.push_str(&number(value));
    out.push('\n');
}

/// Backslash, quote and line feed are the three that a label value escapes.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// The shortest decimal that reads back as the same number; integers without a point.
fn number(value: f64) -> String {
    value.to_string()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
