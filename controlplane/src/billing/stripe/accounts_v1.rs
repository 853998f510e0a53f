//! Connected accounts where Stripe has not enabled Accounts v2 for the platform: the same by v1.
//!
//! In: a request of Accounts v2, an id. Out: what v1 makes of it, in the shape of v2.
//! Always holds: what is asked for is the same as by v2 (the owner has Stripe's whole dashboard, pays its fees and bears losses); an
//! account is ready only where Stripe says so of its charges and of the capability to take cards.

use std::collections::BTreeMap;

use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::accounts::{AccountLink, AccountRequest, StripeAccountObject};
use super::client::{Call, Scope, Stripe, segment};
use super::form::Body;
use super::{ListOf, Mode, StripeError};

/// What an account says by which call it was made.
const CALL: &str = "payfence_call";
/// Of the list of accounts, each of a hundred.
const PAGES_MAX: usize = 20;

/// `POST /v1/accounts`.
#[derive(Debug, Serialize)]
struct Request<'a> {
    email: &'a str,
    country: Option<String>,
    controller: Json,
    capabilities: Json,
    metadata: BTreeMap<&'a str, &'a str>,
}

/// `POST /v1/account_links`.
#[derive(Debug, Serialize)]
struct LinkRequest<'a> {
    account: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    refresh_url: &'a str,
    return_url: &'a str,
}

#[derive(Debug, Default, Serialize)]
struct ListQuery<'a> {
    limit: u8,
    starting_after: Option<&'a str>,
}

/// A link of v1.
#[derive(Debug, Deserialize)]
struct Link {
    url: String,
    /// Unix seconds.
    #[serde(default)]
    expires_at: Option<i64>,
}

/// An account of v1, as far as it says what it can do.
#[derive(Debug, Deserialize)]
struct Account {
    id: String,
    #[serde(default)]
    charges_enabled: Option<bool>,
    #[serde(default)]
    capabilities: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    requirements: Option<Requirements>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Requirements {
    #[serde(default)]
    currently_due: Option<Vec<String>>,
    #[serde(default)]
    disabled_reason: Option<String>,
}

impl Account {
    /// The word of v2 for whether it can take cards.
    fn card_payments(&self) -> Option<&'static str> {
        let capability = self.capabilities.as_ref()?.get("card_payments")?.as_str()?;
        Some(match (capability, self.charges_enabled) {
            ("active", Some(true)) => "active",
            ("pending", _) => "pending",
            _ => "restricted",
        })
    }

    fn into_v2(self) -> StripeAccountObject {
        let status = self.card_payments();
        let requirements = self.requirements.unwrap_or_default();
        let due = requirements.currently_due.unwrap_or_default().into_iter();
        let due = due.chain(requirements.disabled_reason);
        let entries: Vec<Json> = due.map(|what| json!({ "description": what })).collect();
        let capabilities = status.map(|status| json!({ "card_payments": { "status": status } }));
        StripeAccountObject {
            id: self.id,
            configuration: Some(json!({ "merchant": { "capabilities": capabilities } })),
            requirements: Some(json!({ "entries": entries })),
            ..StripeAccountObject::default()
        }
    }
}

impl<'a> Request<'a> {
    fn of(request: &'a AccountRequest, call_key: &'a str) -> Self {
        let country = request.identity.as_ref().and_then(|identity| identity.get("country"));
        let metadata = request.metadata.iter();
        let metadata = metadata.map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            email: &request.contact_email,
            country: country.map(|code| code.to_ascii_uppercase()),
            controller: json!({
                "fees": { "payer": "account" },
                "losses": { "payments": "stripe" },
                "requirement_collection": "stripe",
                "stripe_dashboard": { "type": "full" },
            }),
            capabilities: json!({ "card_payments": { "requested": true } }),
            metadata: metadata.chain([(CALL, call_key)]).collect(),
        }
    }
}

/// The key of the call by v1: of one that v2 refused with the same key Stripe may know that key.
fn key_of(key: &str) -> String {
    format!("{key}-v1")
}

impl Stripe {
    /// Makes an account; where an earlier try answered 500 and may have made one, that one.
    pub(super) async fn create_account_v1(
        &self,
        mode: Mode,
        request: &AccountRequest,
        key: &str,
    ) -> Result<StripeAccountObject, StripeError> {
        let (scope, key) = (Scope::platform(mode), key_of(key));
        let sent = Request::of(request, &key);
        let made: Result<Account, _> =
            self.send(&scope, Call::post("/v1/accounts", &sent, &key)?).await;
        match made {
            Err(error) if error.is_replayed() && error.is_uncertain() => {
                let made = self.account_of_call(&scope, &key).await?;
                Ok(made.ok_or(error)?.into_v2())
            }
            made => Ok(made?.into_v2()),
        }
    }

    /// The account that a call made, if it did.
    async fn account_of_call(
        &self,
        scope: &Scope,
        key: &str,
    ) -> Result<Option<Account>, StripeError> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query = ListQuery { limit: 100, starting_after: after.as_deref() };
            let page: ListOf<Account> =
                self.send(scope, Call::list("/v1/accounts", &query)?).await?;
            after = page.data.last().map(|account| account.id.clone());
            let is_it = |account: &Account| account.metadata.get(CALL).is_some_and(|it| it == key);
            let found = page.data.into_iter().find(is_it);
            if found.is_some() || !page.has_more || after.is_none() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    pub(super) async fn account_v1(
        &self,
        mode: Mode,
        id: &str,
    ) -> Result<StripeAccountObject, StripeError> {
        let call = Call::get(format!("/v1/accounts/{}", segment(id)?));
        let account: Account = self.send(&Scope::platform(mode), call).await?;
        Ok(account.into_v2())
    }

    pub(super) async fn account_link_v1(
        &self,
        mode: Mode,
        account: &str,
        refresh_url: &str,
        return_url: &str,
        key: &str,
    ) -> Result<AccountLink, StripeError> {
        let kind = "account_onboarding";
        let request = LinkRequest { account, kind, refresh_url, return_url };
        let (body, key) = (Some(Body::form(&request)?), key_of(key));
        let call =
            Call { method: Method::POST, body, key: Some(&key), ..Call::get("/v1/account_links") };
        let link: Link = self.send(&Scope::platform(mode), call).await?;
        let expires_at = link.expires_at.and_then(|at| Timestamp::from_second(at).ok());
        Ok(AccountLink { url: link.url, expires_at: expires_at.map(|at| at.to_string()) })
    }
}

#[cfg(test)]
#[path = "accounts_v1_tests.rs"]
mod tests;
