//! Origins as models: what each would read in a path, and that nothing one reads as paid or blocked passes for less.
//!
//! In: the path as sent. Out: the segments a model routes by, or nothing where it refuses the path itself.
//! Always holds: the models are written from how the servers work, in terms of text and stacks of their own; they share
//! no step with the matcher.

use proptest::prelude::*;

use super::pattern::Segment;
use super::properties_tests::{PIECES, path, resources, rules, settings};
use super::*;

/// How one origin, with what stands before it, reads a path.
struct Origin {
    name: &'static str,
    /// The segments it routes by.
    read: fn(&[u8]) -> Option<Vec<Vec<u8>>>,
    /// It compares letters without case.
    ignores_case: bool,
}

const ORIGINS: [Origin; 24] = [
    Origin { name: "raw", read: |path| Some(split(path)), ignores_case: false },
    Origin {
        name: "nginx",
        read: |path| nginx(path).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin { name: "apache", read: apache, ignores_case: false },
    Origin {
        name: "apache, encoded slashes kept",
        read: apache_keeping_slashes,
        ignores_case: false,
    },
    Origin {
        name: "tomcat",
        read: |path| tomcat(path, false).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "tomcat with backslashes",
        read: |path| tomcat(path, true).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin { name: "jetty", read: jetty, ignores_case: false },
    Origin { name: "spring path patterns", read: spring, ignores_case: false },
    Origin { name: "express", read: express, ignores_case: true },
    Origin {
        name: "node with new URL",
        read: |path| whatwg(path).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "node with new URL, decoding",
        read: |path| whatwg(path).map(|path| decoded_each(&split(&path))),
        ignores_case: true,
    },
    Origin {
        name: "go servemux",
        read: |path| Some(split(&go_clean(&percent(path)))),
        ignores_case: false,
    },
    Origin {
        name: "go servemux 1.22",
        read: |path| Some(decoded_each(&split(path))),
        ignores_case: false,
    },
    Origin {
        name: "werkzeug",
        read: |path| Some(split(&squeeze(&percent(path)))),
        ignores_case: false,
    },
    Origin { name: "django", read: |path| Some(split(&percent(path))), ignores_case: false },
    Origin { name: "rails", read: rails, ignores_case: false },
    Origin { name: "iis", read: |path| iis(path).map(|path| split(&path)), ignores_case: true },
    Origin { name: "kestrel", read: kestrel, ignores_case: true },
    Origin { name: "php behind parse_url", read: php, ignores_case: false },
    Origin {
        name: "nginx before tomcat",
        read: |path| tomcat(&nginx(path)?, false).map(|path| split(&path)),
        ignores_case: false,
    },
    Origin {
        name: "envoy before anything that decodes",
        read: |path| envoy(path).map(|path| split(&percent(&path))),
        ignores_case: false,
    },
    Origin { name: "parameters at the end alone", read: last_params, ignores_case: false },
    Origin {
        name: "new URL before two that decode",
        read: |path| dots(&percent(&whatwg(path)?)).map(|path| split(&percent(&path))),
        ignores_case: false,
    },
    Origin {
        name: "a lenient utf-8 decoder",
        read: |path| dots(&lenient(&percent(path))).map(|path| split(&path)),
        ignores_case: false,
    },
];

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path[1..].split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

fn glue(segments: &[Vec<u8>]) -> Vec<u8> {
    segments.iter().flat_map(|segment| [b"/", segment.as_slice()].concat()).collect()
}

fn percent(path: &[u8]) -> Vec<u8> {
    percent_but(path, |_| false)
}

fn percent_but(path: &[u8], kept: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut index = 0;
    while index < path.len() {
        let digits = path.get(index + 1..index + 3).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.map(|two| u8::from_str_radix(two, 16).expect("two hex digits")) {
            Some(value) if path[index] == b'%' && !kept(value) => {
                out.push(value);
                index += 3;
            }
            _ => {
                out.push(path[index]);
                index += 1;
            }
        }
    }
    out
}

fn decoded_each(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().map(|segment| percent(segment)).collect()
}

/// Resolves dot segments; climbing is refused.
fn dots(path: &[u8]) -> Option<Vec<u8>> {
    let segments = split(path);
    let mut stack: Vec<Vec<u8>> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match segment.as_slice() {
            b"." => {}
            b".." => drop(stack.pop()?),
            _ => {
                stack.push(segment.clone());
                continue;
            }
        }
        if is_last {
            stack.push(Vec::new());
        }
    }
    Some(glue(&stack))
}

fn squeeze(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    out
}

fn replaced(path: &[u8], from: u8, to: u8) -> Vec<u8> {
    path.iter().map(|byte| if *byte == from { to } else { *byte }).collect()
}

fn bare(segment: &[u8]) -> Vec<u8> {
    segment.iter().copied().take_while(|byte| *byte != b';').collect()
}

fn without_end_slash(path: &[u8]) -> Vec<u8> {
    match path.strip_suffix(b"/") {
        Some(front) if !front.is_empty() => front.to_vec(),
        _ => path.to_vec(),
    }
}

/// Decodes once, merges slashes and resolves dots in one go.
fn nginx(path: &[u8]) -> Option<Vec<u8>> {
    dots(&squeeze(&percent(path)))
}

fn has_encoded_slash(path: &[u8]) -> bool {
    path.to_ascii_lowercase().windows(3).any(|three| three == b"%2f")
}

fn apache(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    if has_encoded_slash(path) {
        return None;
    }
    Some(split(&squeeze(&dots(&squeeze(&percent(path)))?)))
}

/// `AllowEncodedSlashes NoDecode`.
fn apache_keeping_slashes(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let kept = percent_but(path, |value| value == b'/');
    Some(decoded_each_slash(&split(&dots(&squeeze(&kept))?)))
}

/// What a CGI makes of a kept `%2F` when it takes its segments apart.
fn decoded_each_slash(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    segments.iter().map(|segment| percent_but(segment, |value| value != b'/')).collect()
}

/// Path parameters off, then decode, then normalise.
fn tomcat(path: &[u8], backslashes: bool) -> Option<Vec<u8>> {
    let stripped: Vec<Vec<u8>> = split(path).iter().map(|segment| bare(segment)).collect();
    let mut decoded = percent(&glue(&stripped));
    if backslashes {
        decoded = replaced(&decoded, b'\\', b'/');
    }
    dots(&squeeze(&decoded))
}

/// Resolves dots on the encoded path, parameters aside, then decodes.
fn jetty(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let stripped: Vec<Vec<u8>> = split(path).iter().map(|segment| bare(segment)).collect();
    Some(split(&percent(&dots(&glue(&stripped))?)))
}

/// Splits first; parameters off and decoding segment by segment; an end slash ignored.
fn spring(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let segments = split(&without_end_slash(path));
    Some(segments.iter().map(|segment| percent(&bare(segment))).collect())
}

/// As RFC 2396 had them at first: parameters belong to the whole path.
fn last_params(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut segments = split(path);
    let last = segments.pop()?;
    segments.push(bare(&last));
    Some(decoded_each(&segments))
}

/// Matches the path as it came, letter case and an end slash aside.
fn express(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(split(&without_end_slash(path)))
}

/// `new URL(path, "http://origin").pathname`: backslashes are slashes, two leading ones begin a host, `%2e` is a dot.
fn whatwg(path: &[u8]) -> Option<Vec<u8>> {
    let mut path: Vec<u8> = path.iter().copied().take_while(|byte| !b"?#".contains(byte)).collect();
    path = replaced(&path, b'\\', b'/');
    if path.starts_with(b"//") {
        let host = path.iter().position(|byte| *byte != b'/')?;
        let end = path[host..].iter().position(|byte| *byte == b'/');
        path = end.map_or(b"/".to_vec(), |end| path[host + end..].to_vec());
    }
    let segments: Vec<Vec<u8>> = split(&path)
        .into_iter()
        .map(|segment| match percent_but(&segment, |value| value != b'.').as_slice() {
            dotted @ (b"." | b"..") => dotted.to_vec(),
            _ => segment,
        })
        .collect();
    dots(&glue(&segments))
}

/// `path.Clean`, and the end slash put back.
fn go_clean(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<Vec<u8>> = Vec::new();
    for segment in split(path) {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            _ => stack.push(segment),
        }
    }
    if path.ends_with(b"/") || stack.is_empty() {
        stack.push(Vec::new());
    }
    glue(&stack)
}

