//! `POST /v1/admin_keys`.
//!
//! In: an [`AdminKeyDraft`]. Out: 201 with the key's text, once.
//! Always holds: a key gives no key more than it has: neither role nor scopes, nor the operator's rights; a member's
//! key gives none that outlives the member.

use axum::extract::State;
use axum::response::Response;

use super::{AdminKeyDraft, AdminKeyView, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::fields::{check_text, expiry_ms};
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::{Area, Role, check_scope};
use crate::domain::policy_text::Fault;
use crate::init::new_admin_key;
use crate::storage::{AdminKey, Change, Member};

const SCOPES_MAX: usize = 32;

/// Make an admin key
#[utoipa::path(post, path = "/admin_keys", tag = "admin_keys", request_body = AdminKeyDraft,
    responses((status = 201, description = "The key; its text is in `secret`, once", body = AdminKeyView), Problems))]
pub async fn create_admin_key(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<AdminKeyDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::AdminKeys, posted.key.as_ref()).await?;
    let draft = posted.body;
    if draft.is_operator {
        caller.check_operator()?;
    }
    let member = member(&draft, &caller, &change).await?;
    let expires_at_ms = check(&draft, &caller, member.as_ref(), change.now_ms())?;
    // A narrowed key makes keys that are as narrow, unless told to make narrower ones.
    let scopes = draft.scopes.or_else(|| caller.scopes().map(<[String]>::to_vec));
    let (text, row) = new_admin_key(&*app.world);
    let row = AdminKey {
        label: draft.label,
        role: draft.role.as_str().to_owned(),
        member_id: member.map(|member| member.id),
        scopes: scopes.map(|scopes| serde_json::Value::from(scopes).to_string()),
        expires_at_ms,
        is_operator: draft.is_operator,
        ..row
    };
    let key = change.insert(row).await?;
    let location = format!("/v1/admin_keys/{}", key.id);
    let made = Made { view: view_of(&key), version: key.version, location, secret: Some(text) };
    made.commit(change).await
}

/// Whose key it will be: a member's key makes no key that outlives the member.
async fn member(
    draft: &AdminKeyDraft,
    caller: &Caller,
    change: &Change,
) -> Result<Option<Member>, Problem> {
    let Some(id) = draft.member_id.as_deref().or(caller.member_id()) else { return Ok(None) };
    if caller.role() != Role::Owner && caller.member_id() != Some(id) {
        return Err(Problem::field("member_id", "only an owner makes keys for other members"));
    }
    let member = change.share::<Member>(id).await?;
    let member = member.filter(|member| member.archived_at_ms.is_none());
    Ok(Some(member.ok_or_else(|| Problem::not_found("member"))?))
}

fn check(
    draft: &AdminKeyDraft,
    caller: &Caller,
    member: Option<&Member>,
    now_ms: i64,
) -> Result<Option<i64>, Problem> {
    let mut faults = Vec::new();
    check_text("label", &draft.label, &mut faults);
    if !caller.role().may_give(draft.role) {
        let message = format!("at most the caller's own role, `{}`", caller.role().as_str());
        faults.push(Fault::new("role", message));
    }
    if let Some(role) = member.map(|member| Role::of(&member.role))
        && draft.role > role
    {
        let message = format!("at most the member's role, `{}`", role.as_str());
        faults.push(Fault::new("role", message));
    }
    if draft.is_operator && (draft.role != Role::Owner || draft.scopes.is_some()) {
        let message = "only for the role `owner`, without scopes";
        faults.push(Fault::new("is_operator", message));
    }
    let scopes = draft.scopes.as_deref().unwrap_or_default();
    if scopes.len() > SCOPES_MAX {
        faults.push(Fault::new("scopes", format!("at most {SCOPES_MAX} are allowed")));
    }
    for (at, scope) in scopes.iter().enumerate().take(SCOPES_MAX) {
        if let Err(message) = check_scope(scope) {
            faults.push(Fault::new(format!("scopes[{at}]"), message));
        } else if !caller.has_scope(scope) {
            faults.push(Fault::new(
                format!("scopes[{at}]"),
                "the calling key has not got this scope",
            ));
        }
    }
    let expires_at_ms = expiry_ms("expires_at", draft.expires_at.as_deref(), now_ms, &mut faults);
    if faults.is_empty() { Ok(expires_at_ms) } else { Err(Problem::fields(faults)) }
}
