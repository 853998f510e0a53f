//! How soon a buyer who has paid is served: from the payment at Stripe's stand-in to the key's first 200 on every node.
//!
//! In: the built binary, a control plane on SQLite, nodes. Out: times from the payment, and of the key's redemption. Always holds: a run
//! fails where a page offers no key or a key is refused by a node for longer than `DEADLINE`; pages are looked at as a browser does, which
//! waits for as long as a page tells it to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use stripe_sandbox::{Config, Outcome, Sandbox, SignatureClock, WebhookEndpoint};

use crate::keep::Keep;
use crate::peers::{Bench, HOST};
use crate::plane::{Node, Plane, first_answers, flags_of_stripe};
use crate::record::{Figures, Machine, Row, quantiles, write};
use crate::{clock, render};

/// What `purchases` can be told.
#[derive(clap::Args)]
pub struct Options {
    /// Purchases, one after the other.
    #[arg(long, default_value_t = 100)]
    purchases: usize,
    /// Nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// The PayFence to measure.
    #[arg(long, default_value = "target/release/payfence")]
    payfence: PathBuf,
    /// Where the record goes.
    #[arg(long, default_value = "docs/performance/purchases.json")]
    out: PathBuf,
}

const WEBHOOK_SECRET: &str = "whsec_bench";
/// A purchase that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// Times of purchases, and what was seen beside them.
#[derive(Default)]
struct Seen {
    offered: Vec<Duration>,
    redeemed: Vec<Duration>,
    served: Vec<Duration>,
    waited: usize,
}

/// Runs it all.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.purchases > 0 && options.nodes > 0, "--purchases and --nodes start at 1");
    let bench = Bench::new(options.payfence.clone(), 0, 1)?;
    let origin = bench.origin()?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("control.db").display());
    let plane = Plane::init(&options.payfence, url, folder.path())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let told = format!("http://{}/stripe/webhooks/test", plane.address);
    let config = Config {
        signature_clock: SignatureClock::Wall,
        webhook_endpoints: vec![WebhookEndpoint::new(told, WEBHOOK_SECRET, true)],
        ..Config::fixed(i64::try_from(clock::unix_s())?, 7)
    };
    let sandbox = runtime.block_on(Sandbox::start(config))?;
    let flags = flags_of_stripe(folder.path(), &sandbox, WEBHOOK_SECRET)?;
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let _served = plane.serve_with(&flags)?;
    plane.sell(&sandbox)?;
    let plan = fill(&plane, &origin.address)?;
    let nodes = (0..options.nodes)
        .map(|number| plane.node(number, "1", DEADLINE))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = Seen::default();
    for _ in 0..options.purchases {
        buy(&plane, &sandbox, &plan, &nodes, &mut seen)?;
    }
    let figures = Figures { machine: Machine::here(), rows: seen.rows(options) };
    write(&options.out, &figures)?;
    println!("{}\nWritten to {}.", render::figures(&figures), options.out.display());
    runtime.block_on(sandbox.shutdown());
    Ok(())
}

/// A site that sells a plan; the plan's id.
fn fill(plane: &Plane<'_>, origin: &str) -> Result<String> {
    let site = json!({ "slug": "shop", "origin": format!("http://{origin}"), "hosts": [HOST] });
    let site = plane.make("/v1/sites", &site)?;
    let within = format!("/v1/sites/{site}");
    plane.make(&format!("{within}/resources"), &json!({ "pattern": "/paid/*" }))?;
    let plan = json!({
        "reference": "pro", "quota": { "requests": 1_000, "per": "month" },
        "price": { "amount": 1_900, "currency": "eur", "interval": "month" },
    });
    let plan = plane.make(&format!("{within}/plans"), &plan)?;
    plane.post("/v1/billing/sync", &json!({ "mode": "test" }))?;
    Ok(plan)
}

/// One purchase, from the pricing page to the last node.
fn buy(
    plane: &Plane<'_>,
    sandbox: &Sandbox,
    plan: &str,
    nodes: &[Node],
    seen: &mut Seen,
) -> Result<()> {
    let browser = &mut Keep::open(&plane.address)?;
    let page = browser.submit("/pay/shop/checkout", &format!("plan={plan}"))?;
    let session = word(&page.text(), "cs_test_")?;
    let start = clock::now();
    if let Err(error) = sandbox.pay(&session, Outcome::Paid) {
        bail!("not paid: {error:?}");
    }
    let mut path = format!("/pay/shop/success?session_id={session}");
    let mut looks = 0;
    loop {
        let page = browser.get(&path, None)?.text();
        if page.contains("Show my key") {
            break;
        }
        ensure!(start.elapsed() < DEADLINE, "no key is offered after {DEADLINE:?}");
        let (pause, next) = refresh(&page)?;
        path = next;
        looks += 1;
        std::thread::park_timeout(pause);
    }
    seen.waited += usize::from(looks > 0);
    seen.offered.push(start.elapsed());
    let asked = clock::now();
    let shown = browser.submit("/claim", &format!("session_id={session}"))?;
    let key = word(&shown.text(), "pf_test_")?;
    seen.redeemed.push(asked.elapsed());
    seen.served.push(first_answers(nodes, (&key, 200), start, DEADLINE)?);
    Ok(())
}

/// After how long a page is to be looked at again, and where.
fn refresh(page: &str) -> Result<(Duration, String)> {
    let told = page.split_once("http-equiv=\"refresh\" content=\"").map(|(_, rest)| rest);
    let told = told.and_then(|rest| rest.split_once('"')).map(|(told, _)| told);
    let told = told.and_then(|told| told.split_once(";url="));
    let (seconds, url) = told.with_context(|| format!("neither a key nor a next look: {page}"))?;
    Ok((Duration::from_secs(seconds.parse()?), url.replace("&amp;", "&")))
}

/// What stands in `text` from `start` to the first character that no id has.
fn word(text: &str, start: &str) -> Result<String> {
    let at = text.find(start).with_context(|| format!("no {start} in {text}"))?;
    let is_id = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    Ok(text[at..].chars().take_while(is_id).collect())
}

impl Seen {
    fn rows(self, options: &Options) -> Vec<Row> {
        let row = |name: String, value: f64, unit: &str| Row { name, value, unit: unit.to_owned() };
        let mut rows = vec![
            row("purchases".to_owned(), options.purchases as f64, ""),
            row("nodes".to_owned(), options.nodes as f64, ""),
            row(
                "pages after a payment that made the buyer wait".to_owned(),
                self.waited as f64,
                "",
            ),
        ];
        for (what, times) in [
            ("payment to the page that offers the key", self.offered),
            ("redemption to the key shown", self.redeemed),
            ("payment to the first 200 of the last node", self.served),
        ] {
            rows.extend(quantiles(what, times));
        }
        rows
    }
}
