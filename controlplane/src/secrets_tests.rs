use super::*;
use crate::world::System;

fn key(id: u32, byte: u8) -> String {
    format!("{id}:{}", STANDARD.encode([byte; 32]))
}

#[test]
fn what_is_sealed_opens_for_its_row_alone() {
    let ring = Keyring::parse(&key(7, 1)).unwrap();
    let sealed = ring.seal("site_a", b"secret", &System);
    assert_eq!(ring.open("site_a", &sealed).unwrap(), b"secret");
    assert_eq!(ring.open("site_b", &sealed), Err(SecretError::Damaged("site_b".into())));
    assert_ne!(ring.seal("site_a", b"secret", &System), sealed, "a nonce was used twice");
    for at in [0, 5, HEAD_BYTES, sealed.len() - 1] {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert!(ring.open("site_a", &bad).is_err(), "byte {at}");
    }
    assert!(ring.open("site_a", &sealed[..20]).is_err());
    assert!(ring.open("site_a", b"").is_err());
}

#[test]
fn a_rotated_key_still_opens_and_is_known_as_old() {
    let old = Keyring::parse(&key(1, 1)).unwrap();
    let sealed = old.seal("r", b"x", &System);
    let both = Keyring::parse(&format!("# new first\n{}\n\n{}\n", key(2, 2), key(1, 1))).unwrap();
    assert_eq!(both.open("r", &sealed).unwrap(), b"x");
    assert!(both.is_old(&sealed));
    let anew = both.seal("r", b"x", &System);
    assert!(!both.is_old(&anew));
    let new = Keyring::parse(&key(2, 2)).unwrap();
    assert_eq!(new.open("r", &anew).unwrap(), b"x");
    assert_eq!(new.open("r", &sealed), Err(SecretError::UnknownKey { row: "r".into(), id: 1 }));
}

#[test]
fn keys_are_checked() {
    let check = |text: &str, expected: Result<(), SecretError>| {
        assert_eq!(Keyring::parse(text).map(|_| ()), expected, "{text}");
    };
    check(&STANDARD.encode([9; 32]), Ok(()));
    check(&Keyring::generate(&System), Ok(()));
    check("", Err(SecretError::Count(0)));
    check("\n# none\n", Err(SecretError::Count(0)));
    check("1:short", Err(SecretError::Form(1)));
    check(&format!("\n0:{}", STANDARD.encode([9; 32])), Err(SecretError::Form(2)));
    check(&format!("{}\n{}", key(1, 1), key(1, 2)), Err(SecretError::Twice(1)));
    let many: Vec<String> = (1..=17).map(|id| key(id, 1)).collect();
    check(&many.join("\n"), Err(SecretError::Count(17)));
}
