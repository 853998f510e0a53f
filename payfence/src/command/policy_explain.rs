//! `payfence policy explain FILE METHOD URL [--token T]`.
//!
//! In: a policy file and a request. Out: as JSON, what would be decided, by which rule, in which spellings.
//! Always holds: any verdict is a good end; only a request that cannot be asked about is not.

use dataplane::clock::Clock;
use policy::explain::{Question, explain};

use super::load_policy;
use crate::cli::ExplainArgs;
use crate::failure::{Failure, Outcome};
use crate::output;

pub fn run(args: &ExplainArgs) -> Outcome {
    let loaded = load_policy(&args.file)?;
    let domain = args.gateway_domain.clone().unwrap_or_default();
    let explanation = explain(
        &loaded.snapshot,
        &Question {
            method: &args.method,
            url: &args.url,
            token: args.token.as_deref(),
            gateway_domain: domain.as_str(),
            now_s: Clock::start().now().unix_s(),
        },
    );
    let json = serde_json::to_string_pretty(&explanation)
        .map_err(|error| Failure::failed(format!("cannot write the explanation: {error}")))?;
    output::line(format_args!("{json}"));
    Ok(())
}
