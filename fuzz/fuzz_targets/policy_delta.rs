//! Changes of a policy as they come over the link or from disk: any bytes, and good ones that were changed under a fitting checksum.
//!
//! What decodes is applied to a snapshot and decided upon; nothing may panic, and what decodes encodes to something that decodes alike.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use policy::compile::{compile, compile_sites};
use policy::decide::decide;
use policy::delta::{Change, Delta, SubscriptionState};
use policy::facts::{Facts, RequestLine};
use policy::matcher::Scratch;
use policy::model::file::parse;
use policy::snapshot::Snapshot;
use policy::token::TokenHash;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Raw(&'a [u8]),
    Changed(Vec<(u16, u8)>),
}

const TOKEN: &str = "a-key-of-another-system";

static GOOD: LazyLock<(Snapshot, Vec<u8>)> = LazyLock::new(|| {
    let hash = TokenHash::of(TOKEN.as_bytes());
    let text = format!(
        "[[sites]]\nslug = \"shop\"\norigin = \"http://o\"\nforeign_tokens = true\n\
         resources = [{{ pattern = \"/paid/*\" }}]\nplans = [{{ id = \"pro\" }}]\n\
         subscriptions = [{{ id = \"s\", plan = \"pro\", customer = \"c\", status = \"active\", \
         tokens = [{{ id = \"t\", sha256 = \"{hash}\", allow_from = [\"127.0.0.0/8\"], resources = [\"/paid/*\"] }}] }}]\n"
    );
    let policy = parse("policy.toml", text.as_bytes()).expect("a good policy").policy;
    let snapshot = Snapshot::from_bytes(&compile(&policy, 1).expect("it compiles")).expect("it loads");
    let site = &policy.sites[0];
    let changes = vec![
        Change::Subscription(SubscriptionState::new(site, &site.subscriptions[0])),
        Change::Sites(compile_sites(&policy.sites, 2).expect("it compiles")),
        Change::Gone(7),
    ];
    let bytes = Delta { from: 1, to: 2, changes }.encode().expect("it encodes");
    (snapshot, bytes)
});

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw(bytes) => take(bytes),
    Input::Changed(changes) => {
        let mut bytes = GOOD.1.clone();
        for (at, value) in changes {
            let at = 16 + usize::from(at) % (bytes.len() - 16);
            bytes[at] = value;
        }
        // The checksum covers all from byte 16 and stands at 12.
        let checksum = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        take(&bytes);
    }
});

fn take(bytes: &[u8]) {
    let Ok(delta) = Delta::decode(bytes) else { return };
    let again = delta.encode().expect("what was decoded can be encoded");
    assert_eq!(Delta::decode(&again).expect("and decoded"), delta);
    let Ok(snapshot) = GOOD.0.apply(&delta) else { return };
    let authorization = format!("Bearer {TOKEN}");
    for site in snapshot.sites() {
        let headers = [(&b"Authorization"[..], authorization.as_bytes())];
        let line = RequestLine { method: b"GET", path: b"/paid/x", query: None };
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let facts = Facts::extract(line, headers.into_iter(), site.token_places(), false, client);
        let _ = decide(&snapshot, &site, &facts, 1_800_000_000, &mut Scratch::new());
    }
    for subscription in snapshot.subscriptions() {
        let _ = (snapshot.terms(subscription.index(), 0), subscription.id(), subscription.customer());
    }
}
