//! Tests of `file.rs` and of the readers of the keys.

use super::super::tls_keys;
use super::*;
use crate::matcher::Access;
use crate::model::{
    ClientFiles, HostName, Hsts, OnLedgerLoss, Origin, OriginTls, Overage, Quota, RateLimit,
    Scheme, Status, Unit,
};
use crate::token::{self, Mode};

const SITE: &str = "[[sites]]\nslug = \"a\"\norigin = \"http://a\"\n";

fn token_text() -> String {
    token::make(Mode::Live, |bytes| {
        bytes.fill(7);
        Ok::<(), ()>(())
    })
    .unwrap()
}

/// Every key of the policy file with a value that is not its default.
const EVERYTHING: &str = r#"
[[sites]]
slug = "weather"
name = "Wetter"
origin = "https://origin.example:8443/base/"
origin_ca = "ca.pem"
origin_pins = ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
origin_client_cert = "/etc/payfence/client.pem"
origin_client_key = "keys/client key.pem"
hsts = { max_age_seconds = 63_072_000, include_subdomains = true, preload = true }
hosts = ["API.weather.example.", "192.0.2.1", "[2001:DB8::1]"]
upgrade_url = "https://weather.example/pricing"
default = "paid"
case_sensitive = true
forward_token = true
foreign_tokens = true
token_header = "X-Key"
token_query = "key"
origin_headers = { X-Secret = "a b", Authorization = "Basic eA==" }
preserve_host = true
allow_override_headers = true
cors_origins = ["*", "https://app.example:8443"]
connect_timeout_ms = 1
response_timeout_ms = 2
on_ledger_loss = "open"

[[sites.resources]]
pattern = "/api/v1/*"
methods = ["get", "POST"]
access = "paid"
cost = 5

[[sites.resources]]
pattern = "/open/*"
access = "free"

[[sites.resources]]
pattern = "/admin/**"
access = "blocked"

[[sites.resources]]
pattern = "/api/v1/*"
methods = ["DELETE"]

[[sites.plans]]
id = "pro"
quota = { requests = 10_000, per = "month" }
rate_limit = { requests = 50, per = "second", burst = 100 }
concurrency = 20
overage = "allow"
overage_cap = 5000
grace_days = 7
resources = ["/api/v1/*"]

[[sites.plans]]
id = "free"
rate_limit = { requests = 2, per = "minute" }

[[sites.subscriptions]]
id = "sub_acme"
plan = "pro"
customer = "Acme & Co"
status = "past_due"
past_due_since = 2026-11-02T00:00:00+01:00
period_anchor = 2026-10-31T12:00:00Z
tokens = [
    { id = "tok_1", value = "@TOKEN", expires_at = 2027-01-01T00:00:00.5Z, revoked = true,
       allow_from = ["203.0.113.77/24", "2001:db8::/32", "198.51.100.1"], resources = ["/api/v1/*"] },
    { id = "tok_2", sha256 = "@HASH" },
    { id = "tok_3", value = "a-key-of-another-system" },
]
"#;

fn everything() -> String {
    EVERYTHING.replace("@TOKEN", &token_text()).replace("@HASH", &"AB".repeat(32))
}

#[test]
fn reads_every_key() {
    let parsed = parse("policy.toml", everything().as_bytes()).unwrap();
    let site = &parsed.policy.sites[0];
    assert_eq!((&*site.slug, &*site.name), ("weather", "Wetter"));
    assert_eq!(
        site.origin,
        Origin {
            scheme: Scheme::Https,
            host: HostName::Name("origin.example".to_owned()),
            port: 8443,
            path_prefix: "/base".to_owned(),
        }
    );
    let client = ClientFiles {
        cert: "/etc/payfence/client.pem".to_owned(),
        key: "keys/client key.pem".to_owned(),
    };
    let pins = vec![TokenHash::of(b"").0, [0; 32]];
    let tls = OriginTls { ca: Some("ca.pem".to_owned()), pins, client: Some(client) };
    assert_eq!(site.origin_tls, tls);
    let hsts = Hsts { max_age_s: 63_072_000, include_subdomains: true, preload: true };
    assert_eq!(site.hsts, Some(hsts));
    let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["api.weather.example", "192.0.2.1", "[2001:db8::1]"]);
    assert_eq!(site.upgrade_url.as_deref(), Some("https://weather.example/pricing"));
    assert!(site.default_paid && site.case_sensitive && site.forward_token);
    assert!(site.foreign_tokens && site.preserve_host && site.allow_override_headers);
    assert_eq!((&*site.token_header, site.token_query.as_deref()), ("X-Key", Some("key")));
    let mut headers = site.origin_headers.clone();
    headers.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers, [pair("Authorization", "Basic eA=="), pair("X-Secret", "a b")]);
    assert_eq!(site.cors_origins, ["*", "https://app.example:8443"]);
    assert_eq!((site.connect_timeout_ms, site.response_timeout_ms), (1, 2));
    assert_eq!(site.on_ledger_loss, OnLedgerLoss::Open);
    let resources: Vec<_> = site
        .resources
        .iter()
        .map(|rule| {
            let methods: Vec<&str> = rule.methods.names().collect();
            (rule.pattern.as_str(), methods.join(" "), rule.access, rule.cost)
        })
        .collect();
    let expected = [
        ("/api/v1/*", "GET HEAD POST", Access::Paid, 5),
        ("/open/*", "", Access::Free, 1),
        ("/admin/**", "", Access::Blocked, 1),
        ("/api/v1/*", "DELETE", Access::Paid, 1),
    ];
    assert_eq!(resources, expected.map(|(p, m, a, c)| (p, m.to_owned(), a, c)));
    check_customers(site);
    let warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("line 18: sites.token_query: "), "{warnings:?}");
}

