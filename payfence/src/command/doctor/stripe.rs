//! What `doctor` says about Stripe.
//!
//! In: the flags about billing. Out: a finding for each key, for the clock, and for the address that Stripe sends webhooks to.
//! Always holds: nothing is made or changed at Stripe; no key is shown; without flags about billing nothing is asked.

use std::time::Duration;

use controlplane::billing::stripe::{Mode, Scope, Stripe, StripeError, SubscriptionQuery, VERSION};
use controlplane::world::{System, World as _};
use dataplane::preflight::Problem;
use jiff::fmt::rfc2822;
use link::control::client::{chain, client};

use super::Finding;
use crate::cli::BillingArgs;
use crate::settings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(20);
/// Webhooks whose time is further off are refused, seconds.
const TOLERANCE_S: i64 = 300;
/// From which a clock is worth a word, seconds.
const WARNED_S: i64 = 30;

/// Findings about Stripe; none where it is not set up.
pub fn examine(args: &BillingArgs) -> Vec<(String, Finding)> {
    let settings = match settings::billing::settings(args) {
        Ok(None) => return Vec::new(),
        Ok(Some(settings)) => settings,
        Err(failure) => {
            let remedy = "correct the flag or the file that it names";
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
                    findings.push((format!("Stripe key, {mode} mode"), of_key(&asked)));
                    if let Some(url) = &settings.public_url {
                        let finding = webhooks(url, mode).await;
                        findings.push((format!("Stripe webhooks, {mode} mode"), finding));
                    }
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

/// The cheapest thing that a key has to be good for.
async fn ask(stripe: &Stripe, mode: Mode) -> Result<(), StripeError> {
    let query = SubscriptionQuery { limit: Some(1), ..SubscriptionQuery::default() };
    stripe.subscriptions(&Scope::platform(mode), &query).await.map(|_| ())
}

fn of_key(asked: &Result<(), StripeError>) -> Finding {
    let error = match asked {
        Ok(()) => return Finding::Well(format!("taken, with version {VERSION}")),
        Err(error) => error,
    };
    let what = error.to_string();
    match error {
        StripeError::Refused(refusal) if refusal.status == 401 => broken(
            what,
            "make a secret key in the Stripe dashboard (Developers, API keys) and put it into the file",
        ),
        StripeError::Refused(refusal) if refusal.status == 403 => broken(
            what,
            "give the restricted key the rights that docs/OPERATIONS.md names, or use a secret key",
        ),
        StripeError::Refused(refusal) if refusal.message.contains("ersion") => {
            broken(what, "Stripe does not serve this API version to the account; upgrade payfence")
        }
        _ => broken(what, "let this machine reach Stripe by HTTPS; see https://status.stripe.com"),
    }
}

/// Whether this control plane answers where Stripe sends webhooks: it refuses what is not signed.
async fn webhooks(public_url: &str, mode: Mode) -> Finding {
    let url = format!("{public_url}/stripe/webhooks/{mode}");
    let remedy = "have the proxy before the control plane pass POST /stripe/webhooks/… on, and start the control plane with the webhook's secret";
    let client = match client(None, CONNECT_TIMEOUT) {
        Ok(client) => client,
        Err(error) => return broken(error, remedy),
    };
    match client.post(&url).timeout(TIMEOUT).body("{}").send().await {
        Ok(answer) => of_webhooks(&url, answer.status().as_u16()),
        Err(error) => {
            let what =
                format!("{url} cannot be reached from here: {}", chain(&error.without_url()));
            Finding::Unwise(Problem { what, remedy: remedy.to_owned() })
        }
    }
}

fn of_webhooks(url: &str, status: u16) -> Finding {
    match status {
        400 | 401 | 403 => Finding::Well(format!("{url} answers, and refuses what is not signed")),
        200..300 => broken(
            format!("{url} takes what is not signed"),
            "something else than a control plane answers there; correct --public-url or the proxy",
        ),
        _ => broken(
            format!("{url} answers {status}"),
            "correct --public-url or the proxy, and start the control plane with the webhook's secret",
        ),
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

fn broken(what: String, remedy: &str) -> Finding {
    Finding::Broken(Problem { what, remedy: remedy.to_owned() })
}

#[cfg(test)]
#[path = "stripe_tests.rs"]
mod tests;
