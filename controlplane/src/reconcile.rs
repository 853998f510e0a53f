//! Reconciliation: decision log ↔ ledger ↔ entitlement ↔ Stripe.
//!
//! In: what each of them says of a subscription and a period. Out: a [`Report`] of what does not agree, with the likely cause.
//! Always holds: nothing is changed by looking; what is still on its way (a report of the last minute, a change that nodes have
//! not taken up, overage of a period that ended just now) is no difference; what cannot be asked is said, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use policy::budget::ledger::{Account, PeriodBooks};
use policy::ids::entitlement_id;
use tokio::task::JoinHandle;

mod limits;
mod paid;

use crate::billing::stripe::Stripe;
use crate::storage::{Site, StorageError, StorageResult, Store, Subscription};

/// Subscriptions read at once.
const BATCH: u64 = 500;
/// Differences that a report holds; more are counted.
const DIFFERENCES_MAX: usize = 10_000;
/// What changed within this is still on its way, milliseconds.
const SETTLED_MS: i64 = 120_000;
const DAY_MS: i64 = 86_400_000;
/// How often it is looked whether a day has begun.
const POLL: Duration = Duration::from_secs(600);

/// What to reconcile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// One site, by id or slug; all where there is none.
    pub site: Option<String>,
    /// One period, by its id; all that the ledger has where there is none.
    pub period: Option<i64>,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The site's slug.
    pub site: String,
    /// The subscription's id.
    pub subscription: String,
    /// The period's id, where it is about one.
    pub period: Option<i64>,
    /// What was compared: `log/ledger`, `ledger/entitlement`, `ledger/stripe`, `entitlement/stripe`.
    pub what: &'static str,
    /// What the first says.
    pub first: String,
    /// What the second says.
    pub second: String,
    /// The likely cause, and what to do.
    pub cause: String,
}

/// What came of reconciling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Subscriptions that were looked at.
    pub checked: u64,
    /// What does not agree, [`DIFFERENCES_MAX`] at most.
    pub differences: Vec<Difference>,
    /// How many do not agree.
    pub count: u64,
    /// What could not be asked.
    pub unavailable: BTreeSet<String>,
}

/// What the decision log answers, later.
pub type Charged<'a> = Pin<Box<dyn Future<Output = StorageResult<Option<i64>>> + Send + 'a>>;

/// Who knows what the decision log has charged.
pub trait DecisionLog: Send + Sync {
    /// Units charged to a subscription in a period; none where it cannot be known.
    fn charged<'a>(&'a self, site: &'a Site, reference: &'a str, period_id: i64) -> Charged<'a>;
}

/// Nobody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDecisions;

impl DecisionLog for NoDecisions {
    fn charged<'a>(&'a self, _: &'a Site, _: &'a str, _: i64) -> Charged<'a> {
        Box::pin(async { Ok(None) })
    }
}

/// The sums that the control plane keeps itself, where nodes send it their log.
#[derive(Clone, Debug)]
pub struct SummedDecisions(pub Store);

