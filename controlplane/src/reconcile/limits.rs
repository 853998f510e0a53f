//! Ledger and entitlement: the same limit, the same period.
//!
//! In: a subscription with its account at the ledger. Out: differences.
//! Always holds: compared is only what a node has reported since the last change of subscription and plan, when it had time to
//! take that up.

use super::{Pair, Reconciler, Report, Scope, Subject, signed};
use crate::api::endpoints::adjustments::in_force;
use crate::api::endpoints::entitlements::{plan_and_period, total};
use crate::storage::{StorageError, StorageResult};

impl Reconciler {
    pub(super) async fn ledger_and_entitlement(
        &self,
        subject: &Subject<'_>,
        scope: &Scope,
        report: &mut Report,
    ) -> StorageResult<()> {
        let row = subject.subscription;
        let Some((account, at_ms)) = &subject.ledger else { return Ok(()) };
        // Of an archived one nodes know nothing any more.
        if row.archived_at_ms.is_some() {
            return Ok(());
        }
        let tenant = self.store.tenant(&row.account_id);
        let broken =
            |what: &str| StorageError::Broken(format!("{what} of {} cannot be read", row.id));
        let known = plan_and_period(&tenant, row, subject.now_ms).await;
        let known = known.map_err(|_| broken("the plan"))?;
        let adjustments = in_force(&tenant, &row.id, subject.now_ms).await;
        let adjusted = total(&adjustments.map_err(|_| broken("adjustments"))?);
        let changed_ms = row.updated_at_ms.max(known.plan.updated_at_ms);
        let period_ms = account.current.start_s.saturating_mul(1_000);
        if *at_ms < changed_ms.max(period_ms).saturating_add(scope.settled_ms) {
            return Ok(());
        }
        let ours = known.draft.quota.map(|quota| {
            i64::try_from(quota.requests).unwrap_or(i64::MAX).saturating_add(adjusted).max(0)
        });
        let theirs = account.terms.limit.map(signed);
        report.compared(Pair::LedgerEntitlement);
        if ours != theirs {
            let cause = "nodes have not taken up the last change: look at the lag of GET /v1/nodes and at what they rejected";
            let shown = |limit: Option<i64>| {
                limit.map_or("unlimited".to_owned(), |units| units.to_string())
            };
            let period = Some(signed(account.current.id.0));
            report.add(subject, period, Pair::LedgerEntitlement, shown(theirs), shown(ours), cause);
        }
        Ok(())
    }
}
