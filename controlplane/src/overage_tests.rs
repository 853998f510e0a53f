//! What Stripe's refusals mean.

use super::*;
use crate::billing::stripe::Refusal;

#[test]
fn an_identifier_that_stripe_has_is_an_increment_that_it_took() {
    let refused = |code: Option<&str>, message: &str| {
        StripeError::Refused(Box::new(Refusal {
            status: 400,
            code: code.map(ToOwned::to_owned),
            message: message.to_owned(),
            ..Refusal::default()
        }))
    };
    assert!(is_known(&refused(Some("duplicate_meter_event"), "no")));
    assert!(is_known(&refused(None, "An event already exists with identifier sub_1_2_3.")));
    assert!(!is_known(&refused(Some("no_meter"), "No such meter")));
    assert!(!is_known(&refused(None, "The identifier has 100 characters at most.")));
    assert!(!is_known(&StripeError::Busy));
}
