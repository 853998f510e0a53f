//! Deltas over a base answer as a fresh compile of what they lead to; broken ones are refused.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::compile::{compile, compile_sites};
use crate::decide::decide;
use crate::decision::Decision;
use crate::facts::{Facts, RequestLine};
use crate::matcher::Scratch;
use crate::model::{Policy, file};
use crate::snapshot::{ApplyError, SiteView, Snapshot};
use crate::token::TokenHash;

const TOKENS: usize = 6;
const NOW_S: i64 = 1_800_000_000;

/// Sites as they may be: resources, plans and whole sites come, go and move.
const SITES: [&str; 5] = [
    r#"
[[sites]]
slug = "a"
origin = "http://a"
foreign_tokens = true
resources = [{ pattern = "/x/*" }, { pattern = "/y", cost = 2 }]
plans = [{ id = "p", quota = { requests = 5, per = "day" } }, { id = "q", resources = ["/y"] }]
[[sites]]
slug = "b"
origin = "http://b"
foreign_tokens = true
resources = [{ pattern = "/y" }]
plans = [{ id = "p" }]
"#,
    r#"
[[sites]]
slug = "b"
origin = "http://b2"
foreign_tokens = true
resources = [{ pattern = "/z" }, { pattern = "/y", cost = 7 }]
plans = [{ id = "new" }, { id = "p", quota = { requests = 9, per = "hour" } }]
[[sites]]
slug = "a"
origin = "http://a"
foreign_tokens = true
resources = [{ pattern = "/y", cost = 3 }]
plans = [{ id = "q" }, { id = "p" }]
"#,
    r#"
[[sites]]
slug = "a"
origin = "http://a"
foreign_tokens = true
resources = [{ pattern = "/x/*", methods = ["GET"] }, { pattern = "/y" }]
plans = [{ id = "q" }]
"#,
    r#"
[[sites]]
slug = "a"
origin = "http://a"
foreign_tokens = true
resources = [{ pattern = "/y", methods = ["GET"] }, { pattern = "/y", methods = ["POST"], cost = 5 }]
plans = [{ id = "p" }, { id = "q", resources = ["/y"] }]
"#,
    r#"
[[sites]]
slug = "b"
origin = "http://b"
foreign_tokens = true
default = "paid"
plans = [{ id = "p" }]
"#,
];

fn token_text(number: usize) -> String {
    format!("a-token-of-another-system-{number}")
}

#[derive(Clone, Debug)]
struct Holder {
    customer: u8,
    plan: &'static str,
    status: &'static str,
    /// Number, whether revoked, whether narrowed to `/y`.
    tokens: Vec<(usize, bool, bool)>,
}

type Key = (&'static str, &'static str);

#[derive(Clone, Debug)]
enum Step {
    Sites(usize),
    Put(Key, Holder),
    Gone(Key),
}

/// A policy with these sites and those of the subscriptions that can be.
fn policy_of(sites: usize, holders: &BTreeMap<Key, Holder>) -> Policy {
    let mut policy = file::parse("policy.toml", SITES[sites].as_bytes()).unwrap().policy;
    for site in &mut policy.sites {
        for ((slug, id), holder) in holders.iter().filter(|((slug, _), _)| *slug == site.slug) {
            if let Some(text) = subscription_text(site, id, holder) {
                assert_eq!(*slug, site.slug);
                site.subscriptions.push(text);
            }
        }
    }
    policy
}

fn subscription_text(site: &Site, id: &str, holder: &Holder) -> Option<Subscription> {
    let plan = site.plans.iter().position(|plan| plan.id == holder.plan)?;
    let tokens =
        holder.tokens.iter().map(|(number, is_revoked, is_narrowed)| crate::model::Token {
            id: format!("tok_{number}"),
            hash: TokenHash::of(token_text(*number).as_bytes()),
            expires_at_s: None,
            is_revoked: *is_revoked,
            allow_from: if number % 2 == 0 {
                vec!["10.0.0.0/8".parse().unwrap()]
            } else {
                Vec::new()
            },
            resources: is_narrowed.then(|| vec!["/y".to_owned()]),
        });
    Some(Subscription {
        id: id.to_owned(),
        plan: plan as u32,
        customer: format!("c{}", holder.customer),
        status: Status::WORDS.iter().find(|(word, _)| *word == holder.status)?.1,
        past_due_since_s: None,
        period_anchor_s: Some(i64::from(holder.customer) * 3600),
        adjustments: vec![crate::model::Adjustment {
            until_s: i64::from(holder.customer % 3) * 3600,
            units: i64::from(holder.customer) - 1,
        }],
        tokens: tokens.collect(),
    })
}

