//! `payfence reconcile`.
//!
//! In: the control plane's database, ClickHouse where nodes export to it, Stripe where a key is given. Out: a table of what does not agree; code 1 when there is any.
//! Always holds: nothing is changed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use controlplane::analytics::{Backend, ClickHouse};
use controlplane::billing::stripe::Stripe;
use controlplane::reconcile::{Pair, Reconciler, Report, Scope};
use controlplane::server;
use controlplane::storage::StorageError;
use controlplane::world::System;

use crate::cli::ReconcileArgs;
use crate::failure::Failure;
use crate::{output, settings};

pub fn run(args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    let data_dir = args.data_dir.clone().unwrap_or_else(|| PathBuf::from(settings::DATA_DIR));
    let url = settings::controlplane::database_url(args.database_url.as_deref(), &data_dir);
    let billing = settings::billing::settings(&args.billing)?;
    let clickhouse = settings::journal::clickhouse(&args.clickhouse)?;
    let kept = settings::controlplane::kept(&args.kept);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    runtime.block_on(async {
        let store = server::open_store(&url, Arc::new(System)).await;
        let store = store.map_err(|error| Failure::Failed(error.into()))?;
        let stripe = billing.map(|billing| Stripe::new(billing.stripe, Arc::new(System)));
        let stripe = stripe.transpose().map_err(Failure::failed)?;
        let decisions = match &clickhouse {
            Some(config) => Backend::ClickHouse(Arc::new(
                ClickHouse::new(config).map_err(|error| Failure::Configuration(error.into()))?,
            )),
            None => Backend::Sql { store: store.clone(), kept },
        };
        let reconciler = Reconciler::new(store, stripe, Box::new(decisions));
        let mut scope = Scope { site: args.site.clone(), period: args.period, ..Scope::default() };
        if let Some(seconds) = args.settled {
            scope.settled_ms = i64::from(seconds) * 1_000;
        }
        let report = reconciler.run(&scope).await.map_err(|error| match error {
            StorageError::Broken(text) if text.starts_with("there is no site") => {
                Failure::configuration(text)
            }
            error => Failure::Failed(error.into()),
        })?;
        print(&report);
        Ok(if report.count == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    })
}

fn print(report: &Report) {
    for what in &report.unavailable {
        output::note(format_args!("not compared: {what}"));
    }
    if !report.differences.is_empty() {
        output::line(format_args!(
            "site\tsubscription\tperiod\tcompared\tfirst\tsecond\tlikely cause"
        ));
    }
    for each in &report.differences {
        let period = each.period.map_or_else(|| "-".to_owned(), |period| period.to_string());
        let pair = each.pair.as_str();
        output::line(format_args!(
            "{}\t{}\t{period}\t{}\t{}\t{}\t{}",
            each.site, each.subscription, pair, each.first, each.second, each.cause
        ));
    }
    // Nothing found where nothing was compared is no good news.
    let times = |pair: &Pair| report.compared.get(pair).copied().unwrap_or_default();
    let compared = Pair::ALL.iter().map(|pair| format!("{} {}", pair.as_str(), times(pair)));
    output::line(format_args!("compared: {}", compared.collect::<Vec<_>>().join(", ")));
    output::line(format_args!(
        "{} subscriptions compared, {} differences",
        report.checked, report.count
    ));
}
