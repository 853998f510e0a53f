//! Reconciliation: decision log ↔ ledger ↔ entitlement ↔ Stripe.
//!
//! In: what each of them says of a subscription and a period. Out: a [`Report`] of what does not agree, with the likely cause.
//! Always holds: nothing is changed by looking; what is still on its way (a report of the last minute, a change that nodes have
//! not taken up, overage of a period that ended just now) is no difference; what cannot be asked is said, not guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policy::budget::ledger::{Account, PeriodBooks};
use policy::ids::entitlement_id;
use tokio::task::JoinHandle;

mod limits;
mod log;
mod paid;

pub use log::{Answer, Asked, Charges, DecisionLog, Known, NoDecisions};

use crate::analytics::AnalyticsError;
use crate::billing::stripe::Stripe;
use crate::storage::{Site, StorageError, StorageResult, Store, Subscription};

/// Subscriptions read at once.
const BATCH: u64 = 500;
/// Differences that a report holds; more are counted.
const DIFFERENCES_MAX: usize = 10_000;
/// What changed within this is still on its way where nothing else is said, milliseconds.
const SETTLED_MS: i64 = 120_000;
/// When every invoice of a period is final, seconds after it.
const FINAL_S: i64 = 7_200;
const DAY_MS: i64 = 86_400_000;
/// How often it is looked whether a day has begun.
const POLL: Duration = Duration::from_secs(600);

/// What to reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// One site, by id or slug; all where there is none.
    pub site: Option<String>,
    /// One period, by its id; all that the ledger has where there is none.
    pub period: Option<i64>,
    /// What changed within this is still on its way and is left out, milliseconds.
    pub settled_ms: i64,
}

impl Default for Scope {
    fn default() -> Self {
        Self { site: None, period: None, settled_ms: SETTLED_MS }
    }
}

impl Scope {
    /// How long overage is on its way, seconds: until every invoice of its period is final, and shorter where less than usual is said
    /// to be on its way.
    fn final_s(&self) -> i64 {
        FINAL_S.min(self.settled_ms.saturating_mul(FINAL_S) / SETTLED_MS)
    }
}

/// What is compared with what, as reports call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pair {
    /// Units that the decision log has charged, and units that the ledger has as used.
    LogLedger,
    /// The limit that nodes report, and the one that the entitlement has.
    LedgerEntitlement,
    /// Overage, and what Stripe was told of it and has counted.
    LedgerStripe,
    /// What subscribers are given, and what Stripe says that they pay for.
    EntitlementStripe,
}

impl Pair {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::LogLedger, Self::LedgerEntitlement, Self::LedgerStripe, Self::EntitlementStripe];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LogLedger => "log/ledger",
            Self::LedgerEntitlement => "ledger/entitlement",
            Self::LedgerStripe => "ledger/stripe",
            Self::EntitlementStripe => "entitlement/stripe",
        }
    }
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
    /// What was compared.
    pub pair: Pair,
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
    /// How often each pair was compared: of a subscription of which everything is on its way, or nobody knows anything, none is.
    pub compared: BTreeMap<Pair, u64>,
    /// What does not agree, [`DIFFERENCES_MAX`] at most.
    pub differences: Vec<Difference>,
    /// How many do not agree.
    pub count: u64,
    /// What could not be asked.
    pub unavailable: BTreeSet<String>,
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

