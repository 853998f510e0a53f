//! How soon a change at the control plane is live on its nodes, with many tokens in the policy, quiet and under many changes.
//!
//! In: the built binary, a PostgreSQL cluster of its own, a number of tokens. Out: times from a request to issue or revoke a token to the first
//! answer of every node that shows it; what a base of that size costs to compile, ship and load.
//! Always holds: every sample is seen on every node, or the run fails; a node that refused anything it was sent fails it too.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cluster::Cluster;
use crate::keep::Keep;
use crate::peers::{Bench, HOST};
use crate::plane::{Node, Plane, first_answers};
use crate::process::Server;
use crate::record::{Figures, Machine, Row, quantiles, write};
use crate::{clock, render};

/// What `control` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Tokens in the policy besides those that are issued.
    #[arg(long, default_value_t = 1_000_000)]
    tokens: u64,
    /// Tokens of one subscription.
    #[arg(long, default_value_t = 10)]
    tokens_each: u64,
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Tokens issued and revoked in each part.
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// Changes a second in the part with many changes.
    #[arg(long, default_value_t = 1_000)]
    changes: u64,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/control.json")]
    out: PathBuf,
}

/// How long a base may take to be compiled, fetched and loaded.
const BASE_DEADLINE: Duration = Duration::from_secs(1_200);
/// How long a change may take to show, before the run has failed.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// Changes in one transaction of the load.
const CHANGES_EACH: u64 = 20;

struct Scene<'a> {
    options: &'a Options,
    cluster: &'a Cluster,
    database: String,
    plane: Plane<'a>,
    subscription: String,
}

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.nodes > 0 && options.samples > 0, "--nodes and --samples start at 1");
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let origin = bench.origin()?;
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start_with(&["fsync=on", "shared_buffers=256MB", "max_wal_size=4GB"]);
    let (name, url) = cluster.named_database();
    let mut scene = Scene {
        options,
        cluster: &cluster,
        database: name,
        plane: Plane::init(&options.payfence, url, folder.path())?,
        subscription: String::new(),
    };
    let first = scene.plane.serve()?;
    scene.fill(&origin.address)?;
    drop(first);
    let plane = scene.plane.serve()?;
    let nodes = (0..options.nodes)
        .map(|number| scene.plane.node(number, "1", BASE_DEADLINE))
        .collect::<Result<Vec<_>>>()?;
    let mut rows = scene.base_rows(&plane, &nodes)?;
    rows.extend(scene.measure("quiet", &nodes)?);
    rows.extend(scene.measure_busy(&nodes)?);
    // Whoever serves next has no base and no changes kept.
    drop(plane);
    let _plane = scene.plane.serve()?;
    let joined = scene.measure_join(&nodes, &mut rows)?;
    for node in nodes.iter().chain([&joined]) {
        let status = Keep::open(&node.admin)?.get("/status", None)?.json()?;
        let rejected = status["snapshot"]["rejected"].as_u64();
        ensure!(rejected == Some(0), "a node refused what it was sent: {status}");
    }
    rows.push(row(
        "memory of a node at the end",
        nodes[0].server.rss_kib()? as f64 / 1024.0,
        "MiB",
    ));
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    Ok(())
}

fn row(name: impl Into<String>, value: f64, unit: &str) -> Row {
    Row { name: name.into(), value, unit: unit.to_owned() }
}

