//! Folding: letters by table, and the properties the matcher leans on.

use proptest::prelude::*;

use super::*;

fn folded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    fold_into(bytes, &mut out);
    out
}

#[test]
fn letters() {
    let table: &[(&str, &str)] = &[
        ("ABCxyz019/%;.", "abcxyz019/%;."),
        ("É", "é"),
        ("ß", "ß"),
        ("ẞ", "ß"),
        ("ſ", "s"),
        ("\u{212A}", "k"),
        ("\u{212B}", "å"),
        ("Σς", "σσ"),
        ("ЖЯ", "жя"),
        ("İı", "İı"),
        ("ᾈ", "ᾀ"),
        ("Ꭰꭰ", "ᎠᎠ"),
        ("𐐀", "𐐨"),
    ];
    for (text, expected) in table {
        assert_eq!(String::from_utf8_lossy(&folded(text.as_bytes())), *expected, "{text}");
    }
    assert_eq!(folded(b"A\xffB\xc3"), b"a\xffb\xc3");
}

#[test]
fn structure_is_kept() {
    for code in 0..=0x0010_FFFF {
        let Some(letter) = char::from_u32(code) else { continue };
        let out = fold_char(letter);
        assert_eq!(fold_char(out), out, "{letter:?}");
        if out != letter {
            assert!(out.is_alphanumeric() || !out.is_ascii(), "{letter:?} -> {out:?}");
        }
    }
}

proptest! {
    #[test]
    fn idempotent(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let once = folded(&bytes);
        prop_assert_eq!(folded(&once), once);
    }
}
