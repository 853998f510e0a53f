//! `DELETE /v1/sites/{site_id}`.
//!
//! In: an id. Out: the site, archived.
//! Always holds: a site with subscriptions that are not archived stays, and so does one with a checkout that may still be paid, since nothing
//! is served of an archived one; the row stays in any case, so that its key is never given again and the log can be read; hosts are free
//! again, and the slug is for this account.

use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::{SiteView, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::checkout;
use crate::domain::permission::Area;
use crate::storage::{Checkout, Site, Subscription, column};

/// How long after a session's end it may not be known yet that it was paid in time, milliseconds.
const TOLD_WITHIN_MS: i64 = 3_600_000;

/// Archive a site
///
/// A site with subscriptions stays, and so does one with checkouts that may still be paid: archive its plans first, so that no more are begun,
/// and the rest is over within a day, or when the money of a slow way of paying has come or failed.
#[utoipa::path(delete, path = "/sites/{site_id}", tag = "sites",
    params(("site_id" = String, Path, description = "The site")),
    responses((status = 200, description = "The site, archived", body = SiteView), Problems))]
pub async fn archive_site(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<SiteView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Sites).await?;
    let before = lock_live(&change, &site_id).await?;
    if_match.check(before.version)?;
    let in_use = change
        .tenant()
        .count::<Subscription>(|query| {
            query
                .filter(column::Subscription::SiteId.eq(site_id.as_str()))
                .filter(column::Subscription::ArchivedAtMs.is_null())
        })
        .await?;
    if in_use > 0 {
        return Err(Problem::conflict(format!(
            "the site has {in_use} subscriptions; archive them first"
        )));
    }
    let may_be_paid = checkout::may_be_paid(change.now_ms() - TOLD_WITHIN_MS);
    let tenant = change.tenant();
    let payable = tenant.count::<Checkout>(|query| {
        query.filter(column::Checkout::SiteId.eq(site_id.as_str())).filter(may_be_paid)
    });
    let payable = payable.await?;
    if payable > 0 {
        return Err(Problem::conflict(format!(
            "{payable} checkouts of the site may still be paid; archive its plans, so that no more are begun, and ask again when these \
             are over (GET /v1/checkouts): within a day, or when the money of a slow way of paying has come or failed"
        )));
    }
    let after = Site { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let site = change.update(&before, after).await?;
    change.set_hosts(&site.id, &[]).await?;
    let shown = Shown { view: view_of(&site, &app)?, version: site.version };
    change.commit().await?;
    Ok(shown)
}
