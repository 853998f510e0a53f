//! Snapshots: no bytes panic, neither at load nor when what loaded is read. Half the inputs are a good snapshot with some
//! bytes changed and the checksum made right again, since random bytes never pass it.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use policy::compile::compile;
use policy::decide::{decide, decide_usage};
use policy::facts::{Facts, RequestLine};
use policy::ids::SubscriptionIndex;
use policy::matcher::Scratch;
use policy::model::file::parse;
use policy::snapshot::Snapshot;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    Changed(Vec<(u16, u8)>),
}

const TOKEN: &str = "pf_test_BenchmarkTokenWithPlentyOfUnits03r0Vuf";
const POLICY: &str = r#"
[[sites]]
slug = "shop"
origin = "https://127.0.0.1:9000/base"
origin_ca = "ca.pem"
origin_pins = ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
origin_client_cert = "client.pem"
origin_client_key = "client.key"
hsts = { max_age_seconds = 31536000, include_subdomains = true, preload = true }
hosts = ["shop.test"]
token_query = "key"
cors_origins = ["https://app.example"]
origin_headers = { X-Secret = "hush" }
[[sites.resources]]
pattern = "/paid/*"
[[sites.resources]]
pattern = "/{a}/**/b"
methods = ["POST"]
access = "blocked"
[[sites.plans]]
id = "pro"
quota = { requests = 10, per = "month" }
rate_limit = { requests = 5, per = "second" }
resources = ["/paid/*"]
[[sites.subscriptions]]
id = "sub"
plan = "pro"
customer = "acme"
status = "active"
tokens = [ { id = "t", value = "pf_test_BenchmarkTokenWithPlentyOfUnits03r0Vuf", allow_from = ["127.0.0.0/8"] } ]
"#;

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let parsed = parse("policy.toml", POLICY.as_bytes()).expect("a good policy");
    compile(&parsed.policy, 1).expect("it compiles")
});

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Raw(bytes) => load(bytes),
        Input::Changed(changes) => {
            let mut bytes = GOOD.clone();
            for (at, value) in changes {
                let at = 16 + usize::from(at) % (bytes.len() - 16);
                bytes[at] = value;
            }
            // The checksum covers all from byte 16 and stands at 12.
            let checksum = crc32fast::hash(&bytes[16..]);
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
            load(&bytes);
        }
    }
});

fn load(bytes: &[u8]) {
    let Ok(snapshot) = Snapshot::from_bytes(bytes) else { return };
    let _ = snapshot.find_site(Some(b"shop.test"), b"/paid/x", "localhost");
    for index in 0..snapshot.subscriptions_len() as u32 + 1 {
        let _ = snapshot.terms(SubscriptionIndex(index), 0);
    }
    let authorization = format!("Bearer {TOKEN}");
    for site in snapshot.sites() {
        let headers = [(&b"Authorization"[..], authorization.as_bytes())];
        let line = RequestLine { method: b"GET", path: b"/paid/x", query: Some(b"a=b&key=c") };
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let facts = Facts::extract(line, headers.into_iter(), site.token_places(), false, client);
        let _ = decide(&snapshot, &site, &facts, 1_800_000_000, &mut Scratch::new());
        let _ = decide_usage(&snapshot, &site, &facts, 1_800_000_000);
        let _ = (site.name(), site.hsts(), site.origin().authority(), site.hosts().count());
        let _ = site.origin_tls().map(|tls| (tls.ca, tls.pins.len(), tls.client));
        let _ = (site.origin_headers().count(), site.cors_origins().count());
        let _ = site.plans().map(|plan| plan.id().len()).sum::<usize>();
    }
}
