//! What a control plane is told about Stripe.
//!
//! In: the flags about billing. Out: [`BillingSettings`], none where there is neither a key nor an address for buyers.
//! Always holds: keys come from files, never from flags or the environment, where others could read them; a key of one mode is
//! refused as the other's; a stand-in for Stripe never gets a live key.

use std::fs;
use std::path::Path;

use controlplane::billing::stripe::{Addresses, Mode, SecretKey, SecretKeys, StripeSettings};
use controlplane::billing::webhooks::WebhookSecrets;
use controlplane::billing::{BillingSettings, ClientIds};

use crate::cli::{BillingArgs, StripeWebhookArgs};
use crate::failure::Failure;

/// What billing is told.
///
/// # Errors
/// When a key cannot be read, or an address is none.
pub fn settings(args: &BillingArgs) -> Result<Option<BillingSettings>, Failure> {
    let keys = SecretKeys {
        test: key(args.stripe_secret_key_file.as_deref(), Mode::Test)?,
        live: key(args.stripe_live_secret_key_file.as_deref(), Mode::Live)?,
    };
    // Free plans need no key, but somewhere to be shown.
    if keys == SecretKeys::default() && args.public_url.is_none() {
        return Ok(None);
    }
    let addresses = match &args.stripe_base_url {
        Some(_) if keys.live.is_some() => {
            return Err(Failure::configuration(
                "--stripe-base-url names a stand-in for Stripe, which is not given a live key: leave one of the two out",
            ));
        }
        Some(url) => Addresses::at(&web_address("--stripe-base-url", url)?),
        None => Addresses::default(),
    };
    let public_url =
        args.public_url.as_deref().map(|url| web_address("--public-url", url)).transpose()?;
    Ok(Some(BillingSettings {
        stripe: StripeSettings { keys, addresses, ..StripeSettings::default() },
        public_url,
        client_ids: ClientIds {
            test: args.stripe_client_id.clone(),
            live: args.stripe_live_client_id.clone(),
        },
        fee: args.platform_fee_percent.unwrap_or_default(),
        ..BillingSettings::default()
    }))
}

fn key(file: Option<&Path>, mode: Mode) -> Result<Option<SecretKey>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let told = |reason: String| Failure::configuration(format!("{}: {reason}", file.display()));
    let text =
        fs::read_to_string(file).map_err(|error| told(format!("cannot be read: {error}")))?;
    SecretKey::parse(&text, mode).map(Some).map_err(|error| told(error.to_string()))
}

/// The secrets that webhooks are signed with.
///
/// # Errors
/// When a file cannot be read, or holds something else.
pub fn webhook_secrets(args: &StripeWebhookArgs) -> Result<WebhookSecrets, Failure> {
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|error| {
            let file = file.display();
            Failure::configuration(format!("cannot read the webhook secrets of {file}: {error}"))
        })
    };
    let mut secrets = WebhookSecrets::default();
    if let Some(file) = &args.stripe_webhook_secret_file {
        secrets = secrets
            .with_test(&read(file)?)
            .map_err(|error| Failure::configuration(format!("{}: {error}", file.display())))?;
    }
    if let Some(file) = &args.stripe_live_webhook_secret_file {
        secrets = secrets
            .with_live(&read(file)?)
            .map_err(|error| Failure::configuration(format!("{}: {error}", file.display())))?;
    }
    Ok(secrets)
}

/// An http or https address without path, query and user, and without a slash at the end.
fn web_address(flag: &str, text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::configuration(format!(
            "{flag}: expected http://HOST or https://HOST, with a port and a path if wanted, not `{text}`"
        ))
    };
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain {
        return Err(wrong());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
#[path = "billing_tests.rs"]
mod tests;
