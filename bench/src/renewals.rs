//! What a control plane does when thousands of subscriptions of one account renew in the same minute.
//!
//! In: the built binary, a database, Stripe's stand-in in this process with Stripe's limit of calls. Out: how soon its webhooks are answered,
//! when all that follows is written, how much was asked of Stripe.
//! Always holds: a run fails where a webhook was refused, an event was given up, a subscription has not the period that it has at
//! Stripe, or a bound was missed: of answers to webhooks, of calls to Stripe.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use stripe_sandbox::{Config, Sandbox, SignatureClock, WebhookEndpoint, WebhookFaults};
use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::plane::{Plane, flags_of_stripe};
use crate::record::{Figures, Machine, Row, quantiles, write};
use crate::{clock, render};

/// Where the control plane keeps what it knows.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A cluster of its own, with fsync.
    Postgres,
}

/// What `renewals` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Subscriptions that renew.
    #[arg(long, default_value_t = 10_000)]
    subscriptions: usize,
    /// Which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Calls a second that the account takes: Stripe's limit of test mode.
    #[arg(long, default_value_t = 25)]
    calls: u32,
    /// Webhooks that are under way at once.
    #[arg(long, default_value_t = 64)]
    webhooks: usize,
    /// Seconds over which a wave's webhooks are sent, whether those before were answered or not; 0: each of those that are under way at
    /// once is followed by the next as soon as it is answered.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// What 99 of a hundred webhooks are answered within, in milliseconds.
    #[arg(long, default_value_t = 100.0)]
    answer_ms: f64,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/renewals.json")]
    out: PathBuf,
}

const WEBHOOK_SECRET: &str = "whsec_bench";
/// How long all may take.
const DEADLINE: Duration = Duration::from_secs(900);
const LOOK: Duration = Duration::from_millis(100);
/// Rows of one statement.
const ROWS_EACH: usize = 500;
/// All of them were bought in one minute, so they renew in one.
const MINUTE_S: usize = 60;
/// A renewal's invoice is a draft for an hour.
const DRAFT_S: u64 = 3_600;
/// Figures that have a bound.
const MOST_CALLS: &str = "most calls in a second";
const MOST_CALLS_OF_ACCOUNT: &str = "most calls in a second for one account";
const MOST_CALLS_AT_ENDPOINT: &str = "most calls in a second for one account at one endpoint";
const REFUSED: &str = "calls refused with 429";
/// What a control plane is told of by Stripe: the types of a renewal that it does something for.
const TYPES: [&str; 5] = [
    "customer.subscription.updated",
    "invoice.created",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.upcoming",
];

/// A way to ask and fill the database beside the control plane.
enum Sql {
    Sqlite(PathBuf),
    Postgres(Cluster, String),
}

struct Scene<'a> {
    options: &'a Options,
    runtime: &'a Runtime,
    sandbox: Sandbox,
    sql: Sql,
    account: String,
}

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.subscriptions > 0 && options.webhooks > 0, "at least one of each");
    let folder = tempfile::tempdir()?;
    let (sql, url) = match options.database {
        Database::Sqlite => {
            let file = folder.path().join("control.db");
            let url = format!("sqlite://{}", file.display());
            (Sql::Sqlite(file), url)
        }
        Database::Postgres => {
            let cluster = Cluster::start_with(&["fsync=on", "shared_buffers=256MB"]);
            let (name, url) = cluster.named_database();
            (Sql::Postgres(cluster, name), url)
        }
    };
    let plane = Plane::init(&options.payfence, url, folder.path())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sandbox = runtime.block_on(Sandbox::start(config(options, &plane.address)?))?;
    let flags = flags_of_stripe(folder.path(), &sandbox, WEBHOOK_SECRET)?;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let _served = plane.serve_with(&flags)?;
    let mut scene = Scene { options, runtime: &runtime, sandbox, sql, account: String::new() };
    scene.fill(&plane)?;
    let month_s = scene.renew_at()?;
    let mut rows = vec![row("subscriptions of one account", options.subscriptions as f64, "")];
    rows.extend(scene.wave("periods begin", month_s)?);
    let later = scene.sandbox.now() + i64::try_from(DRAFT_S)? + 60;
    rows.extend(scene.wave("an hour later, invoices are paid", later)?);
    scene.check()?;
    let figures = Figures { machine: Machine::here(), rows };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    runtime.block_on(scene.sandbox.shutdown());
    let missed = missed(&figures.rows, &bounds(options));
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

