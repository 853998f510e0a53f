//! `POST /v1/stripe/sweeps`.
//!
//! In: nothing. Out: the sweeps that were asked for; a control plane begins them within seconds.
//! Always holds: asked for while one runs, it runs once more after it; lost accounts are not swept.

use axum::extract::State;
use axum::response::Response;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{StripeSweepView, sweep_view_of};
use crate::api::App;
use crate::api::answer::commit_listed;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::sweep::kind;
use crate::domain::permission::Area;
use crate::storage::{Change, StripeAccount, StripeSweep, column};

/// Connected accounts of one account of ours: one a mode.
const ACCOUNTS_MAX: u64 = 10;

/// Nothing is needed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepDraft {}

/// What was asked for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SweepsView {
    /// The sweeps.
    data: Vec<StripeSweepView>,
}

/// Compare with Stripe now
#[utoipa::path(post, path = "/stripe/sweeps", tag = "billing", request_body = SweepDraft,
    responses((status = 200, description = "The sweeps, to begin within seconds", body = SweepsView), Problems))]
pub async fn ask_stripe_sweep(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<SweepDraft>,
) -> Result<Response, Problem> {
    let key = posted.key.as_ref();
    let mut change = app.gate.write_once(&caller, Area::Subscriptions, key).await?;
    let tenant = change.tenant();
    let accounts = tenant.all::<StripeAccount>(ACCOUNTS_MAX, |query| {
        query.filter(column::StripeAccount::LostAtMs.is_null())
    });
    let accounts = accounts.await?;
    let mut data = Vec::new();
    for account in &accounts {
        for kind in kind::ALL {
            data.push(sweep_view_of(&ask(&mut change, account, kind).await?));
        }
    }
    commit_listed(change, &SweepsView { data }).await
}

async fn ask(
    change: &mut Change,
    account: &StripeAccount,
    kind: &str,
) -> Result<StripeSweep, Problem> {
    let tenant = change.tenant();
    let known = tenant.one::<StripeSweep>(|query| {
        query
            .filter(column::StripeSweep::StripeAccount.eq(account.stripe_id.as_str()))
            .filter(column::StripeSweep::Mode.eq(account.mode.as_str()))
            .filter(column::StripeSweep::Kind.eq(kind))
    });
    let known = match known.await? {
        Some(row) => change.lock::<StripeSweep>(&row.id).await?,
        None => None,
    };
    let asked_at_ms = Some(change.now_ms());
    Ok(match known {
        Some(before) => {
            let after = StripeSweep { asked_at_ms, ..before.clone() };
            change.update(&before, after).await?
        }
        None => {
            let row = StripeSweep {
                mode: account.mode.clone(),
                stripe_account: account.stripe_id.clone(),
                kind: kind.to_owned(),
                asked_at_ms,
                ..StripeSweep::default()
            };
            change.insert(row).await?
        }
    })
}
