//! What `doctor` says about Stripe's webhooks.
//!
//! In: the address that they are sent to, the platform's endpoints at Stripe, when events of connected accounts came, the secrets that they are
//! signed with. Out: a finding for the endpoint at Stripe, and one for the control plane at that address.
//! Always holds: nothing is made or changed, there or here: what is sent to the control plane is of the other mode, which it takes for
//! Stripe's where the secret is the same, and keeps nothing of. No secret is shown.

use controlplane::billing::stripe::{Mode, Stripe, VERSION, WebhookEndpoint};
use controlplane::billing::sweep::TYPES;
use controlplane::billing::webhooks::{SIGNATURE_HEADER, WebhookSecrets};
use controlplane::world::{System, World as _};
use dataplane::preflight::Problem;
use link::control::client::{body_of, chain, client};
use serde_json::Value;

use super::Finding;
use super::stripe::{CONNECT_TIMEOUT, TIMEOUT, broken};

/// A type that no sweep finds: once access is taken away nothing of the account can be listed.
const UNSWEPT: &[&str] = &["account.application.deauthorized"];
/// Of what a control plane answers to a webhook.
const ANSWER_BYTES_MAX: usize = 4_096;

/// How to see what Stripe's API does not show of an endpoint.
const SEE_ACCOUNTS: &str = "the endpoint's page in the Stripe dashboard (Developers, Webhooks) has to say that it listens to events on connected accounts";

/// What Stripe has of the endpoint. With how many of the newest events of connected accounts there are, and how many came at once.
pub async fn endpoint(
    stripe: &Stripe,
    mode: Mode,
    url: &str,
    on_time: Option<(i64, i64)>,
) -> Finding {
    match stripe.webhook_endpoints(mode).await {
        Ok(all) => of_endpoints(&all, url, on_time),
        Err(error) => Finding::Unwise(Problem {
            what: format!("the endpoints at Stripe cannot be read: {error}"),
            remedy: "give a restricted key the right to read webhook endpoints, or look at them in the Stripe dashboard"
                .to_owned(),
        }),
    }
}

fn of_endpoints(all: &[WebhookEndpoint], url: &str, on_time: Option<(i64, i64)>) -> Finding {
    let at_url: Vec<_> = all.iter().filter(|it| it.url.trim_end_matches('/') == url).collect();
    let Some(endpoint) = at_url.iter().find(|it| it.status == "enabled") else {
        let what = if at_url.is_empty() {
            "Stripe has no endpoint for"
        } else {
            "Stripe has disabled the endpoint for"
        };
        return broken(
            format!("{what} {url}"),
            "make or enable it in the Stripe dashboard (Developers, Webhooks: events of connected accounts), or correct --public-url; until then what happens is found by sweeps alone",
        );
    };
    let wanted = TYPES.iter().copied().flatten().chain(UNSWEPT).copied();
    let missing: Vec<&str> = wanted.filter(|kind| !is_sent(endpoint, kind)).collect();
    if !missing.is_empty() {
        return Finding::Unwise(Problem {
            what: format!("the endpoint for {url} is not sent {}", missing.join(", ")),
            remedy:
                "add them to the endpoint in the Stripe dashboard; docs/OPERATIONS.md names all"
                    .to_owned(),
        });
    }
    match endpoint.api_version.as_deref() {
        None | Some(VERSION) => of_accounts(endpoint, url, on_time),
        Some(other) => Finding::Unwise(Problem {
            what: format!("the endpoint for {url} is sent events of version {other}"),
            remedy: format!("make one with version {VERSION}"),
        }),
    }
}

