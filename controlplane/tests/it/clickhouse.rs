//! ClickHouse answers about decisions and use as the control plane's own database does, over the same rows.

use std::sync::Arc;
use std::time::Duration;

use link::ship::{Export, Limits, Shipper};
use link::sink::clickhouse::{ClickHouseConfig, ClickHouseSink, Password};
use policy::decision::Reason;
use serde_json::{Value as Json, json};

use super::client::Client;
use super::decision_rows::{Blocks, Sample, batch, sample};
use super::engine::{Engine, Kind};
use super::place::Place;
use super::reconcile::the_log_is_compared;
use super::sync_node::{Issued, issue};
use crate::analytics::{Backend, ClickHouse};
use crate::api::time::shown;
use crate::api::{self, ApiSettings, App};
use crate::reconcile::{Asked, DecisionLog};
use crate::storage::{DAY_MS, ReadDecisions, Retention};
use crate::world::{System, World as _};

/// All that use is summed by.
const GROUPS: [&str; 8] =
    ["site", "customer", "subscription", "token", "resource", "reason", "verdict", "period"];

/// The same on a server of a test's own, where there is one.
pub fn answers_are_those_of_the_database(kind: Kind) {
    let Some(engine) = Engine::start(kind) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::sqlite();
        place.prepare().await;
        compare(&place, &engine).await;
    });
}

/// What nodes export there is compared with the ledger; a log that is cut off by age is not.
pub fn what_nodes_export_is_reconciled(kind: Kind) {
    let Some(engine) = Engine::start(kind) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::sqlite();
        place.prepare().await;
        let server = Arc::new(ClickHouse::new(&config(&engine)).unwrap());
        let log = || Box::new(Backend::ClickHouse(server.clone())) as Box<dyn DecisionLog>;
        let export_all = async |_: &Issued, epoch: u64, rows: &[Sample]| {
            export(config(&engine), &[(epoch, rows.to_vec())]).await;
        };
        let account = the_log_is_compared(&place, log, export_all).await;
        // The full form drops rows by age, the other one never does.
        let days = ClickHouseConfig { ttl_days: Some(3), ..config(&engine) };
        let site = sample("walked", 7);
        export(days, &[(3, vec![site])]).await;
        let sites = place.store.tenant(&account).own_sites(None).await.unwrap();
        let asked = Asked { sites, references: vec!["sub-1".to_owned()], since_s: 0 };
        let charges = server.charged(&asked).await.unwrap();
        let kept_ms = (kind == Kind::Today).then_some(3 * DAY_MS);
        assert_eq!((charges.has_site, charges.kept_ms), (true, kept_ms), "{charges:?}");
    });
}

fn config(engine: &Engine) -> ClickHouseConfig {
    let mut config = ClickHouseConfig::new(&engine.url());
    // The small server around today's engine takes no packed rows.
    config.is_compressed = engine.kind == Kind::Old;
    config.insert_timeout = Duration::from_secs(3);
    // A user whose password has to be quoted, where the server has users.
    if engine.kind == Kind::Old {
        config.user = "shipper".to_owned();
        config.password = Some(Password::new("it's \\ secret".to_owned()));
    }
    config
}

/// Brings the same rows into both.
async fn take(place: &Place, engine: &Engine, node: &Issued, blocks: &[(u64, Vec<Sample>)]) {
    for (epoch, samples) in blocks {
        let decisions = batch(*epoch, 0, 0, samples);
        let rows = ReadDecisions::of(&decisions).unwrap();
        place.store.take_decisions(node.key, &rows, &Retention::default()).await.unwrap();
    }
    export(config(engine), blocks).await;
}

/// Brings rows into ClickHouse, as a node does.
async fn export(config: ClickHouseConfig, blocks: &[(u64, Vec<Sample>)]) {
    let mut source = Blocks::default();
    for (epoch, samples) in blocks {
        source.all.push((*epoch, 0, 0, samples.clone()));
    }
    let folder = tempfile::tempdir().unwrap();
    let sink = ClickHouseSink::new(config).unwrap();
    let export = Export::new("clickhouse", Limits::default(), sink, source);
    let data = folder.path().to_owned();
    let flush = tokio::task::spawn_blocking(move || {
        let shipper = Shipper::start(&data, "n1", vec![export]).unwrap();
        shipper.flush(Duration::from_secs(120))
    });
    assert!(flush.await.unwrap(), "not all of it arrived");
}

async fn site(client: &Client, slug: &str) -> String {
    let site = json!({ "slug": slug, "origin": "https://api.example.com" });
    client.post("/v1/sites", site).await.expect(201).id()
}

