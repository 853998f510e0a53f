//! What happened, told to those whom it concerns: the owner's programs (webhooks) and people (e-mail).
//!
//! In: a [`Change`] and an [`Event`]. Out: rows that workers take up after the change was committed.
//! Always holds: an event is written in the transaction of the change that it tells of, so it is told if and only if
//! the change was made; who is to be told is decided then; no secret is in an event.
//!
//! # To tell of something
//! Call [`enqueue`] between changing the rows and committing. For subscriptions, [`Event::of_subscription`] says
//! whether a change of the row is worth telling.

use std::sync::Arc;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use tokio::task::JoinHandle;

pub mod address;
pub mod backoff;
pub mod event;
pub mod mail;
pub mod quota;
pub mod secret;
pub mod webhooks;

pub use event::{Event, EventKind, Invoice};

use mail::{MailSender, MailSettings};
use quota::QuotaTeller;
use webhooks::{WebhookClient, WebhookSender};

use crate::secrets::Keyring;
use crate::storage::{
    Change, EventRecord, Mail, Member, StorageResult, Store, WebhookDelivery, WebhookEndpoint,
    column,
};

/// Webhook endpoints of an account at most.
pub const ENDPOINTS_MAX: u64 = 20;

/// A delivery or mail that waits for its next attempt.
pub const PENDING: &str = "pending";

/// Tells of an event once the change is committed: writes it with a delivery for each endpoint that wants it and the
/// mail that goes with it. Answers the event's id, which receivers know it by.
///
/// # Errors
/// When the database cannot be asked; the change is then to be dropped.
pub async fn enqueue(change: &mut Change, event: Event) -> StorageResult<String> {
    let template = event.kind.template();
    enqueue_with(change, event, template).await
}

/// The same without the mail, where the buyer was told already what concerns them in it.
///
/// # Errors
/// As [`enqueue`].
pub async fn enqueue_unmailed(change: &mut Change, event: Event) -> StorageResult<String> {
    enqueue_with(change, event, None).await
}

async fn enqueue_with(
    change: &mut Change,
    event: Event,
    template: Option<&str>,
) -> StorageResult<String> {
    let now_ms = change.now_ms();
    let record = EventRecord {
        kind: event.kind.as_str().to_owned(),
        subscription_id: event.subscription_id.clone(),
        data: event.data.to_string(),
        ..EventRecord::default()
    };
    let record = change.record(record).await?;
    for endpoint in listening(change, event.kind).await? {
        let delivery = WebhookDelivery {
            endpoint_id: endpoint.id,
            event_id: record.id.clone(),
            kind: record.kind.clone(),
            status: PENDING.to_owned(),
            begun_at_ms: now_ms,
            next_at_ms: Some(now_ms),
            ..WebhookDelivery::default()
        };
        change.record(delivery).await?;
    }
    if let Some(template) = template {
        let mail = Mail {
            template: template.to_owned(),
            event_id: record.id.clone(),
            subscription_id: event.subscription_id,
            status: PENDING.to_owned(),
            next_at_ms: Some(now_ms),
            ..Mail::default()
        };
        change.record(mail).await?;
    }
    Ok(record.id)
}

/// Puts a mail to members of the account on its way, in the change that it tells of.
///
/// # Errors
/// When the database cannot be asked.
pub async fn mail_members(
    change: &mut Change,
    template: &str,
    event_id: &str,
    members: &[Member],
) -> StorageResult<()> {
    for member in members {
        mail_to(change, template, event_id, &member.email).await?;
    }
    Ok(())
}

/// Puts a mail to one address on its way, in the change that it tells of.
///
/// # Errors
/// When the database cannot be asked.
pub async fn mail_to(
    change: &mut Change,
    template: &str,
    event_id: &str,
    recipient: &str,
) -> StorageResult<()> {
    let mail = Mail {
        template: template.to_owned(),
        event_id: event_id.to_owned(),
        recipient: Some(recipient.to_owned()),
        status: PENDING.to_owned(),
        next_at_ms: Some(change.now_ms()),
        ..Mail::default()
    };
    change.record(mail).await?;
    Ok(())
}

/// What workers are told.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    /// The keys that endpoints' secrets are sealed with.
    pub keyring: Arc<Keyring>,
    /// Whether webhooks may go to the operator's own network.
    pub allow_private_webhooks: bool,
    /// What mails are sent with.
    pub mail: MailSettings,
}

/// Starts what sends webhooks and mails and looks for quotas that are used up.
///
/// # Errors
/// Text for a person: the mail server's URL is of no use, or there are no certificate authorities.
pub fn workers(store: &Store, settings: &NotifySettings) -> Result<Vec<JoinHandle<()>>, String> {
    let client = WebhookClient::new(settings.allow_private_webhooks)?;
    let webhooks = WebhookSender::new(store.clone(), settings.keyring.clone(), client);
    let mails = MailSender::new(store.clone(), settings.mail.clone())?;
    let quota = QuotaTeller::new(store.clone());
    Ok(vec![tokio::spawn(webhooks.run()), tokio::spawn(mails.run()), tokio::spawn(quota.run())])
}

/// The endpoints that want events of this kind.
async fn listening(change: &Change, kind: EventKind) -> StorageResult<Vec<WebhookEndpoint>> {
    if !kind.is_sent() {
        return Ok(Vec::new());
    }
    let tenant = change.tenant();
    let endpoints = tenant.all::<WebhookEndpoint>(ENDPOINTS_MAX, |query| {
        query
            .filter(column::WebhookEndpoint::DisabledAtMs.is_null())
            .filter(column::WebhookEndpoint::ArchivedAtMs.is_null())
    });
    let mut endpoints = endpoints.await?;
    endpoints.retain(|endpoint| wants(endpoint, kind));
    Ok(endpoints)
}

/// Whether an endpoint wants events of this kind: without a list, all.
fn wants(endpoint: &WebhookEndpoint, kind: EventKind) -> bool {
    let Some(text) = &endpoint.events else { return true };
    serde_json::from_str::<Vec<String>>(text)
        .is_ok_and(|kinds| kinds.iter().any(|word| word == kind.as_str()))
}