/// Journey: slashes merged, the end slash off, then segments matched and decoded.
fn rails(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(decoded_each(&split(&without_end_slash(&squeeze(path)))))
}

/// http.sys: `%uXXXX` as well, backslashes are slashes, dots resolved last.
fn iis(path: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = path.to_vec();
    let mut out = Vec::new();
    let mut index = 0;
    while index < text.len() {
        let unit = text.get(index..index + 6).and_then(|six| {
            let digits = std::str::from_utf8(six.strip_prefix(b"%u")?).ok()?;
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
            char::from_u32(u32::from_str_radix(digits, 16).ok()?)
        });
        if let Some(unit) = unit {
            out.extend_from_slice(unit.to_string().as_bytes());
            index += 6;
        } else {
            let end = if text[index] == b'%' { (index + 3).min(text.len()) } else { index + 1 };
            let piece = percent(&text[index..end]);
            if piece.len() == 1 {
                out.extend(piece);
                index = end;
            } else {
                out.push(text[index]);
                index += 1;
            }
        }
    }
    dots(&squeeze(&replaced(&out, b'\\', b'/')))
}

/// Decodes all but the slash, resolves dots, ignores letter case and an end slash.
fn kestrel(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let decoded = percent_but(path, |value| value == b'/');
    Some(split(&without_end_slash(&dots(&decoded)?)))
}

/// `parse_url($_SERVER['REQUEST_URI'])` and `rawurldecode`: two leading slashes begin a host.
fn php(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut path: Vec<u8> = path.iter().copied().take_while(|byte| !b"?#".contains(byte)).collect();
    if path.starts_with(b"//") && path.get(2).is_some_and(|byte| *byte != b'/') {
        let end = path[2..].iter().position(|byte| *byte == b'/')?;
        path = path[2 + end..].to_vec();
    }
    Some(split(&percent(&path)))
}

/// `normalize_path` (dots, backslashes; escapes of unreserved characters undone) and `merge_slashes`.
fn envoy(path: &[u8]) -> Option<Vec<u8>> {
    let plain =
        percent_but(path, |value| !(value.is_ascii_alphanumeric() || b"-._~".contains(&value)));
    Some(squeeze(&dots(&replaced(&plain, b'\\', b'/'))?))
}

/// Two- and three-byte sequences taken for what their bits say, overlong or not.
fn lenient(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(&first) = rest.first() {
        let (taken, value) = match rest {
            [a @ 0xC0..=0xC1, b @ 0x80..=0xBF, ..] => (2, Some((a & 0x1F) << 6 | (b & 0x3F))),
            [0xE0, a @ 0x80..=0x81, b @ 0x80..=0xBF, ..] => (3, Some((a & 1) << 6 | (b & 0x3F))),
            _ => (1, None),
        };
        out.push(value.unwrap_or(first));
        rest = &rest[taken..];
    }
    out
}

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
