//! An event's envelope, read tolerantly.
//!
//! In: a verified body. Out: [`Arrived`], with the subject that has to be fetched; or nothing where it is no event.
//! Always holds: of the body only names are read, never what it says of money or status, since that is fetched again; a name
//! is 1 to [`NAME_CHARS_MAX`] visible ASCII characters, so it fits every database and every path.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::storage::Arrived;

const NAME_CHARS_MAX: usize = 255;

#[derive(Debug, Deserialize)]
struct Wire {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    account: Option<String>,
    livemode: bool,
    /// Seconds; a date in events of version 2.
    #[serde(default)]
    created: Json,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    related_object: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(default)]
    object: Option<Object>,
}

#[derive(Debug, Default, Deserialize)]
struct Object {
    #[serde(default)]
    id: Json,
    #[serde(default)]
    object: Json,
    #[serde(default, rename = "type")]
    kind: Json,
    /// Of an invoice: what it is for.
    #[serde(default)]
    parent: Json,
    /// Of an invoice of an earlier version.
    #[serde(default)]
    subscription: Json,
    /// Of a refund or a dispute.
    #[serde(default)]
    charge: Json,
    /// Of a price.
    #[serde(default)]
    product: Json,
}

/// What an event says of itself; `None` where it is none. `mode` is that of the endpoint it came to.
#[must_use]
pub fn read(body: &[u8], mode: &'static str) -> Option<Arrived> {
    let wire: Wire = serde_json::from_slice(body).ok()?;
    let object = wire.data.and_then(|data| data.object).or(wire.related_object).unwrap_or_default();
    let object_id = name_of(&object.id);
    let of_account = wire.kind.starts_with("v2.core.account");
    let stripe_account = match wire.account {
        Some(account) => account,
        // Version 2 tells of an account to the platform itself.
        None if of_account => object_id.clone()?,
        None => String::new(),
    };
    let is_good = is_name(&wire.id)
        && is_name(&wire.kind)
        && (stripe_account.is_empty() || is_name(&stripe_account));
    if !is_good {
        return None;
    }
    let subject = subject(&wire.kind, &object, object_id.as_deref(), &stripe_account);
    let object_kind = name_of(&object.object).or_else(|| name_of(&object.kind));
    Some(Arrived {
        mode,
        event_at_s: seconds(&wire.created),
        stripe_account,
        event_id: wire.id,
        livemode: wire.livemode,
        object_kind,
        kind: wire.kind,
        object_id,
        subject,
    })
}

/// What has to be fetched because of an event; `None` where nothing follows from its type.
fn subject(kind: &str, object: &Object, id: Option<&str>, account: &str) -> Option<String> {
    let of = |word: &str, id: Option<&str>| id.map(|id| format!("{word}/{id}"));
    match kind {
        "invoice.upcoming"
        | "invoice.created"
        | "invoice.paid"
        | "invoice.payment_failed"
        | "invoice.payment_action_required" => {
            let subscription = subscription_of(object);
            // Where it does not say what it is for, it is asked.
            subscription.map(|id| format!("subscription/{id}")).or_else(|| of("invoice", id))
        }
        "charge.refunded" => of("charge", id),
        "account.application.deauthorized" | "account.updated" | "capability.updated" => {
            of("account", Some(account))
        }
        _ if kind.starts_with("checkout.session.") => of("session", id),
        _ if kind.starts_with("customer.subscription.") => of("subscription", id),
        _ if kind.starts_with("refund.") || kind.starts_with("charge.refund.") => {
            name_of(&object.charge).map(|id| format!("charge/{id}")).or_else(|| of("refund", id))
        }
        _ if kind.starts_with("charge.dispute.") => of("dispute", id),
        _ if kind.starts_with("v2.core.account") => of("account", Some(account)),
        // All that waits for a product is compared at once.
        _ if kind.starts_with("price.") => {
            name_of(&object.product).map(|id| format!("product/{id}")).or_else(|| of("price", id))
        }
        _ if kind.starts_with("product.") => of("product", id),
        _ => None,
    }
}

fn subscription_of(invoice: &Object) -> Option<String> {
    let details = &invoice.parent["subscription_details"]["subscription"];
    name_of(details).or_else(|| name_of(&invoice.subscription))
}

/// An id, whether alone or within its object.
fn name_of(value: &Json) -> Option<String> {
    let id = value.as_str().or_else(|| value["id"].as_str())?;
    is_name(id).then(|| id.to_owned())
}

fn seconds(created: &Json) -> i64 {
    let date = || created.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second);
    created.as_i64().or_else(date).unwrap_or_default()
}

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
