use super::{Unsigned, check, header_of};

const NOW_S: i64 = 1_795_000_000;
const BODY: &[u8] = br#"{"id":"evt_1"}"#;

#[test]
fn only_what_was_signed_lately_with_a_secret_of_ours_is_taken() {
    let secrets = ["whsec_old".to_owned(), "whsec_new".to_owned()];
    let good = |at_s| header_of("whsec_new", at_s, BODY);
    let forged = header_of("whsec_other", NOW_S, BODY);
    let (_, signature) = good(NOW_S).split_once(",v1=").map(|(_, it)| ((), it.to_owned())).unwrap();
    let cases = [
        ("the new secret", good(NOW_S), Ok(())),
        ("the old secret", header_of("whsec_old", NOW_S, BODY), Ok(())),
        ("as old as may be", good(NOW_S - 300), Ok(())),
        ("too old", good(NOW_S - 301), Err(Unsigned::Old)),
        ("as far ahead as may be", good(NOW_S + 300), Ok(())),
        ("too far ahead", good(NOW_S + 301), Err(Unsigned::Old)),
        ("another secret", forged.clone(), Err(Unsigned::Forged)),
        ("too old and forged", header_of("whsec_other", 0, BODY), Err(Unsigned::Forged)),
        ("another body", header_of("whsec_new", NOW_S, b"{}"), Err(Unsigned::Forged)),
        ("another time", format!("t={},v1={signature}", NOW_S + 1), Err(Unsigned::Forged)),
        ("several, one good", format!("{forged},v1={signature}"), Ok(())),
        ("an unknown version beside", format!("{},v0=ab", good(NOW_S)), Ok(())),
        (
            "an unknown version alone",
            format!("t={NOW_S},v0={signature}"),
            Err(Unsigned::Unreadable),
        ),
        ("upper case", format!("t={NOW_S},v1={}", signature.to_uppercase()), Ok(())),
        ("cut off", format!("t={NOW_S},v1={}", &signature[1..]), Err(Unsigned::Unreadable)),
        ("no time", format!("v1={signature}"), Err(Unsigned::Unreadable)),
        ("a time that is none", format!("t=now,v1={signature}"), Err(Unsigned::Unreadable)),
        ("nothing", String::new(), Err(Unsigned::Unreadable)),
        (
            "too many before the good one",
            {
                let bad = ",v1=".to_owned() + &"00".repeat(32);
                format!("t={NOW_S}{}{}", bad.repeat(16), ",v1=".to_owned() + &signature)
            },
            Err(Unsigned::Forged),
        ),
    ];
    for (name, header, expected) in cases {
        assert_eq!(check(&header, BODY, &secrets, NOW_S), expected, "{name}");
    }
    assert_eq!(check(&good(NOW_S), BODY, &[], NOW_S), Err(Unsigned::Forged), "no secret");
}

#[test]
fn a_signature_is_that_of_stripes_own_library() {
    // Made with stripe.WebhookSignature.generate_signature_header of stripe-python 16.1.0.
    let known = "7409556023b3ab036c0221f449d61a0ef883cf8c684fa819ebcb3d2a56146214";
    let header = header_of("whsec_test_secret", 1_795_000_000, br#"{"id":"evt_test"}"#);
    assert_eq!(header, format!("t=1795000000,v1={known}"));
}
