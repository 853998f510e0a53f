//! Tests of compiling and loading: what comes out is what went in, and broken bytes are refused.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::header::{HEADER_BYTES, seal};
use super::*;
use crate::compile::{Builder, CompileError, compile};
use crate::decision::Outcome;
use crate::ids::entitlement_id;
use crate::model::{Adjustment, EarlierTerms, Policy, Scheme, Subscription, file};
use crate::{budget, decide, facts, matcher};

pub(crate) const POLICY: &str = r#"
[[sites]]
slug = "weather"
origin = "http://127.0.0.1:9000/base"
hosts = ["api.weather.example"]
default = "paid"
origin_headers = { X-Secret = "s" }
[[sites.resources]]
pattern = "/open/*"
access = "free"
[[sites.resources]]
pattern = "/api/*"
methods = ["GET"]
cost = 3
[[sites.plans]]
id = "pro"
quota = { requests = 100, per = "week" }
rate_limit = { requests = 5, per = "second", burst = 9 }
concurrency = 2
overage = "allow"
overage_cap = 7
resources = ["/api/*"]
[[sites.plans]]
id = "unlimited"
[[sites.subscriptions]]
id = "s1"
plan = "pro"
customer = "c1"
status = "active"
period_anchor = 2026-11-01T00:00:00Z
tokens = [
    { id = "t1", sha256 = "1111111111111111111111111111111111111111111111111111111111111111", allow_from = ["10.0.0.0/8", "2001:db8::/32"] },
    { id = "t2", sha256 = "2222222222222222222222222222222222222222222222222222222222222222", resources = ["/api/*"], revoked = true, expires_at = 2027-01-01T00:00:00Z },
]
[[sites]]
slug = "maps"
origin = "https://[::1]"
origin_ca = "ca.pem"
origin_pins = ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
origin_client_cert = "/c.pem"
origin_client_key = "/k.pem"
hsts = { max_age_seconds = 300, include_subdomains = true }
[[sites.resources]]
pattern = "/tiles/*"
[[sites.plans]]
id = "only"
[[sites.subscriptions]]
id = "s1"
plan = "only"
customer = "c2"
status = "past_due"
tokens = [{ id = "t1", sha256 = "3333333333333333333333333333333333333333333333333333333333333333" }]
"#;

fn policy() -> Policy {
    file::parse("policy.toml", POLICY.as_bytes()).unwrap().policy
}

/// The policy's snapshot, compiled once for the many cases of the properties.
static COMPILED: LazyLock<Vec<u8>> = LazyLock::new(|| compile(&policy(), 42).unwrap());

/// Everything a snapshot says, in the words of the policy.
fn dump(snapshot: &Snapshot) -> String {
    let mut text = format!("sequence {}\n", snapshot.sequence());
    for site in snapshot.sites() {
        let origin = site.origin();
        text += &format!(
            "site {} name={} origin={:?} {}:{} {} {:?} {} hosts={:?} paid={} headers={:?} \
             places={:?} {}/{} ms {:?}\n",
            site.slug(),
            site.name(),
            origin.scheme(),
            origin.host(),
            origin.port(),
            origin.path_prefix(),
            origin.address(),
            origin.authority(),
            site.hosts().collect::<Vec<_>>(),
            site.default_paid(),
            site.origin_headers().collect::<Vec<_>>(),
            site.token_places(),
            site.connect_timeout_ms(),
            site.response_timeout_ms(),
            site.on_ledger_loss(),
        );
        text += &format!("  {:?} hsts={:?}\n", site.origin_tls(), site.hsts());
        text += &dump_rows(snapshot, site);
    }
    for byte in [0x11, 0x22, 0x33, 0x44] {
        let Some((token, subscription)) = snapshot.find_token(&TokenHash([byte; 32])) else {
            text += &format!("no token {byte:x}\n");
            continue;
        };
        let view = snapshot.token(token).unwrap();
        let allowed: Vec<&str> =
            ["10.1.2.3", "::ffff:10.1.2.3", "11.0.0.1", "2001:db8::5", "::a00:1"]
                .into_iter()
                .filter(|address| view.allows(address.parse().unwrap()))
                .collect();
        text += &format!(
            "token {byte:x} {token:?} {subscription:?} {} revoked={} expires={} {allowed:?} {}\n",
            view.id(),
            view.is_revoked(),
            view.expires_at_s(),
            (0..5)
                .map(|index| u8::from(view.includes(ResourceIndex(index), false)).to_string())
                .collect::<String>(),
        );
    }
    text
}

