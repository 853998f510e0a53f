//! What `doctor` says about Stripe.
//!
//! In: the flags about billing, a control plane's database. Out: a finding for each key, for its rights, for the clock, and for what webhooks need.
//! Always holds: nothing is made or changed at Stripe; no key is shown; without flags about billing nothing is asked.

use std::time::Duration;

use controlplane::billing::stripe::{Mode, RIGHTS, Stripe, StripeError, VERSION};
use controlplane::world::{System, World as _};
use dataplane::preflight::Problem;
use jiff::fmt::rfc2822;
use link::control::client::client;

use super::{Finding, database, stripe_webhooks};
use crate::cli::{BillingArgs, StripeWebhookArgs};
use crate::settings;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);
/// Webhooks whose time is further off are refused, seconds.
const TOLERANCE_S: i64 = 300;
/// From which a clock is worth a word, seconds.
const WARNED_S: i64 = 30;

const RIGHTS_REMEDY: &str = "give the restricted key the rights that docs/OPERATIONS.md names (Rights of a restricted key), or use a secret key";

/// Findings about Stripe; none where it is not set up.
pub fn examine(
    args: &BillingArgs,
    secrets: &StripeWebhookArgs,
    database_url: Option<&str>,
) -> Vec<(String, Finding)> {
    let remedy = "correct the flag or the file that it names";
    let secrets = match settings::billing::webhook_secrets(secrets) {
        Ok(secrets) => secrets,
        Err(failure) => {
            return vec![("Stripe webhooks".to_owned(), broken(failure.to_string(), remedy))];
        }
    };
    let settings = match settings::billing::settings(args) {
        Ok(None) => return Vec::new(),
        Ok(Some(settings)) => settings,
        Err(failure) => {
            return vec![("Stripe".to_owned(), broken(failure.to_string(), remedy))];
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let remedy = "look at the limits of this process";
            return vec![("Stripe".to_owned(), broken(error.to_string(), remedy))];
        }
    };
    runtime.block_on(async {
        let mut findings = Vec::new();
        let address = settings.stripe.addresses.api.clone();
        match Stripe::new(settings.stripe, std::sync::Arc::new(System)) {
            Ok(stripe) => {
                for mode in Mode::ALL.into_iter().filter(|mode| stripe.has(*mode)) {
                    let asked = ask(&stripe, mode).await;
                    let is_taken = asked.is_ok();
                    findings.push((format!("Stripe key, {mode} mode"), of_key(&asked)));
                    let Some(url) = &settings.public_url else { continue };
                    let url = format!("{url}/stripe/webhooks/{mode}");
                    if is_taken {
                        let on_time = database::events_on_time(database_url, mode).await;
                        let finding = stripe_webhooks::endpoint(&stripe, mode, &url, on_time).await;
                        findings.push((format!("Stripe endpoint, {mode} mode"), finding));
                    }
                    let finding = stripe_webhooks::reach(&url, mode, &secrets).await;
                    findings.push((format!("Stripe webhooks, {mode} mode"), finding));
                }
            }
            Err(error) => findings.push((
                "Stripe".to_owned(),
                broken(
                    error,
                    "install the certificate authorities of the system (ca-certificates)",
                ),
            )),
        }
        findings.push(("clock".to_owned(), clock(&address).await));
        findings
    })
}

/// What the key may not read of all that has to be read. Each is one cheap call.
async fn ask(stripe: &Stripe, mode: Mode) -> Result<Vec<String>, StripeError> {
    let mut missing = Vec::new();
    for right in RIGHTS {
        let Some(path) = right.probe else { continue };
        if !stripe.may_list(mode, path).await? {
            missing.push(format!("{} ({})", right.resource, right.access.as_str()));
        }
    }
    Ok(missing)
}

fn of_key(asked: &Result<Vec<String>, StripeError>) -> Finding {
    let error = match asked {
        Ok(missing) if missing.is_empty() => {
            return Finding::Well(format!("taken, with version {VERSION}"));
        }
        Ok(missing) => {
            let what = format!("a restricted key that lacks {}", missing.join(", "));
            return broken(what, RIGHTS_REMEDY);
        }
        Err(error) => error,
    };
    let what = error.to_string();
    match error {
        StripeError::Refused(refusal) if refusal.status == 401 => broken(
            what,
            "make a secret key in the Stripe dashboard (Developers, API keys) and put it into the file",
        ),
        StripeError::Refused(refusal) if refusal.status == 403 => broken(what, RIGHTS_REMEDY),
        StripeError::Refused(refusal) if refusal.message.contains("ersion") => {
            broken(what, "Stripe does not serve this API version to the account; upgrade payfence")
        }
        _ => broken(what, "let this machine reach Stripe by HTTPS; see https://status.stripe.com"),
    }
}

/// How far this machine's clock is from Stripe's.
async fn clock(address: &str) -> Finding {
    let remedy = "run a time service (chrony, systemd-timesyncd)";
    let answer = match client(None, CONNECT_TIMEOUT) {
        Ok(client) => client.get(address).timeout(TIMEOUT).send().await,
        Err(error) => return broken(error, remedy),
    };
    let date = match &answer {
        Ok(answer) => answer.headers().get("date").and_then(|date| date.to_str().ok()),
        Err(_) => None,
    };
    let Some(at) = date.and_then(|date| rfc2822::parse(date).ok()) else {
        let what = "Stripe did not say what time it is".to_owned();
        return Finding::Unwise(Problem {
            what,
            remedy: "let this machine reach Stripe".to_owned(),
        });
    };
    of_clock(System.now_ms().div_euclid(1_000) - at.timestamp().as_second())
}

fn of_clock(ahead_s: i64) -> Finding {
    let remedy = "run a time service (chrony, systemd-timesyncd)".to_owned();
    let what =
        format!("{} s {} Stripe's", ahead_s.abs(), if ahead_s < 0 { "behind" } else { "ahead of" });
    match ahead_s.abs() {
        TOLERANCE_S.. => {
            Finding::Broken(Problem { what: format!("{what}: its webhooks are refused"), remedy })
        }
        WARNED_S.. => Finding::Unwise(Problem { what, remedy }),
        _ => Finding::Well(what),
    }
}

pub(super) fn broken(what: String, remedy: &str) -> Finding {
    Finding::Broken(Problem { what, remedy: remedy.to_owned() })
}

#[cfg(test)]
#[path = "stripe_tests.rs"]
mod tests;
