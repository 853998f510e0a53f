//! The search by prefix against the plain loop, and patterns that could explode.

use proptest::prelude::*;

use super::super::Pattern;
use super::*;

fn rules_of(texts: &[String]) -> Vec<(Pattern, MethodSet)> {
    texts.iter().map(|text| (Pattern::parse(text).expect("a pattern"), MethodSet::all())).collect()
}

fn built(parsed: &[(Pattern, MethodSet)], settings: Settings) -> Rules {
    let rules: Vec<Rule<'_>> = parsed
        .iter()
        .map(|(pattern, methods)| Rule { pattern, methods, access: Access::Paid, cost: 1 })
        .collect();
    Rules::new(&rules, settings).expect("no conflict")
}

fn index_of(rules: &Rules, path: &[u8], letters: Letters) -> Option<u32> {
    let mut segments = Segments::default();
    let is_literal = path.is_ascii() && !path.contains(&b'%');
    let candidate = rules.split(path, is_literal, &mut segments);
    rules.find(b"GET", candidate, letters).map(|rule| rule.index)
}

#[test]
fn a_thousand_rules_are_told_apart() {
    let mut texts: Vec<String> = (0..1000).map(|n| format!("/svc{n}/v1/*")).collect();
    texts.push("/**/health".to_owned());
    texts.push("/{tenant}/v2/*".to_owned());
    let parsed = rules_of(&texts);
    let rules = built(&parsed, Settings::default());
    assert!(rules.prefixes.is_some());
    for n in [0, 1, 99, 999] {
        let path = format!("/svc{n}/v1/x");
        assert_eq!(index_of(&rules, path.as_bytes(), Letters::Exact), Some(n), "{path}");
    }
    assert_eq!(index_of(&rules, b"/svc7/health", Letters::Exact), Some(1000));
    assert_eq!(index_of(&rules, b"/svc7/v2/x", Letters::Exact), Some(1001));
    assert_eq!(index_of(&rules, b"/SVC7/V1/x", Letters::Folded), Some(7));
    assert_eq!(index_of(&rules, b"/SVC7/V1/x", Letters::Exact), None);
}

#[test]
fn many_wildcards_on_a_long_path_stay_linear() {
    let parsed = rules_of(&[
        "/**/a/**/b/**/c".to_owned(),
        "/**/a/a/a/a/b/**/a/a/*".to_owned(),
        format!("{}/c/x", "/**/a".repeat(8)),
    ]);
    let rules = built(&parsed, Settings::default());
    assert_eq!(index_of(&rules, &b"/a".repeat(4000), Letters::Exact), None);
    let mut path = b"/a".repeat(3000);
    path.extend_from_slice(b"/b/x/c");
    assert_eq!(index_of(&rules, &path, Letters::Exact), Some(0));
}

fn segment() -> impl Strategy<Value = String> {
    let words = ["a", "b", "ab", "A", "*", "{x}", "**", "K", "é", "%41", "%2541", "a%2Fb", "É"];
    proptest::sample::select(words.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn prefix_search_finds_what_the_loop_finds(
        texts in proptest::collection::btree_set(proptest::collection::vec(segment(), 1..5), 20..40),
        words in proptest::collection::vec(proptest::sample::select(vec!["a", "b", "ab", "A", "c", "", "aB", "é", "%C3%A9", "É", "%C3%89", "\u{212A}", "a%2Fb", "%41", "%2541", "%61"]), 1..6),
        case_sensitive in any::<bool>(),
    ) {
        let mut texts: Vec<String> = texts.iter().map(|parts| format!("/{}", parts.join("/"))).collect();
        texts.retain(|text| Pattern::parse(text).is_ok());
        let settings = Settings { default_paid: false, case_sensitive };
        let parsed = rules_of(&texts);
        let mut kept: Vec<Rule<'_>> = Vec::new();
        for (pattern, methods) in &parsed {
            kept.push(Rule { pattern, methods, access: Access::Paid, cost: 1 });
            if refuse_conflicts(&kept, settings).is_err() {
                kept.pop();
            }
        }
        let with = Rules::new(&kept, settings).expect("no conflict");
        let mut without = Rules::new(&kept, settings).expect("no conflict");
        without.prefixes = None;
        let path = format!("/{}", words.join("/"));
        for letters in [Letters::Exact, Letters::Folded] {
            if letters == Letters::Folded && case_sensitive {
                continue;
            }
            prop_assert_eq!(
                index_of(&with, path.as_bytes(), letters),
                index_of(&without, path.as_bytes(), letters),
                "{}", path
            );
        }
    }
}