/// Rows of two accounts, some of whose sites had the same slug one after the other.
fn samples() -> Vec<(u64, Vec<Sample>)> {
    let hour_us = 3_600_000_000;
    let mut blocks = Vec::new();
    // One of a node whose clock is ahead: after the second site of a slug was made.
    let ages = [-3_000_000, 0, 2 * hour_us, 40 * hour_us, 24 * 40 * hour_us];
    for (at, slug) in ["shop", "it's", "theirs", "nobodys"].into_iter().enumerate() {
        for (epoch, age_us) in ages.into_iter().enumerate() {
            let mut samples: Vec<Sample> = (0..25).map(|number| sample(slug, number)).collect();
            samples.iter_mut().for_each(|row| row.time_us -= age_us);
            samples[4] = Sample {
                customer: String::new(),
                period: 0,
                reason: Reason::TokenMissing,
                ..samples[4].clone()
            };
            samples[5].token = "it's \\ a ? token".to_owned();
            // Numbers without a sign, past those with one.
            blocks.push(((1 << 63) * (epoch as u64 % 2) + (at * 10 + epoch) as u64, samples));
        }
    }
    blocks
}

async fn pages(client: &Client, query: &str) -> Vec<Json> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/decisions?limit=17{query}{after}");
        let page = client.get(&path).await.expect(200).json;
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        if page["has_more"] == false {
            return rows;
        }
        after = format!("&starting_after={}", rows.last().unwrap()["id"].as_str().unwrap());
    }
}

async fn compare(place: &Place, engine: &Engine) {
    let owner = place.owner().await;
    let node = issue(&owner, place, "n1").await;
    let stranger = place.stranger().await;
    let ended = site(&owner, "shop").await;
    owner.delete(&format!("/v1/sites/{ended}")).await.expect(200);
    let shop = site(&owner, "shop").await;
    // Two sites had it: rows of before the second are the first one's.
    let lost = site(&stranger, "theirs").await;
    stranger.delete(&format!("/v1/sites/{lost}")).await.expect(200);
    let theirs = site(&stranger, "theirs").await;
    let customer = json!({ "reference": "cus-1" });
    let customer = owner.post("/v1/customers", customer).await.expect(201).id();
    take(place, engine, &node, &samples()).await;

    let server = Arc::new(ClickHouse::new(&config(engine)).unwrap());
    let app = App::new(place.store.clone(), place.keyring.clone(), ApiSettings::default());
    let router = api::router(app.with_analytics(Backend::ClickHouse(server.clone())));
    let callers = [(&owner, [&shop, &ended]), (&stranger, [&theirs, &lost])];
    for (client, sites) in callers {
        let other = Client::new(router.clone(), client.key.clone());
        let mut queries = vec![String::new(), format!("&customer_id={customer}")];
        queries.extend(sites.iter().map(|id| format!("&site_id={id}")));
        let words = [
            "&verdict=deny",
            "&reason=token_missing",
            "&reason=ok&verdict=deny",
            "&resource=/r1/*",
            "&resource=it's%20%5C%20%3F",
        ];
        queries.extend(words.map(str::to_owned));
        for query in &queries {
            // Those that SQL has forgotten by age are none of its recent ones.
            let since = shown(System.now_ms() - 360_000_000);
            let query = format!("{query}&since={since}");
            let (known, asked) = (pages(client, &query).await, pages(&other, &query).await);
            for (known, asked) in known.iter().zip(&asked) {
                assert_eq!(known, asked, "{query}");
            }
            assert_eq!(known.len(), asked.len(), "{query}");
        }
        let day = shown(System.now_ms().div_euclid(DAY_MS) * DAY_MS);
        let mut sums: Vec<String> = GROUPS.map(|group| format!("group_by={group}")).into();
        sums.extend(queries.iter().map(|query| format!("interval=day{query}")));
        sums.push("interval=minute&group_by=token".to_owned());
        sums.push("interval=day&group_by=site&limit=3".to_owned());
        sums.push("period=7".to_owned());
        sums.push(format!("since={day}&group_by=site"));
        for query in sums {
            let path = format!("/v1/usage?{query}");
            let known = client.get(&path).await.expect(200).json;
            let asked = other.get(&path).await.expect(200).json;
            assert_eq!(known["data"], asked["data"], "{path}");
            assert_eq!(known["has_more"], asked["has_more"], "{path}");
        }
        compare_charges(place, &server, client, sites).await;
    }
    assert!(pages(&owner, "").await.len() >= 50, "there is something to compare");
    let sums = owner.get("/v1/usage?group_by=site").await.expect(200).json;
    assert!(sums["data"].as_array().unwrap().len() >= 2, "{sums}");
}

/// What subscriptions were charged is the same in both.
async fn compare_charges(place: &Place, server: &ClickHouse, client: &Client, ids: [&String; 2]) {
    let account = client.get("/v1/account").await.expect(200).id();
    for id in ids {
        let sites = place.store.tenant(&account).own_sites(Some(id)).await.unwrap();
        let references = ["sub-0", "sub-1", "sub-2", "sub-3"].map(str::to_owned).into();
        let since_s = System.now_ms().div_euclid(1_000) - 30 * 86_400;
        let asked = Asked { sites, references, since_s };
        let known = place.store.decisions_charged(&asked, &Retention::default()).await.unwrap();
        let said = server.charged(&asked).await.unwrap();
        assert_eq!((known.units, known.has_site), (said.units, said.has_site), "{asked:?}");
    }
}
