//! Whom a mail is for, and what it says.
//!
//! In: a mail and its event. Out: an address; facts.
//! Always holds: what is said is what the event said when it happened; where to write to is asked when it is sent, so an
//! address that was corrected counts. Rows are of the mail's account.

use jiff::Timestamp;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::Value as Json;

use super::letter::Facts;
use super::{MailSender, free_link, key_link};
use crate::billing::money;
use crate::storage::{
    Customer, EventRecord, Mail, Plan, Site, StorageResult, StripeCustomer, Subscription, Window,
    column,
};

/// Customers at the provider that are looked at, the newest: there is one for each connected account and mode.
const PAYING_MAX: u64 = 8;
/// Why a link is not sent.
const NO_URL: &str = "without --public-url no link to a key can be sent";

impl MailSender {
    /// Whom a mail is for, in lower case; none where nobody knows.
    pub(super) async fn recipient(&self, mail: &Mail) -> StorageResult<Option<String>> {
        if let Some(recipient) = &mail.recipient {
            return Ok(Some(recipient.to_ascii_lowercase()));
        }
        let tenant = self.store.tenant(&mail.account_id);
        let Some(id) = &mail.subscription_id else { return Ok(None) };
        let Some(subscription) = tenant.get::<Subscription>(id).await? else { return Ok(None) };
        let customer = tenant.get::<Customer>(&subscription.customer_id).await?;
        let email = customer.and_then(|customer| text(&json(&customer.settings)["email"]));
        if email.is_some() {
            return Ok(email.map(|email| email.to_ascii_lowercase()));
        }
        // What was given when it was paid.
        let newest = Window { limit: PAYING_MAX, starting_after: None };
        let paying = tenant.page::<StripeCustomer>(newest, |query| {
            query.filter(column::StripeCustomer::CustomerId.eq(subscription.customer_id.as_str()))
        });
        let paying = paying.await?.map(|page| page.rows).unwrap_or_default();
        let email = paying.into_iter().find_map(|row| row.email);
        Ok(email.map(|email| email.to_ascii_lowercase()))
    }

    /// What a mail says; the inner error where there is nothing to be said any more.
    pub(super) async fn facts(
        &self,
        mail: &Mail,
        event: &EventRecord,
    ) -> StorageResult<Result<Facts, String>> {
        let data = json(&event.data);
        let mut facts = self.facts_of_subscription(mail, &data).await?;
        let invoice = &data["invoice"];
        match mail.template.as_str() {
            "payment_failed" | "payment_action_required" => {
                let amount = invoice["amount"].as_i64().unwrap_or_default();
                facts.amount =
                    money::shown(amount, invoice["currency"].as_str().unwrap_or_default());
                facts.link = text(&invoice["hosted_invoice_url"]).unwrap_or_default();
                facts.date = day(&invoice["next_attempt_at"]);
            }
            "trial_ending" => facts.date = day(&data["trial_ends_at"]),
            "quota_80" | "quota_100" => {
                facts.used = data["quota"]["used"].to_string();
                facts.limit = data["quota"]["limit"].to_string();
                facts.date = day(&data["quota"]["period_end"]);
                facts.is_overage = data["quota"]["overage"] == "allow";
            }
            "endpoint_disabled" => {
                let endpoint = &data["webhook_endpoint"];
                facts.link = text(&endpoint["url"]).unwrap_or_default();
                facts.reason = text(&endpoint["reason"]).unwrap_or_default();
            }
            "key_link" => {
                let Some(claim_id) = text(&data["claim_id"]) else {
                    return Ok(Err("there is no claim".to_owned()));
                };
                return self.key_link(&mail.account_id, &claim_id, facts).await;
            }
            "free_key_link" => {
                let Some(public_url) = &self.settings.public_url else {
                    return Ok(Err(NO_URL.to_owned()));
                };
                let made = free_link::make(&self.store, &event.id, public_url).await?;
                return Ok(made.map(|made| with_link(facts, made)));
            }
            _ => {}
        }
        Ok(Ok(facts))
    }

    async fn facts_of_subscription(&self, mail: &Mail, data: &Json) -> StorageResult<Facts> {
        let tenant = self.store.tenant(&mail.account_id);
        let mut facts = Facts::default();
        let told = data.get("requested").unwrap_or(&data["subscription"]);
        if let Some(site) = tenant.get::<Site>(told["site_id"].as_str().unwrap_or_default()).await?
        {
            let settings = json(&site.settings);
            facts.link = text(&settings["upgrade_url"]).unwrap_or_default();
            facts.site = text(&settings["name"]).unwrap_or(site.slug);
        }
        if let Some(plan) = tenant.get::<Plan>(told["plan_id"].as_str().unwrap_or_default()).await?
        {
            facts.plan = text(&json(&plan.settings)["name"]).unwrap_or(plan.reference);
        }
        Ok(facts)
    }

    async fn key_link(
        &self,
        account_id: &str,
        claim_id: &str,
        facts: Facts,
    ) -> StorageResult<Result<Facts, String>> {
        let Some(public_url) = &self.settings.public_url else {
            return Ok(Err(NO_URL.to_owned()));
        };
        let made = key_link::make(&self.store, account_id, claim_id, public_url).await?;
        Ok(made.map(|made| with_link(facts, made)))
    }
}

fn with_link(facts: Facts, (link, until_ms): (String, i64)) -> Facts {
    Facts { link, date: date_of(until_ms), ..facts }
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_default()
}

fn text(value: &Json) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// A time of an event, for people.
fn day(value: &Json) -> String {
    let read = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    read.map(|at| date_of(at.as_millisecond())).unwrap_or_default()
}

fn date_of(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}
