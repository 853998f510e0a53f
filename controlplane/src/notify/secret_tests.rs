//! Signatures against the example that the Standard Webhooks libraries test themselves with.

use super::*;
use crate::world::System;

#[test]
fn signatures_are_those_of_standard_webhooks() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let body = r#"{"test": 2432232314}"#;
    let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(sign(std::slice::from_ref(&secret), id, 1_614_265_330, body), expected);
    let both = sign(&[secret.clone(), generate(&System)], id, 1_614_265_330, body);
    let (first, second) = both.split_once(' ').unwrap();
    assert_eq!(first, expected);
    assert!(second.starts_with("v1,") && second != expected);
    assert_eq!(sign(&["no secret".to_owned()], id, 1, body), "");
}

#[test]
fn secrets_are_sealed_for_their_endpoint() {
    let keyring = Keyring::parse(&Keyring::generate(&System)).unwrap();
    let secrets = vec![generate(&System), generate(&System)];
    assert_ne!(secrets[0], secrets[1]);
    let sealed = seal(&secrets, "whe_1", &keyring, &System);
    assert!(!sealed.windows(8).any(|bytes| secrets[0].as_bytes().starts_with(bytes)));
    assert_eq!(open(&sealed, "whe_1", &keyring).unwrap(), secrets);
    assert!(open(&sealed, "whe_2", &keyring).is_err());
}