/// What the decision log said of some subscriptions.
#[derive(Debug, Default)]
struct Logged {
    /// When it was asked, by the ledger's clock.
    at_ms: i64,
    /// By the site's id; none of a site that it could not be asked about.
    sites: BTreeMap<String, Charges>,
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
            let logged = self.ask_log(&sites, &rows, scope, &mut report).await?;
            for row in &rows {
                let Some(site) = sites.get(&row.site_id) else { continue };
                self.subscription(site, row, scope, &logged, &mut report).await?;
            }
        }
    }

    /// Asks the log about some subscriptions. What is compared with the answer is read after it, so that what both have heard of
    /// by then is old enough.
    async fn ask_log(
        &self,
        sites: &BTreeMap<String, Site>,
        rows: &[Subscription],
        scope: &Scope,
        report: &mut Report,
    ) -> StorageResult<Logged> {
        let mut asked: BTreeMap<&str, (i64, Vec<String>)> = BTreeMap::new();
        for row in rows {
            let Some(site) = sites.get(&row.site_id) else { continue };
            let id = entitlement_id(&site.slug, &row.reference);
            let Some(account) = self.store.ledger_account(id.0).await? else { continue };
            let is_asked =
                |id: u64| scope.period.is_none_or(|asked| u64::try_from(asked) == Ok(id));
            let periods = account.books.iter().map(|books| books.period);
            let since_s =
                periods.filter(|period| is_asked(period.id.0)).map(|period| period.start_s).min();
            let Some(since_s) = since_s else { continue };
            let of_site = asked.entry(&row.site_id).or_insert((since_s, Vec::new()));
            of_site.0 = of_site.0.min(since_s);
            of_site.1.push(row.reference.clone());
        }
        let at_ms = self.store.ledger_now_ms().await?;
        let mut logged = Logged { at_ms, sites: BTreeMap::new() };
        for (site_id, (since_s, references)) in asked {
            let Some(site) = sites.get(site_id) else { continue };
            let sites = self.store.tenant(&site.account_id).own_sites(Some(site_id)).await?;
            match self.decisions.charged(&Asked { sites, references, since_s }).await {
                Ok(charges) => {
                    logged.sites.insert(site_id.to_owned(), charges);
                }
                Err(AnalyticsError::Storage(error)) => return Err(error),
                Err(error) => {
                    report.unavailable.insert(format!("the decision log: {error}"));
                }
            }
        }
        Ok(logged)
    }

    async fn subscription(
        &self,
        site: &Site,
        subscription: &Subscription,
        scope: &Scope,
        logged: &Logged,
        report: &mut Report,
    ) -> StorageResult<()> {
        report.checked += 1;
        let id = entitlement_id(&site.slug, &subscription.reference);
        let ledger = self.store.ledger_account_at(id.0).await?;
        let now_ms = self.store.ledger_now_ms().await?;
        let subject = Subject { site, subscription, entitlement: id.0, ledger, now_ms };
        if let Some((account, at_ms)) = &subject.ledger {
            let since_ms = |ms: i64| logged.at_ms.saturating_sub(ms);
            for books in &account.books {
                let period = signed(books.period.id.0);
                let ended_ms = books.period.end_s.saturating_mul(1_000);
                let is_running = books.period.id == account.current.id;
                let is_settled = since_ms(*at_ms) > scope.settled_ms
                    || (!is_running && since_ms(ended_ms) > scope.settled_ms);
                if is_settled && scope.period.is_none_or(|asked| asked == period) {
                    log_and_ledger(&subject, books, logged, report);
                }
            }
        }
        if scope.period.is_none() {
            self.ledger_and_entitlement(&subject, scope, report).await?;
        }
        self.told_and_stripe(&subject, scope, report).await
    }
}

/// Whether the log has charged what the ledger has as used.
fn log_and_ledger(
    subject: &Subject<'_>,
    books: &PeriodBooks,
    logged: &Logged,
    report: &mut Report,
) {
    let period = signed(books.period.id.0);
    let used = signed(books.used());
    let age_ms = logged.at_ms.saturating_sub(books.period.start_s.saturating_mul(1_000));
    let reference = &subject.subscription.reference;
    let charges = logged.sites.get(&subject.site.id);
    let known = charges.map_or(Known::Nothing, |log| log.of(reference, period, age_ms));
    if known != Known::Nothing {
        report.compared(Pair::LogLedger);
    }
    let charged = match known {
        Known::All(units) => units,
        Known::Between(least, most) if used < least || used > most => {
            if used < least {
                least
            } else {
                most
            }
        }
        Known::Between(..) => return,
        Known::Nothing => {
            if used > 0 {
                report
                    .unavailable
                    .insert("the decision log: it has nothing of some periods".to_owned());
            }
            return;
        }
    };
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
        report.add(subject, Some(period), Pair::LogLedger, first, second, cause);
    }
}

impl Report {
    fn compared(&mut self, pair: Pair) {
        *self.compared.entry(pair).or_default() += 1;
    }

    fn add(
        &mut self,
        subject: &Subject<'_>,
        period: Option<i64>,
        pair: Pair,
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
            pair,
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

async fn compare_day(reconciler: &Reconciler, day: i64) -> StorageResult<Report> {
    let report = reconciler.run(&Scope::default()).await?;
    reconciler.store.end_reconciliation(day, signed(report.checked), signed(report.count)).await?;
    Ok(report)
}

/// Reconciles the day, unless that was done; says what came of it.
///
/// # Errors
/// When the database cannot be asked; the day is tried again after an hour.
pub async fn daily(reconciler: &Reconciler) -> StorageResult<Option<Report>> {
    let day = reconciler.store.world().now_ms().div_euclid(DAY_MS);
    if !reconciler.store.begin_reconciliation(day).await? {
        return Ok(None);
    }
    let report = match compare_day(reconciler, day).await {
        Ok(report) => report,
        Err(error) => {
            if let Err(error) = reconciler.store.put_off_reconciliation(day).await {
                tracing::debug!(%error, "the day is tried again as if its process had died");
            }
            return Err(error);
        }
    };
    for difference in report.differences.iter().take(20) {
        tracing::warn!(?difference, "something does not agree");
    }
    tracing::info!(checked = report.checked, differences = report.count, "reconciled the day");
    Ok(Some(report))
}
