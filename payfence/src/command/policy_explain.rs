//! `payfence policy explain FILE METHOD URL [--token T]`.
//!
//! In: a policy file and a request. Out: as JSON, what would be decided, by which rule, in which spellings.
//! Always holds: any verdict is a good end; only a request that cannot be asked about is not.

use dataplane::clock::Clock;
use dataplane::http1::{HeadError, Limits, RequestHead, parse_request};
use policy::explain::{Explanation, Question, explain};

use super::load_policy;
use crate::cli::ExplainArgs;
use crate::failure::{Failure, Outcome};
use crate::output;

pub fn run(args: &ExplainArgs) -> Outcome {
    let loaded = load_policy(&args.file)?;
    let domain = args.gateway_domain.clone().unwrap_or_default();
    let question = Question {
        method: &args.method,
        url: &args.url,
        token: args.token.as_deref(),
        gateway_domain: domain.as_str(),
        now_s: Clock::start().now().unix_s(),
    };
    let explanation = match read(&question) {
        Ok(()) => explain(&loaded.snapshot, &question),
        Err(error) => Explanation::malformed(&question, error.status(), error.to_string()),
    };
    let json = serde_json::to_string_pretty(&explanation)
        .map_err(|error| Failure::failed(format!("cannot write the explanation: {error}")))?;
    output::line(format_args!("{json}"));
    Ok(())
}

/// Reads the request as a node does, in the head that a client would send.
fn read(question: &Question<'_>) -> Result<(), HeadError> {
    let (host, target) = question.target();
    let host = host.unwrap_or(question.gateway_domain);
    let head = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n", question.method);
    parse_request(head.as_bytes(), 0, &Limits::default(), &mut RequestHead::new()).map(drop)
}
