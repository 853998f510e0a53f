//! `POST /v1/nodes/{node_id}/tokens`.
//!
//! In: a [`NodeTokenDraft`]. Out: 201 with the token's text, once.
//! Always holds: only its hash, prefix and last four characters are kept.

use axum::extract::State;
use axum::response::Response;
use link::wire::NodeToken as Text;

use super::{NodeTokenDraft, NodeTokenView, lock_live, token_view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::fields::{check_text_opt, expiry_ms};
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::NodeToken;

const PREFIX: &str = "pfn_";

/// Make a node token
#[utoipa::path(post, path = "/nodes/{node_id}/tokens", tag = "nodes", request_body = NodeTokenDraft,
    params(("node_id" = String, Path, description = "The node")),
    responses((status = 201, description = "The token; its text is in `secret`, once", body = NodeTokenView), Problems))]
pub async fn create_node_token(
    State(app): State<App>,
    caller: Caller,
    Named(node_id): Named<String>,
    posted: Posted<NodeTokenDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Nodes, posted.key.as_ref()).await?;
    let node = lock_live(&change, &node_id).await?;
    if node.declared_dead_at_ms.is_some() {
        return Err(Problem::conflict("the node was declared dead; make another"));
    }
    let draft = posted.body;
    let mut faults = Vec::new();
    check_text_opt("label", draft.label.as_deref(), &mut faults);
    let now_ms = change.now_ms();
    let expires_at_ms = expiry_ms("expires_at", draft.expires_at.as_deref(), now_ms, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let text = Text::make::<std::convert::Infallible>(|bytes| {
        app.world.fill(bytes);
        Ok(())
    });
    let text = match text {
        Ok(text) => text,
        Err(never) => match never {},
    };
    let revealed = text.reveal();
    let row = NodeToken {
        node_id: node.id,
        label: draft.label,
        hash: text.hash().0.to_vec(),
        prefix: PREFIX.to_owned(),
        last_four: revealed.get(revealed.len() - 4..).unwrap_or_default().to_owned(),
        expires_at_ms,
        ..NodeToken::default()
    };
    let row = change.insert(row).await?;
    let location = format!("/v1/nodes/{node_id}/tokens/{}", row.id);
    let secret = Some(revealed.to_owned());
    let made = Made { view: token_view_of(&row), version: row.version, location, secret };
    made.commit(change).await
}
