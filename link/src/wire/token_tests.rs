use super::*;

#[test]
fn a_token_is_what_it_was_made_as_and_shows_itself_to_nobody() {
    let token = NodeToken::make(getrandom::fill).expect("random bytes");
    assert!(token.reveal().starts_with("pfn_"), "the prefix");
    assert_eq!(token.reveal().len(), 42);
    assert_eq!(NodeToken::parse(token.reveal()), Ok(token.clone()));
    assert!(!format!("{token:?}").contains(&token.reveal()[4..]));
    assert_eq!(token.hash(), TokenHash::of(token.reveal().as_bytes()));
}

#[test]
fn what_is_no_token_is_refused_with_its_reason() {
    let good = NodeToken::make(getrandom::fill).expect("random bytes");
    let good = good.reveal();
    let mut typo = good.to_owned().into_bytes();
    typo[10] = if typo[10] == b'a' { b'b' } else { b'a' };
    let typo = String::from_utf8(typo).expect("ASCII");
    for (text, expected) in [
        ("", FormError::NoPrefix),
        ("pf_live_x", FormError::NoPrefix),
        (&good[..41], FormError::Length(37)),
        (&format!("{good}0"), FormError::Length(39)),
        (&format!("{good}\n"), FormError::Character),
        (&typo, FormError::Checksum),
    ] {
        assert_eq!(NodeToken::parse(text), Err(expected), "{text}");
    }
}
