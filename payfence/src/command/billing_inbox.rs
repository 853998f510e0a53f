//! `payfence billing events`, `payfence billing replay`, `payfence billing sweep`.
//!
//! In: a control plane. Out: what Stripe told, one a line; what was given up tried again; a comparison asked for.
//! Always holds: nothing is changed but what is to be settled again.

use serde_json::json;

use super::apply::{rest, runtime};
use crate::cli::{BillingEventsArgs, BillingReplayArgs, RestArgs};
use crate::declare::form::Fields;
use crate::declare::rest::{Rest, RestError};
use crate::failure::{Failure, Outcome};
use crate::output;

pub fn events(args: &BillingEventsArgs) -> Outcome {
    let rest = rest(&args.rest)?;
    let rows = runtime()?.block_on(list(&rest, args.state.as_deref())).map_err(failed)?;
    for row in &rows {
        output::line(format_args!("{}", line(row)));
    }
    if rows.is_empty() {
        output::note(format_args!("no such event"));
    }
    Ok(())
}

pub fn replay(args: &BillingReplayArgs) -> Outcome {
    let rest = rest(&args.rest)?;
    let count = runtime()?.block_on(replay_all(&rest, args)).map_err(failed)?;
    output::line(format_args!("{count} events are settled again"));
    Ok(())
}

pub fn sweep(args: &RestArgs) -> Outcome {
    let rest = rest(args)?;
    let nothing = json!({});
    let asked = rest.create("/v1/stripe/sweeps", &nothing);
    let asked = runtime()?.block_on(asked).map_err(failed)?;
    let count = asked.get("data").and_then(|data| data.as_array()).map_or(0, Vec::len);
    output::line(format_args!("{count} sweeps were asked for; GET /v1/stripe/sweeps shows them"));
    Ok(())
}

async fn list(rest: &Rest, state: Option<&str>) -> Result<Vec<Fields>, RestError> {
    let query: Vec<(&str, &str)> = state.map(|state| ("state", state)).into_iter().collect();
    rest.list("/v1/stripe/events", &query).await
}

async fn replay_all(rest: &Rest, args: &BillingReplayArgs) -> Result<usize, RestError> {
    let ids = match &args.event {
        Some(id) => vec![id.clone()],
        None => {
            let dead = list(rest, Some("dead")).await?;
            dead.iter().filter_map(|row| Some(row.get("id")?.as_str()?.to_owned())).collect()
        }
    };
    for id in &ids {
        rest.create(&format!("/v1/stripe/events/{id}/replay"), &json!({})).await?;
    }
    Ok(ids.len())
}

fn line(row: &Fields) -> String {
    let text = |name: &str| row.get(name).and_then(|value| value.as_str()).unwrap_or("-");
    let attempts = row.get("attempts").and_then(serde_json::Value::as_i64).unwrap_or_default();
    format!(
        "{} {} {} {} {} {attempts} {}",
        text("created_at"),
        text("id"),
        text("state"),
        text("kind"),
        text("object_id"),
        text("note"),
    )
}

fn failed(error: RestError) -> Failure {
    Failure::Failed(error.into())
}
