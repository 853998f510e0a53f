//! Customers: what their endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: a customer is of one account and may have subscriptions on any of its sites.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::fields::{check_reference, check_text_opt};
use super::sites::damaged;
use crate::api::problem::{Problem, is_taken};
use crate::api::time::{shown, shown_opt};
use crate::domain::policy_text::Fault;
use crate::domain::site::keys_of;
use crate::storage::{Customer, StorageError};

/// What can be said of a customer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomerDraft {
    /// The name that the origin and the log know it by; its id where it is left out; cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200, pattern = "^[!-~]([ -~]*[!-~])?$", example = "acme")]
    pub reference: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub name: Option<String>,
    /// Where to write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$")]
    pub email: Option<String>,
}

/// A customer as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CustomerView {
    /// Its id.
    id: String,
    #[serde(flatten)]
    draft: CustomerDraft,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// What a row says.
pub fn customer_draft(row: &Customer) -> Result<CustomerDraft, Problem> {
    let draft: CustomerDraft = serde_json::from_str(&row.settings).map_err(damaged)?;
    Ok(CustomerDraft { reference: Some(row.reference.clone()), ..draft })
}

/// A customer as it is shown.
pub fn view_of(row: &Customer) -> Result<CustomerView, Problem> {
    Ok(CustomerView {
        id: row.id.clone(),
        draft: customer_draft(row)?,
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    })
}

/// Checks a draft; answers the row's settings.
pub fn check_draft(draft: &CustomerDraft) -> Result<String, Problem> {
    let mut faults = Vec::new();
    check_reference(draft.reference.as_deref(), &mut faults);
    check_text_opt("name", draft.name.as_deref(), &mut faults);
    check_text_opt("email", draft.email.as_deref(), &mut faults);
    if draft.email.as_ref().is_some_and(|email| !email.trim_matches('@').contains('@')) {
        faults.push(Fault::new("email", "expected an address such as billing@example.com"));
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let mut keys = keys_of(draft);
    keys.remove("reference");
    Ok(Json::Object(keys).to_string())
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    if is_taken(&error, "customers_reference", "customers.reference") {
        return Problem::taken(Fault::new("reference", "another customer of this account has it"));
    }
    error.into()
}
