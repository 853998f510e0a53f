use super::{header, verify};

#[test]
fn a_signature_holds_for_its_body_its_secret_and_its_time() {
    let made = header("whsec_a", 1000, b"{}");
    let rotated = format!("{made},v1={}", "0".repeat(64));
    for (secret, signed, body, now, expected) in [
        ("whsec_a", made.as_str(), "{}", 1000, true),
        ("whsec_a", rotated.as_str(), "{}", 1300, true),
        ("whsec_b", made.as_str(), "{}", 1000, false),
        ("whsec_a", made.as_str(), "{ }", 1000, false),
        ("whsec_a", made.as_str(), "{}", 1301, false),
        ("whsec_a", made.as_str(), "{}", 699, false),
        ("whsec_a", "v1=00", "{}", 1000, false),
        ("whsec_a", "", "{}", 1000, false),
    ] {
        assert_eq!(
            verify(secret, signed, body.as_bytes(), now, 300),
            expected,
            "{secret} {signed} {body} {now}"
        );
    }
}

/// Against `stripe.WebhookSignature.generate_signature_header` of the official client.
#[test]
fn it_is_what_the_official_client_makes() {
    assert_eq!(
        header("whsec_test", 1_700_000_000, br#"{"id":"evt_1"}"#),
        "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
    );
}
