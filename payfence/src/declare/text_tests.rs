//! What is exported is a policy file, of the same form.

use super::super::difference::between;
use super::super::state::tests::assembled;
use super::super::state::wanted;
use super::*;

#[test]
fn what_is_exported_is_read_as_the_same() {
    let (site, mut current) = assembled();
    current.customers.insert("acme".to_owned());
    current.sites.insert("w".to_owned(), site);
    let exported = export(&current);
    let expected = r##"[[sites]]
slug = "w"
hosts = ["a.example", "b.example"]
origin = "http://o.example"
# origin_headers are kept for X-A; their values are shown to nobody, and stay where this file says nothing of them.

[[sites.resources]]
pattern = "/a/*"

[[sites.resources]]
pattern = "/b"
methods = ["GET"]

[[sites.plans]]
id = "pro"
rate_limit = { burst = 5, per = "second", requests = 5 }
resources = ["/a/*", "/b"]

[[sites.subscriptions]]
id = "ref_1"
customer = "acme"
period_anchor = 2026-01-31T00:00:00Z
plan = "pro"
status = "active"
tokens = [
    { id = "narrow", allow_from = ["10.0.0.0/8"], resources = ["/b"], sha256 = "0686d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" },
    { id = "revoked", allow_from = ["10.0.0.0/8"], revoked = true, sha256 = "0786d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" },
    { id = "t", allow_from = ["10.0.0.0/8"], sha256 = "0186d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" },
]
"##;
    assert_eq!(exported.text, expected);
    assert!(exported.notes.is_empty(), "{:?}", exported.notes);
    let sites = wanted("export.toml", exported.text.as_bytes()).unwrap();
    let difference = between(&current, &sites, false).unwrap();
    assert_eq!(difference, super::super::difference::Difference::default());
}

#[test]
fn a_token_that_may_use_nothing_is_left_out_and_told_of() {
    let (mut site, mut current) = assembled();
    let token = site.form.tokens.get_mut("narrow").unwrap();
    token.insert("resources".to_owned(), serde_json::json!([]));
    current.sites.insert("w".to_owned(), site);
    let exported = export(&current);
    assert!(exported.text.contains("    # { id = \"narrow\""), "{}", exported.text);
    assert!(exported.notes[0].contains("token narrow may use nothing"), "{:?}", exported.notes);
    assert!(wanted("export.toml", exported.text.as_bytes()).is_ok());
}
