//! Connected accounts: making them, sending their owners to set them up, connecting those that exist.
//!
//! In: requests of Accounts v2, account links, OAuth. Out: accounts, links, tokens' facts; by v1 where Stripe has not enabled v2 for the platform.
//! Always holds: the access token that OAuth answers with is not kept: we call with our own key and the account's id.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::client::{Call, Scope, Stripe, segment};
use super::form::Body;
use super::{Mode, StripeError};

/// The path of the account that a call is made on.
pub(super) const OWN_ACCOUNT: &str = "/v1/account";

/// What of an account is answered with.
const INCLUDE: [&str; 3] = ["defaults", "configuration.merchant", "requirements"];

/// `POST /v2/core/accounts`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccountRequest {
    /// Whom Stripe writes to.
    pub contact_email: String,
    /// Shown to the owner.
    pub display_name: Option<String>,
    /// `full`: the owner has Stripe's whole dashboard.
    pub dashboard: String,
    /// `{"country": "de"}`; Stripe asks the owner where it is left out.
    pub identity: Option<BTreeMap<String, String>>,
    /// Who collects fees and bears losses.
    pub defaults: Json,
    /// What the account is to be able to do.
    pub configuration: Json,
    /// Ours, found in the account again.
    pub metadata: BTreeMap<String, String>,
    /// What is answered with.
    pub include: Vec<String>,
}

/// An account that takes cards, whose owner pays Stripe's fees and bears the losses.
#[must_use]
pub fn account_configuration() -> (Json, Json) {
    let responsibilities = json!({ "fees_collector": "stripe", "losses_collector": "stripe" });
    let capabilities = json!({ "card_payments": { "requested": true } });
    (
        json!({ "responsibilities": responsibilities }),
        json!({ "merchant": { "capabilities": capabilities } }),
    )
}

impl AccountRequest {
    /// A request for the one kind of account that we make.
    #[must_use]
    pub fn merchant(contact_email: &str, country: Option<&str>) -> Self {
        let (defaults, configuration) = account_configuration();
        Self {
            contact_email: contact_email.to_owned(),
            display_name: None,
            dashboard: "full".to_owned(),
            identity: country
                .map(|code| BTreeMap::from([("country".to_owned(), code.to_ascii_lowercase())])),
            defaults,
            configuration,
            metadata: BTreeMap::new(),
            include: INCLUDE.map(ToOwned::to_owned).to_vec(),
        }
    }
}

/// An account of Accounts v2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StripeAccountObject {
    /// `acct_…`.
    pub id: String,
    /// What it is to be able to do, and can.
    #[serde(default)]
    pub configuration: Option<Json>,
    /// What Stripe still asks of the owner.
    #[serde(default)]
    pub requirements: Option<Json>,
    /// Whether it was closed.
    #[serde(default)]
    pub closed: Option<bool>,
    /// Whether it is a live one.
    #[serde(default)]
    pub livemode: Option<bool>,
}

impl StripeAccountObject {
    /// `active`, `pending`, `restricted`, `unsupported`; `None` where card payments were not asked for.
    #[must_use]
    pub fn card_payments(&self) -> Option<&str> {
        let path = "/merchant/capabilities/card_payments/status";
        self.configuration.as_ref()?.pointer(path)?.as_str()
    }

    /// Whether it can take payments.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.closed != Some(true) && self.card_payments() == Some("active")
    }

    /// What Stripe waits for, in its words, at most fifty.
    #[must_use]
    pub fn awaited(&self) -> Vec<String> {
        let entries = self.requirements.as_ref().and_then(|all| all.get("entries"));
        let entries = entries.and_then(Json::as_array).into_iter().flatten();
        let words = entries.filter_map(|entry| entry.get("description").and_then(Json::as_str));
        words.take(50).map(ToOwned::to_owned).collect()
    }
}

/// A page of Stripe's on which the owner sets the account up; can be used once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLink {
    /// Its address.
    pub url: String,
    /// Until when, RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// What connecting an existing account brought.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct OauthToken {
    /// `acct_…`.
    pub stripe_user_id: String,
    /// Which world.
    pub livemode: bool,
    /// What we may do.
    #[serde(default)]
    pub scope: Option<String>,
}

