//! `payfence webhooks replay`.
//!
//! In: a control plane, an endpoint, since when. Out: how many deliveries are sent again.
//! Always holds: what was delivered or still waits is left alone, so that it can be run again after it failed.

use serde_json::json;

use super::apply::{rest, runtime};
use crate::cli::WebhooksReplayArgs;
use crate::declare::rest::{Rest, RestError};
use crate::failure::{Failure, Outcome};
use crate::output;

/// Requests that one run sends at most; each takes up some thousands.
const REQUESTS_MAX: u32 = 100;

pub fn replay(args: &WebhooksReplayArgs) -> Outcome {
    let rest = rest(&args.rest)?;
    let replayed = runtime()?.block_on(replay_all(&rest, args));
    let (count, has_more) = replayed.map_err(|error| Failure::Failed(error.into()))?;
    output::line(format_args!("{count} deliveries are sent again"));
    if has_more {
        output::note(format_args!("more were given up; run it again when these are delivered"));
    }
    Ok(())
}

async fn replay_all(rest: &Rest, args: &WebhooksReplayArgs) -> Result<(u64, bool), RestError> {
    let path = format!("/v1/webhook-endpoints/{}/replay", args.endpoint);
    let mut count = 0;
    for _ in 0..REQUESTS_MAX {
        let answer = match rest.create(&path, &json!({ "since": args.since })).await {
            // As many wait as may: those before it are on their way.
            Err(RestError::Refused { status, .. }) if status == 409 && count > 0 => {
                return Ok((count, true));
            }
            answer => answer?,
        };
        let replayed = answer.get("replayed").and_then(serde_json::Value::as_u64).unwrap_or(0);
        count += replayed;
        let has_more = answer.get("has_more") == Some(&json!(true));
        if !has_more || replayed == 0 {
            return Ok((count, has_more));
        }
    }
    Ok((count, true))
}