/// What is promised: the end of a figure's name, and the most that it may be.
fn bounds(options: &Options) -> [(&'static str, f64); 5] {
    let calls = f64::from(options.calls);
    [
        ("webhook to its answer, p99", options.answer_ms),
        (MOST_CALLS, calls),
        (MOST_CALLS_OF_ACCOUNT, calls),
        (MOST_CALLS_AT_ENDPOINT, calls),
        (REFUSED, 0.0),
    ]
}

/// Figures past their bounds, and bounds that no figure has.
fn missed(rows: &[Row], bounds: &[(&str, f64)]) -> Vec<String> {
    let mut missed = Vec::new();
    for (name, most) in bounds {
        let mut of_it = rows.iter().filter(|row| row.name.ends_with(name)).peekable();
        if of_it.peek().is_none() {
            missed.push(format!("{name}: there is no figure"));
        }
        let past = of_it.filter(|row| row.value.is_nan() || row.value > *most);
        missed.extend(past.map(|row| format!("{}: {} > {most} {}", row.name, row.value, row.unit)));
    }
    missed
}

fn row(name: impl Into<String>, value: f64, unit: &str) -> Row {
    Row { name: name.into(), value, unit: unit.to_owned() }
}

/// Everything was bought a month ago, so that it renews now.
fn config(options: &Options, plane: &str) -> Result<Config> {
    let now = Timestamp::from_second(i64::try_from(clock::unix_s())?)?;
    let bought = Offset::UTC.to_datetime(now).checked_sub(1.month())?;
    let bought_s = Offset::UTC.to_timestamp(bought)?.as_second();
    let url = format!("http://{plane}/stripe/webhooks/test");
    let mut endpoint = WebhookEndpoint::new(url, WEBHOOK_SECRET, true);
    endpoint.enabled_events = TYPES.iter().map(|kind| (*kind).to_owned()).collect();
    Ok(Config {
        signature_clock: SignatureClock::Wall,
        webhook_endpoints: vec![endpoint],
        webhook_concurrency: options.webhooks,
        ..Config::fixed(bought_s, 7)
    })
}

impl Sql {
    fn command(&self) -> Command {
        match self {
            Self::Sqlite(file) => {
                let mut command = Command::new("sqlite3");
                command.args(["-batch", "-bail", "-cmd", ".timeout 20000"]).arg(file);
                command
            }
            Self::Postgres(cluster, database) => {
                let mut command = cluster.psql(database);
                command.args(["-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
                command
            }
        }
    }

    fn ask(&self, statements: &str) -> Result<String> {
        use std::io::Write as _;
        let piped = |command: &mut Command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let mut child = piped(&mut self.command())
            .context("sqlite3 or psql (Debian: sqlite3, postgresql-client)")?;
        let mut stdin = child.stdin.take().context("no input")?;
        stdin.write_all(statements.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn number(&self, query: &str) -> Result<i64> {
        let text = self.ask(query)?;
        text.lines().last().unwrap_or_default().parse().with_context(|| format!("{query}: {text}"))
    }
}

impl Scene<'_> {
    /// A site with a plan that costs something, bought by many within a minute; here as there.
    fn fill(&mut self, plane: &Plane<'_>) -> Result<()> {
        self.account = plane.sell(&self.sandbox)?;
        let site =
            plane.make("/v1/sites", &json!({ "slug": "bench", "origin": "http://127.0.0.1:9" }))?;
        let plan = json!({
            "reference": "pro", "quota": { "requests": 1_000, "per": "month" },
            "price": { "amount": 1_900, "currency": "eur", "interval": "month" },
        });
        let plan = plane.make(&format!("/v1/sites/{site}/plans"), &plan)?;
        let synced = plane.post("/v1/billing/sync", &json!({ "mode": "test" }))?;
        let customer = plane.make("/v1/customers", &json!({}))?;
        let made = json!({ "site_id": site, "plan_id": plan, "customer_id": customer });
        let template = plane.make("/v1/subscriptions", &made)?;
        let prices = self.sandbox.objects(&self.account, "price");
        let price = prices.first().and_then(|price| price["id"].as_str());
        let price = price.with_context(|| format!("no price: {synced}"))?.to_owned();
        // Nobody is told of how they were bought: that is not what is measured.
        self.sandbox.set_webhook_faults(WebhookFaults { lost: 1_000, ..WebhookFaults::default() });
        let mut made = Vec::with_capacity(self.options.subscriptions);
        for number in 0..self.options.subscriptions {
            if number % self.options.subscriptions.div_ceil(MINUTE_S) == 0 {
                self.sandbox.advance(Duration::from_secs(1));
            }
            match self.sandbox.subscribe(&self.account, &price) {
                Ok(subscription) => made.push(subscription),
                Err(error) => bail!("the stand-in made no subscription: {error:?}"),
            }
        }
        self.insert(&template, &price, &made)
    }

    /// What the control plane would have written when they were bought.
    fn insert(&self, template: &str, price: &str, made: &[Value]) -> Result<()> {
        for (chunk, some) in made.chunks(ROWS_EACH).enumerate() {
            let from = chunk * ROWS_EACH;
            let mut values = String::new();
            for (number, one) in some.iter().enumerate() {
                let comma = if number == 0 { "" } else { ", " };
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let item = &one["items"]["data"][0];
                let ms = |value: &Value| value.as_i64().unwrap_or_default() * 1_000;
                let facts = json!({ "customer": one["customer"], "created": one["created"] });
                write!(
                    values,
                    "{comma}('sub_seed{}', '{}', '{}', {}, {}, {}, '{facts}')",
                    from + number,
                    text(&one["id"]),
                    text(&item["id"]),
                    ms(&item["current_period_start"]),
                    ms(&item["current_period_end"]),
                    ms(&one["billing_cycle_anchor"]),
                )?;
            }
            self.sql.ask(&format!(
                "BEGIN; CREATE TEMPORARY TABLE seed (id TEXT, stripe_id TEXT, item_id TEXT, start_ms BIGINT, end_ms BIGINT, \
                 anchor_ms BIGINT, facts TEXT); INSERT INTO seed VALUES {values}; \
                 INSERT INTO subscriptions (id, account_id, version, created_at_ms, updated_at_ms, site_id, plan_id, customer_id, \
                 reference, status, period_anchor_ms) SELECT seed.id, account_id, 1, 0, 0, site_id, plan_id, customer_id, seed.id, \
                 'active', seed.anchor_ms FROM subscriptions, seed WHERE subscriptions.id = '{template}'; \
                 INSERT INTO stripe_subscriptions (id, account_id, version, created_at_ms, updated_at_ms, subscription_id, mode, \
                 stripe_account, stripe_id, stripe_status, item_id, price_id, period_start_ms, period_end_ms, facts, fetched_at_ms) \
                 SELECT 'ssub_' || seed.id, account_id, 1, 0, 0, seed.id, 'test', '{account}', seed.stripe_id, 'active', seed.item_id, '{price}', \
                 seed.start_ms, seed.end_ms, seed.facts, 0 FROM subscriptions, seed WHERE subscriptions.id = '{template}'; \
                 DROP TABLE seed; COMMIT;",
                account = self.account,
            ))?;
        }
        let here = self.sql.number("SELECT COUNT(*) FROM stripe_subscriptions;")?;
        ensure!(here == i64::try_from(made.len())?, "{here} subscriptions are here");
        Ok(())
    }

    /// When the last of them has renewed, Unix seconds at the stand-in.
    fn renew_at(&self) -> Result<i64> {
        let last = self.sql.number("SELECT MAX(period_end_ms) FROM stripe_subscriptions;")?;
        // `invoice.upcoming` came a week before.
        self.sandbox.advance_to(last / 1_000 - 7_200);
        self.sandbox.clear_faults();
        self.sandbox.set_rate_limit(self.options.calls);
        Ok(last / 1_000 + 1)
    }

    /// Moves time there, and measures until all that follows is written.
    fn wave(&self, name: &str, at_s: i64) -> Result<Vec<Row>> {
        self.sandbox.take_load();
        self.sandbox.take_answers();
        self.sandbox.hold_webhooks();
        self.sandbox.advance_to(at_s);
        let (told, _) = self.sandbox.deliveries_waiting();
        ensure!(told >= self.options.subscriptions, "only {told} webhooks");
        let settled = "SELECT COUNT(*) FROM stripe_events WHERE state <> 'waiting';";
        let before = self.sql.number(settled)?;
        let from_ms = i64::try_from(clock::unix_s())? * 1_000;
        let start = clock::now();
        match self.options.seconds {
            0 => self.sandbox.release_webhooks(),
            seconds => {
                let every = Duration::from_secs(u64::from(seconds)).div_f64(told as f64);
                self.sandbox.release_webhooks_every(every);
            }
        }
        let is_told = self.runtime.block_on(self.sandbox.settle(DEADLINE));
        let told_s = start.elapsed().as_secs_f64();
        ensure!(is_told && self.sandbox.deliveries_waiting() == (0, 0), "webhooks were not taken");
        let wanted = before + i64::try_from(told)?;
        let mut last = Ok(0);
        let is_done = clock::wait_until(DEADLINE, || {
            std::thread::park_timeout(LOOK);
            last = self.sql.number(settled);
            last.as_ref().map_or(true, |done| *done >= wanted)
        });
        let applied_s = start.elapsed().as_secs_f64();
        ensure!(is_done, "{last:?} of {wanted} events are settled after {DEADLINE:?}");
        last?;
        self.figures(name, told, (told_s, applied_s), from_ms)
    }

    fn figures(
        &self,
        name: &str,
        told: usize,
        took_s: (f64, f64),
        from_ms: i64,
    ) -> Result<Vec<Row>> {
        let (load, answers) = (self.sandbox.take_load(), self.sandbox.take_answers());
        ensure!(!answers.is_empty(), "no answers");
        let named = |what: &str| format!("{name}: {what}");
        let mut rows = vec![
            row(named("webhooks"), told as f64, ""),
            row(named("webhooks a second"), told as f64 / took_s.0, "/s"),
        ];
        rows.extend(quantiles(&named("webhook to its answer"), answers));
        rows.push(row(named("first webhook until all is written"), took_s.1, "s"));
        let lags =
            format!("FROM stripe_events WHERE state = 'done' AND created_at_ms >= {from_ms}");
        let count = self.sql.number(&format!("SELECT COUNT(*) {lags};"))?;
        for (word, at) in [("p50", count / 2), ("p99", count * 99 / 100)] {
            let query = format!(
                "SELECT settled_at_ms - created_at_ms AS lag {lags} ORDER BY lag LIMIT 1 OFFSET {at};"
            );
            let lag = self.sql.number(&query)? as f64 / 1e3;
            rows.push(row(named(&format!("event kept until it is settled, {word}")), lag, "s"));
        }
        rows.push(row(named("calls to Stripe"), load.calls as f64, ""));
        for (what, most) in [
            (MOST_CALLS, load.most_in_a_second),
            (MOST_CALLS_OF_ACCOUNT, load.most_of_an_account),
            (MOST_CALLS_AT_ENDPOINT, load.most_at_an_endpoint),
        ] {
            rows.push(row(named(what), f64::from(most), "/s"));
        }
        rows.push(row(named(REFUSED), load.refused as f64, ""));
        Ok(rows)
    }

    /// All is here as it is at Stripe.
    fn check(&self) -> Result<()> {
        let dead = self.sql.number("SELECT COUNT(*) FROM stripe_events WHERE state = 'dead';")?;
        ensure!(dead == 0, "{dead} events were given up");
        let known = self.sql.ask(
            "SELECT stripe_id || ' ' || stripe_status || ' ' || period_start_ms FROM stripe_subscriptions ORDER BY stripe_id;",
        )?;
        let mut there: Vec<String> = self
            .sandbox
            .objects(&self.account, "subscription")
            .iter()
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or_default();
                let start_s = one["items"]["data"][0]["current_period_start"].as_i64();
                format!("{} {} {}", text("id"), text("status"), start_s.unwrap_or_default() * 1_000)
            })
            .collect();
        there.sort_unstable();
        let mut known: Vec<&str> = known.lines().collect();
        known.sort_unstable();
        let differing = known.iter().zip(&there).find(|(here, there)| **here != there.as_str());
        ensure!(
            known.len() == there.len() && differing.is_none(),
            "not as at Stripe: {differing:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
#[path = "renewals_tests.rs"]
mod tests;