fn check_customers(site: &Site) {
    let [pro, free] = &site.plans[..] else { panic!("two plans") };
    assert_eq!(pro.quota, Some(Quota { requests: 10_000, per: Unit::Month }));
    assert_eq!(pro.rate_limit, Some(RateLimit { requests: 50, per: Unit::Second, burst: 100 }));
    assert_eq!((pro.concurrency, pro.grace_days), (Some(20), 7));
    assert_eq!(pro.overage, Overage::Allow { cap: Some(5000) });
    assert_eq!(pro.resources, Some(vec![0, 3]));
    assert_eq!(free.rate_limit, Some(RateLimit { requests: 2, per: Unit::Minute, burst: 2 }));
    assert_eq!((free.quota, free.overage, free.grace_days), (None, Overage::Deny, 3));
    let subscription = &site.subscriptions[0];
    assert_eq!((subscription.plan, subscription.status), (0, Status::PastDue));
    assert_eq!(subscription.customer, "Acme & Co");
    assert_eq!(subscription.past_due_since_s, Some(1_793_574_000));
    assert_eq!(subscription.period_anchor_s, Some(1_793_448_000));
    let [first, second, third] = &subscription.tokens[..] else { panic!("three tokens") };
    assert_eq!(first.hash, TokenHash::of(token_text().as_bytes()));
    assert_eq!((first.expires_at_s, first.is_revoked), (Some(1_798_761_600), true));
    let networks: Vec<String> = first.allow_from.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["203.0.113.0/24", "2001:db8::/32", "198.51.100.1/32"]);
    assert_eq!(first.resources, Some(vec!["/api/v1/*".to_owned()]));
    assert_eq!(second.hash, TokenHash([0xAB; 32]));
    assert_eq!(third.hash, TokenHash::of(b"a-key-of-another-system"));
}

#[test]
fn fills_in_defaults() {
    let parsed = parse("policy.toml", SITE.as_bytes()).unwrap();
    insta::assert_debug_snapshot!(parsed);
}