/// A site's resources, plans and subscriptions.
fn dump_rows(snapshot: &Snapshot, site: SiteView<'_>) -> String {
    let mut text = String::new();
    for resource in site.resources() {
        let methods: Vec<&str> = resource.methods().collect();
        text += &format!(
            "  {:?} {} {methods:?} {:?} {}\n",
            resource.index(),
            resource.pattern(),
            resource.access(),
            resource.cost()
        );
    }
    for plan in site.plans() {
        let included: Vec<_> = site
            .resources()
            .filter(|resource| plan.includes(resource.index()))
            .map(|resource| resource.pattern())
            .collect();
        text += &format!(
            "  {:?} {} {:?} {:?} {:?} {:?} {} {included:?}\n",
            plan.index(),
            plan.id(),
            plan.quota(),
            plan.rate_limit(),
            plan.concurrency(),
            plan.overage(),
            plan.grace_days()
        );
    }
    for subscription in snapshot.subscriptions().filter(|view| view.site() == site.index()) {
        text += &format!(
            "  {:?} {} {} {:?} {:?} {:?} {:?} {:?} {:x}\n",
            subscription.index(),
            subscription.id(),
            subscription.customer(),
            subscription.site(),
            subscription.plan(),
            subscription.status(),
            subscription.past_due_since_s(),
            subscription.period_anchor_s(),
            subscription.entitlement().0
        );
    }
    text
}

#[test]
fn comes_out_as_it_went_in() {
    let bytes = compile(&policy(), 42).unwrap();
    assert_eq!(bytes, compile(&policy(), 42).unwrap());
    let snapshot = Snapshot::from_bytes(&bytes).unwrap();
    insta::assert_snapshot!(dump(&snapshot));
    assert_eq!(snapshot.len_bytes(), bytes.len());
    assert_eq!((snapshot.tokens_len(), snapshot.subscriptions_len()), (3, 2));
    assert_eq!(snapshot.site_by_slug("maps").unwrap().index(), SiteIndex(1));
    let entitlement = snapshot.subscription(SubscriptionIndex(0)).unwrap().entitlement();
    assert_eq!(entitlement, entitlement_id("weather", "s1"));
    assert_ne!(entitlement, entitlement_id("weathers", "1"));
}

/// What a control plane does with more subscriptions than fit in memory as a model.
#[test]
fn subscriptions_added_one_by_one_make_the_same() {
    let policy = policy();
    let mut builder = Builder::new(&policy.sites).unwrap();
    for (site, index) in policy.sites.iter().zip(0..) {
        for subscription in &site.subscriptions {
            let lost = Subscription { plan: 2, ..subscription.clone() };
            assert!(matches!(builder.add(index, &lost), Err(CompileError::NoPlan { plan: 2, .. })));
            assert!(matches!(builder.add(2, subscription), Err(CompileError::NoSite(2))));
            builder.add(index, subscription).unwrap();
        }
    }
    assert_eq!(builder.finish(42).unwrap(), compile(&policy, 42).unwrap());
}

#[test]
fn a_mapped_file_says_the_same() {
    let bytes = compile(&policy(), 42).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let mapped = Snapshot::from_file(&file).unwrap();
    assert_eq!(dump(&mapped), dump(&Snapshot::from_bytes(&bytes).unwrap()));
}

