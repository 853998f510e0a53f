//! Tests of `explain.rs`.

use super::*;
use crate::compile::compile;
use crate::model::file;

const POLICY: &str = r#"
[[sites]]
slug = "weather"
origin = "http://127.0.0.1:9000"
hosts = ["api.weather.example"]
foreign_tokens = true
token_query = "key"
[[sites.resources]]
pattern = "/api/*"
[[sites.resources]]
pattern = "/api/big/*"
cost = 9
[[sites.plans]]
id = "pro"
[[sites.subscriptions]]
id = "s"
plan = "pro"
customer = "c"
status = "active"
tokens = [
    { id = "near", value = "key-of-a-near-client", allow_from = ["10.0.0.0/8"] },
    { id = "any", value = "key-of-any-client" },
]
"#;

fn ask(method: &str, url: &str, token: Option<&str>) -> String {
    let policy = file::parse("policy.toml", POLICY.as_bytes()).unwrap().policy;
    let snapshot = Snapshot::from_bytes(&compile(&policy, 1).unwrap()).unwrap();
    let question = Question { method, url, token, gateway_domain: "localhost", now_s: 0 };
    serde_json::to_string_pretty(&explain(&snapshot, &question)).unwrap()
}

#[test]
fn explains_with_spellings() {
    insta::assert_snapshot!(
        "raised_cost",
        ask("GET", "https://api.weather.example/api/big/%2e%2e/x?a=1#f", Some("key-of-any-client"))
    );
    insta::assert_snapshot!(
        "assumed_address",
        ask("GET", "/weather/api/x", Some("key-of-a-near-client"))
    );
    insta::assert_snapshot!("no_site", ask("GET", "https://other.example/x", None));
}

#[test]
fn tells_what_is_said_of_tls() {
    let keys = "origin_ca = \"ca.pem\"\norigin_client_cert = \"c.pem\"\norigin_client_key = \"c.key\"\n\
                origin_pins = [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]\n\
                hsts = { max_age_seconds = 300 }\n";
    let hsts = "a client over TLS is told Strict-Transport-Security: max-age=300";
    let origin = "the origin is verified by ca.pem; keys pinned: 1; it is shown c.pem";
    let cases = [
        ("", "/weather/x", None),
        (keys, "/weather/x", Some(format!("{origin}; {hsts}"))),
        (keys, "/weather/api/x", Some(hsts.to_owned())),
        (keys, "/weather/.payfence/usage", None),
    ];
    for (keys, url, expected) in cases {
        let policy = POLICY
            .replace("http://", "https://")
            .replace("foreign_tokens", &format!("{keys}foreign_tokens"));
        let policy = file::parse("policy.toml", policy.as_bytes()).unwrap().policy;
        let snapshot = Snapshot::from_bytes(&compile(&policy, 1).unwrap()).unwrap();
        let question =
            Question { method: "GET", url, token: None, gateway_domain: "localhost", now_s: 0 };
        assert_eq!(explain(&snapshot, &question).notes.first(), expected.as_ref(), "{url}");
    }
}

/// The table of docs/POLICY.md.
#[test]
fn costs_are_as_documented() {
    let sensitive = POLICY.replace("foreign_tokens", "case_sensitive = true\nforeign_tokens");
    let cases = [
        (POLICY, "/weather/api/x", 1),
        (POLICY, "/weather/api/big/x", 9),
        (POLICY, "/weather/api/big/%2e%2e/x", 9),
        (POLICY, "/weather/api/BIG/x", 9),
        (&sensitive, "/weather/api/BIG/x", 1),
    ];
    for (policy, url, expected) in cases {
        let policy = file::parse("policy.toml", policy.as_bytes()).unwrap().policy;
        let snapshot = Snapshot::from_bytes(&compile(&policy, 1).unwrap()).unwrap();
        let token = Some("key-of-any-client");
        let question =
            Question { method: "GET", url, token, gateway_domain: "localhost", now_s: 0 };
        assert_eq!(explain(&snapshot, &question).cost, expected, "{url}");
    }
}

#[test]
fn finds_site_path_and_token() {
    let cases = [
        ("/weather", None, "\"path\": \"/\"", "unprotected"),
        ("http://weather.localhost:8080", None, "\"path\": \"/\"", "unprotected"),
        ("http://u@127.0.0.1:8080/weather/api/", None, "\"path\": \"/api/\"", "token_missing"),
        ("/weather/api/x?key=key-of-any-client", None, "\"token_id\": \"any\"", "ok"),
        ("/weather/api/x", Some("pf_live_x"), "\"token_id\": null", "token_unknown"),
        ("/weather/api/%00", None, "\"row\": 0", "request_malformed"),
        ("/weather/.payfence/usage", Some("key-of-any-client"), "\"token_id\": \"any\"", "ok"),
        ("/weather/.payfence/usage", None, "\"row\": 5", "token_missing"),
        ("/weather/.payfence/x", Some("key-of-any-client"), "\"token_id\": null", "not_found"),
        ("", None, "\"site\": null", "site_unknown"),
    ];
    for (url, token, expected, reason) in cases {
        let found = ask("GET", url, token);
        assert!(found.contains(expected), "{url}: {found}");
        assert!(found.contains(&format!("\"reason\": \"{reason}\"")), "{url}: {found}");
    }
}
