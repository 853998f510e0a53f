//! The fast matcher against the slow, obvious one, over patterns, settings and paths of the fuzzer's choosing.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use policy::matcher::{Access, Matcher, Pattern, RejectCause, Rule, Scratch, Settings, reference};
use policy::method::MethodSet;

/// Longer paths have more spellings than the reference can list in time.
const PATH_BYTES_MAX: usize = 40;

#[derive(Arbitrary, Debug)]
struct Input {
    patterns: Vec<(String, u8)>,
    default_paid: bool,
    case_sensitive: bool,
    path: Vec<u8>,
}

fuzz_target!(|input: Input| {
    if input.path.len() > PATH_BYTES_MAX || input.patterns.len() > 16 {
        return;
    }
    let settings =
        Settings { default_paid: input.default_paid, case_sensitive: input.case_sensitive };
    let resources: Vec<_> = input
        .patterns
        .iter()
        .filter_map(|(text, bits)| {
            let pattern = Pattern::parse(&format!("/{text}")).ok()?;
            let access = [Access::Free, Access::Paid, Access::Blocked][usize::from(bits % 3)];
            let methods =
                [&[][..], &["GET"], &["POST"], &["GET", "POST"]][usize::from(bits / 3 % 4)];
            let methods = MethodSet::new(methods.iter().copied());
            Some((pattern, methods, access, u64::from(bits / 12) + 1))
        })
        .collect();
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for (pattern, methods, access, cost) in &resources {
        rules.push(Rule { pattern, methods, access: *access, cost: *cost });
        if Matcher::new(&rules, settings).is_err() {
            rules.pop();
        }
    }
    let Ok(matcher) = Matcher::new(&rules, settings) else { return };
    let path = [&b"/"[..], &input.path].concat();
    let mut scratch = Scratch::new();
    let fast = matcher.resolve(b"GET", &path, &mut scratch);
    let slow = reference::resolve(&rules, settings, b"GET", &path);
    match (fast, slow) {
        (Ok(fast), Ok(slow)) => {
            assert_eq!(
                (fast.access, fast.logged, fast.cost),
                (slow.access, slow.logged, slow.cost)
            );
            let paid: std::collections::BTreeSet<_> = fast.paid.iter().copied().collect();
            assert_eq!(paid, slow.paid);
        }
        (Err(_), Err(_)) => {}
        // The fast one may give up on a path with very many spellings, which refuses it; it may not miss a refusal.
        (Err(fast), Ok(_)) => assert_eq!(fast.cause, RejectCause::TooManySpellings),
        (Ok(fast), Err(slow)) => panic!("{fast:?}, to be refused by {slow:?}"),
    }
});