#[test]
fn terms_come_from_plan_and_subscription() {
    let snapshot = Snapshot::from_bytes(&compile(&policy(), 42).unwrap()).unwrap();
    let unit = |unit, anchor_s| budget::Calendar { unit, anchor_s };
    let pro = snapshot.terms(SubscriptionIndex(0), 0).unwrap();
    assert_eq!((pro.version, pro.limit, pro.concurrency), (42 << 8, Some(100), Some(2)));
    assert_eq!(pro.overage, budget::Overage::Allow { cap: Some(7) });
    assert_eq!(pro.calendar, unit(budget::Unit::Week, Some(1_793_491_200)));
    let rate = budget::RateTerms { requests: 5, unit: budget::Unit::Second, burst: 9 };
    assert_eq!(pro.rate, Some(rate));
    let only = snapshot.terms(SubscriptionIndex(1), 0).unwrap();
    assert_eq!((only.limit, only.rate, only.concurrency), (None, None, None));
    assert_eq!(only.calendar, unit(budget::Unit::Month, None));
    assert_eq!(snapshot.terms(SubscriptionIndex(2), 0), None);
}

#[test]
fn earlier_terms_hold_until_the_period_ends() {
    let mut policy = policy();
    let anchor_s = 1_793_491_200;
    let week_s = 7 * 86_400;
    let plan = &mut policy.sites[0].plans[0];
    let said = |requests| {
        let quota = Some(crate::model::Quota { requests, per: budget::Unit::Week });
        crate::model::Plan { quota, earlier: Vec::new(), ..plan.clone() }
    };
    let earlier = |until_s, requests| EarlierTerms { until_s, terms: said(requests) };
    // 10 until an hour into the first week, 20 until two hours into it, then 100.
    plan.earlier = vec![earlier(anchor_s + 3_600, 10), earlier(anchor_s + 7_200, 20)];
    let bytes = compile(&policy, 42).unwrap();
    let snapshot = Snapshot::from_bytes(&bytes).unwrap();
    let mut last = 0;
    let mut check = |now_s: i64, limit: u64| {
        let terms = snapshot.terms(SubscriptionIndex(0), now_s).unwrap();
        assert_eq!(terms.limit, Some(limit), "at {now_s}");
        assert!(terms.version >= last, "terms never look older than those before them");
        last = terms.version;
        let subscription = snapshot.subscription(SubscriptionIndex(0)).unwrap();
        assert_eq!(snapshot.plan_of(&subscription, now_s).unwrap().id(), "pro");
    };
    check(anchor_s - week_s, 10);
    check(anchor_s, 10);
    check(anchor_s + week_s - 1, 10);
    check(anchor_s + week_s, 100);
    check(anchor_s + 9 * week_s, 100);
    // Nobody subscribes to earlier terms, and they are no plan of their own.
    let site = snapshot.site_by_slug(&policy.sites[0].slug).unwrap();
    assert_eq!(site.plans().count(), policy.sites[0].plans.len());
    let plans = policy.sites[0].plans.len();
    policy.sites[0].subscriptions[0].plan = u32::try_from(plans).unwrap();
    assert!(matches!(compile(&policy, 43), Err(CompileError::NoPlan { .. })));
    // Out of order they are refused.
    policy.sites[0].subscriptions[0].plan = 0;
    policy.sites[0].plans[0].earlier.reverse();
    assert!(Snapshot::from_bytes(&compile(&policy, 44).unwrap()).is_err());
}

