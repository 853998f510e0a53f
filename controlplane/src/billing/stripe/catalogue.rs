//! Products and prices.
//!
//! In: requests. Out: objects as far as we use them.
//! Always holds: amounts are whole numbers of the currency's smallest unit; a price's parts that no update can change are in
//! no update's type.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::client::{Call, Scope, Stripe, segment};
use super::{StripeError, id_of};

/// Part of a list of Stripe's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOf<T> {
    /// The objects.
    pub data: Vec<T>,
    /// Whether there are more after the last one.
    #[serde(default)]
    pub has_more: bool,
}

/// `POST /v1/products`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProductRequest {
    /// Of our choosing, so that there cannot be two.
    pub id: String,
    /// Shown to buyers.
    pub name: String,
    /// Shown to buyers.
    pub description: Option<String>,
    /// Ours.
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/products/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProductUpdate {
    /// Shown to buyers.
    pub name: Option<String>,
    /// Whether it can be bought.
    pub active: Option<bool>,
}

/// What is sold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Whether it can be bought.
    #[serde(default)]
    pub active: bool,
    /// Shown to buyers.
    #[serde(default)]
    pub name: String,
    /// Ours.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// How often a price is paid, in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceRecurring {
    /// `month` or `year`.
    pub interval: String,
    /// `metered` for overage.
    pub usage_type: Option<String>,
    /// The meter that counts.
    pub meter: Option<String>,
}

/// `POST /v1/prices`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceRequest {
    /// Of what.
    pub product: String,
    /// Three letters, lower case.
    pub currency: String,
    /// In the smallest unit; left out where `unit_amount_decimal` is given.
    pub unit_amount: Option<i64>,
    /// In the smallest unit, with up to twelve digits after the point.
    pub unit_amount_decimal: Option<String>,
    /// How often.
    pub recurring: PriceRecurring,
    /// So many units for one price.
    pub transform_quantity: Option<BTreeMap<String, String>>,
    /// The name that the newest price of a plan has.
    pub lookup_key: Option<String>,
    /// Whether the name is taken from the price that has it.
    pub transfer_lookup_key: Option<bool>,
    /// `inclusive`, `exclusive`, `unspecified`.
    pub tax_behavior: Option<String>,
    /// For the owner.
    pub nickname: Option<String>,
    /// Ours.
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/prices/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceUpdate {
    /// Whether it can be bought.
    pub active: Option<bool>,
    /// The name that the newest price of a plan has.
    pub lookup_key: Option<String>,
    /// Whether the name is taken from the price that has it.
    pub transfer_lookup_key: Option<bool>,
    /// `inclusive` or `exclusive`, where nothing was said before.
    pub tax_behavior: Option<String>,
}

/// So many units for one price, in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformQuantity {
    /// How many.
    pub divide_by: u64,
    /// `up` or `down`.
    #[serde(default)]
    pub round: String,
}

/// How often a price is paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurring {
    /// `month`, `year`, and what owners may choose in their dashboard.
    #[serde(default)]
    pub interval: String,
    /// Of so many intervals.
    #[serde(default)]
    pub interval_count: Option<u32>,
    /// `licensed` or `metered`.
    #[serde(default)]
    pub usage_type: Option<String>,
    /// The meter that counts.
    #[serde(default)]
    pub meter: Option<String>,
}

/// What something costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Its id.
    pub id: String,
    /// Of which product.
    #[serde(default, deserialize_with = "id_of")]
    pub product: Option<String>,
    /// Whether it can be bought.
    #[serde(default)]
    pub active: bool,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: String,
    /// In the smallest unit; none where it is no whole number.
    #[serde(default)]
    pub unit_amount: Option<i64>,
    /// The same with digits after the point.
    #[serde(default)]
    pub unit_amount_decimal: Option<String>,
    /// How often.
    #[serde(default)]
    pub recurring: Option<Recurring>,
    /// `per_unit` or `tiered`.
    #[serde(default)]
    pub billing_scheme: Option<String>,
    /// So many units for one price; none: one.
    #[serde(default)]
    pub transform_quantity: Option<TransformQuantity>,
    /// The name that the newest price of a plan has.
    #[serde(default)]
    pub lookup_key: Option<String>,
    /// `inclusive`, `exclusive`, `unspecified`.
    #[serde(default)]
    pub tax_behavior: Option<String>,
    /// Ours.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Price {
    /// Whether it is paid by use.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        let recurring = self.recurring.as_ref();
        recurring.is_some_and(|all| all.usage_type.as_deref() == Some("metered"))
    }
}

/// `GET /v1/prices`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceQuery {
    /// Of one product.
    pub product: Option<String>,
    /// By name.
    pub lookup_keys: Vec<String>,
    /// Those that can be bought, or those that cannot.
    pub active: Option<bool>,
    /// 100 at most.
    pub limit: Option<u32>,
    /// The id to go on after.
    pub starting_after: Option<String>,
}

impl Stripe {
    /// Makes a product.
    ///
    /// # Errors
    /// As Stripe says ([`StripeError::is_there_already`] where its id is taken); so for all below.
    pub async fn create_product(
        &self,
        scope: &Scope,
        request: &ProductRequest,
        key: &str,
    ) -> Result<Product, StripeError> {
        self.send(scope, Call::post("/v1/products", request, key)?).await
    }

    /// Changes a product.
    pub async fn update_product(
        &self,
        scope: &Scope,
        id: &str,
        request: &ProductUpdate,
        key: &str,
    ) -> Result<Product, StripeError> {
        let path = format!("/v1/products/{}", segment(id)?);
        self.send(scope, Call::post(path, request, key)?).await
    }

    /// A product as it now is.
    pub async fn product(&self, scope: &Scope, id: &str) -> Result<Product, StripeError> {
        self.send(scope, Call::get(format!("/v1/products/{}", segment(id)?))).await
    }

    /// Makes a price.
    pub async fn create_price(
        &self,
        scope: &Scope,
        request: &PriceRequest,
        key: &str,
    ) -> Result<Price, StripeError> {
        self.send(scope, Call::post("/v1/prices", request, key)?).await
    }

    /// Changes what can be changed of a price.
    pub async fn update_price(
        &self,
        scope: &Scope,
        id: &str,
        request: &PriceUpdate,
        key: &str,
    ) -> Result<Price, StripeError> {
        let path = format!("/v1/prices/{}", segment(id)?);
        self.send(scope, Call::post(path, request, key)?).await
    }

    /// A price as it now is.
    pub async fn price(&self, scope: &Scope, id: &str) -> Result<Price, StripeError> {
        self.send(scope, Call::get(format!("/v1/prices/{}", segment(id)?))).await
    }

    /// Prices.
    pub async fn prices(
        &self,
        scope: &Scope,
        query: &PriceQuery,
    ) -> Result<ListOf<Price>, StripeError> {
        self.send(scope, Call::list("/v1/prices", query)?).await
    }
}
