//! Tests of `token.rs`.

use proptest::prelude::*;

use super::*;

/// A fixed stream of bytes in place of the operating system's.
fn made(mode: Mode, seed: u8) -> String {
    let mut next = seed;
    let random = |bytes: &mut [u8]| {
        for byte in bytes {
            next = next.wrapping_mul(37).wrapping_add(11);
            *byte = next;
        }
        Ok::<(), ()>(())
    };
    make(mode, random).unwrap()
}

/// The checksum worked out the slow way: bit by bit, then by long division.
fn reference_checksum(text: &[u8]) -> String {
    let mut crc = 0xFFFF_FFFFu32;
    for byte in text {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut digits = Vec::new();
    for _ in 0..6 {
        digits.push(
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".as_bytes()
                [(rest % 62) as usize],
        );
        rest /= 62;
    }
    digits.reverse();
    String::from_utf8(digits).unwrap()
}

fn with_checksum(body: &str) -> String {
    format!("{body}{}", reference_checksum(body.as_bytes()))
}

#[test]
fn checks_forms() {
    let body = "0123456789ABCDEFGHIJKLMNOPQRSTUV";
    let good = |prefix: &str| with_checksum(&format!("{prefix}{body}"));
    let cases = [
        (good("pf_live_"), Ok(Mode::Live)),
        (good("pf_test_"), Ok(Mode::Test)),
        (good("pf_acme_live_"), Ok(Mode::Live)),
        (good("pf_live_test_"), Ok(Mode::Test)),
        (good("pf_7_live_"), Ok(Mode::Live)),
        (good("pf_acme_x_live_"), Err(FormError::NoMode)),
        (good("pf_Acme_live_"), Err(FormError::NoMode)),
        (good("pf__live_"), Err(FormError::NoMode)),
        (good("pf_"), Err(FormError::NoMode)),
        (good("pf_LIVE_"), Err(FormError::NoMode)),
        (good("PF_live_"), Err(FormError::NoPrefix)),
        (good("pf_live_").replace('_', "-"), Err(FormError::NoPrefix)),
        (good("pf_live_0"), Err(FormError::Length(39))),
        ("pf_live_".to_owned(), Err(FormError::Length(0))),
        ("pf_".to_owned(), Err(FormError::NoMode)),
        (String::new(), Err(FormError::NoPrefix)),
        (format!("pf_live_{}-", &good("")[..37]), Err(FormError::Character)),
        (format!("pf_live_{body}000000"), Err(FormError::Checksum)),
        (with_checksum(&format!("pf_{}_live_{body}", "a".repeat(250))), Err(FormError::TooLong)),
    ];
    for (token, expected) in cases {
        assert_eq!(check(token.as_bytes()), expected, "{token}");
    }
}

#[test]
fn pads_the_checksum() {
    // CRC-32 of the empty text is 0; of "123456789" it is 0xCBF43926 (the check value of the CRC catalogue).
    assert_eq!(checksum(b""), *b"000000");
    assert_eq!(reference_checksum(b"123456789").as_bytes(), checksum(b"123456789"));
    assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
}

#[test]
fn passes_on_the_source_failing() {
    assert_eq!(make(Mode::Live, |_| Err("no entropy")), Err("no entropy"));
}

#[test]
fn tells_foreign_keys() {
    let cases = [
        ("a".repeat(15), false),
        ("a".repeat(16), true),
        ("~".repeat(256), true),
        ("a".repeat(257), false),
        ("with a space in it".to_owned(), false),
        ("not-äscii-not-äscii".to_owned(), false),
    ];
    for (key, expected) in cases {
        assert_eq!(is_foreign_form(key.as_bytes()), expected, "{key}");
    }
}

#[test]
fn reads_hashes() {
    // FIPS 180-4, the hash of "abc".
    let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(TokenHash::of(b"abc").to_string(), hex);
    assert_eq!(TokenHash::from_hex(hex), Some(TokenHash::of(b"abc")));
    assert_eq!(TokenHash::from_hex(&hex.to_uppercase()), Some(TokenHash::of(b"abc")));
    for bad in ["", "ba78", &hex.replace('a', "g"), &format!("{hex}00"), &"é".repeat(32)] {
        assert_eq!(TokenHash::from_hex(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn what_is_made_passes(seed: u8, live: bool) {
        let mode = if live { Mode::Live } else { Mode::Test };
        let token = made(mode, seed);
        prop_assert_eq!(check(token.as_bytes()), Ok(mode));
        let (body, sum) = token.split_at(token.len() - 6);
        prop_assert_eq!(reference_checksum(body.as_bytes()), sum);
    }

    #[test]
    fn one_wrong_character_is_found(seed: u8, at in 8usize..46, with in "[0-9A-Za-z]") {
        let token = made(Mode::Live, seed);
        let mut bytes = token.clone().into_bytes();
        bytes[at] = with.as_bytes()[0];
        prop_assert_eq!(check(&bytes).is_ok(), bytes == token.as_bytes());
    }

    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>) {
        let _ = check(&bytes);
    }
}

#[test]
fn keys_of_other_kinds_have_a_prefix_and_a_checksum() {
    let key = make_key("pfa_", |bytes: &mut [u8]| {
        for (at, byte) in (0u8..).zip(bytes) {
            *byte = at.wrapping_mul(37);
        }
        Ok::<(), ()>(())
    })
    .unwrap();
    assert_eq!(key.len(), 4 + 38, "{key}");
    assert!(is_key("pfa_", key.as_bytes()));
    let check =
        |prefix: &str, key: &str| assert!(!is_key(prefix, key.as_bytes()), "{prefix} {key}");
    check("pfn_", &key);
    check("pfa_", "");
    check("pfa_", &key[..key.len() - 1]);
    check("pfa_", &format!("{key}0"));
    check("pfa_", &key.replacen('0', "1", 1));
    check("pfa_", &format!("pfa_{}", "-".repeat(38)));
}
