//! Single steps on the way of a request, each timed alone on one core: decide, match, token look-up, loan, snapshot, record.
//!
//! In: how many tokens at most. Out: nanoseconds a step, as a record.
//! Always holds: each figure is the median of several passes over data too large or too varied to be guessed ahead.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use policy::compile::compile;
use policy::decide::decide;
use policy::decision::{Outcome, Reason};
use policy::delta::{Change, Delta, SubscriptionState};
use policy::facts::{Facts, RequestLine};
use policy::matcher::Scratch;
use policy::model::{Policy, Subscription, Token, file};
use policy::snapshot::Snapshot;
use policy::token::TokenHash;

use crate::peers::TOKEN_RICH;
use crate::record::{Figures, Machine, Row, median, write};
use crate::scatter::scatter;
use crate::{clock, loans, render, ring_records};

const PASSES: usize = 7;
const TOKENS_PER_SUBSCRIPTION: usize = 10;
const NOW_S: i64 = 1_800_000_000;

/// What `micro` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// The largest token table; smaller ones are 1k and 1M.
    #[arg(long, default_value_t = 10_000_000)]
    tokens_max: usize,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/micro.json")]
    out: PathBuf,
}

/// Runs all.
pub fn run(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    for tokens in [1_000, 1_000_000, 10_000_000] {
        if tokens <= options.tokens_max {
            measure_tokens(tokens, &mut rows)?;
        }
    }
    measure_decisions(&mut rows)?;
    loans::measure(&mut rows)?;
    ring_records::measure(&mut rows)?;
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

/// Nanoseconds of one call of `step`: the median of several passes of `times` calls, after one to warm up.
pub fn nanoseconds(times: usize, mut step: impl FnMut(usize)) -> f64 {
    let mut passes = Vec::new();
    for pass in 0..=PASSES {
        let start = clock::now();
        for call in 0..times {
            step(call);
        }
        if pass > 0 {
            passes.push(start.elapsed().as_nanos() as f64 / times as f64);
        }
    }
    median(&passes)
}

/// One figure.
pub fn row(name: impl Into<String>, value: f64, unit: &str) -> Row {
    Row { name: name.into(), value, unit: unit.into() }
}

/// A hash that is as evenly spread as SHA-256's, without its cost.
fn hash(number: usize) -> TokenHash {
    let mut state = number as u64;
    let mut bytes = [0; 32];
    for eight in bytes.chunks_exact_mut(8) {
        eight.copy_from_slice(&scatter(&mut state).to_le_bytes());
    }
    TokenHash(bytes)
}

/// The benchmark's site with so many tokens.
fn policy_with(tokens: usize) -> Result<Policy> {
    let mut policy = base_policy(SITE)?;
    let site = policy.sites.first_mut().context("the benchmark's policy has a site")?;
    site.subscriptions.extend((0..tokens / TOKENS_PER_SUBSCRIPTION).map(subscription));
    Ok(policy)
}

/// One of the benchmark's subscriptions.
fn subscription(number: usize) -> Subscription {
    Subscription {
        id: format!("sub_{number}"),
        plan: 0,
        customer: format!("customer_{number}"),
        status: policy::model::Status::Active,
        past_due_since_s: None,
        period_anchor_s: None,
        adjustments: Vec::new(),
        tokens: (0..TOKENS_PER_SUBSCRIPTION)
            .map(|nth| number * TOKENS_PER_SUBSCRIPTION + nth)
            .map(|token| Token {
                id: format!("tok_{token}"),
                hash: hash(token),
                expires_at_s: None,
                is_revoked: false,
                allow_from: Vec::new(),
                resources: None,
            })
            .collect(),
    }
}

fn base_policy(text: &str) -> Result<Policy> {
    let parsed = file::parse("bench.toml", text.as_bytes());
    Ok(parsed.map_err(|error| anyhow::anyhow!("{error}"))?.policy)
}

fn measure_tokens(tokens: usize, rows: &mut Vec<Row>) -> Result<()> {
    let bytes = compile(&policy_with(tokens)?, 1)?;
    let mut named = tempfile::NamedTempFile::new()?;
    named.write_all(&bytes)?;
    drop(bytes);
    let mapped = File::open(named.path())?;
    let start = clock::now();
    let snapshot = Snapshot::from_file(&mapped).map_err(|error| anyhow::anyhow!("{error}"))?;
    let loaded_ms = start.elapsed().as_secs_f64() * 1e3;
    // Wide steps in an order that neither cache nor prefetcher can follow.
    let asked: Vec<TokenHash> =
        (0..1_000_000).map(|call| hash(call * 7_919 % (tokens / 10 * 10))).collect();
    for hash in asked.iter().take(1000) {
        ensure!(snapshot.find_token(hash).is_some(), "a token of the table was not found");
    }
    let look_up_ns = nanoseconds(asked.len(), |call| {
        black_box(snapshot.find_token(&asked[call]));
    });
    rows.push(row(format!("token look-up among {tokens}"), look_up_ns, "ns"));
    rows.push(row(format!("snapshot of {tokens} tokens: map and check"), loaded_ms, "ms"));
    let each = snapshot.len_bytes() as f64 / tokens as f64;
    rows.push(row(format!("snapshot of {tokens} tokens: whole, a token"), each, "bytes"));
    measure_changes(&snapshot, tokens, &asked, rows)
}

/// The same table with a hundredth of its subscriptions, 10,000 at most, changed over it.
fn measure_changes(
    base: &Snapshot,
    tokens: usize,
    asked: &[TokenHash],
    rows: &mut Vec<Row>,
) -> Result<()> {
    let policy = base_policy(SITE)?;
    let site = policy.sites.first().context("the benchmark's policy has a site")?;
    let change = |number| Change::Subscription(SubscriptionState::new(site, &subscription(number)));
    let subscriptions = tokens / TOKENS_PER_SUBSCRIPTION;
    let changed = (subscriptions / 100).clamp(1, 10_000);
    let changes = (0..changed).map(change).collect();
    let snapshot = base.apply(&Delta { from: 1, to: 2, changes })?;
    let of_changed: Vec<TokenHash> = (0..asked.len())
        .map(|call| hash(call * 7_919 % (changed * TOKENS_PER_SUBSCRIPTION)))
        .collect();
    for (whose, asked) in [("any", asked), ("a changed one", &of_changed)] {
        let look_up_ns = nanoseconds(asked.len(), |call| {
            black_box(snapshot.find_token(&asked[call]));
        });
        let name =
            format!("token look-up among {tokens}, {changed} subscriptions changed: {whose}");
        rows.push(row(name, look_up_ns, "ns"));
    }
    let deltas: Vec<Delta> = (0..1_000)
        .map(|call| Delta { from: 2, to: 3, changes: vec![change(call * 7_919 % subscriptions)] })
        .collect();
    let apply_ns = nanoseconds(deltas.len(), |call| {
        let _ = black_box(snapshot.apply(&deltas[call]));
    });
    let name = format!("change of a subscription over {tokens} tokens: apply");
    rows.push(row(name, apply_ns / 1e3, "µs"));
    Ok(())
}

fn measure_decisions(rows: &mut Vec<Row>) -> Result<()> {
    let small = Snapshot::from_bytes(&compile(&base_policy(SITE)?, 1)?)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut large = SITE.to_owned();
    for number in 0..1000 {
        large += &format!("[[sites.resources]]\npattern = \"/area{number}/*/thing/{{id}}\"\n");
    }
    let large = Snapshot::from_bytes(&compile(&base_policy(&large)?, 1)?)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    for (name, path, token, reason) in [
        ("decide: free path", "/open/x", None, Reason::Unprotected),
        ("decide: paid path, no token", "/paid/x", None, Reason::TokenMissing),
        ("decide: paid path, token and all", "/paid/x", Some(TOKEN_RICH), Reason::Ok),
    ] {
        rows.push(row(name, decide_ns(&small, path, token, reason)?, "ns"));
    }
    let policy = base_policy(SITE)?;
    let states = policy
        .sites
        .iter()
        .flat_map(|site| site.subscriptions.iter().map(|held| SubscriptionState::new(site, held)));
    let changes = states.map(Change::Subscription).collect();
    let changed = small.apply(&Delta { from: 1, to: 2, changes })?;
    let ns = decide_ns(&changed, "/paid/x", Some(TOKEN_RICH), Reason::Ok)?;
    rows.push(row("decide: paid path, token and all, changed since the base", ns, "ns"));
    for (name, snapshot, path) in [
        ("match: 2 rules, plain path", &small, "/api/v1/users/12345/orders"),
        ("match: 1,000 rules, plain path", &large, "/area500/x/thing/7"),
        ("match: 1,000 rules, no rule's path", &large, "/somewhere/else/entirely"),
        ("match: 2 rules, encoded path", &small, "/api/v1/%75sers/a%20b"),
        ("match: 2 rules, every trick at once", &small, "/x/..%5c%41pi;a/./v1//y%252fz/"),
    ] {
        let site = snapshot.sites().next().context("a site")?;
        let mut scratch = Scratch::new();
        let ns = nanoseconds(20_000, |_| {
            let _ =
                black_box(site.matcher().resolve(b"GET", black_box(path.as_bytes()), &mut scratch));
        });
        rows.push(row(name, ns, "ns"));
    }
    Ok(())
}

fn decide_ns(snapshot: &Snapshot, path: &str, token: Option<&str>, reason: Reason) -> Result<f64> {
    let site = snapshot.sites().next().context("a site")?;
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers: Vec<(&[u8], &[u8])> = vec![
        (b"Host", b"bench.test"),
        (b"User-Agent", b"wrk/4.1.0"),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"gzip"),
    ];
    if let Some(value) = &authorization {
        headers.push((b"Authorization", value.as_bytes()));
    }
    let client = std::net::IpAddr::from([127, 0, 0, 1]);
    let mut scratch = Scratch::new();
    let mut ask = || {
        let line = RequestLine { method: b"GET", path: path.as_bytes(), query: None };
        let facts =
            Facts::extract(line, headers.iter().copied(), site.token_places(), false, client);
        decide(snapshot, &site, &facts, NOW_S, &mut scratch)
    };
    let decision = ask();
    ensure!(decision.reason == reason, "{path}: {:?}, not {reason:?}", decision.reason);
    ensure!((decision.outcome == Outcome::Meter) == token.is_some(), "{path}: wrong outcome");
    Ok(nanoseconds(100_000, |_| {
        black_box(ask());
    }))
}

const SITE: &str = r#"
[[sites]]
slug = "bench"
name = "Bench"
origin = "http://127.0.0.1:9"
[[sites.resources]]
pattern = "/paid/*"
[[sites.resources]]
pattern = "/api/v1/*"
[[sites.plans]]
id = "rich"
quota = { requests = 1000000000, per = "month" }
rate_limit = { requests = 1000000, per = "second" }
[[sites.subscriptions]]
id = "sub_rich"
plan = "rich"
customer = "rich"
status = "active"
tokens = [ { id = "tok_rich", value = "pf_test_BenchmarkTokenWithPlentyOfUnits03r0Vuf" } ]
"#;