#[test]
fn adjustments_move_the_limit_while_they_count() {
    let mut policy = policy();
    let adjust = |until_s, units| Adjustment { until_s, units };
    let adjustments = |list: Vec<Adjustment>, policy: &mut Policy| {
        policy.sites[0].subscriptions[0].adjustments = list;
        let bytes = compile(policy, 42).unwrap();
        Snapshot::from_bytes(&bytes)
    };
    let check = |snapshot: &Snapshot, now_s: i64, limit: u64, over: u64| {
        let terms = snapshot.terms(SubscriptionIndex(0), now_s).unwrap();
        assert_eq!((terms.limit, terms.version), (Some(limit), (42 << 8) | over), "at {now_s}");
    };
    let given = vec![adjust(1_000, 50), adjust(2_000, -30), adjust(i64::MAX, 7)];
    let snapshot = adjustments(given, &mut policy).unwrap();
    check(&snapshot, 0, 127, 0);
    check(&snapshot, 1_000, 77, 1);
    check(&snapshot, 2_000, 107, 2);
    // The same as a change over a base.
    let site = &policy.sites[0];
    let state = crate::delta::SubscriptionState::new(site, &site.subscriptions[0]);
    let delta = Delta { from: 42, to: 43, changes: vec![Change::Subscription(state)] };
    let changed = snapshot.apply(&Delta::decode(&delta.encode().unwrap()).unwrap()).unwrap();
    let (_, subscription) = changed.find_token(&TokenHash([0x11; 32])).unwrap();
    assert_eq!(changed.terms(subscription, 1_000).unwrap().limit, Some(77));
    // Taken below nothing it is nothing; no limit stays none.
    check(&adjustments(vec![adjust(i64::MAX, -5_000)], &mut policy).unwrap(), 0, 0, 0);
    let too_many = vec![adjust(1, 1); crate::model::ADJUSTMENTS_MAX + 1];
    assert!(adjustments(too_many, &mut policy).is_err());
}

#[test]
fn no_site_at_all_loads() {
    let snapshot =
        Snapshot::from_bytes(&compile(&Policy { sites: Vec::new() }, 0).unwrap()).unwrap();
    assert_eq!(snapshot.find_site(Some(b"a.localhost"), b"/", "localhost"), None);
}

#[test]
fn a_site_without_tokens_loads() {
    let text = "[[sites]]\nslug = \"a\"\norigin = \"http://a\"\n";
    let policy = file::parse("policy.toml", text.as_bytes()).unwrap().policy;
    let snapshot = Snapshot::from_bytes(&compile(&policy, 0).unwrap()).unwrap();
    assert_eq!(snapshot.find_token(&TokenHash([0; 32])), None);
    assert_eq!(snapshot.find_token(&TokenHash([255; 32])), None);
}

#[test]
fn broken_headers_are_named() {
    let good = compile(&policy(), 42).unwrap();
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Snapshot::from_bytes(&bytes).unwrap_err().to_string()
    };
    insta::assert_snapshot!(
        [
            broken(Vec::clear),
            broken(|bytes| bytes[0] = b'X'),
            broken(|bytes| bytes[8] = 9),
            broken(|bytes| bytes[12] ^= 1),
            broken(|bytes| bytes[16] ^= 1),
            broken(|bytes| *bytes.last_mut().unwrap() ^= 1),
            broken(|bytes| bytes.truncate(1000)),
            broken(|bytes| bytes.push(0)),
            broken(|bytes| bytes.truncate(20)),
        ]
        .join("\n")
    );
}

/// A policy so changed is refused, at the latest by the snapshot made of it.
fn check(change: fn(&mut Policy), expected: &str) {
    let mut policy = policy();
    change(&mut policy);
    let outcome = compile(&policy, 1)
        .map_err(|error| error.to_string())
        .and_then(|bytes| Snapshot::from_bytes(&bytes).map_err(|error| error.to_string()));
    let error = outcome.expect_err(expected);
    assert!(error.contains(expected), "{error}");
}