/// Texts that are refused, each with the name that the golden file gives it. `SITE` stands before all but the first.
#[test]
fn names_file_line_and_key_of_every_fault() {
    let token = token_text();
    let wrong = token.replace("live", "lime");
    let sub = "[[sites.plans]]\nid=\"p\"\n[[sites.subscriptions]]\nid=\"s\"\nplan=\"p\"\n\
               customer=\"c\"\nstatus=\"active\"\ntokens=[";
    let hash = "0".repeat(64);
    let whole = [
        ("nothing", String::new()),
        ("no TOML", "[[sites]\nslug = \n".to_owned()),
        ("a key twice", format!("{SITE}slug = \"b\"\n")),
        ("an unknown table", format!("{SITE}[metrics]\n")),
        ("sites is no array", "sites = 1".to_owned()),
        ("an empty site", "[[sites]]\n".to_owned()),
        ("bad slugs", "[[sites]]\nslug = \"A_b\"\norigin = \"http://a\"".to_owned()),
        ("the same slug", format!("{SITE}{SITE}")),
        ("origins", ORIGINS.replace('|', "\n[[sites]]\nslug = \"a\"\norigin = ")),
        (
            "TLS with the origin",
            ORIGIN_TLS.replace('|', "\n[[sites]]\nslug = \"a\"\norigin = \"https://a\"\n"),
        ),
        ("the same host", format!("{SITE}hosts=[\"x.y\", \"X.Y.\"]\n")),
        ("two tables of one host", {
            format!("{SITE}hosts=[\"x.y\"]\n{}hosts=[\"x.y\"]", SITE.replace("\"a\"", "\"b\""))
        }),
    ];
    #[rustfmt::skip]
    let after_site = [
        ("typos of keys", "forward_tokens = true\nHosts = []\nfrobnicate = 1".to_owned()),
        ("wrong types", "name = 1\nhosts = \"a\"\ncase_sensitive = \"yes\"\norigin_headers = []\ntoken_header = true\ncors_origins = [1]\nresources = {}".to_owned()),
        ("wrong values", "name = \"\"\nhosts = [\"*.a\", \"a:80\", \"1.2.3\", \"a..b\"]\nupgrade_url = \"javascript:x\"\ndefault = \"open\"\ntoken_query = \"a b\"\non_ledger_loss = \"maybe\"\nconnect_timeout_ms = 0\nresponse_timeout_ms = -1".to_owned()),
        ("headers", "token_header = \"Authorization\"\n[sites.origin_headers]\nHost = \"a\"\nContent_Length = \"1\"\nPayFence-Plan = \"x\"\n\"a b\" = \"c\"\nX-A = \"line\\nbreak\"\nx-a = \"1\"\nX-B = \"1\"\nx-b = \"2\"\nX-C = 1".to_owned()),
        ("what browsers remember", HSTS.replace('|', "\n[[sites]]\nslug = \"c\"\norigin = \"http://a\"\nhsts = ")),
        ("cors", "cors_origins = [\"app.example\", \"https://App.example\", \"https://a/\", \"null\"]".to_owned()),
        ("resources", "[[sites.resources]]\ncost = 0\n[[sites.resources]]\npattern = \"api\"\nmethods = []\naccess = \"payd\"\ncost = 1000000001\n[[sites.resources]]\npattern = \"/a\"\nmethods = [\"G T\"]\ncosts = 1".to_owned()),
        ("rules that conflict", "[[sites.resources]]\npattern = \"/a/*\"\nmethods = [\"GET\", \"PUT\"]\n[[sites.resources]]\npattern = \"/a/*\"\nmethods = [\"PUT\", \"POST\"]".to_owned()),
        ("the same rule twice", "[[sites.resources]]\npattern = \"/a/{x}/b\"\n[[sites.resources]]\npattern = \"/a/{y}/b\"".to_owned()),
        ("plans", "[[sites.plans]]\nquota = { requests = 1.5, per = \"fortnight\", burst = 1 }\nrate_limit = { requests = 0 }\nconcurrency = 0\noverage_cap = 1\ngrace_days = -3\nresources = [\"/x\"]\n[[sites.plans]]\nid = \"p\"\nresources = []\n[[sites.plans]]\nid = \"p\"\nquota = { requests = 1000000000000000, per = \"day\" }\nrate_limit = { requests = 1, per = \"day\", burst = 0 }\noverage = \"yes\"".to_owned()),
        ("subscriptions", "[[sites.subscriptions]]\nid = \"s\"\nplan = \"p\"\ncustomer = \"c\"\nstatus = \"cancelled\"\npast_due_since = 2026-11-01\nperiod_anchor = \"2026-11-01T00:00:00Z\"\n[[sites.subscriptions]]\nid = \"s\"\ncustomer = \"\\u00e9\"".to_owned()),
        ("a plan among others", format!("{sub}]\n[[sites.plans]]\nid=\"q\"\n[[sites.subscriptions]]\nid=\"t\"\nplan=\"r\"\ncustomer=\"c\"\nstatus=\"active\"")),
        ("tokens", format!("{sub}\n{{ id = \"1\" }},\n{{ id = \"1\", sha256 = \"{hash}\", value = \"{token}\" }},\n{{ id = \"2\", sha256 = \"abc\" }},\n{{ id = \"3\", value = \"{wrong}\" }},\n{{ id = \"4\", value = \"{token}x\" }},\n{{ id = \"5\", sha256 = \"{hash}\", allow_from = [] }},\n{{ id = \"6\", sha256 = \"{hash}\", allow_from = [\"10.0.0.0/33\"], resources = [\"/z\"], expires = 1, expires_at = 1 }},\n{{ id = \"7\", value = \"{token}\" }},\n{{ id = \"8\", value = \"{token}\", expires_at = 1969-01-01T00:00:00Z }},\n{{ id = \"9\", value = 1 }} ]")),
        ("foreign tokens", format!("foreign_tokens = true\n{sub}{{ id = \"1\", value = \"short\" }}]")),
        ("more than are shown", "hosts = [1]\n".replace('1', &"1,".repeat(60))),
    ];
    let mut golden = String::new();
    let after_site = after_site.map(|(name, text)| (name, format!("{SITE}{text}")));
    for (name, text) in whole.into_iter().chain(after_site) {
        let error = parse("policy.toml", text.as_bytes()).expect_err(name).to_string();
        assert!(!error.contains(&token[8..]), "a token in a message: {error}");
        golden.push_str(&format!("# {name}\n{error}\n\n"));
    }
    insta::assert_snapshot!(golden);
}

