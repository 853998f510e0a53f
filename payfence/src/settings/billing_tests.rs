//! Which flags about billing are taken, and that a key is in no error.

use std::path::PathBuf;

use super::settings;
use crate::cli::BillingArgs;

#[test]
fn keys_come_from_files_of_their_mode_and_are_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let test = file("test", "sk_test_0123456789\n");
    let live = file("live", "sk_live_0123456789\n");
    let nowhere = directory.path().join("nowhere");
    for (test_file, live_file, base_url, public_url, expected) in [
        (None, None, None, None, Ok(false)),
        (Some(&test), None, None, None, Ok(true)),
        (Some(&test), Some(&live), None, Some("https://pay.example"), Ok(true)),
        (Some(&test), None, Some("http://127.0.0.1:1"), Some("http://localhost:8082/"), Ok(true)),
        (Some(&live), None, None, None, Err("sk_test_")),
        (None, Some(&test), None, None, Err("sk_live_")),
        (Some(&nowhere), None, None, None, Err("cannot be read")),
        (None, Some(&live), Some("http://127.0.0.1:1"), None, Err("stand-in")),
        (Some(&test), None, Some("127.0.0.1:1"), None, Err("--stripe-base-url")),
        (Some(&test), None, None, Some("ftp://x"), Err("--public-url")),
        (Some(&test), None, None, Some("https://u:p@x"), Err("--public-url")),
        (Some(&test), None, None, Some("https://x/?a=b"), Err("--public-url")),
    ] {
        let args = BillingArgs {
            stripe_secret_key_file: test_file.cloned(),
            stripe_live_secret_key_file: live_file.cloned(),
            stripe_base_url: base_url.map(ToOwned::to_owned),
            public_url: public_url.map(ToOwned::to_owned),
            ..BillingArgs::default()
        };
        let outcome = settings(&args);
        let shown = format!("{outcome:?}");
        assert!(!shown.contains("0123456789"), "{shown}");
        match (outcome, expected) {
            (Ok(settings), Ok(is_some)) => assert_eq!(settings.is_some(), is_some, "{args:?}"),
            (Err(error), Err(word)) => {
                assert!(error.to_string().contains(word), "{args:?}: {error}");
            }
            (outcome, expected) => panic!("{args:?}: {outcome:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn addresses_lose_their_last_slash() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test");
    std::fs::write(&file, "sk_test_a").unwrap();
    let args = BillingArgs {
        stripe_secret_key_file: Some(file),
        public_url: Some("https://pay.example/".to_owned()),
        ..BillingArgs::default()
    };
    let settings = settings(&args).unwrap().unwrap();
    assert_eq!(settings.public_url.as_deref(), Some("https://pay.example"));
    assert_eq!(settings.stripe.addresses.api, "https://api.stripe.com");
}
