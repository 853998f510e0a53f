//! What tenants are told of Stripe's refusals.

use super::*;
use crate::billing::stripe::Refusal;

#[test]
fn what_stripe_says_of_the_key_is_not_for_tenants() {
    for (status, kind, is_told) in [
        (401, "billing_not_set_up", false),
        (403, "stripe_refused", true),
        (400, "stripe_refused", true),
    ] {
        let message = "Invalid API Key provided: sk_test_****1234".to_owned();
        let refusal = Box::new(Refusal { status, message, ..Refusal::default() });
        let problem = Problem::from(BillingError::Stripe(StripeError::Refused(refusal)));
        let shown = format!("{problem:?}");
        assert_eq!(problem.status(), StatusCode::CONFLICT, "{status}");
        assert!(shown.contains(kind), "{status}: {shown}");
        assert_eq!(shown.contains("1234"), is_told, "{status}: {shown}");
    }
}