const ORIGIN_TLS: &str = "|origin_ca = \"\"\norigin_pins = []\norigin_client_cert = \"a.pem\"\n\
    |origin_ca = 1\norigin_pins = \"sha256/a\"\norigin_client_key = \"a\\nb\"\n\
    |origin_ca = \"/etc/ssl/\"\norigin_pins = [\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", \
    \"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\", \"sha1/AAAA\", \"sha256/AAAA\", 1, \
    \"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", \"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]\n\
    |origin_pins = [1, 2, 3, 4, 5, 6, 7, 8, 9]\norigin_cert = \"a\"\n\
    |origin_ca = \"a.pem\"\n\
    [[sites]]\nslug = \"b\"\norigin = \"ftp://a\"\norigin_ca = \"a.pem\"\n\
    [[sites]]\nslug = \"c\"\norigin = \"http://a\"\norigin_ca = \"a.pem\"\norigin_pins = []\n\
    origin_client_cert = \"a.pem\"\norigin_client_key = \"a.pem\"\n";

const HSTS: &str = "|31536000|{}|{ max_age_seconds = -1, subdomains = true }|\
    { max_age_seconds = 315360001, include_subdomains = 1 }|{ max_age_seconds = \"365d\", preload = true }|\
    { max_age_seconds = 31535999, include_subdomains = true, preload = true }|\
    { max_age_seconds = 31536000, preload = true }";

const ORIGINS: &str = "|\"a.example\"|\"ftp://a\"|\"http://\"|\"http://a:x\"|\"http://a:0\"|\
    \"http://u:p@a\"|\"http://a/?q\"|\"http://a/../b\"|\"http://[::1\"|\"http://a b\"|1";

/// The reference page names every key.
#[test]
fn every_key_is_documented() {
    let page = include_str!("../../../docs/POLICY.md");
    for key in tls_keys::HSTS_KEYS {
        assert!(page.contains(&format!(" `{key}`")), "docs/POLICY.md lacks hsts.{key}");
    }
    let keys = [site_keys::KEYS, site_keys::RESOURCE_KEYS, plan_keys::KEYS]
        .into_iter()
        .chain([subscription_keys::KEYS, subscription_keys::TOKEN_KEYS])
        .flatten()
        .filter(|key| !["resources", "plans", "subscriptions"].contains(key));
    for key in keys {
        assert!(page.contains(&format!("\n| `{key}` |")), "docs/POLICY.md lacks {key}");
    }
}

#[test]
fn refuses_what_is_no_text() {
    let cases: [(Vec<u8>, &str); 2] = [
        (b"a = 1\nb = \"\xff\"".to_vec(), "policy.toml: line 2: not UTF-8 text"),
        (vec![b' '; FILE_BYTES_MAX + 1], "policy.toml: line 1: 67108865 bytes; at most"),
    ];
    for (bytes, expected) in cases {
        let error = parse("policy.toml", &bytes).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in "(\\[\\[sites\\]\\]|\n|slug|=|\"a\"|\\{|\\}|\\[|\\]|,|plans|\\.|1|id|x){0,40}") {
        let _ = parse("policy.toml", text.as_bytes());
    }

    /// A file with any one line left out or doubled is either read or refused with a line of it.
    #[test]
    fn any_line_may_be_missing_or_doubled(at in 0usize..90, doubled: bool) {
        let text = everything();
        let mut lines: Vec<&str> = text.lines().collect();
        let at = at.min(lines.len() - 1);
        if doubled { lines.insert(at, lines[at]); } else { lines.remove(at); }
        if let Err(error) = parse("policy.toml", lines.join("\n").as_bytes()) {
            proptest::prop_assert!(error.faults.iter().all(|fault| fault.line <= lines.len()));
        }
    }
}
