//! `POST /v1/accounts`.
//!
//! In: a [`NewAccountDraft`]. Out: 201 with the account and its owner's first key, once.
//! Always holds: account, owner and key are made together; the key is not the operator's.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::account::{AccountView, view_of};
use crate::api::endpoints::fields::{check_email, check_text};
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::ids::new_id;
use crate::init::make_account;
use crate::storage::{Account, TenantRow as _};

/// What can be said of a new account.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccountDraft {
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "Weather Inc."
    )]
    pub name: String,
    /// The address of its first owner; kept in lower case.
    #[schema(
        max_length = 254,
        pattern = "^[!-?A-~]+@[!-?A-~]+$",
        example = "owner@weather.example"
    )]
    pub email: String,
}

/// Make an account
#[utoipa::path(post, path = "/accounts", tag = "accounts", request_body = NewAccountDraft,
    description = "For a key of the operator's alone.",
    responses((status = 201, description = "The account; its owner's first key is in `secret`, once", body = AccountView), Problems))]
pub async fn create_account(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<NewAccountDraft>,
) -> Result<Response, Problem> {
    let id = new_id(Account::PREFIX, &*app.world);
    let mut change = app.gate.operate_once(&caller, &id, posted.key.as_ref()).await?;
    let draft = posted.body;
    let mut faults = Vec::new();
    check_text("name", &draft.name, &mut faults);
    let email = check_email(&draft.email, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let (account, key) = make_account(&mut change, &draft.name, &email, false).await?;
    // Its owner finds it there; the operator's own key has another account.
    let location = "/v1/account".to_owned();
    let view = view_of(&account);
    Made { view, version: account.version, location, secret: Some(key) }.commit(change).await
}
