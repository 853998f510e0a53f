//! What `payfence dev` sells: the plans that it wrote, for a price, through an account at the bank.
//!
//! In: a control plane that has the policy, a [`Bank`]. Out: prices, a connected account that can take cards, the address of a page.
//! Always holds: prices are given once, so that what was changed by REST afterwards stays; an account that the stand-in of an earlier start
//! had is gone with it and is replaced; an account that somebody connected at Stripe is never disconnected here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::bank::Bank;
use super::files::{self, SLUG};
use crate::declare::form::Fields;
use crate::declare::rest::{Rest, RestError};

/// What is remembered of it, in the data directory.
const FILE: &str = "dev-selling.json";
const ACCOUNT_PATH: &str = "/v1/stripe/account";
const TEST_MODE: &str = "mode=test";
/// Plans of the file as it is written, and what a month of each costs, in cents: nothing of the first.
const PRICES: [(&str, u64); 2] = [("basic", 0), ("pro", 1_900)];
const CURRENCY: &str = "eur";
/// Sites that are looked through for something that is sold.
const SITES_MAX: usize = 20;

/// What one start leaves for the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    /// Prices were given.
    is_priced: bool,
    /// The connected account is, or may be, one of a stand-in.
    is_stand_in: bool,
}

/// Where things are that are sold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shop {
    /// The slug of a site that has something to sell.
    pub site: Option<String>,
    /// Why nothing can be paid for, and what to do.
    pub advice: Option<String>,
}

/// Why it is not open.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The control plane did not do it.
    #[error("the control plane: {0}")]
    Rest(#[from] RestError),
    /// What is remembered cannot be read or written.
    #[error("{}: {cause}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The stand-in refused.
    #[error("the stand-in for Stripe: {0}")]
    StandIn(String),
}

/// Makes everything ready that can be. Plans get a price only where the policy `is_ours`.
///
/// # Errors
/// As [`ShopError`]; whatever is missing then, the rest of the product works.
pub async fn open(
    rest: &Rest,
    bank: &Bank,
    data_dir: &Path,
    is_ours: bool,
) -> Result<Shop, ShopError> {
    let file = data_dir.join(FILE);
    let mut memory = read(&file)?;
    if is_ours && !memory.is_priced {
        memory.is_priced = give_prices(rest).await?;
        write(&file, memory)?;
    }
    let advice = connect(rest, bank, &file, memory).await?;
    if advice.is_none() {
        bring(rest).await?;
    }
    Ok(Shop { site: selling(rest).await?, advice })
}

/// Gives the plans that were written here their first prices; says whether they were there.
async fn give_prices(rest: &Rest) -> Result<bool, ShopError> {
    let sites = rest.list("/v1/sites", &[]).await?;
    let Some(site) = sites.iter().find(|site| text(site, "slug") == SLUG) else { return Ok(false) };
    let path = format!("/v1/sites/{}/plans", text(site, "id"));
    let plans = rest.list(&path, &[]).await?;
    let mut is_there = false;
    for (reference, amount) in PRICES {
        let plan = plans.iter().find(|plan| text(plan, "reference") == reference);
        let Some(plan) = plan else { continue };
        is_there = true;
        if is_priced(plan) {
            continue;
        }
        let price = json!({ "amount": amount, "currency": CURRENCY, "interval": "month" });
        let path = format!("{path}/{}", text(plan, "id"));
        rest.update(&path, &json!({ "price": price }), version(plan)).await?;
    }
    Ok(is_there)
}

/// Connects an account of the stand-in; or says what is to be done at Stripe.
async fn connect(
    rest: &Rest,
    bank: &Bank,
    file: &Path,
    mut memory: Memory,
) -> Result<Option<String>, ShopError> {
    let connected = rest.find(ACCOUNT_PATH, TEST_MODE).await?;
    match &connected {
        Some(account) if memory.is_stand_in => {
            tracing::info!(
                "the stand-in for Stripe of the last start is gone with its account; what was bought there goes on to its period's end"
            );
            rest.end_of(ACCOUNT_PATH, TEST_MODE, version(account)).await?;
        }
        Some(account) if bank.sandbox.is_some() => {
            return Ok(Some(format!(
                "the connected account {} is at Stripe, so nothing can be paid for here: give --stripe-secret-key-file, or take the \
                 account away with DELETE {ACCOUNT_PATH}?{TEST_MODE}",
                text(account, "stripe_id")
            )));
        }
        Some(account) => {
            let advice = "Stripe does not let the connected account take cards yet: GET /v1/stripe/account?mode=test says what it waits for";
            return Ok((text(account, "status") != "ready").then(|| advice.to_owned()));
        }
        None => {}
    }
    // Before it is made, so that a crash leaves none that is taken for Stripe's.
    memory.is_stand_in = bank.sandbox.is_some();
    write(file, memory)?;
    let Some(sandbox) = &bank.sandbox else {
        let advice = "connect a Stripe account before plans can be paid for: POST /v1/stripe/account with {\"mode\": \"test\", \"email\": …}";
        return Ok(Some(advice.to_owned()));
    };
    let owner = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
    let account = rest.create(ACCOUNT_PATH, &owner).await?;
    let onboarded = sandbox.onboard(text(&account, "stripe_id"));
    onboarded.map_err(|error| ShopError::StandIn(error.message))?;
    // It is asked whether the account is ready, and found that it is.
    rest.find(ACCOUNT_PATH, TEST_MODE).await?;
    Ok(None)
}

/// Makes products and prices of plans.
async fn bring(rest: &Rest) -> Result<(), ShopError> {
    let done = rest.create("/v1/billing/sync", &json!({ "mode": "test" })).await?;
    for entry in done.get("entries").and_then(Json::as_array).into_iter().flatten() {
        if entry["action"] == "failed" {
            let (plan, reason) = (&entry["reference"], &entry["reason"]);
            tracing::warn!(%plan, %reason, "a plan cannot be bought yet; `payfence billing sync --test` tries again");
        }
    }
    Ok(())
}

/// A site that has a plan with a price, the one of the file first.
async fn selling(rest: &Rest) -> Result<Option<String>, ShopError> {
    let mut sites = rest.list("/v1/sites", &[]).await?;
    sites.sort_by_key(|site| text(site, "slug") != SLUG);
    for site in sites.iter().take(SITES_MAX) {
        let plans = rest.list(&format!("/v1/sites/{}/plans", text(site, "id")), &[]).await?;
        if plans.iter().any(is_priced) {
            return Ok(Some(text(site, "slug").to_owned()));
        }
    }
    Ok(None)
}

fn is_priced(plan: &Fields) -> bool {
    plan.get("price").is_some_and(|price| !price.is_null())
}

fn text<'a>(row: &'a Fields, name: &str) -> &'a str {
    row.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn version(row: &Fields) -> i64 {
    row.get("version").and_then(Json::as_i64).unwrap_or_default()
}

fn read(file: &Path) -> Result<Memory, ShopError> {
    match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| broken(file, error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(broken(file, error)),
    }
}

fn write(file: &Path, memory: Memory) -> Result<(), ShopError> {
    let text = serde_json::to_string(&memory).map_err(|error| broken(file, error.into()))?;
    files::replace(file, &text, 0o600).map_err(|error| broken(file, error))
}

fn broken(file: &Path, cause: io::Error) -> ShopError {
    ShopError::File { file: file.to_owned(), cause }
}
