//! `POST /v1/tokens/import`.
//!
//! In: the SHA-256 of a key of another system. Out: 201 with the token, whose text was never here.
//! Always holds: a hash stands once over all accounts. The site has to say `foreign_tokens = true` for keys that are not
//! of `pf_` form to be looked at.

use axum::extract::State;
use axum::response::Response;
use policy::token::TokenHash;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TokenTerms, TokenView, explain_taken, fill, touch, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::subscriptions::lock_live;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::policy_text::Fault;
use crate::domain::shapes::{Network, PatternName};
use crate::notify::{Event, enqueue};
use crate::storage::Token;

/// Characters of a key that may be kept to know it by.
const SHOWN_CHARS_MAX: usize = 16;

/// What can be said of a token brought along.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportedToken {
    /// Its subscription.
    pub subscription_id: String,
    /// The SHA-256 of its text, 64 hexadecimal digits.
    #[schema(
        pattern = "^[0-9A-Fa-f]{64}$",
        example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub sha256: String,
    /// What it begins with, for people: at most 16 characters.
    #[schema(max_length = 16)]
    pub prefix: Option<String>,
    /// What it ends with, for people.
    #[schema(max_length = 4)]
    pub last_four: Option<String>,
    /// The name that the origin and the log know it by; its id where it is left out; stays.
    #[schema(max_length = 200, pattern = "^[!-~]([ -~]*[!-~])?$")]
    pub reference: Option<String>,
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub label: Option<String>,
    /// From when on it is refused.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Networks or addresses it may be used from; left out: any.
    #[schema(min_items = 1, max_items = 1000, value_type = Option<Vec<Network>>)]
    pub allow_from: Option<Vec<String>>,
    /// Patterns exactly as written in the site's resources; left out: all that the plan includes.
    #[schema(min_items = 1, value_type = Option<Vec<PatternName>>)]
    pub resources: Option<Vec<String>>,
}

/// Import a token by its hash
#[utoipa::path(post, path = "/tokens/import", tag = "tokens", request_body = ImportedToken,
    responses((status = 201, description = "The token", body = TokenView), Problems))]
pub async fn import_token(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<ImportedToken>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Tokens, posted.key.as_ref()).await?;
    let draft = posted.body;
    let subscription = lock_live(&change, &draft.subscription_id).await?;
    let hash = TokenHash::from_hex(&draft.sha256).ok_or_else(|| {
        Problem::field("sha256", "expected the SHA-256 of the token in 64 hexadecimal digits")
    })?;
    let mut faults = Vec::new();
    let prefix = shown("prefix", draft.prefix, SHOWN_CHARS_MAX, &mut faults);
    let last_four = shown("last_four", draft.last_four, 4, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let id = change.new_id::<Token>();
    let mut row = Token {
        reference: draft.reference.unwrap_or_else(|| id.clone()),
        id,
        site_id: subscription.site_id.clone(),
        subscription_id: subscription.id.clone(),
        hash: hash.0.to_vec(),
        prefix,
        last_four,
        ..Token::default()
    };
    let terms = TokenTerms {
        label: draft.label,
        expires_at: draft.expires_at,
        allow_from: draft.allow_from,
        resources: draft.resources,
    };
    fill(&mut row, &terms, &change, &app).await?;
    let row = change.insert(row).await.map_err(explain_taken)?;
    enqueue(&mut change, Event::token_issued(&row, None)).await?;
    touch(&mut change, subscription).await?;
    let location = format!("/v1/tokens/{}", row.id);
    let made = Made { view: view_of(&row, &caller), version: row.version, location, secret: None };
    made.commit(change).await
}

fn shown(field: &str, text: Option<String>, chars_max: usize, faults: &mut Vec<Fault>) -> String {
    let text = text.unwrap_or_default();
    if text.len() > chars_max || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("expected at most {chars_max} visible ASCII characters");
        faults.push(Fault::new(field, message));
    }
    text
}
