//! What Stripe's refusals mean.

use super::*;
use crate::billing::stripe::{Mode, Refusal};

fn refused(status: u16, code: Option<&str>, message: &str) -> StripeError {
    StripeError::Refused(Box::new(Refusal {
        status,
        code: code.map(ToOwned::to_owned),
        message: message.to_owned(),
        ..Refusal::default()
    }))
}

#[test]
fn an_identifier_that_stripe_has_is_an_increment_that_it_took() {
    assert!(is_known(&refused(400, Some("duplicate_meter_event"), "no")));
    assert!(is_known(&refused(400, None, "An event already exists with identifier sub_1_2_3.")));
    assert!(!is_known(&refused(400, Some("no_meter"), "No such meter")));
    assert!(!is_known(&refused(400, None, "The identifier has 100 characters at most.")));
    assert!(!is_known(&StripeError::Busy));
}

#[test]
fn only_what_is_wrong_with_an_increment_refuses_it_for_good() {
    let waits = [
        refused(400, Some("no_meter"), ""),
        refused(400, Some("archived_meter"), ""),
        refused(400, Some("timestamp_in_future"), ""),
        refused(401, None, "Invalid API Key provided"),
        refused(403, Some("account_invalid"), ""),
        refused(403, None, "The key may not do this."),
        refused(409, None, ""),
        refused(429, None, ""),
        refused(503, None, ""),
        StripeError::Busy,
        StripeError::NotSetUp(Mode::Test),
        StripeError::Unreachable("away".to_owned()),
    ];
    let refuses = [
        refused(400, Some("meter_event_customer_not_found"), ""),
        refused(400, Some("meter_event_invalid_value"), ""),
        refused(400, Some("timestamp_too_far_in_past"), ""),
        refused(400, None, "unknown"),
        StripeError::Malformed("an id".to_owned()),
    ];
    let is_for_now = |error: &&StripeError| is_meter_off(error) || is_in_the_way(error);
    assert_eq!(waits.iter().find(|error| !is_for_now(error)), None);
    assert_eq!(refuses.iter().find(is_for_now), None);
}