impl std::fmt::Debug for OauthToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OauthToken").field("account", &self.stripe_user_id).finish()
    }
}

/// Whose account a call is made on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OwnAccount {
    /// `acct_…`.
    pub id: String,
}

#[derive(Serialize)]
struct TokenRequest<'a> {
    grant_type: &'a str,
    code: &'a str,
}

#[derive(Serialize)]
struct DeauthorizeRequest<'a> {
    client_id: &'a str,
    stripe_user_id: &'a str,
}

impl Stripe {
    /// Makes an account that an owner will set up.
    ///
    /// # Errors
    /// As Stripe says; so for all below.
    pub async fn create_account(
        &self,
        mode: Mode,
        request: &AccountRequest,
        key: &str,
    ) -> Result<StripeAccountObject, StripeError> {
        let call = Call {
            method: Method::POST,
            body: Some(Body::json(request)?),
            key: Some(key),
            ..Call::get("/v2/core/accounts")
        };
        match self.send(&Scope::platform(mode), call).await {
            Err(error) if error.is_without_v2() => self.create_account_v1(mode, request, key).await,
            made => made,
        }
    }

    /// An account as it now is.
    pub async fn account(&self, mode: Mode, id: &str) -> Result<StripeAccountObject, StripeError> {
        let query = json!({ "include": INCLUDE });
        let call = Call::list(format!("/v2/core/accounts/{}", segment(id)?), &query)?;
        match self.send(&Scope::platform(mode), call).await {
            Err(error) if error.is_without_v2() => self.account_v1(mode, id).await,
            found => found,
        }
    }

    /// The account that calls of this scope are made on: the platform's own, or a connected one for as long as we may act for it.
    pub async fn own_account(&self, scope: &Scope) -> Result<OwnAccount, StripeError> {
        self.send(scope, Call::get(OWN_ACCOUNT)).await
    }

    /// A link on which the owner sets the account up.
    pub async fn account_link(
        &self,
        mode: Mode,
        account: &str,
        refresh_url: &str,
        return_url: &str,
        key: &str,
    ) -> Result<AccountLink, StripeError> {
        let urls = json!({ "refresh_url": refresh_url, "return_url": return_url });
        let use_case = json!({ "type": "account_onboarding", "account_onboarding": urls });
        let request = json!({ "account": account, "use_case": use_case });
        let call = Call {
            method: Method::POST,
            body: Some(Body::json(&request)?),
            key: Some(key),
            ..Call::get("/v2/core/account_links")
        };
        match self.send(&Scope::platform(mode), call).await {
            Err(error) if error.is_without_v2() => {
                self.account_link_v1(mode, account, refresh_url, return_url, key).await
            }
            made => made,
        }
    }

    /// Which account a code of OAuth's is for. A code can be used once: without a key this is not tried again once it was sent, and
    /// with one Stripe gives the answer that was lost.
    pub async fn oauth_token(
        &self,
        mode: Mode,
        code: &str,
        key: Option<&str>,
    ) -> Result<OauthToken, StripeError> {
        let request = TokenRequest { grant_type: "authorization_code", code };
        let body = Some(Body::form(&request)?);
        let call =
            Call { method: Method::POST, body, key, is_oauth: true, ..Call::get("/oauth/token") };
        self.send(&Scope::platform(mode), call).await
    }

    /// Gives an account back to its owner alone.
    pub async fn oauth_deauthorize(
        &self,
        mode: Mode,
        client_id: &str,
        account: &str,
    ) -> Result<(), StripeError> {
        let request = DeauthorizeRequest { client_id, stripe_user_id: account };
        let body = Some(Body::form(&request)?);
        let call =
            Call { method: Method::POST, body, is_oauth: true, ..Call::get("/oauth/deauthorize") };
        let _: Json = self.send(&Scope::platform(mode), call).await?;
        Ok(())
    }
}