impl Scene<'_> {
    /// A site with a plan, and all tokens but those that are measured.
    fn fill(&mut self, origin: &str) -> Result<()> {
        let plane = &self.plane;
        let site =
            json!({ "slug": "bench", "origin": format!("http://{origin}"), "hosts": [HOST] });
        let site = plane.make("/v1/sites", &site)?;
        let within = format!("/v1/sites/{site}");
        plane.make(&format!("{within}/resources"), &json!({ "pattern": "/paid/*" }))?;
        let plan =
            json!({ "reference": "rich", "quota": { "requests": 1_000_000_000, "per": "month" } });
        let plan = plane.make(&format!("{within}/plans"), &plan)?;
        let customer = plane.make("/v1/customers", &json!({}))?;
        let made = json!({ "site_id": site, "plan_id": plan, "customer_id": customer });
        self.subscription = plane.make("/v1/subscriptions", &made)?;
        let (tokens, each) = (self.options.tokens, self.options.tokens_each.max(1));
        let start = clock::now();
        self.sql(&format!(
            "INSERT INTO subscriptions (id, account_id, version, created_at_ms, updated_at_ms, site_id, plan_id, customer_id, reference, status) \
             SELECT 'sub_seed' || g, account_id, 1, 0, 0, site_id, plan_id, customer_id, 'seed' || g, 'active' \
             FROM subscriptions, generate_series(1, {}) g WHERE subscriptions.id = '{}'; \
             INSERT INTO tokens (id, account_id, version, created_at_ms, updated_at_ms, site_id, subscription_id, reference, hash, prefix, last_four) \
             SELECT 'tok_seed' || g, account_id, 1, 0, 0, site_id, 'sub_seed' || (1 + (g - 1) / {each}), 'seed' || g, \
             sha256(('seed' || g)::bytea), 'pf_live_', 'seed' \
             FROM subscriptions, generate_series(1, {tokens}) g WHERE subscriptions.id = '{}'; ANALYZE;",
            tokens.div_ceil(each),
            self.subscription,
            self.subscription,
        ))?;
        println!("{tokens} tokens put into the database in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    fn sql(&self, statements: &str) -> Result<()> {
        ensure!(self.cluster.run(&self.database, statements), "psql failed: {statements}");
        Ok(())
    }

    /// What the base cost.
    fn base_rows(&self, plane: &Server, nodes: &[Node]) -> Result<Vec<Row>> {
        Ok(vec![
            row("tokens in the policy", self.options.tokens as f64, ""),
            row("base", self.compiled("bytes")? / 1e6, "MB"),
            row("base compiled from the database in", self.compiled("took_ms")? / 1e3, "s"),
            row("memory of the control plane after it", plane.rss_kib()? as f64 / 1024.0, "MiB"),
            row(
                "first node: from its start to its first policy (compiling included)",
                nodes[0].ready_s,
                "s",
            ),
            row(
                "last node: base fetched, checked and in force in",
                nodes[nodes.len() - 1].ready_s,
                "s",
            ),
            row("memory of a node", nodes[0].server.rss_kib()? as f64 / 1024.0, "MiB"),
        ])
    }

    /// A number that the control plane has said of the base it compiled last.
    fn compiled(&self, name: &str) -> Result<f64> {
        let log = self.plane.log()?;
        let line = log.lines().rfind(|line| line.contains("compiled the policy"));
        let line = line.context("the control plane compiled no base")?;
        let rest = line.split(&format!("{name}=")).nth(1).context("a figure is missing")?;
        Ok(rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse()?)
    }

    fn measure_busy(&self, nodes: &[Node]) -> Result<Vec<Row>> {
        let (measured, changes) = self.under_changes(|| self.measure("under changes", nodes))?;
        let mut rows = measured;
        rows.push(row("under changes: changes a second", changes, "/s"));
        Ok(rows)
    }

    /// A node without a policy joins a control plane without a base, under changes; what other nodes see of theirs meanwhile.
    fn measure_join(&self, nodes: &[Node], rows: &mut Vec<Row>) -> Result<Node> {
        let part = "a node joins under changes";
        let is_there = AtomicBool::new(false);
        let ((joined, more, last_s), changes) = self.under_changes(|| {
            std::thread::scope(|scope| {
                let start = clock::now();
                let sampling = scope.spawn(|| {
                    let mut samples = Samples::default();
                    while !is_there.load(SeqCst) || samples.issued.len() < self.options.samples {
                        self.sample(nodes, CHANGE_DEADLINE, &mut samples)?;
                    }
                    Ok::<_, anyhow::Error>(samples)
                });
                // By this thread: what a thread starts ends with it.
                let joined = self.plane.node(self.options.nodes, "1", BASE_DEADLINE);
                is_there.store(true, SeqCst);
                let samples = sampling.join().map_err(|_| anyhow::anyhow!("a client failed"))??;
                let joined = joined?;
                // What is issued now shows on it only when it has all that came before.
                let mut last = Samples::default();
                self.sample(std::slice::from_ref(&joined), BASE_DEADLINE, &mut last)?;
                Ok((joined, samples.rows(part), start.elapsed().as_secs_f64()))
            })
        })?;
        rows.push(row(format!("{part}: base compiled in"), self.compiled("took_ms")? / 1e3, "s"));
        rows.push(row(format!("{part}: from its start to its first policy"), joined.ready_s, "s"));
        rows.push(row(format!("{part}: until it shows a change made after that"), last_s, "s"));
        rows.extend(more);
        rows.push(row(format!("{part}: changes a second"), changes, "/s"));
        Ok(joined)
    }

    /// Does `work` while subscriptions are changed; how many a second were.
    fn under_changes<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| self.change_until(&is_over));
            let done = work();
            is_over.store(true, SeqCst);
            let changes = load.join().map_err(|_| anyhow::anyhow!("the load failed"))??;
            Ok((done?, changes))
        })
    }

    /// Changes subscriptions at a steady pace; how many a second.
    fn change_until(&self, is_over: &AtomicBool) -> Result<f64> {
        let pause_s = CHANGES_EACH as f64 / self.options.changes.max(1) as f64;
        let subscriptions = self.options.tokens.div_ceil(self.options.tokens_each.max(1)).max(1);
        let change = format!(
            "WITH changed AS (UPDATE subscriptions SET version = version + 1 WHERE id IN (SELECT 'sub_seed' || (1 + floor(random() * \
             {subscriptions})::BIGINT) FROM generate_series(1, {CHANGES_EACH})) RETURNING account_id, id, key) INSERT INTO outbox (account_id, kind, \
             row_id, row_key, operation, created_at_ms) SELECT account_id, 'subscription', id, key, 'update', 0 FROM changed;"
        );
        let start = clock::now();
        let mut load = Script::start(self.cluster.psql(&self.database))?;
        let mut sent = 0;
        while !is_over.load(SeqCst) {
            load.send(&change).context("psql has ended")?;
            sent += CHANGES_EACH;
            let due = Duration::from_secs_f64(sent as f64 / CHANGES_EACH as f64 * pause_s);
            clock::wait_until(due.saturating_sub(start.elapsed()), || false);
        }
        Ok(sent as f64 / start.elapsed().as_secs_f64())
    }

    /// Issues and revokes tokens one after another; the times until every node shows it.
    fn measure(&self, part: &str, nodes: &[Node]) -> Result<Vec<Row>> {
        let mut samples = Samples::default();
        for _ in 0..self.options.samples {
            self.sample(nodes, CHANGE_DEADLINE, &mut samples)?;
        }
        Ok(samples.rows(part))
    }

    /// One token's life.
    fn sample(&self, nodes: &[Node], deadline: Duration, samples: &mut Samples) -> Result<()> {
        let keep = match &mut samples.keep {
            Some(keep) => keep,
            none => none.insert(Keep::open(&self.plane.address)?),
        };
        let start = clock::now();
        let body = json!({ "subscription_id": self.subscription });
        let made = self.plane.ask(keep, "POST", "/v1/tokens", &body)?;
        samples.answered.push(start.elapsed());
        let token = made["secret"].as_str().unwrap_or_default();
        samples.issued.push(first_answers(nodes, (token, 200), start, deadline)?);
        let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap_or_default());
        let start = clock::now();
        self.plane.ask(keep, "DELETE", &path, &json!({}))?;
        samples.revoked.push(first_answers(nodes, (token, 401), start, deadline)?);
        Ok(())
    }
}

/// How long tokens took to be issued and revoked.
#[derive(Default)]
struct Samples {
    keep: Option<Keep>,
    answered: Vec<Duration>,
    issued: Vec<Duration>,
    revoked: Vec<Duration>,
}

impl Samples {
    fn rows(self, part: &str) -> Vec<Row> {
        [
            ("POST token to its answer", self.answered),
            ("POST token to the first 200 of the last node", self.issued),
            ("revoke to the first 401 of the last node", self.revoked),
        ]
        .into_iter()
        .flat_map(|(what, times)| quantiles(&format!("{part}: {what}"), times))
        .collect()
    }
}

/// A psql that is told statements as they come.
struct Script(std::process::Child);

impl Script {
    fn start(mut psql: std::process::Command) -> Result<Self> {
        use std::process::Stdio;
        let piped = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(piped.spawn()?))
    }

    fn send(&mut self, statement: &str) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("psql has no input")?;
        Ok(writeln!(stdin, "{statement}")?)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
