use super::{WebhookSecretError, WebhookSecrets};

#[test]
fn secrets_are_read_by_line_and_never_printed() {
    let cases = [
        ("whsec_a\n", Ok(1)),
        ("# old one first\nwhsec_a\n\n  whsec_b  \n", Ok(2)),
        ("", Err(WebhookSecretError::Count(0))),
        ("# none\n", Err(WebhookSecretError::Count(0))),
        ("whsec_a\nsk_test_a\n", Err(WebhookSecretError::Form(2))),
        ("whsec_\n", Err(WebhookSecretError::Form(1))),
        ("whsec_a b\n", Err(WebhookSecretError::Form(1))),
    ];
    for (text, expected) in cases {
        let read = WebhookSecrets::default().with_test(text);
        assert_eq!(read.map(|secrets| secrets.of(false).len()), expected, "{text:?}");
    }
    let many = "whsec_a\n".repeat(17);
    assert_eq!(
        WebhookSecrets::default().with_live(&many).map(drop),
        Err(WebhookSecretError::Count(17))
    );
    let secrets = WebhookSecrets::default().with_live("whsec_hidden").unwrap();
    assert_eq!(format!("{secrets:?}"), "WebhookSecrets { test: 0, live: 1 }");
    assert!(secrets.of(false).is_empty());
}