/// The same as a delta carries it, whether or not its plan and resources are there just now.
fn state_of((slug, id): Key, holder: &Holder) -> SubscriptionState {
    let text = format!(
        "[[sites]]\nslug = \"{slug}\"\norigin = \"http://a\"\nresources = [{{ pattern = \"/y\" }}]\n\
         plans = [{{ id = \"{}\" }}]\n",
        holder.plan
    );
    let site = file::parse("policy.toml", text.as_bytes()).unwrap().policy.sites.remove(0);
    SubscriptionState::new(&site, &subscription_text(&site, id, holder).unwrap())
}

/// The decision on a request with a token by its number.
fn decided(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    (method, path): (&str, &str),
    number: usize,
) -> Decision {
    let bearer = format!("Bearer {}", token_text(number));
    let headers = [(&b"authorization"[..], bearer.as_bytes())];
    let (method, path) = (method.as_bytes(), path.as_bytes());
    let line = RequestLine { method, path, query: None };
    let client = "10.0.0.1".parse().unwrap();
    let facts = Facts::extract(line, headers.into_iter(), site.token_places(), false, client);
    decide(snapshot, site, &facts, NOW_S, &mut Scratch::new())
}

/// Everything that is decided on every token, and by what terms.
fn answers(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for slug in ["a", "b"] {
        let Some(site) = snapshot.site_by_slug(slug) else { continue };
        for number in 0..TOKENS {
            for (method, path) in [("GET", "/x/1"), ("GET", "/y"), ("POST", "/y"), ("GET", "/z")] {
                let decision = decided(snapshot, &site, (method, path), number);
                let subscription =
                    decision.subscription.map(|index| snapshot.subscription(index).unwrap());
                let terms = decision.subscription.and_then(|index| snapshot.terms(index, 0));
                text += &format!(
                    "{slug} {number} {method} {path} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?}\n",
                    decision.outcome,
                    decision.reason,
                    decision.cost,
                    decision.resource.map(|index| snapshot.resource(index).unwrap().pattern()),
                    decision.token.map(|index| snapshot.token(index).unwrap().id().to_owned()),
                    subscription.map(|view| {
                        (view.id(), view.customer(), view.entitlement(), view.status())
                    }),
                    decision.plan.map(|index| snapshot.plan(index).unwrap().id()),
                    terms.map(|terms| crate::budget::Terms { version: 0, ..terms }),
                );
            }
        }
    }
    let mut all: Vec<String> =
        snapshot.subscriptions().map(|view| format!("{:?}", view.entitlement())).collect();
    all.sort();
    text + &all.join("\n")
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["s1", "s2"]));
    let holder = (
        0u8..3,
        prop::sample::select(vec!["p", "q", "new"]),
        prop::sample::select(vec!["active", "canceled"]),
        prop::collection::vec((0..TOKENS, any::<bool>(), any::<bool>()), 0..3),
    );
    let put = (key(), holder).prop_map(|(key, (customer, plan, status, tokens))| {
        Step::Put(key, Holder { customer, plan, status, tokens })
    });
    let step = prop_oneof![
        1 => (0..SITES.len()).prop_map(Step::Sites),
        5 => put,
        2 => key().prop_map(Step::Gone),
    ];
    prop::collection::vec(step, 1..20)
}

/// A policy as it comes to be, step by step.
#[derive(Clone, Default)]
struct World {
    sites: usize,
    holders: BTreeMap<Key, Holder>,
}

impl World {
    /// Takes a step; the changes that tell of it. A token that another has now is taken from whoever had it, and told first.
    fn step(&mut self, step: Step) -> Vec<Change> {
        match step {
            Step::Sites(sites) => {
                self.sites = sites;
                let sites = policy_of(sites, &BTreeMap::new()).sites;
                vec![Change::Sites(compile_sites(&sites, 7).unwrap())]
            }
            Step::Gone(key) => {
                self.holders.remove(&key);
                vec![Change::Gone(entitlement_id(key.0, key.1).0)]
            }
            Step::Put(key, mut holder) => {
                let mut seen = [false; TOKENS];
                holder.tokens.retain(|(number, ..)| !std::mem::replace(&mut seen[*number], true));
                let mut changes = Vec::new();
                for (other, had) in self.holders.iter_mut().filter(|(other, _)| **other != key) {
                    let count = had.tokens.len();
                    had.tokens.retain(|(number, ..)| !seen[*number]);
                    if had.tokens.len() != count {
                        changes.push(Change::Subscription(state_of(*other, had)));
                    }
                }
                changes.push(Change::Subscription(state_of(key, &holder)));
                // Whoever loses a token may be told of after whoever gets it.
                let first = usize::from(holder.customer) % changes.len();
                changes.rotate_left(first);
                self.holders.insert(key, holder);
                changes
            }
        }
    }

