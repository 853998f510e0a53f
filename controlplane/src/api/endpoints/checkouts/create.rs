//! `POST /v1/checkouts`.
//!
//! In: a [`CheckoutDraft`]. Out: 201 with the checkout and where it is paid.
//! Always holds: the same request with the same key is one checkout and one session, also where Stripe's answer was lost.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::{CheckoutDraft, CheckoutView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::fields::check_email;
use crate::api::extract::Posted;
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::checkout::{Wanted, create};
use crate::domain::permission::Area;
use crate::domain::policy_text::Fault;
use crate::storage::{Plan, Site};

/// The longest address of a page, bytes.
const URL_BYTES_MAX: usize = 2_000;

/// Make a checkout
#[utoipa::path(post, path = "/checkouts", tag = "billing", request_body = CheckoutDraft,
    responses((status = 201, description = "The checkout; the buyer pays at its `url`", body = CheckoutView), Problems))]
pub async fn create_checkout(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<CheckoutDraft>,
) -> Result<Response, Problem> {
    let grant = app.gate.grant(&caller, Area::Subscriptions)?;
    let draft = posted.body;
    check(&draft)?;
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    tenant.get::<Site>(&draft.site_id).await?.ok_or_else(|| Problem::not_found("site"))?;
    tenant.get::<Plan>(&draft.plan_id).await?.ok_or_else(|| Problem::not_found("plan"))?;
    let billing = app.billing()?;
    let wanted = Wanted {
        site_id: draft.site_id,
        plan_id: draft.plan_id,
        mode: draft.mode,
        customer_id: draft.customer_id,
        email: draft.email,
        success_url: draft.success_url,
        cancel_url: draft.cancel_url,
        allow_promotion_codes: draft.allow_promotion_codes,
        automatic_tax: draft.automatic_tax,
    };
    // Broken off and begun again, it goes on with the checkout that there is.
    let id = posted.key.as_ref().map(|key| id_of(&grant.account_id, &key.key));
    let work = async {
        let row = create(billing, &grant.account_id, grant.actor.clone(), id, &wanted).await?;
        let location = format!("/v1/checkouts/{}", row.id);
        let shown = Shown { view: view_of(&row, &caller)?, version: row.version };
        Ok((StatusCode::CREATED, [(header::LOCATION, location)], shown))
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Answer, work).await
}

/// The id of the checkout that a key names.
fn id_of(account_id: &str, key: &str) -> String {
    let hash = Sha256::digest(format!("{account_id}\n{key}").as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("chk_{hex}")
}

fn check(draft: &CheckoutDraft) -> Result<(), Problem> {
    let mut faults = Vec::new();
    if let Some(email) = &draft.email {
        check_email(email, &mut faults);
    }
    for (field, url) in [("success_url", &draft.success_url), ("cancel_url", &draft.cancel_url)] {
        let is_web = |url: &String| {
            (url.starts_with("https://") || url.starts_with("http://"))
                && url.len() <= URL_BYTES_MAX
                && url.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if url.as_ref().is_some_and(|url| !is_web(url)) {
            faults.push(Fault::new(
                field,
                "expected an http or https address of at most 2000 characters",
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}
