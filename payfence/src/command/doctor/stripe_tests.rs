//! What answers of Stripe's and clocks come to.

use controlplane::billing::stripe::Refusal;

use super::*;

fn word(finding: &Finding) -> &'static str {
    match finding {
        Finding::Well(_) => "well",
        Finding::Unwise(_) => "unwise",
        Finding::Broken(_) => "broken",
    }
}

#[test]
fn clocks_are_judged_by_what_webhooks_allow() {
    for (ahead_s, expected) in [
        (0, "well"),
        (-29, "well"),
        (30, "unwise"),
        (-299, "unwise"),
        (300, "broken"),
        (-4_000, "broken"),
    ] {
        assert_eq!(word(&of_clock(ahead_s)), expected, "{ahead_s}");
    }
}

#[test]
fn refused_keys_come_with_what_to_do() {
    let refused = |status, message: &str| {
        let refusal = Refusal { status, message: message.to_owned(), ..Refusal::default() };
        Err(StripeError::Refused(Box::new(refusal)))
    };
    let cases = [
        (Ok(Vec::new()), "well", ""),
        (Ok(vec!["Prices (Write)".to_owned()]), "broken", "OPERATIONS.md"),
        (refused(401, "Invalid API Key provided"), "broken", "dashboard"),
        (refused(403, "no permission"), "broken", "rights"),
        (refused(400, "Invalid Stripe API version"), "broken", "upgrade"),
        (Err(StripeError::Unreachable("no route".to_owned())), "broken", "status.stripe.com"),
    ];
    for (asked, expected, remedy) in cases {
        let finding = of_key(&asked);
        assert_eq!(word(&finding), expected, "{asked:?}");
        if let Finding::Broken(problem) = finding {
            assert!(problem.remedy.contains(remedy), "{problem:?}");
        }
    }
}