    fn compiled(&self, sequence: u64) -> Snapshot {
        let policy = policy_of(self.sites, &self.holders);
        Snapshot::from_bytes(&compile(&policy, sequence).unwrap()).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn deltas_lead_where_a_compile_leads(steps in steps(), base_at in 0usize..20, grouped in 1usize..4) {
        let mut world = World::default();
        let (before, after) = steps.split_at(base_at.min(steps.len()));
        for step in before.iter().cloned() {
            world.step(step);
        }
        let mut snapshot = world.compiled(1);
        // A base cannot hold a subscription whose plan is not there just now: it comes as a change.
        let changes: Vec<Change> = world
            .holders
            .iter()
            .map(|(key, holder)| Change::Subscription(state_of(*key, holder)))
            .filter(|change| {
                let Change::Subscription(state) = change else { return false };
                !snapshot.subscriptions().any(|view| view.entitlement() == state.entitlement())
            })
            .collect();
        if !changes.is_empty() {
            snapshot = snapshot.apply(&Delta { from: 1, to: 2, changes }).unwrap();
        }
        let mut said = answers(&snapshot);
        for group in after.chunks(grouped) {
            let changes = group.iter().cloned().flat_map(|step| world.step(step)).collect();
            let (from, to) = (snapshot.sequence(), snapshot.sequence() + 3);
            let bytes = Delta { from, to, changes }.encode().unwrap();
            let next = snapshot.apply(&Delta::decode(&bytes).unwrap()).unwrap();
            prop_assert_eq!(next.sequence(), to);
            let told = answers(&next);
            prop_assert_eq!(&told, &answers(&world.compiled(to)));
            // The one before is as it was, for requests that run.
            prop_assert_eq!((snapshot.sequence(), answers(&snapshot)), (from, said));
            (snapshot, said) = (next, told);
        }
    }

    #[test]
    fn damaged_deltas_are_refused(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let holder = Holder { customer: 1, plan: "p", status: "active", tokens: vec![(0, false, true)] };
        let change = Change::Subscription(state_of(("a", "s1"), &holder));
        let mut bytes = Delta { from: 1, to: 2, changes: vec![change] }.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Delta::decode(&bytes).is_err());
    }

    /// Damage under a fitting checksum is found by the other checks, or does no harm.
    #[test]
    fn forged_deltas_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (snapshot, mut bytes) = FORGED.clone();
        for (at, value) in changes {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = value;
        }
        seal_as(DELTA_MAGIC, &mut bytes, 2);
        if let Ok(delta) = Delta::decode(&bytes) {
            prop_assert_eq!(Delta::decode(&delta.encode().unwrap()).unwrap(), delta.clone());
            if let Ok(next) = snapshot.apply(&delta) {
                let _ = answers(&next);
            }
        }
    }
}

/// A snapshot, and a delta over it with one change of each kind.
static FORGED: LazyLock<(Snapshot, Vec<u8>)> = LazyLock::new(|| {
    let (_, snapshot) = based(0, &[(S1, holder("p", &[(0, false, true)]))]);
    let changes =
        vec![put(S1, &holder("q", &[(0, false, true), (2, true, false)])), gone(S2), sites(3)];
    let bytes = Delta { from: 1, to: 2, changes }.encode().unwrap();
    (snapshot, bytes)
});

#[test]
fn order_is_kept() {
    let snapshot = World::default().compiled(5);
    let delta = |from, to| Delta { from, to, changes: vec![Change::Gone(1)] };
    assert!(matches!(snapshot.apply(&delta(6, 7)), Err(ApplyError::Gap { from: 6, sequence: 5 })));
    let same = snapshot.apply(&delta(3, 5)).unwrap();
    assert_eq!((same.sequence(), same.overlay_len()), (5, 0));
    let next = snapshot.apply(&delta(4, 6)).unwrap();
    assert_eq!((next.sequence(), next.overlay_len(), next.base_sequence()), (6, 1, 5));
    assert!(next.has_sites_of(&snapshot));
}