/// Whether the endpoint is sent events of connected accounts, which are all that payments make: as Stripe shows it, or else by how they came.
fn of_accounts(endpoint: &WebhookEndpoint, url: &str, on_time: Option<(i64, i64)>) -> Finding {
    let well = format!("Stripe sends all events to {url}");
    match on_time {
        _ if endpoint.application.is_some() => {
            Finding::Well(format!("{well}, of connected accounts, too"))
        }
        Some((events @ 1.., came)) if came.saturating_mul(2) < events => Finding::Unwise(Problem {
            what: format!(
                "of the newest {events} events of connected accounts {came} came within a minute; the others were found by sweeps"
            ),
            remedy: format!(
                "{SEE_ACCOUNTS}; one that does not cannot be changed: make another, and give its secret to the control plane"
            ),
        }),
        Some((events @ 1.., came)) => Finding::Well(format!(
            "{well}; of the newest {events} events of connected accounts {came} came within a minute"
        )),
        _ => Finding::Well(format!(
            "{well}; whether those of connected accounts, its API does not show and no event has: {SEE_ACCOUNTS}"
        )),
    }
}

/// Whether an endpoint wants a type of events; `charge.*` stands for all that begin so.
fn is_sent(endpoint: &WebhookEndpoint, kind: &str) -> bool {
    endpoint.enabled_events.iter().any(|wanted| {
        wanted == kind || wanted.strip_suffix('*').is_some_and(|start| kind.starts_with(start))
    })
}

/// Whether the control plane answers where Stripe sends webhooks, and takes what is signed with our secret alone.
pub async fn reach(url: &str, mode: Mode, secrets: &WebhookSecrets) -> Finding {
    let unsigned = match send(url, None).await {
        Ok(answer) => of_unsigned(url, answer.status),
        Err(finding) => return finding,
    };
    if !matches!(unsigned, Finding::Well(_)) {
        return unsigned;
    }
    let now_s = System.now_ms().div_euclid(1_000);
    let Some((header, body)) = secrets.harmless_event(mode.is_live(), now_s) else {
        let Finding::Well(found) = unsigned else { return unsigned };
        return Finding::Well(format!(
            "{found}; whether the secret is the right one was not asked"
        ));
    };
    match send(url, Some((header, body))).await {
        Ok(answer) => of_signed(url, &answer),
        Err(finding) => finding,
    }
}

/// What came back.
#[derive(Debug)]
struct Answered {
    status: u16,
    outcome: String,
}

async fn send(url: &str, signed: Option<(String, String)>) -> Result<Answered, Finding> {
    let remedy = "have the proxy before the control plane pass POST /stripe/webhooks/… on, and start the control plane with the webhook's secret";
    let client = client(None, CONNECT_TIMEOUT).map_err(|error| broken(error, remedy))?;
    let mut request = client.post(url).timeout(TIMEOUT);
    request = match signed {
        Some((header, body)) => request.header(SIGNATURE_HEADER, header).body(body),
        None => request.body("{}"),
    };
    let unwise = |reason: String| {
        let what = format!("{url} cannot be reached from here: {reason}");
        Finding::Unwise(Problem { what, remedy: remedy.to_owned() })
    };
    let answer = request.send().await.map_err(|error| unwise(chain(&error.without_url())))?;
    let status = answer.status().as_u16();
    let body = body_of(answer, ANSWER_BYTES_MAX).await.map_err(unwise)?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let outcome = json["outcome"].as_str().unwrap_or_default().to_owned();
    Ok(Answered { status, outcome })
}

fn of_unsigned(url: &str, status: u16) -> Finding {
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

fn of_signed(url: &str, answer: &Answered) -> Finding {
    match (answer.status, answer.outcome.as_str()) {
        (200, _) => {
            Finding::Well(format!("{url} answers, and takes what is signed with the secret alone"))
        }
        (_, "old") => broken(
            format!(
                "{url} takes what is signed now for old: that machine's clock and this one's are apart"
            ),
            "run a time service (chrony, systemd-timesyncd) on both",
        ),
        (_, "forged") => broken(
            format!("{url} does not take what is signed with this secret"),
            "give doctor and the control plane the same file, with the secret that the endpoint's page in the Stripe dashboard shows",
        ),
        (status, _) => broken(
            format!("{url} answers {status} to what is signed"),
            "look at the control plane's log; something before it may change bodies or headers",
        ),
    }
}

#[cfg(test)]
#[path = "stripe_webhooks_tests.rs"]
mod tests;
