//! What `/status` says of origins: one entry a site, the latest first, never more than the bound.

use super::*;

fn at(seconds: u64) -> Now {
    Now { mono_ns: seconds * 1_000_000_000, unix_ns: seconds as i64 * 1_000_000_000 }
}

#[test]
fn a_site_has_one_entry_with_its_latest_error() {
    let state = TlsState::default();
    state.origin_failed("weather", Cause::Expired, &"first", at(1));
    state.origin_failed("maps", Cause::Issuer, &"second", at(2));
    state.origin_failed("weather", Cause::Expired, &"too soon to be written again", at(3));
    let status = state.status();
    let origins = status["origins"].as_array().unwrap();
    assert_eq!(origins.len(), 2);
    assert_eq!(origins[0]["site"], "weather");
    assert_eq!(origins[0]["count"], 2);
    assert_eq!(origins[0]["detail"], "first");
    assert_eq!(origins[0]["at"], "1970-01-01T00:00:03Z");
    assert_eq!(origins[1]["cause"], "issuer");

    state.origin_failed("weather", Cause::Name, &"another cause", at(4));
    assert_eq!(state.status()["origins"][0]["detail"], "another cause");
    state.origin_failed("weather", Cause::Name, &"much later", at(60));
    assert_eq!(state.status()["origins"][0]["detail"], "much later");
}

#[test]
fn sites_are_bounded() {
    let state = TlsState::default();
    for number in 0..ORIGINS_MAX as u64 + 5 {
        state.origin_failed(&format!("s{number}"), Cause::Pin, &"x", at(number));
    }
    let status = state.status();
    let origins = status["origins"].as_array().unwrap();
    assert_eq!(origins.len(), ORIGINS_MAX);
    assert_eq!(origins[0]["site"], format!("s{}", ORIGINS_MAX + 4));
}

#[test]
fn a_refusal_stands_until_the_next_good_load() {
    let state = TlsState::default();
    state.refused("a.crt: expired".to_owned());
    assert_eq!((state.rejected(), state.last_error().as_deref()), (1, Some("a.crt: expired")));
    state.loaded(&CertificateTable::default());
    assert_eq!((state.rejected(), state.last_error()), (1, None));
}