#[test]
fn a_delta_with_bad_sites_changes_nothing() {
    let snapshot = World::default().compiled(5);
    let changes = vec![Change::Gone(1), Change::Sites(vec![1, 2, 3])];
    let error = snapshot.apply(&Delta { from: 5, to: 6, changes }).unwrap_err();
    assert!(matches!(error, ApplyError::Sites(_)), "{error}");
    assert_eq!((snapshot.sequence(), snapshot.overlay_len()), (5, 0));
}

#[test]
fn what_means_nothing_is_refused() {
    let holder =
        Holder { customer: 1, plan: "p", status: "active", tokens: vec![(0, false, true)] };
    let good = state_of(("a", "s1"), &holder);
    let check = |change: fn(&mut Delta), expected: &str| {
        let mut delta = Delta { from: 1, to: 2, changes: vec![Change::Subscription(good.clone())] };
        change(&mut delta);
        let error = delta.encode().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|delta| delta.to = 1, "leads nowhere");
    check(|delta| delta.changes = vec![Change::Gone(1); CHANGES_MAX + 1], "too many changes");
    let of = |change: fn(&mut SubscriptionState)| {
        let mut state = good.clone();
        change(&mut state);
        Delta { from: 1, to: 2, changes: vec![Change::Subscription(state)] }.encode().is_err()
    };
    assert!(!of(|state| state.tokens[0].id = "x".repeat(255)));
    assert!(of(|state| state.status = 99));
    assert!(of(|state| state.id = "a\nb".to_owned()));
    assert!(of(|state| state.slug = "A".to_owned()));
    assert!(of(|state| state.plan = "p\0".to_owned()));
    assert!(of(|state| state.tokens[0].id = "x".repeat(256)));
    assert!(of(|state| state.tokens[0].id = String::new()));
    assert!(of(|state| state.tokens[0].id = "a\tb".to_owned()));
    assert!(of(|state| state
        .tokens
        .push(TokenState { id: "2".to_owned(), ..state.tokens[0].clone() })));
    assert!(of(|state| state.tokens[0].resources = Some(vec!["*".to_owned()])));
    assert!(of(|state| state.tokens[0].resources = Some(vec!["/y".to_owned(); RESOURCES_MAX + 1])));
    assert!(of(|state| {
        let network = NetworkRow { address: [0; 16], prefix_bits: 96 };
        state.tokens[0].networks = vec![network; NETWORKS_MAX + 1];
    }));
    assert!(of(|state| state.tokens[0]
        .networks
        .push(NetworkRow { address: [0; 16], prefix_bits: 129 })));
    assert!(Delta::decode(&vec![0; DELTA_BYTES_MAX + 1]).is_err());
}

/// A world and its snapshot, whose base has what these steps lead to.
fn based(sites: usize, puts: &[(Key, Holder)]) -> (World, Snapshot) {
    let mut world = World::default();
    world.step(Step::Sites(sites));
    for (key, holder) in puts {
        world.step(Step::Put(*key, holder.clone()));
    }
    let snapshot = world.compiled(1);
    (world, snapshot)
}

fn holder(plan: &'static str, tokens: &[(usize, bool, bool)]) -> Holder {
    Holder { customer: 1, plan, status: "active", tokens: tokens.to_vec() }
}

/// The next snapshot.
fn after(snapshot: &Snapshot, changes: Vec<Change>) -> Snapshot {
    let from = snapshot.sequence();
    let bytes = Delta { from, to: from + 1, changes }.encode().unwrap();
    snapshot.apply(&Delta::decode(&bytes).unwrap()).unwrap()
}

#[test]
fn a_narrowed_token_follows_its_pattern_through_new_sites() {
    const MANY: usize = 3;
    for (sites_of_base, sites) in [(0, MANY), (MANY, 0), (0, 1), (1, MANY), (2, MANY), (MANY, 2)] {
        let plan = if sites_of_base == 2 { "q" } else { "p" };
        let puts = [(("a", "s1"), holder(plan, &[(0, false, true), (1, false, false)]))];
        let (mut world, snapshot) = based(sites_of_base, &puts);
        let next = after(&snapshot, world.step(Step::Sites(sites)));
        assert_eq!(answers(&next), answers(&world.compiled(2)), "{sites_of_base} to {sites}");
    }
}

