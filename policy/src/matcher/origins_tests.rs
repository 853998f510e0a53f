//! Nothing that a modelled origin reads as paid or blocked passes for less.
//!
//! In: random rules and paths, and paths that a rule names in disguise. Out: failures.
//! Always holds: routes are compared here by bytes, without the matcher.

use proptest::prelude::*;

use super::origin_models_tests::{ORIGINS, glue, percent, split};
use super::pattern::Segment;
use super::properties_tests::{PIECES, path, resources, rules, settings};
use super::*;

/// The access of the most specific rule that names the segments, by bytes alone; none if no rule does.
fn route(rules: &[Rule<'_>], segments: &[Vec<u8>], ignores_case: bool) -> Option<Access> {
    let written = written_escaped(rules);
    let named: Vec<&Rule<'_>> = rules
        .iter()
        .filter(|rule| {
            rule.methods.contains(b"GET")
                && names(
                    rule.pattern.segments(),
                    segments,
                    &Ears { ignores_case, written: &written },
                )
        })
        .collect();
    // The order of specificity has tests of its own; here the reference settles it on one rule at a time.
    let order = |rule: &Rule<'_>| {
        let ranks: Vec<u8> = rule
            .pattern
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 0,
                Segment::One => 1,
                Segment::Rest => 2,
                Segment::Many => 3,
            })
            .chain([4])
            .collect();
        let methods = rule.methods.names().count();
        (ranks, if methods == 0 { usize::MAX } else { methods }, std::cmp::Reverse(rule.access))
    };
    named.into_iter().min_by_key(|rule| order(rule)).map(|rule| rule.access)
}

/// How an origin compares a segment with the name of a route.
struct Ears<'a> {
    ignores_case: bool,
    /// Bytes that the operator wrote escaped.
    written: &'a [u8],
}

impl Ears<'_> {
    /// An origin that does not decode has its routes written as clients have to send them, so escapes that
    /// cannot be avoided are no difference to it either.
    fn same(&self, segment: &[u8], name: &[u8]) -> bool {
        let mut index = 0;
        let mut spoken = Vec::new();
        while index < segment.len() {
            let piece = percent(&segment[index..segment.len().min(index + 3)]);
            let honest = |byte: u8| {
                let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
                !plain || self.written.contains(&byte)
            };
            if segment[index] == b'%'
                && piece.len() == 1
                && index + 3 <= segment.len()
                && honest(piece[0])
            {
                spoken.push(piece[0]);
                index += 3;
            } else {
                spoken.push(segment[index]);
                index += 1;
            }
        }
        [segment, &spoken].iter().any(|form| {
            let lower = |text: &[u8]| String::from_utf8_lossy(text).to_lowercase();
            *form == name
                || self.ignores_case
                    && std::str::from_utf8(form).is_ok()
                    && lower(form) == lower(name)
        })
    }
}