impl DecisionLog for SummedDecisions {
    fn charged<'a>(&'a self, site: &'a Site, reference: &'a str, period_id: i64) -> Charged<'a> {
        Box::pin(async move {
            match self.0.decisions_charged(site.key, reference, period_id).await {
                Ok(0) => Ok(None),
                Ok(units) => Ok(Some(units)),
                // No such tables: nodes send their log elsewhere.
                Err(StorageError::Broken(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

/// Compares.
pub struct Reconciler {
    store: Store,
    stripe: Option<Stripe>,
    decisions: Box<dyn DecisionLog>,
}

/// One subscription, as the ledger has it.
struct Subject<'a> {
    site: &'a Site,
    subscription: &'a Subscription,
    entitlement: u128,
    /// None where no node ever asked.
    ledger: Option<(Account, i64)>,
    now_ms: i64,
}

impl Reconciler {
    /// Compares what a store has with the decision log and, where it is set up, Stripe.
    #[must_use]
    pub fn new(store: Store, stripe: Option<Stripe>, decisions: Box<dyn DecisionLog>) -> Self {
        Self { store, stripe, decisions }
    }

    /// Compares all of a scope.
    ///
    /// # Errors
    /// When the database cannot be asked; the site that was named and is not there is `Broken`.
    pub async fn run(&self, scope: &Scope) -> StorageResult<Report> {
        let mut report = Report::default();
        if self.stripe.is_none() {
            report.unavailable.insert("Stripe: no key was given".to_owned());
        }
        let site = match &scope.site {
            None => None,
            Some(name) => {
                let found = self.store.site_called(name).await?;
                let unknown = || StorageError::Broken(format!("there is no site {name}"));
                Some(found.ok_or_else(unknown)?)
            }
        };
        let site_id = site.as_ref().map(|site| site.id.as_str());
        let mut after = 0;
        loop {
            let rows = self.store.subscriptions_after(after, site_id, BATCH).await?;
            let Some(last) = rows.last() else { return Ok(report) };
            after = last.key;
            let ids: BTreeSet<String> = rows.iter().map(|row| row.site_id.clone()).collect();
            let sites = self.store.sites_by_id(ids.into_iter().collect()).await?;
            let sites: BTreeMap<_, _> =
                sites.into_iter().map(|site| (site.id.clone(), site)).collect();
            for row in &rows {
                let Some(site) = sites.get(&row.site_id) else { continue };
                self.subscription(site, row, scope, &mut report).await?;
            }
        }
    }

    async fn subscription(
        &self,
        site: &Site,
        subscription: &Subscription,
        scope: &Scope,
        report: &mut Report,
    ) -> StorageResult<()> {
        report.checked += 1;
        let id = entitlement_id(&site.slug, &subscription.reference);
        let ledger = self.store.ledger_account_at(id.0).await?;
        let now_ms = self.store.ledger_now_ms().await?;
        let subject = Subject { site, subscription, entitlement: id.0, ledger, now_ms };
        if let Some((account, at_ms)) = &subject.ledger {
            let is_settled = now_ms.saturating_sub(*at_ms) > SETTLED_MS;
            for books in &account.books {
                let period = signed(books.period.id.0);
                let is_running = books.period.id == account.current.id;
                if scope.period.is_none_or(|asked| asked == period) && (is_settled || !is_running) {
                    self.log_and_ledger(&subject, books, report).await?;
                }
            }
        }
        if scope.period.is_none() {
            self.ledger_and_entitlement(&subject, report).await?;
        }
        self.told_and_stripe(&subject, scope, report).await
    }

    async fn log_and_ledger(
        &self,
        subject: &Subject<'_>,
        books: &PeriodBooks,
        report: &mut Report,
    ) -> StorageResult<()> {
        let period = signed(books.period.id.0);
        let reference = &subject.subscription.reference;
        let Some(charged) = self.decisions.charged(subject.site, reference, period).await? else {
            if books.used() > 0 {
                report
                    .unavailable
                    .insert("the decision log: it has nothing of some periods".to_owned());
            }
            return Ok(());
        };
        let used = signed(books.used());
        let has_dead = books.leases.iter().any(|lease| lease.dead || lease.lost > 0);
        let cause = if charged > used {
            "the ledger has not heard of all of it: a node is cut off, or the database was brought back from a backup; nodes report again when they reach it"
        } else if has_dead {
            "a node was declared dead or lost its journal, so what it held counts as used"
        } else {
            "decisions are not shipped yet or were lost; look at payfence_decisions_lost_total and the export lag of the nodes"
        };
        if charged != used {
            let (first, second) = (charged.to_string(), used.to_string());
            report.add(subject, Some(period), "log/ledger", first, second, cause);
        }
        Ok(())
    }
}

impl Report {
    fn add(
        &mut self,
        subject: &Subject<'_>,
        period: Option<i64>,
        what: &'static str,
        first: String,
        second: String,
        cause: impl Into<String>,
    ) {
        self.count += 1;
        if self.differences.len() == DIFFERENCES_MAX {
            return;
        }
        self.differences.push(Difference {
            site: subject.site.slug.clone(),
            subscription: subject.subscription.id.clone(),
            period,
            what,
            first,
            second,
            cause: cause.into(),
        });
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

/// Reconciles everything once a day, on one of the control planes.
#[must_use]
pub fn spawn_daily(reconciler: Reconciler) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            if let Err(error) = daily(&reconciler).await {
                tracing::warn!(%error, "the day's reconciliation did not end");
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

/// Reconciles the day, unless that was done; says what came of it.
///
/// # Errors
/// When the database cannot be asked; the day is not tried again.
pub async fn daily(reconciler: &Reconciler) -> StorageResult<Option<Report>> {
    let day = reconciler.store.world().now_ms().div_euclid(DAY_MS);
    if !reconciler.store.begin_reconciliation(day).await? {
        return Ok(None);
    }
    let report = reconciler.run(&Scope::default()).await?;
    reconciler.store.end_reconciliation(day, signed(report.checked), signed(report.count)).await?;
    for difference in report.differences.iter().take(20) {
        tracing::warn!(?difference, "something does not agree");
    }
    tracing::info!(checked = report.checked, differences = report.count, "reconciled the day");
    Ok(Some(report))
}
