//! `payfence dev [--origin URL]`: a node, a policy file to edit and, where no origin is given, a sample API.
//!
//! In: flags, the files of an earlier start. Out: a running node and three requests to try.
//! Always holds: a policy file that the user edited is never overwritten; the three requests are printed only if the
//! policy as it stands answers them as promised.

use std::path::PathBuf;

use dataplane::clock::Clock;
use dataplane::config::{OnReady, Ready};
use policy::decision::Reason;
use policy::explain::{Question, explain};
use policy::snapshot::Snapshot;

use super::{dataplane_node, load_policy};
use crate::cli::{DevArgs, NodeArgs};
use crate::failure::{Failure, Outcome};
use crate::{output, settings};

mod files;
mod sample_api;

use files::SLUG;

/// The policy file when none is named.
const POLICY_FILE: &str = "payfence-dev.toml";

pub fn run(args: DevArgs) -> Outcome {
    let policy = args.policy.clone().unwrap_or_else(|| PathBuf::from(POLICY_FILE));
    let prepared = files::prepare(&policy, args.origin.as_deref(), files::SAMPLE_ADDRESS)?;
    let loaded = load_policy(&policy)?;
    if let Some(socket) = prepared.sample {
        sample_api::serve(socket)
            .map_err(|error| Failure::failed(format!("cannot start the sample API: {error}")))?;
    }
    let paths = Paths::of(prepared.is_sample);
    let trial = Trial::new(&loaded.snapshot, paths, &prepared.token);
    let greeting = Greeting {
        policy: policy.display().to_string(),
        origin: match prepared.is_sample {
            true => format!("{} (a sample API)", prepared.origin),
            false => prepared.origin,
        },
        trial,
        token: prepared.token,
    };
    let on_ready: OnReady = Box::new(move |ready: &Ready| greeting.print(ready));
    let node = NodeArgs {
        policy: Some(policy),
        listen: args.listen.into_iter().collect(),
        admin: args.admin,
        shards: args.shards,
        ..NodeArgs::default()
    };
    dataplane_node::serve(settings::config(node, Some(on_ready))?)
}

/// What is asked for in the three requests.
#[derive(Clone, Copy)]
struct Paths {
    free: &'static str,
    paid: &'static str,
}

impl Paths {
    fn of(is_sample: bool) -> Self {
        if is_sample {
            Self { free: "/hello", paid: "/api/v1/forecast" }
        } else {
            Self { free: "/", paid: "/api/v1/" }
        }
    }
}

/// Which requests the policy answers as promised.
enum Trial {
    /// All three.
    All(Paths),
    /// Not all, because the file was edited; what is to be said instead.
    Edited(&'static str),
}

impl Trial {
    fn new(snapshot: &Snapshot, paths: Paths, token: &str) -> Self {
        let reason = |path: &str, token: Option<&str>| {
            let question = Question {
                method: "GET",
                url: &format!("/{SLUG}{path}"),
                token,
                gateway_domain: "localhost",
                now_s: Clock::start().now().unix_s(),
            };
            explain(snapshot, &question).reason
        };
        if reason(paths.free, None) != Reason::Unprotected
            || reason(paths.paid, None) != Reason::TokenMissing
        {
            return Self::Edited("the policy file was edited: try the paths that it names");
        }
        if reason(paths.paid, Some(token)) != Reason::Ok {
            return Self::Edited(
                "the policy file no longer admits the token it came with: use one of yours, or delete the file to \
                 have it written afresh",
            );
        }
        Self::All(paths)
    }
}

/// What is printed when the node is ready.
struct Greeting {
    policy: String,
    origin: String,
    trial: Trial,
    token: String,
}

impl Greeting {
    fn print(&self, ready: &Ready) {
        let gateway = ready.listen.first().copied().map_or_else(String::new, files::reachable);
        output::line(format_args!(
            "PayFence is running.\n\n\
             gateway  http://{gateway}/{SLUG}/\n\
             status   http://{}/status\n\
             origin   {}\n\
             policy   {} (edit it: changes apply when you save)\n",
            files::reachable(ready.admin),
            self.origin,
            self.policy,
        ));
        match &self.trial {
            Trial::Edited(advice) => output::line(format_args!("{advice}")),
            Trial::All(paths) => output::line(format_args!(
                "# not protected: 200\n\
                 curl -i http://{gateway}/{SLUG}{}\n\
                 # protected, no token: 401\n\
                 curl -i http://{gateway}/{SLUG}{}\n\
                 # with a token: 200 and RateLimit headers\n\
                 curl -i -H 'Authorization: Bearer {}' http://{gateway}/{SLUG}{}",
                paths.free, paths.paid, self.token, paths.paid,
            )),
        }
    }
}

#[cfg(test)]
#[path = "dev_tests.rs"]
mod tests;