fn written_escaped(rules: &[Rule<'_>]) -> Vec<u8> {
    let texts = rules.iter().map(|rule| rule.pattern.as_str().as_bytes());
    texts
        .flat_map(|text| text.windows(3).filter(|three| three[0] == b'%').map(percent))
        .filter_map(|piece| (piece.len() == 1).then(|| piece[0]))
        .collect()
}

fn names(pattern: &[Segment], path: &[Vec<u8>], ears: &Ears<'_>) -> bool {
    match (pattern, path) {
        ([], path) => path.is_empty(),
        ([Segment::Rest], path) => !path.is_empty(),
        ([Segment::Many, rest @ ..], path) => {
            (0..=path.len()).any(|skip| names(rest, &path[skip..], ears))
        }
        ([Segment::One, rest @ ..], [head, tail @ ..]) => {
            !head.is_empty() && names(rest, tail, ears)
        }
        ([Segment::Literal(literal), rest @ ..], [head, tail @ ..]) => {
            ears.same(head, literal.plain()) && names(rest, tail, ears)
        }
        _ => false,
    }
}

/// Whether the path is what the one exception is about: it ends with a slash, and a rule spells it out in literals.
fn is_spelled_out(rules: &[Rule<'_>], path: &[u8]) -> bool {
    let spelled: Vec<Vec<u8>> = split(path).iter().map(|segment| percent(segment)).collect();
    path.ends_with(b"/")
        && rules.iter().any(|rule| {
            let pattern = rule.pattern.segments();
            pattern.len() == spelled.len()
                && pattern[..pattern.len() - 1].iter().all(|one| matches!(one, Segment::Literal(_)))
                && names(pattern, &spelled, &Ears { ignores_case: true, written: b"" })
        })
}

fn check(rules: &[Rule<'_>], settings: Settings, path: &[u8]) {
    let matcher = Matcher::new(rules, settings).expect("no conflict");
    let mut scratch = Scratch::new();
    let Ok(answer) = matcher.resolve(b"GET", path, &mut scratch) else { return };
    for origin in &ORIGINS {
        if origin.ignores_case && settings.case_sensitive {
            continue;
        }
        let Some(segments) = (origin.read)(path) else { continue };
        let read = match route(rules, &segments, origin.ignores_case) {
            Some(access) => access,
            None if !settings.default_paid => Access::Free,
            None if is_spelled_out(rules, path) => Access::Free,
            None => Access::Paid,
        };
        assert!(
            answer.access >= read,
            "{} reads {} as {segments:?}, {read:?}, and it passed as {:?}",
            origin.name,
            path.escape_ascii(),
            answer.access
        );
    }
}

/// Ways to write the same path for one origin or another, applied to a path that a pattern names.
#[derive(Clone, Debug)]
enum Disguise {
    Insert(usize, &'static [u8]),
    Encode(usize),
    Upper(usize),
    Append(&'static [u8]),
    Prepend(&'static [u8]),
}

fn disguise() -> impl Strategy<Value = Disguise> {
    let pieces: Vec<&'static [u8]> = PIECES.to_vec();
    let detours: Vec<&'static [u8]> = vec![
        b"/x/..",
        b"/./",
        b"/%2e/",
        b"/x/%2e%2e",
        b"/x/%252e%252e",
        b"/x/..;a",
        b"/x\\..",
        b"/x%2f..",
        b"/x%5c..",
        b"//",
        b"//host",
        b"/;",
        b"/x/.%2e",
        b"/x/%c0%ae.",
        b"/a%2Fb/%2e%2e",
        b"/a%2Fb/..",
        b"/\\host",
        b"/x%u002f..",
        b"/x%253b/..%2f",
    ];
    prop_oneof![
        (0..40_usize, proptest::sample::select(pieces.clone()))
            .prop_map(|(at, what)| Disguise::Insert(at, what)),
        (0..40_usize).prop_map(Disguise::Encode),
        (0..40_usize).prop_map(Disguise::Encode),
        (0..40_usize).prop_map(Disguise::Upper),
        proptest::sample::select(pieces).prop_map(Disguise::Append),
        proptest::sample::select(detours).prop_map(Disguise::Prepend),
    ]
}

fn disguised(path: &[u8], disguises: &[Disguise]) -> Vec<u8> {
    let mut path = path.to_vec();
    for disguise in disguises {
        match disguise {
            Disguise::Insert(at, what) => {
                let at = 1 + at % path.len();
                path.splice(at..at, what.iter().copied());
            }
            Disguise::Encode(at) => {
                let at = at % path.len();
                let escape = format!("%{:02x}", path[at]);
                if at > 0 {
                    path.splice(at..=at, escape.bytes());
                }
            }
            Disguise::Upper(at) => {
                let at = at % path.len();
                path[at] = path[at].to_ascii_uppercase();
            }
            Disguise::Append(what) => path.extend_from_slice(what),
            Disguise::Prepend(what) => {
                path.splice(0..0, what.iter().copied());
            }
        }
    }
    path
}

/// A path that the pattern names, with plain words for its wildcards.
fn named_by(pattern: &Pattern) -> Vec<u8> {
    let mut path = Vec::new();
    for segment in pattern.segments() {
        match segment {
            Segment::Literal(literal) => {
                path.push(b'/');
                path.extend_from_slice(literal.plain());
            }
            Segment::One => path.extend_from_slice(b"/one"),
            Segment::Rest => path.extend_from_slice(b"/all/below"),
            Segment::Many => path.extend_from_slice(b"/any"),
        }
    }
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3 * ProptestConfig::default().cases))]

    #[test]
    fn random_paths(resources in resources(), settings in settings(), paths in proptest::collection::vec(path(), 1..8)) {
        let rules = rules(&resources, settings);
        for path in paths {
            check(&rules, settings, &path);
        }
    }

    #[test]
    fn disguised_paths(
        resources in resources(),
        settings in settings(),
        which in any::<proptest::sample::Index>(),
        disguises in proptest::collection::vec(proptest::collection::vec(disguise(), 0..6), 1..8),
    ) {
        prop_assume!(!resources.is_empty());
        let rules = rules(&resources, settings);
        let path = named_by(rules[which.index(rules.len())].pattern);
        for disguises in disguises {
            check(&rules, settings, &disguised(&path, &disguises));
        }
    }
}

#[test]
fn models_read_what_their_servers_do() {
    let table: &[(&str, &[u8], Option<&str>)] = &[
        ("nginx", b"/a%2f..//b/./c", Some("/b/c")),
        ("nginx", b"/../x", None),
        ("apache", b"/a%2fb", None),
        ("tomcat", b"/a/..;/b;v=1/%63", Some("/b/c")),
        ("jetty", b"/a/%2e%2e/b", Some("/a/../b")),
        ("spring path patterns", b"/%61;v/b%20c/", Some("/a/b c")),
        ("node with new URL", b"//h/a/%2e%2e/b%2e\\c?d", Some("/b%2e/c")),
        ("go servemux", b"/a//b/../../../c/", Some("/c/")),
        ("go servemux 1.22", b"/%61/b", Some("/a/b")),
        ("werkzeug", b"//a%2F%2Fb", Some("/a/b")),
        ("iis", b"/a\\..\\%u0062%5cc", Some("/b/c")),
        ("kestrel", b"/a%2Fb/%2e%2e/c/", Some("/c")),
        ("php behind parse_url", b"//h/%61", Some("/a")),
        ("nginx before tomcat", b"/x/..%3b/%2561", Some("/a")),
        ("envoy before anything that decodes", b"/x/%2e%2e/a%252Fb", Some("/a%2Fb")),
        ("parameters at the end alone", b"/a;b/%61;c", Some("/a;b/a")),
        ("a lenient utf-8 decoder", b"/x%c0%af..%c0%afa", Some("/a")),
    ];
    for (name, path, expected) in table {
        let origin = ORIGINS.iter().find(|origin| origin.name == *name).expect("a model");
        let read = (origin.read)(path)
            .map(|segments| String::from_utf8_lossy(&glue(&segments)).into_owned());
        assert_eq!(read.as_deref(), *expected, "{name} {}", path.escape_ascii());
    }
}
