//! Adjustments of an entitlement by hand: what their endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: one that was made stays as it is; another one corrects it; its subscription's row is written with it, whose
//! whole is what nodes are sent.

pub mod create;
pub mod get;
pub mod list;

use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::storage::{Adjustment, Tenant, column};

/// Adjustments of a subscription that count at the same time, at most.
pub const ADJUSTMENTS_MAX: u64 = 1_000;

/// What can be said of an adjustment.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentDraft {
    /// Units that are given, or taken where it is negative; not 0.
    #[schema(minimum = -999_999_999_999_999_i64, maximum = 999_999_999_999_999_i64, example = 500)]
    pub units: i64,
    /// Why; for whoever looks later.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "outage of 2 November"
    )]
    pub reason: String,
    /// Whether it counts for the running period alone; otherwise for every period from now on.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub expires_at_period_end: bool,
}

fn yes() -> bool {
    true
}

/// An adjustment as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AdjustmentView {
    /// Its id.
    id: String,
    /// The subscription.
    subscription_id: String,
    /// Units that are given, or taken where it is negative.
    units: i64,
    /// Why.
    reason: String,
    /// The period it was made for; null for every one.
    period_id: Option<i64>,
    /// The end of that period.
    expires_at: Option<String>,
    /// Stays 1.
    version: i64,
    /// When it was made.
    created_at: String,
    /// The same.
    updated_at: String,
}

/// An adjustment as it is shown.
#[must_use]
pub fn view_of(row: &Adjustment) -> AdjustmentView {
    AdjustmentView {
        id: row.id.clone(),
        subscription_id: row.subscription_id.clone(),
        units: row.units,
        reason: row.reason.clone(),
        period_id: row.period_id,
        expires_at: shown_opt(row.expires_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}

/// Those of a subscription that count at a moment, oldest first.
pub async fn in_force(
    tenant: &Tenant<'_>,
    subscription_id: &str,
    now_ms: i64,
) -> Result<Vec<Adjustment>, Problem> {
    let counts = Condition::any()
        .add(column::Adjustment::ExpiresAtMs.is_null())
        .add(column::Adjustment::ExpiresAtMs.gt(now_ms));
    let rows = tenant.all::<Adjustment>(ADJUSTMENTS_MAX, |query| {
        query.filter(column::Adjustment::SubscriptionId.eq(subscription_id)).filter(counts)
    });
    Ok(rows.await?)
}