#[test]
fn models_that_contradict_themselves_are_refused() {
    check(|policy| policy.sites[1].slug = "weather".into(), "the slug of site number 1");
    check(|policy| policy.sites[0].slug = "Weather".into(), "the slug of site number 0");
    check(
        |policy| policy.sites[1].hosts = policy.sites[0].hosts.clone(),
        "a host of site number 1",
    );
    check(|policy| policy.sites[0].origin_headers[0].1 = "a\r\nb: c".into(), "an origin header");
    check(|policy| policy.sites[0].token_header = "Host".into(), "token_header of site");
    check(|policy| policy.sites[0].cors_origins.push("x".into()), "a CORS origin of site");
    check(|policy| policy.sites[0].origin.path_prefix = "/ x".into(), "the origin of site");
    check(
        |policy| {
            let resource = policy.sites[0].resources[0].clone();
            policy.sites[0].resources.push(resource);
        },
        "a pattern that contradicts another of resource number 2",
    );
    check(
        |policy| policy.sites[0].plans[0].resources = Some(vec![7]),
        "a resource of plan number 0",
    );
    check(|policy| policy.sites[0].plans[0].resources = Some(vec![1, 0]), "a resource of plan");
    check(|policy| policy.sites[0].plans[1].id = "pro".into(), "the id of plan number 1");
    check(|policy| policy.sites[0].subscriptions[0].plan = 2, "no plan number 2 of site number 0");
    check(|policy| policy.sites[1].subscriptions[0].customer.push('\n'), "the id or customer");
    check(
        |policy| {
            let token = &mut policy.sites[1].subscriptions[0].tokens[0];
            token.resources = Some(vec!["no pattern".to_owned()]);
        },
        "the text of pattern number 1",
    );
    check(
        |policy| {
            let token = policy.sites[0].subscriptions[0].tokens[0].clone();
            policy.sites[1].subscriptions[0].tokens.push(token);
        },
        "stands in the policy twice",
    );
}

#[test]
fn tls_that_contradicts_itself_is_refused() {
    const WHAT: &str = "TLS with the origin of site number 1";
    check(|policy| policy.sites[1].origin_tls.ca = Some("a\nb".into()), WHAT);
    check(|policy| policy.sites[1].origin_tls.ca = Some(String::new()), WHAT);
    check(|policy| policy.sites[1].origin_tls.pins = vec![[1; 32]; 2], WHAT);
    check(|policy| policy.sites[1].origin_tls.pins = (0..9).map(|byte| [byte; 32]).collect(), WHAT);
    check(|policy| policy.sites[1].origin_tls.client.as_mut().unwrap().key.push('\0'), WHAT);
    check(|policy| policy.sites[1].origin.scheme = Scheme::Http, WHAT);
    check(
        |policy| policy.sites[1].hsts.as_mut().unwrap().max_age_s = 315_360_001,
        "hsts of site number 1",
    );
}

/// Reads all that a snapshot can say, and decides with it.
fn use_it(snapshot: &Snapshot) {
    let _ = dump(snapshot);
    let mut scratch = matcher::Scratch::new();
    for site in snapshot.sites() {
        for (path, token) in [("/api/x", "a".repeat(20)), ("/x", "pf_live_".to_owned())] {
            let bearer = format!("Bearer {token}");
            let line = facts::RequestLine { method: b"GET", path: path.as_bytes(), query: None };
            let headers = [(&b"authorization"[..], bearer.as_bytes())];
            let client = "10.0.0.1".parse().unwrap();
            let facts = facts::Facts::extract(
                line,
                headers.into_iter(),
                site.token_places(),
                false,
                client,
            );
            let decision = decide::decide(snapshot, &site, &facts, 0, &mut scratch);
            assert_ne!(decision.outcome, Outcome::Meter);
        }
    }
    for index in 0..snapshot.tokens_len() as u32 {
        let token = snapshot.token(TokenIndex(index)).unwrap();
        let _ = (token.id(), token.includes(ResourceIndex(0), false), token.some_allowed_address());
    }
    for index in 0..snapshot.subscriptions_len() as u32 {
        assert!(snapshot.terms(SubscriptionIndex(index), 0).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Damage is found by the checksum.
    #[test]
    fn damaged_bytes_are_refused(at: prop::sample::Index, flip in 1u8..) {
        let mut bytes = COMPILED.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Snapshot::from_bytes(&bytes).is_err());
    }

    /// Damage under a fitting checksum is found by the other checks, or does no harm.
    #[test]
    fn forged_bytes_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = COMPILED.clone();
        for (at, value) in changes {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = value;
        }
        seal(&mut bytes, 42);
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            use_it(&snapshot);
        }
    }

    #[test]
    fn any_bytes_are_answered(mut bytes in prop::collection::vec(any::<u8>(), 0..600), sealed: bool) {
        if sealed {
            seal(&mut bytes, 1);
        }
        prop_assert!(Snapshot::from_bytes(&bytes).is_err());
    }
}
