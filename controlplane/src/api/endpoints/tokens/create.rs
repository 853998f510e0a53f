//! `POST /v1/tokens`.
//!
//! In: a [`TokenDraft`]. Out: 201 with the token's text, once.
//! Always holds: the text is made by `policy::token` from the operating system's randomness, and only hashed here.

use axum::extract::State;
use axum::response::Response;
use policy::token::{self, Mode, TokenHash};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TokenMode, TokenTerms, TokenView, explain_taken, fill, touch, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::subscriptions::lock_live;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::shapes::{Network, PatternName};
use crate::notify::{Event, enqueue};
use crate::storage::{Subscription, Token};
use crate::world::World;

/// What can be said of a new token.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenDraft {
    /// Its subscription.
    pub subscription_id: String,
    /// `live` where it is left out.
    #[serde(default)]
    pub mode: TokenMode,
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

/// Issue a token
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = TokenDraft,
    responses((status = 201, description = "The token; its text is in `secret`, once", body = TokenView), Problems))]
pub async fn create_token(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<TokenDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Tokens, posted.key.as_ref()).await?;
    let draft = posted.body;
    let subscription = lock_live(&change, &draft.subscription_id).await?;
    let id = change.new_id::<Token>();
    let (text, mut row) = new_token(&subscription, draft.mode, &*app.world);
    row.reference = draft.reference.unwrap_or_else(|| id.clone());
    row.id = id;
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
    let made =
        Made { view: view_of(&row, &caller), version: row.version, location, secret: Some(text) };
    made.commit(change).await
}

/// A new token's text, and its row without id, reference and terms.
#[must_use]
pub fn new_token(
    subscription: &Subscription,
    mode: TokenMode,
    world: &dyn World,
) -> (String, Token) {
    let (mode, prefix) = match mode {
        TokenMode::Live => (Mode::Live, "pf_live_"),
        TokenMode::Test => (Mode::Test, "pf_test_"),
    };
    let made = token::make::<std::convert::Infallible>(mode, |bytes| {
        world.fill(bytes);
        Ok(())
    });
    let text = match made {
        Ok(text) => text,
        Err(never) => match never {},
    };
    let row = Token {
        site_id: subscription.site_id.clone(),
        subscription_id: subscription.id.clone(),
        hash: TokenHash::of(text.as_bytes()).0.to_vec(),
        prefix: prefix.to_owned(),
        last_four: text[text.len() - 4..].to_owned(),
        ..Token::default()
    };
    (text, row)
}