/// What is decided on `GET /y` of a site with a token: whose it is, by which plan; or the reason.
fn asked(snapshot: &Snapshot, slug: &str, number: usize) -> String {
    let Some(site) = snapshot.site_by_slug(slug) else { return "no site".to_owned() };
    let decision = decided(snapshot, &site, ("GET", "/y"), number);
    match (decision.subscription, decision.plan) {
        (Some(subscription), Some(plan)) => format!(
            "{} {} {}",
            snapshot.subscription(subscription).unwrap().id(),
            snapshot.plan(plan).unwrap().id(),
            decision.reason.as_str()
        ),
        _ => decision.reason.as_str().to_owned(),
    }
}

fn put(key: Key, holder: &Holder) -> Change {
    Change::Subscription(state_of(key, holder))
}

fn gone((slug, id): Key) -> Change {
    Change::Gone(entitlement_id(slug, id).0)
}

fn sites(number: usize) -> Change {
    let sites = policy_of(number, &BTreeMap::new()).sites;
    Change::Sites(compile_sites(&sites, 7).unwrap())
}

const S1: Key = ("a", "s1");
const S2: Key = ("a", "s2");

/// What changes mean for token 1, which the base gives to `s1` of site `a` on plan `p`.
#[test]
fn every_change_means_one_thing() {
    let has = |plan, tokens: &[usize]| {
        holder(plan, &tokens.iter().map(|number| (*number, false, false)).collect::<Vec<_>>())
    };
    let (_, snapshot) = based(0, &[(S1, has("p", &[1])), (S2, has("p", &[3]))]);
    assert_eq!(asked(&snapshot, "a", 1), "s1 p ok");
    let cases: Vec<(&str, Vec<Change>, &str)> = vec![
        ("a plan", vec![put(S1, &has("q", &[1]))], "s1 q ok"),
        ("no token", vec![put(S1, &has("p", &[]))], "token_unknown"),
        ("gone", vec![gone(S1)], "token_unknown"),
        ("gone and back", vec![gone(S1), put(S1, &has("q", &[1]))], "s1 q ok"),
        ("back and gone", vec![put(S1, &has("q", &[1])), gone(S1)], "token_unknown"),
        // A token moves in one delta, whichever end is told of first.
        ("moved, loser first", vec![put(S1, &has("p", &[])), put(S2, &has("q", &[1]))], "s2 q ok"),
        ("moved, winner first", vec![put(S2, &has("q", &[1])), put(S1, &has("p", &[]))], "s2 q ok"),
        ("moved, loser gone", vec![put(S2, &has("q", &[1])), gone(S1)], "s2 q ok"),
        (
            "moved and back",
            vec![
                put(S2, &has("q", &[1])),
                put(S1, &has("p", &[])),
                put(S2, &has("q", &[])),
                put(S1, &has("p", &[1])),
            ],
            "s1 p ok",
        ),
        // The same hash twice, against the rules: the overlay wins over the base, and the later over the earlier.
        ("twice, base and overlay", vec![put(S2, &has("q", &[1]))], "s2 q ok"),
        ("twice, overlay", vec![put(S2, &has("q", &[1])), put(S1, &has("p", &[1]))], "s1 p ok"),
        // A plan and a site that are not there: nobody is let in by another's; when they are back, so are their tokens.
        ("no such plan", vec![put(S1, &has("new", &[1]))], "token_unknown"),
        ("the plan is gone", vec![sites(2)], "token_unknown"),
        ("the plan is back", vec![sites(2), sites(0)], "s1 p ok"),
        ("the site is gone", vec![sites(4)], "no site"),
        ("the site is back", vec![sites(4), sites(0)], "s1 p ok"),
        // A slug for another's site: its old subscriptions are told of as gone first, and stay so.
        ("the slug again", vec![gone(S1), gone(S2), sites(4), sites(0)], "token_unknown"),
        (
            "the slug again, told late",
            vec![sites(4), gone(S1), sites(0), put(S2, &has("q", &[1]))],
            "s2 q ok",
        ),
    ];
    for (name, changes, expected) in cases {
        let next = after(&snapshot, changes.clone());
        assert_eq!(asked(&next, "a", 1), expected, "{name}");
        // One at a time they lead to the same.
        let mut slow = snapshot.clone();
        for change in changes {
            slow = after(&slow, vec![change]);
        }
        assert_eq!(answers(&slow), answers(&next), "{name}");
        assert_eq!(asked(&snapshot, "a", 1), "s1 p ok", "{name}: the one before");
    }
}
