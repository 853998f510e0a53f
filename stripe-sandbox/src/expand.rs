//! `expand[]`: ids replaced by the objects they name.
//!
//! In: an answer and paths such as `latest_invoice.payments` or `data.customer`. Out: the answer with objects in place.
//! Always holds: four levels at most; what names nothing stays as it is.

use crate::error::StripeError;
use crate::state::State;
use serde_json::Value;

/// Levels a path may have.
const DEPTH_MAX: usize = 4;

/// By their beginnings, what kinds ids are of.
const KINDS: &[(&str, &str)] = &[
    ("prod_", "product"),
    ("price_", "price"),
    ("cus_", "customer"),
    ("sub_", "subscription"),
    ("in_", "invoice"),
    ("pi_", "payment_intent"),
    ("ch_", "charge"),
    ("pm_", "payment_method"),
    ("cs_", "checkout.session"),
    ("re_", "refund"),
    ("du_", "dispute"),
    ("fee_", "application_fee"),
    ("acct_", "account"),
    ("clock_", "test_helpers.test_clock"),
];

/// Expands `paths` within `answer`.
///
/// # Errors
/// A path deeper than four levels.
pub fn expand(
    state: &State,
    account: &str,
    answer: &mut Value,
    paths: &[String],
) -> Result<(), StripeError> {
    for path in paths {
        let parts: Vec<&str> = path.split('.').collect();
        if parts.len() > DEPTH_MAX {
            return Err(StripeError::invalid("You cannot expand more than 4 levels of a property")
                .at("expand"));
        }
        walk(state, account, answer, &parts);
    }
    Ok(())
}

fn walk(state: &State, account: &str, value: &mut Value, parts: &[&str]) {
    if let Value::Array(entries) = value {
        for entry in entries {
            walk(state, account, entry, parts);
        }
        return;
    }
    let Some((first, rest)) = parts.split_first() else { return };
    let Value::Object(object) = value else { return };
    if !object.contains_key(*first)
        && let Some(hidden) = object.get(&format!("_{first}"))
    {
        // Members that come only when asked for are kept as notes.
        let shown = hidden.clone();
        object.insert((*first).to_owned(), shown);
    }
    let Some(below) = object.get_mut(*first) else { return };
    if let Some(found) = below.as_str().and_then(|id| find(state, account, id)) {
        *below = found;
    }
    walk(state, account, below, rest);
}

fn find(state: &State, account: &str, id: &str) -> Option<Value> {
    let kind = KINDS.iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, kind)| *kind);
    match kind {
        Some(kind) => state.get(account, kind, id),
        // Products have ids of their owner's choosing.
        None => state.get(account, "product", id).or_else(|| state.get(account, "coupon", id)),
    }
}
