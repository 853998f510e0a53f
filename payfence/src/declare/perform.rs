//! Steps carried out.
//!
//! In: steps, where everything is. Out: a control plane that is as the file says, or how far it came.
//! Always holds: steps are taken one after another, each with the version that was seen of what it changes; after a failure nothing more is
//! sent, and what is left is found again by comparing anew.

use serde_json::Value as Json;

use super::difference::{Act, Step};
use super::form::{Fields, Kind};
use super::rest::{Rest, RestError};
use super::state::{Held, Ids};

/// Why it stopped, and how far it had come.
#[derive(Debug, thiserror::Error)]
#[error("{done} of {all} requests were made, then this one failed: {step}: {error}")]
pub struct Stopped {
    /// Steps that were done.
    pub done: usize,
    /// Steps that there are.
    pub all: usize,
    /// The one that failed.
    pub step: String,
    /// Why.
    pub error: StepError,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The control plane did not do it.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// What it is about is not there.
    #[error("the control plane has no {0} {1}")]
    Missing(Kind, String),
}

/// What a step does, for people.
#[must_use]
pub fn label(step: &Step) -> String {
    let verb = match (&step.act, step.kind) {
        (Act::Create(_), _) => "make",
        (Act::Change(_), _) => "change",
        (Act::End, Kind::Token) => "revoke",
        (Act::End, _) => "archive",
    };
    match step.kind {
        Kind::Site => format!("{verb} site {}", step.slug),
        kind => format!("{verb} {kind} {} of site {}", step.key, step.slug),
    }
}

/// Takes the steps.
///
/// # Errors
/// [`Stopped`]; what was done stays done.
pub async fn perform(rest: &Rest, ids: &mut Ids, steps: &[Step]) -> Result<(), Stopped> {
    for (done, step) in steps.iter().enumerate() {
        let taken = take(rest, ids, step).await;
        taken.map_err(|error| Stopped { done, all: steps.len(), step: label(step), error })?;
    }
    Ok(())
}

async fn take(rest: &Rest, ids: &mut Ids, step: &Step) -> Result<(), StepError> {
    let collection = collection(ids, step)?;
    let row = match &step.act {
        Act::Create(fields) => {
            let body = body(ids, step, fields, true)?;
            // What is brought along by its hash has a path of its own.
            let path = match step.kind {
                Kind::Token => format!("{collection}/import"),
                _ => collection,
            };
            rest.create(&path, &body).await?
        }
        Act::Change(fields) => {
            let body = body(ids, step, fields, false)?;
            let held = find(ids, step, step.kind, &step.key)?;
            rest.update(&format!("{collection}/{}", held.id), &body, held.version).await?
        }
        Act::End => {
            let held = find(ids, step, step.kind, &step.key)?;
            rest.end(&format!("{collection}/{}", held.id), held.version).await?
        }
    };
    hold(ids, step, &row);
    Ok(())
}

fn collection(ids: &Ids, step: &Step) -> Result<String, StepError> {
    Ok(match step.kind {
        Kind::Site => "/v1/sites".to_owned(),
        Kind::Customer => "/v1/customers".to_owned(),
        Kind::Subscription => "/v1/subscriptions".to_owned(),
        Kind::Token => "/v1/tokens".to_owned(),
        Kind::Resource | Kind::Plan => {
            let site = find(ids, step, Kind::Site, &step.slug)?;
            let name = if step.kind == Kind::Plan { "plans" } else { "resources" };
            format!("/v1/sites/{}/{name}", site.id)
        }
    })
}

/// Fields as REST has them: other rows by their ids.
fn body(ids: &Ids, step: &Step, fields: &Fields, is_new: bool) -> Result<Json, StepError> {
    let mut body = fields.clone();
    for (kind, name) in
        [(Kind::Plan, "plan"), (Kind::Customer, "customer"), (Kind::Subscription, "subscription")]
    {
        let key = body.remove(name);
        if let Some(key) = key.as_ref().and_then(Json::as_str) {
            let held = find(ids, step, kind, key)?;
            body.insert(format!("{name}_id"), held.id.as_str().into());
        }
    }
    if is_new && !matches!(step.kind, Kind::Site | Kind::Resource) {
        body.insert("reference".to_owned(), step.key.as_str().into());
    }
    if is_new && step.kind == Kind::Subscription {
        let site = find(ids, step, Kind::Site, &step.slug)?;
        body.insert("site_id".to_owned(), site.id.as_str().into());
    }
    Ok(body.into())
}

fn slug_of(step: &Step, kind: Kind) -> &str {
    if kind == Kind::Customer { "" } else { &step.slug }
}

fn find<'a>(ids: &'a Ids, step: &Step, kind: Kind, key: &str) -> Result<&'a Held, StepError> {
    let held = ids.find(slug_of(step, kind), kind, key);
    held.ok_or_else(|| StepError::Missing(kind, key.to_owned()))
}

/// Keeps where a row is and what version it has now.
fn hold(ids: &mut Ids, step: &Step, row: &Fields) {
    ids.hold(slug_of(step, step.kind), step.kind, &step.key, row);
    if let Some(subscription) = row.get("subscription_id").and_then(Json::as_str) {
        ids.touched(subscription);
    }
}
