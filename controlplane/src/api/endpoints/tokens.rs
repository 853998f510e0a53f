//! Tokens: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checked rows.
//! Always holds: of a token only hash, prefix and last four characters are kept; its text is in the first answer alone;
//! a change of a token writes its subscription's row too, whose whole is what nodes are sent.

pub mod create;
pub mod get;
pub mod import;
pub mod list;
pub mod revoke;
pub mod rotate;
pub mod update;

use policy::token::TokenHash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use super::fields::{check_reference, check_text_opt, instant_ms};
use super::sites::{draft_of as site_draft, resource_keys, resources_of};
use crate::api::App;
use crate::api::gate::Caller;
use crate::api::problem::{Problem, is_taken};
use crate::api::time::{shown, shown_opt};
use crate::domain::permission::Area;
use crate::domain::policy_text::{Fault, SiteText, check};
use crate::domain::shapes::{Network, PatternName};
use crate::domain::site::keys_of;
use crate::storage::{Change, Site, StorageError, Subscription, Token};

/// Whom a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenMode {
    /// Real use.
    #[default]
    Live,
    /// Trying things out.
    Test,
}

/// What can be changed of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenTerms {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub label: Option<String>,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Networks or addresses it may be used from; left out: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 1000, value_type = Option<Vec<Network>>)]
    pub allow_from: Option<Vec<String>>,
    /// Patterns exactly as written in the site's resources; left out: all that the plan includes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, value_type = Option<Vec<PatternName>>)]
    pub resources: Option<Vec<String>>,
}

/// A token as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    id: String,
    /// Its site.
    site_id: String,
    /// Its subscription.
    subscription_id: String,
    /// The name that the origin and the log know it by.
    reference: String,
    /// What its text begins with.
    prefix: String,
    /// What its text ends with.
    last_four: String,
    /// The SHA-256 of its text, for those alone who may write tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sha256: Option<String>,
    #[serde(flatten)]
    terms: TokenTerms,
    /// Since when it is revoked.
    revoked_at: Option<String>,
    /// The token that took its place.
    rotated_to: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
    /// The token itself; in the answer to the request that made it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// What a row says of what can be changed.
#[must_use]
pub fn terms_of(row: &Token) -> TokenTerms {
    let list =
        |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str(text).ok());
    TokenTerms {
        label: row.label.clone(),
        expires_at: shown_opt(row.expires_at_ms),
        allow_from: list(&row.allow_from),
        resources: list(&row.resources),
    }
}

/// A token as it is shown to this caller: its hash to one who may bring tokens along by their hashes and to nobody else.
#[must_use]
pub fn view_of(row: &Token, caller: &Caller) -> TokenView {
    let hash = <[u8; 32]>::try_from(row.hash.as_slice()).ok().map(TokenHash);
    TokenView {
        id: row.id.clone(),
        site_id: row.site_id.clone(),
        subscription_id: row.subscription_id.clone(),
        reference: row.reference.clone(),
        prefix: row.prefix.clone(),
        last_four: row.last_four.clone(),
        sha256: hash.filter(|_| caller.may(Area::Tokens, true)).map(|hash| hash.to_string()),
        terms: terms_of(row),
        revoked_at: shown_opt(row.revoked_at_ms),
        rotated_to: row.rotated_to.clone(),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
        secret: None,
    }
}

/// Puts terms into a row, checked with the policy file's reader.
pub async fn fill(
    row: &mut Token,
    terms: &TokenTerms,
    change: &Change,
    app: &App,
) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_reference(Some(&row.reference), &mut faults);
    check_text_opt("label", terms.label.as_deref(), &mut faults);
    row.expires_at_ms = instant_ms("expires_at", terms.expires_at.as_deref(), &mut faults);
    if terms.allow_from.is_some() || terms.resources.is_some() {
        faults.extend(policy_faults(row, terms, change, app).await?);
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let text = |list: &Option<Vec<String>>| list.clone().map(|list| Json::from(list).to_string());
    row.label.clone_from(&terms.label);
    row.allow_from = text(&terms.allow_from);
    row.resources = text(&terms.resources);
    Ok(())
}

async fn policy_faults(
    row: &Token,
    terms: &TokenTerms,
    change: &Change,
    app: &App,
) -> Result<Vec<Fault>, Problem> {
    let tenant = change.tenant();
    let site = tenant.get::<Site>(&row.site_id).await?.ok_or_else(|| Problem::not_found("site"))?;
    let keys = site_draft(&site, app)?.policy_keys();
    let resources = resource_keys(&resources_of(&tenant, &site.id).await?)?;
    let mut token = keys_of(terms);
    token.retain(|key, _| matches!(key.as_str(), "allow_from" | "resources"));
    token.insert("id".to_owned(), "t".into());
    token.insert("sha256".to_owned(), "0".repeat(64).into());
    let plan: Map<String, Json> = [("id".to_owned(), "p".into())].into_iter().collect();
    let subscription =
        json!({ "id": "s", "plan": "p", "customer": "c", "status": "active", "tokens": [token] });
    let Json::Object(subscription) = subscription else { return Ok(Vec::new()) };
    let (plans, subscriptions) =
        ([("the plan".to_owned(), plan)], [("the subscription".to_owned(), subscription)]);
    let text = SiteText {
        site: &keys,
        resources: &resources,
        plans: &plans,
        subscriptions: &subscriptions,
    };
    Ok(check(&text, "sites.subscriptions.tokens").err().unwrap_or_default())
}

/// Writes the subscription's row anew, so that nodes are sent it with its tokens as they are now.
pub async fn touch(change: &mut Change, before: Subscription) -> Result<(), Problem> {
    let after = before.clone();
    change.update(&before, after).await?;
    Ok(())
}

/// Says which field is taken. Whose token it is that has the hash is not told.
pub fn explain_taken(error: StorageError) -> Problem {
    let fault = if is_taken(&error, "tokens_hash", "tokens.hash") {
        Fault::new("sha256", "this token cannot be taken: it is known already")
    } else if is_taken(&error, "tokens_reference", "tokens.reference") {
        Fault::new("reference", "another token of this site has or had it")
    } else {
        return error.into();
    };
    Problem::taken(fault)
}
