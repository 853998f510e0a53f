//! Endpoints that have taken nothing for long.
//!
//! In: since when endpoints fail. Out: endpoints turned off, their owners told.
//! Always holds: an endpoint is turned off, what waits for it given up and its owners told in one change.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::Value as Json;

use super::{TRIED_MS, WebhookSender};
use crate::domain::permission::Role;
use crate::notify::event::object;
use crate::notify::{Event, EventKind, enqueue, mail_members};
use crate::storage::{Actor, Change, Member, StorageResult, WebhookEndpoint, Window, column};

/// Deliveries that may wait for one endpoint.
const WAITING_MAX: i64 = 100_000;
/// Owners of an account that are told at most.
const OWNERS_MAX: u64 = 50;

impl WebhookSender {
    /// Turns endpoints off that have taken nothing for three days, or for which too much waits.
    pub async fn disable_failing(&self) {
        let since_ms = self.store.world().now_ms().saturating_sub(TRIED_MS);
        let failing = match self.store.failing_endpoints(since_ms, WAITING_MAX).await {
            Ok(failing) => failing,
            Err(error) => return tracing::debug!(%error, "webhook endpoints are not looked at"),
        };
        for (account_id, id, reason) in failing {
            if let Err(error) = self.disable(&account_id, &id, reason).await {
                tracing::warn!(%error, endpoint = id, "a webhook endpoint is not turned off yet");
            }
        }
    }

    /// Turns one off and tells the account's owners; one that is off already stays as it is.
    pub(super) async fn disable(
        &self,
        account_id: &str,
        id: &str,
        reason: &str,
    ) -> StorageResult<()> {
        let actor = Actor { kind: "system", id: "webhooks".to_owned(), request_id: None };
        let mut change = self.store.change(account_id, actor).await?;
        let before = change.lock::<WebhookEndpoint>(id).await?;
        let Some(before) = before.filter(|row| row.disabled_at_ms.is_none()) else { return Ok(()) };
        let after = WebhookEndpoint {
            disabled_at_ms: Some(change.now_ms()),
            disabled_reason: Some(reason.to_owned()),
            ..before.clone()
        };
        change.update(&before, after).await?;
        change.give_up_deliveries(id, "the endpoint was turned off").await?;
        let facts = object([
            ("id", id.into()),
            ("url", before.url.into()),
            ("description", before.description.into()),
            ("reason", reason.into()),
        ]);
        let data = Json::Object(object([("webhook_endpoint", Json::Object(facts))]));
        let event = Event { kind: EventKind::EndpointDisabled, subscription_id: None, data };
        let event_id = enqueue(&mut change, event).await?;
        let owners = owners(&change).await?;
        mail_members(&mut change, "endpoint_disabled", &event_id, &owners).await?;
        change.commit().await?;
        tracing::warn!(endpoint = id, reason, "a webhook endpoint was turned off");
        Ok(())
    }
}

async fn owners(change: &Change) -> StorageResult<Vec<Member>> {
    let tenant = change.tenant();
    let window = Window { limit: OWNERS_MAX, starting_after: None };
    let page = tenant.page::<Member>(window, |query| {
        query
            .filter(column::Member::Role.eq(Role::Owner.as_str()))
            .filter(column::Member::ArchivedAtMs.is_null())
    });
    Ok(page.await?.map(|page| page.rows).unwrap_or_default())
}
