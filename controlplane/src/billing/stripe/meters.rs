//! Meters: what overage is counted and billed through.
//!
//! In: requests. Out: objects as far as we use them.
//! Always holds: an event carries an identifier of ours, so that the same one twice is counted once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StripeError;
use super::catalogue::ListOf;
use super::client::{Call, Scope, Stripe, segment};

/// How events are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregation {
    /// `sum`.
    pub formula: String,
}

/// `POST /v1/billing/meters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeterRequest {
    /// For the owner.
    pub display_name: String,
    /// What its events are called; one meter has a name.
    pub event_name: String,
    /// How they are added up.
    pub default_aggregation: Aggregation,
}

/// Which part of an event says whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerMapping {
    /// `stripe_customer_id`.
    pub event_payload_key: String,
    /// `by_id`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Which part of an event says how much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueSettings {
    /// `value`.
    pub event_payload_key: String,
}

/// `POST /v1/billing/meters/{id}/reactivate`: nothing needs to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeterReactivation {}

/// A meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// `mtr_…`.
    pub id: String,
    /// What its events are called.
    #[serde(default)]
    pub event_name: String,
    /// `active`, `inactive`.
    #[serde(default)]
    pub status: Option<String>,
    /// How events are added up.
    #[serde(default)]
    pub default_aggregation: Option<Aggregation>,
    /// Whose they are.
    #[serde(default)]
    pub customer_mapping: Option<CustomerMapping>,
    /// How much they are.
    #[serde(default)]
    pub value_settings: Option<ValueSettings>,
}

/// `POST /v1/billing/meter_events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MeterEventRequest {
    /// The meter's.
    pub event_name: String,
    /// `stripe_customer_id` and `value`.
    pub payload: BTreeMap<String, String>,
    /// Ours; the same one is counted once.
    pub identifier: Option<String>,
    /// Unix seconds; 35 days back at most, five minutes ahead at most.
    pub timestamp: Option<i64>,
}

/// An event that was taken; whether it counts is found out later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterEvent {
    /// Ours.
    #[serde(default)]
    pub identifier: Option<String>,
    /// The meter's.
    #[serde(default)]
    pub event_name: String,
    /// Unix seconds.
    #[serde(default)]
    pub timestamp: Option<i64>,
}

/// `GET /v1/billing/meters/{id}/event_summaries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SummaryQuery {
    /// Whose.
    pub customer: String,
    /// Unix seconds, whole minutes.
    pub start_time: i64,
    /// Unix seconds, whole minutes.
    pub end_time: i64,
    /// 100 at most.
    pub limit: Option<u32>,
    /// The id to go on after.
    pub starting_after: Option<String>,
}

/// What events add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventSummary {
    /// Its id.
    #[serde(default)]
    pub id: String,
    /// The sum.
    pub aggregated_value: f64,
    /// Unix seconds.
    #[serde(default)]
    pub start_time: i64,
    /// Unix seconds.
    #[serde(default)]
    pub end_time: i64,
}

#[derive(Serialize)]
struct MeterQuery {
    limit: u32,
    starting_after: Option<String>,
}

impl Stripe {
    /// Makes a meter.
    ///
    /// # Errors
    /// As Stripe says; so for all below.
    pub async fn create_meter(
        &self,
        scope: &Scope,
        request: &MeterRequest,
        key: &str,
    ) -> Result<Meter, StripeError> {
        self.send(scope, Call::post("/v1/billing/meters", request, key)?).await
    }

    /// A meter as it now is.
    pub async fn meter(&self, scope: &Scope, id: &str) -> Result<Meter, StripeError> {
        self.send(scope, Call::get(format!("/v1/billing/meters/{}", segment(id)?))).await
    }

    /// Makes a meter that takes no events take them again.
    pub async fn reactivate_meter(
        &self,
        scope: &Scope,
        id: &str,
        key: &str,
    ) -> Result<Meter, StripeError> {
        let path = format!("/v1/billing/meters/{}/reactivate", segment(id)?);
        self.send(scope, Call::post(path, &MeterReactivation {}, key)?).await
    }

    /// A hundred meters after one.
    pub async fn meters(
        &self,
        scope: &Scope,
        starting_after: Option<&str>,
    ) -> Result<ListOf<Meter>, StripeError> {
        let starting_after = starting_after.map(ToOwned::to_owned);
        let query = MeterQuery { limit: 100, starting_after };
        self.send(scope, Call::list("/v1/billing/meters", &query)?).await
    }

    /// Tells a meter of use.
    pub async fn create_meter_event(
        &self,
        scope: &Scope,
        request: &MeterEventRequest,
        key: &str,
    ) -> Result<MeterEvent, StripeError> {
        self.send(scope, Call::post("/v1/billing/meter_events", request, key)?).await
    }

    /// What a customer's events add up to.
    pub async fn event_summaries(
        &self,
        scope: &Scope,
        meter: &str,
        query: &SummaryQuery,
    ) -> Result<ListOf<EventSummary>, StripeError> {
        let path = format!("/v1/billing/meters/{}/event_summaries", segment(meter)?);
        self.send(scope, Call::list(path, query)?).await
    }
}
