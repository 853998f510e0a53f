//! `POST /v1/billing/sync`.
//!
//! In: a mode, whether only to look. Out: what was or would be done at Stripe, plan by plan.
//! Always holds: with `dry_run` nothing is changed, here or there; without, the audit log says who had it done.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::api::App;
use crate::api::extract::Posted;
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::catalogue::{Depth, SyncEntry, sync};
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;
use crate::storage::Account;

/// What to bring to Stripe.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyncDraft {
    /// `live` where it is left out.
    #[schema(required = false)]
    pub mode: Mode,
    /// Whether only to look.
    #[schema(required = false)]
    pub dry_run: bool,
    /// Whether what was changed at Stripe by hand becomes what the plans say again. With `dry_run`, nothing does.
    #[schema(required = false)]
    pub mend: bool,
}

/// What was or would be done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SyncView {
    /// Test or live.
    mode: Mode,
    /// Whether it was only looked.
    dry_run: bool,
    /// The plans of which something becomes or became.
    entries: Vec<SyncEntry>,
}

/// Bring plans to Stripe
#[utoipa::path(post, path = "/billing/sync", tag = "billing", request_body = SyncDraft,
    responses((status = 200, description = "What was or would be done", body = SyncView), Problems))]
pub async fn sync_billing(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<SyncDraft>,
) -> Result<Response, Problem> {
    let SyncDraft { mode, dry_run, mend } = posted.body;
    let grant = app.gate.grant(&caller, Area::Plans)?;
    let depth = match (dry_run, mend) {
        (true, _) => Depth::DryRun,
        (false, true) => Depth::Mend,
        (false, false) => Depth::Whole,
    };
    let work = async {
        let entries = sync(app.billing()?, &grant.account_id, mode, depth).await?;
        if !dry_run {
            let tenant = app.gate.read(&caller, Area::Plans)?;
            let account = tenant.get::<Account>(&grant.account_id).await?;
            let account = account.ok_or_else(|| Problem::not_found("account"))?;
            let asked = json!({ "sync_billing": { "mode": mode, "mend": mend } });
            app.gate.note(&grant, &account, asked).await?;
        }
        Ok(Json(SyncView { mode, dry_run, entries }))
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Answer, work).await
}
