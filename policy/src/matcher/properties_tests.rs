//! The fast matcher against the slow one, over rules and paths made of everything that is nasty.

use proptest::prelude::*;

use super::*;
use crate::method::MethodSet;

/// Pieces of paths. Put together at random they meet every step, in every order, at every depth of escaping.
pub(super) const PIECES: [&[u8]; 66] = [
    b"/",
    b"/",
    b"/",
    b"/",
    b"//",
    b"/a",
    b"/b",
    b"/open",
    b"/open/",
    b"/api",
    b"/api/v1",
    b"a",
    b"b",
    b"A",
    b"API",
    b"Open",
    b"open",
    b"/..",
    b"/../",
    b"/.",
    b"/./",
    b"..",
    b".",
    b"/...",
    b"\\",
    b"\\..\\",
    b"/..\\",
    b";",
    b";x=1",
    b"/;",
    b"/..;/",
    b"..;x",
    b"%61",
    b"%41",
    b"%2561",
    b"%2541",
    b"%2f",
    b"%2F",
    b"%252f",
    b"%5c",
    b"%255C",
    b"%2e",
    b"%2E%2e",
    b"/%2e%2e/",
    b"/%252e%252e/",
    b".%2e",
    b"%3b",
    b"%253B",
    b"%25",
    b"%",
    b"%2",
    b"%%32%66",
    b"+",
    b"%20",
    b"\xc3\xa9",
    b"%C3%A9",
    b"%C3%89",
    b"%c0%af",
    b"\xc0\xae",
    b"\xe0\x80\xaf",
    b"\xff",
    b"\xe2\x84\xaa",
    b"%u002f",
    b"%u0061",
    b"%3f",
    b"?",
];

pub(super) fn path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..9)
        .prop_map(|pieces| [&b"/"[..], &pieces.concat()].concat())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let words = [
        "a",
        "b",
        "open",
        "api",
        "v1",
        "A",
        "API",
        "é",
        "caf%C3%A9",
        "k",
        "a%2Fb",
        "%2561",
        "%61",
        "x;y",
        "a%3Fb",
        "%5c",
        "*",
        "*",
        "{id}",
        "**",
        "",
        "a+b",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 1..5)
        .prop_map(|parts| Pattern::parse(&format!("/{}", parts.join("/"))))
        .prop_filter_map("no pattern", Result::ok)
}

type Resource = (Pattern, MethodSet, Access, u64);

pub(super) fn resources() -> impl Strategy<Value = Vec<Resource>> {
    let methods = proptest::sample::select(vec!["", "GET", "POST", "HEAD", "GET,POST"])
        .prop_map(|names| MethodSet::new(names.split(',').filter(|name| !name.is_empty())));
    let access =
        proptest::sample::select(vec![Access::Free, Access::Paid, Access::Paid, Access::Blocked]);
    proptest::collection::vec((pattern(), methods, access, 1..4_u64), 0..24)
}

pub(super) fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>())
        .prop_map(|(default_paid, case_sensitive)| Settings { default_paid, case_sensitive })
}

/// The rules of `resources`, less those that conflict with one before.
pub(super) fn rules(resources: &[Resource], settings: Settings) -> Vec<Rule<'_>> {
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for (pattern, methods, access, cost) in resources {
        rules.push(Rule { pattern, methods, access: *access, cost: *cost });
        if Matcher::new(&rules, settings).is_err() {
            rules.pop();
        }
    }
    rules
}

fn agree(rules: &[Rule<'_>], settings: Settings, method: &[u8], path: &[u8]) {
    let matcher = Matcher::new(rules, settings).expect("no conflict");
    let mut scratch = Scratch::new();
    let fast = matcher.resolve(method, path, &mut scratch);
    let slow = reference::resolve(rules, settings, method, path);
    let shown = path.escape_ascii();
    match (fast, slow) {
        (Ok(fast), Ok(slow)) => {
            let paid = fast.paid.iter().copied().collect();
            let answer = reference::Answer {
                access: fast.access,
                logged: fast.logged,
                cost: fast.cost,
                paid,
            };
            assert_eq!(answer, slow, "{shown}");
            assert_eq!(fast.paid.len(), slow.paid.len(), "{shown}: each once");
        }
        (Err(PathRejected { cause: RejectCause::TooManySpellings }), _) => {}
        (Err(_), Err(_)) => {}
        (fast, slow) => panic!("{shown}: {fast:?} against {slow:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

    #[test]
    fn fast_is_slow(resources in resources(), settings in settings(), paths in proptest::collection::vec(path(), 1..8)) {
        let rules = rules(&resources, settings);
        for path in paths {
            agree(&rules, settings, b"GET", &path);
        }
    }

    #[test]
    fn spellings_are_the_same(path in path()) {
        let mut fast = closure::Closure::default();
        let fast = fast.fill(&path).map(|()| fast.iter().map(|(text, _)| text.to_vec()).collect());
        match (fast, reference::spellings(&path)) {
            (Ok::<std::collections::BTreeSet<_>, _>(fast), Ok(slow)) => prop_assert_eq!(fast, slow),
            (Err(RejectCause::TooManySpellings), _) | (Err(_), Err(_)) => {}
            (fast, slow) => prop_assert!(false, "{:?} against {:?}", fast, slow),
        }
    }

    #[test]
    fn scratch_keeps_nothing(resources in resources(), settings in settings(), first in path(), second in path()) {
        let rules = rules(&resources, settings);
        let matcher = Matcher::new(&rules, settings).expect("no conflict");
        let mut used = Scratch::new();
        let _warm = matcher.resolve(b"GET", &first, &mut used);
        let mut fresh = Scratch::new();
        prop_assert_eq!(
            matcher.resolve(b"GET", &second, &mut used),
            matcher.resolve(b"GET", &second, &mut fresh)
        );
    }

    #[test]
    fn explained_as_decided(resources in resources(), settings in settings(), path in path()) {
        let rules = rules(&resources, settings);
        let matcher = Matcher::new(&rules, settings).expect("no conflict");
        let mut scratch = Scratch::new();
        if let Ok(answer) = matcher.resolve(b"GET", &path, &mut scratch) {
            let lines = matcher.spellings(b"GET", &path);
            prop_assert_eq!(lines.iter().map(|line| line.access).max(), Some(answer.access));
            for paid in answer.paid {
                prop_assert!(lines.iter().any(|line| line.rule == Some(*paid)));
            }
        }
    }
}
