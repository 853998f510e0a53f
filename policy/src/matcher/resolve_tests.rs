//! Whole answers as tables: honest paths, specificity, attack spellings, the paid default, and what is refused.

use super::super::Pattern;
use super::*;
use crate::method::MethodSet;

/// A policy's resources as short text, one a line: `access[:cost] [METHODS] pattern`.
struct Site {
    matcher: Matcher,
    names: Vec<String>,
}

fn site(rules: &str, settings: Settings) -> Site {
    try_site(rules, settings).expect("no conflict")
}

fn try_site(rules: &str, settings: Settings) -> Result<Site, RuleConflict> {
    let mut parsed = Vec::new();
    for line in rules.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (access, cost) = match words[0].split_once(':') {
            Some((access, cost)) => (access, cost.parse().expect("a cost")),
            None => (words[0], 1),
        };
        let access = match access {
            "free" => Access::Free,
            "paid" => Access::Paid,
            "blocked" => Access::Blocked,
            other => panic!("{other}"),
        };
        let methods = match words.len() {
            3 => MethodSet::new(words[1].split(',')),
            _ => MethodSet::all(),
        };
        let pattern = Pattern::parse(words[words.len() - 1]).expect("a pattern");
        parsed.push((pattern, methods, access, cost));
    }
    let rules: Vec<Rule<'_>> = parsed
        .iter()
        .map(|(pattern, methods, access, cost)| Rule {
            pattern,
            methods,
            access: *access,
            cost: *cost,
        })
        .collect();
    let matcher = Matcher::new(&rules, settings)?;
    Ok(Site { matcher, names: parsed.iter().map(|rule| rule.0.as_str().to_owned()).collect() })
}

impl Site {
    /// The answer as short text: `access cost logged [every paid one]`, or the cause of a refusal.
    fn ask(&self, method: &str, path: &[u8]) -> String {
        let mut scratch = Scratch::new();
        let name = |found: &RuleRef| match found {
            RuleRef::Rule(index) => self.names[*index as usize].clone(),
            RuleRef::Default => "*".to_owned(),
        };
        match self.matcher.resolve(method.as_bytes(), path, &mut scratch) {
            Err(rejected) => rejected.cause.as_str().to_owned(),
            Ok(answer) => {
                let access = match answer.access {
                    Access::Free => "free".to_owned(),
                    Access::Paid => format!("paid {}", answer.cost),
                    Access::Blocked => "blocked".to_owned(),
                };
                let logged = answer.logged.as_ref().map_or("-".to_owned(), name);
                let mut more: Vec<String> = answer.paid.iter().map(name).collect();
                more.retain(|paid| *paid != logged);
                more.sort();
                let more: String = more.iter().map(|paid| format!(" +{paid}")).collect();
                format!("{access} {logged}{more}")
            }
        }
    }

    fn check(&self, table: &[(&str, &str)]) {
        for (path, expected) in table {
            assert_eq!(self.ask("GET", path.as_bytes()), *expected, "{path}");
        }
    }
}

const FREE: Settings = Settings { default_paid: false, case_sensitive: false };
const PAID: Settings = Settings { default_paid: true, case_sensitive: false };

#[test]
fn honest_paths() {
    let api = site("paid /api/*", FREE);
    api.check(&[
        ("/", "free -"),
        ("/api", "free -"),
        ("/apix/y", "free -"),
        ("/api/", "paid 1 /api/*"),
        ("/api/a", "paid 1 /api/*"),
        ("/api/a/b", "paid 1 /api/*"),
        ("/api/a/b/", "paid 1 /api/*"),
        ("*", "free -"),
    ]);
    let one = site("paid /u/{id}/x\n paid:2 /v/*/y", FREE);
    one.check(&[
        ("/u/1/x", "paid 1 /u/{id}/x"),
        ("/u//x", "free -"),
        ("/u/1/2/x", "free -"),
        ("/u/1", "free -"),
        ("/v/1/y", "paid 2 /v/*/y"),
        ("/v/1/y/", "paid 2 /v/*/y"),
        ("/v/1/y/z", "free -"),
    ]);
    let many = site("paid /a/**/z\n paid:2 /**/deep/*\n blocked /x/**", FREE);
    many.check(&[
        ("/a/z", "paid 1 /a/**/z"),
        ("/a/b/c/z", "paid 1 /a/**/z"),
        ("/a/b/c", "free -"),
        ("/a/z/b", "free -"),
        ("/a/z/z", "paid 1 /a/**/z"),
        ("/deep/", "paid 2 /**/deep/*"),
        ("/p/q/deep/r", "paid 2 /**/deep/*"),
        ("/deep", "free -"),
        ("/p/deep", "free -"),
        ("/x", "blocked /x/**"),
        ("/x/", "blocked /x/**"),
        ("/x/y/z", "blocked /x/**"),
        ("/xy", "free -"),
    ]);
    site("paid /**", FREE).check(&[
        ("/", "paid 1 /**"),
        ("/a/b", "paid 1 /**"),
        ("*", "paid 1 /**"),
    ]);
    site("paid /*", FREE).check(&[("/", "paid 1 /*"), ("/a/b", "paid 1 /*")]);
    site("paid /", FREE).check(&[("/", "paid 1 /"), ("/a", "free -")]);
    site("paid /a/", FREE).check(&[("/a/", "paid 1 /a/"), ("/a", "free -"), ("/a/b", "free -")]);
    site("paid /**/a/**/b/*", FREE).check(&[
        ("/a/b/c", "paid 1 /**/a/**/b/*"),
        ("/x/a/y/b/c", "paid 1 /**/a/**/b/*"),
        ("/x/a/y/b", "free -"),
        ("/b/a/c", "free -"),
    ]);
}

#[test]
fn specificity() {
    let all = "paid:1 /a/b/c
        paid:2 /a/b/{x}
        paid:3 /a/b/*
        paid:4 /a/b/**
        paid:5 /a/*/c
        paid:6 /a/*
        paid:7 /a/**
        paid:8 /a/**/c
        paid:9 /**";
    site(all, FREE).check(&[
        ("/a/b/c", "paid 1 /a/b/c"),
        ("/a/b/d", "paid 2 /a/b/{x}"),
        ("/a/b/d/e", "paid 3 /a/b/*"),
        ("/a/b", "paid 4 /a/b/**"),
        ("/a/x/c", "paid 5 /a/*/c"),
        ("/a/x/d", "paid 6 /a/*"),
        ("/a", "paid 7 /a/**"),
        ("/z", "paid 9 /**"),
    ]);
    // One that goes on comes before one that ends.
    site("paid:1 /a\n paid:2 /a/**", FREE).check(&[("/a", "paid 2 /a/**")]);
    site("paid:1 /a/**\n paid:2 /a/**/c", FREE)
        .check(&[("/a/x/c", "paid 2 /a/**/c"), ("/a/x/d", "paid 1 /a/**")]);
    // Same ranks, different literals: the stricter, then the dearer.
    site("paid:1 /**/a/*\n blocked /**/b/*", FREE).check(&[("/a/b/x", "blocked /**/b/*")]);
    site("paid:1 /**/a/*\n paid:3 /**/b/*", FREE).check(&[("/a/b/x", "paid 3 /**/b/*")]);
    // A free exception within a paid tree.
    site("paid /api/*\n free /api/status", FREE).check(&[
        ("/api/status", "free /api/status"),
        ("/api/status/x", "paid 1 /api/*"),
        ("/api/status/", "paid 1 /api/*"),
    ]);
}

#[test]
fn methods() {
    let rules = "paid:1 GET /a\n paid:2 GET,POST /a\n paid:3 /a\n blocked HEAD /b\n paid GET /b";
    let by_method = site(rules, FREE);
    let table = [
        ("GET", "/a", "paid 1 /a"),
        ("get", "/a", "paid 1 /a"),
        ("HEAD", "/a", "paid 1 /a"),
        ("POST", "/a", "paid 2 /a"),
        ("DELETE", "/a", "paid 3 /a"),
        ("HEAD", "/b", "blocked /b"),
        ("GET", "/b", "paid 1 /b"),
        ("POST", "/b", "free -"),
    ];
    for (method, path, expected) in table {
        assert_eq!(by_method.ask(method, path.as_bytes()), expected, "{method} {path}");
    }
}

#[test]
fn conflicts() {
    let conflicting = [
        "paid /a\n free /a",
        "paid GET /a\n free GET,HEAD /a",
        "paid GET,POST /a\n paid GET,PUT /a",
        "paid /a/{x}\n paid /a/{y}",
        "paid /a/{x}/b\n paid /a/*/b",
        "paid /Api\n paid /api",
        "paid /caf%C3%A9\n paid /café",
    ];
    for rules in conflicting {
        let found = try_site(rules, FREE).map(|_| ());
        assert_eq!(found, Err(RuleConflict { first: 0, second: 1 }), "{rules}");
    }
    for rules in ["paid /a\n free GET /a", "paid GET /a\n paid POST /a", "paid /a/{x}\n paid /a/*"]
    {
        assert!(try_site(rules, FREE).is_ok(), "{rules}");
    }
    let case_sensitive = Settings { case_sensitive: true, ..FREE };
    assert!(try_site("paid /Api\n paid /api", case_sensitive).is_ok());
}

/// Ways to `/api/*` that some origin follows.
const REACHED: &[&str] = &[
    "/%61pi/x",
    "/%2561pi/x",
    "/%2561%2570i/x",
    "/API/x",
    "/Api/x",
    "/%41PI/x",
    "//api/x",
    "///api//x",
    "/./api/x",
    "/a/../api/x",
    "/%2e/api/x",
    "/a/%2e%2e/api/x",
    "/a/%2E%2e/api/x",
    "/a/.%2e/api/x",
    "/a/%252e%252e/api/x",
    "/a%2f..%2fapi/x",
    "/a%252f..%252fapi%252fx",
    "/a\\..\\api\\x",
    "/a%5c..%5capi%5cx",
    "/a%255c..%255capi/x",
    "/api%2fx",
    "/api%252Fx",
    "/api\\x",
    "\\/api/x",
    "/api%5Cx",
    "/api;v=1/x",
    "/;/api/x",
    "/;x;y/api/x",
    "/a/..;/api/x",
    "/a/..;x=1/api/x",
    "/api%3bv=1/x",
    "/a/%2e%2e;/api/x",
    "/a/..%3b/api/x",
    "/%c0%afapi/x",
    "/a/%c0%ae%c0%ae/api/x",
    "/a%c1%9c..%c1%9capi/x",
    "/%c1%a1pi/x",
    "/%u0061pi/x",
    "/a%u002f..%u002fapi%u002fx",
    "//host/api/x",
    "/\\host/api/x",
    "///host/api/x",
    "/ap%69/x",
    "/ap%49/x",
    "/api/",
    "/api//",
    "/api/.",
    "/api/x/..",
    "/api/%2e",
    "/api/%",
    "/api/%zz",
    "/api/+",
    "/x/..//api/y",
    "/x//..//api/y",
    "/%61%2570%69/y",
];

#[test]
fn attack_spellings() {
    let api = site("paid /api/*", FREE);
    for path in REACHED.iter().filter(|path| path.starts_with('/')) {
        assert!(api.ask("GET", path.as_bytes()).starts_with("paid"), "{path}");
    }
    let bytes: [&[u8]; 4] =
        [b"/a\xc0\xaf../api/x", b"/\xffx/../api/x", b"/api/\xff", b"/\xe0\x81\xa1pi/x"];
    for path in bytes {
        assert!(api.ask("GET", path).starts_with("paid"), "{}", path.escape_ascii());
    }
    assert!(site("paid /keys/*", FREE).ask("GET", "/\u{212A}eys/x".as_bytes()).starts_with("paid"));
    assert!(site("paid /s/*", FREE).ask("GET", b"/%C5%BF/x").starts_with("paid"));
    assert_eq!(api.ask("GET", b"\\/api/x"), "path_not_rooted");
    assert_eq!(api.ask("GET", b""), "path_not_rooted");
    api.check(&[
        ("/a/../../api/x", "path_above_root"),
        ("/a/..;/..;/x", "path_above_root"),
        ("/a%00", "path_control_byte"),
        ("/%25252561pi/x", "free -"),
    ]);
}

#[test]
fn decoding_segment_by_segment() {
    let rules = "paid /api/{id}\n paid /k/*/end";
    site(rules, FREE).check(&[
        ("/%61pi/x%2Fy", "paid 1 /api/{id}"),
        ("/z/%2e%2e/api/x%2Fy", "paid 1 /api/{id}"),
        ("/x%2Fy/%2e%2e/k/a%252Fb%2Fend", "paid 1 /k/*/end"),
        ("/%2561pi/x%2Fy", "paid 1 /api/{id}"),
        ("/api/x%5Cy", "paid 1 /api/{id}"),
    ]);
    // `%2e` as a dot before two servers that decode, the first of which resolves dots as well.
    site("paid /api/z", FREE).check(&[("/x%2Fy/%2e%2e/%2561pi/q%252Fw%2F..%2Fz", "paid 1 /api/z")]);
    // Parameters at the end alone: the first segment is `;x` then, not empty.
    site("paid /{any}/b", FREE).check(&[("/;x/b;y", "paid 1 /{any}/b")]);
    // A server that undoes the escapes of unreserved characters, before one that undoes all.
    site("paid /%2561/caf%C3%A9", FREE).check(&[("/%2561/%%363afé", "paid 1 /%2561/caf%C3%A9")]);
}

#[test]
fn the_strictest_wins_and_the_dearest_is_logged() {
    let rules = "paid:2 /a/*\n paid:5 /b/*\n blocked /c/*\n free /d/*\n paid:5 /e/*";
    site(rules, FREE).check(&[
        ("/a/../b/x", "paid 5 /b/* +/a/*"),
        ("/b/../a/x", "paid 5 /b/* +/a/*"),
        ("/a/../c/x", "blocked /c/* +/a/*"),
        ("/d/../a/x", "paid 2 /a/*"),
        ("/d/../d/x", "free /d/*"),
        ("/x/../d/x", "free -"),
        ("/e/../b/x", "paid 5 /e/* +/b/*"),
        ("/b/../e/x", "paid 5 /b/* +/e/*"),
        ("/x//../b/../e/x", "paid 5 /e/*"),
    ]);
}

#[test]
fn paid_by_default() {
    let rules = "free /open/*\n free /café/*\n free /dir/\n free /{any}/*\n free /a%20b/*\n free /t%7Ex/*\n paid:3 /api/*";
    let without_any = rules.replace("free /{any}/*\n", "");
    site(&without_any, PAID).check(&[
        ("/", "paid 1 *"),
        ("/x", "paid 1 *"),
        ("/open", "paid 1 *"),
        ("/open/", "free /open/*"),
        ("/open/x", "free /open/*"),
        ("/open/x/", "free /open/*"),
        ("/open/a%20b", "free /open/*"),
        ("/open//", "paid 1 *"),
        ("/open/x/..", "paid 1 *"),
        ("/open/x/../", "paid 1 *"),
        ("/open/./", "paid 1 *"),
        ("/open/..;/open/", "paid 1 *"),
        ("/open/../x", "paid 1 *"),
        ("/open/%2e%2e/x", "paid 1 *"),
        ("/OPEN/x", "paid 1 *"),
        ("/OPEN/", "paid 1 *"),
        ("/%6fpen/x", "paid 1 *"),
        ("/open%2F", "paid 1 *"),
        ("/open;x/", "paid 1 *"),
        ("/dir/", "free /dir/"),
        ("/dir", "paid 1 *"),
        ("/dir/x", "paid 1 *"),
        ("/caf%C3%A9/", "free /café/*"),
        ("/caf%c3%a9/x", "free /café/*"),
        ("/café/x", "free /café/*"),
        ("/CAF%C3%89/x", "paid 1 *"),
        ("/a%20b/", "free /a%20b/*"),
        ("/t~x/y", "free /t%7Ex/*"),
        ("/t%7ex/y", "free /t%7Ex/*"),
        ("/api/", "paid 3 /api/*"),
        ("/api/x", "paid 3 /api/*"),
        ("/api", "paid 1 *"),
        ("/API/x", "paid 3 /api/* +*"),
        ("/open/../api/x", "paid 3 /api/*"),
        ("/x/../api/x", "paid 3 /api/* +*"),
    ]);
    // A wildcard spells no directory out: /secret/ may be read as /secret, which nobody made free.
    site(rules, PAID).check(&[("/secret/x", "free /{any}/*"), ("/secret/", "paid 1 *")]);
    // The exception gives way to a rule that names the directory without its slash.
    site("free /open/*\n paid:4 /open", PAID).check(&[("/open/", "paid 4 /open")]);
    site("free /Open/*", PAID).check(&[("/Open/", "free /Open/*"), ("/open/", "paid 1 *")]);
    site("free /a%3Fb/*\n free /a%2Fb/*", PAID)
        .check(&[("/a%3Fb/", "paid 1 *"), ("/a%2Fb/x", "paid 1 *")]);
}

#[test]
fn letter_case() {
    site("paid /Api/*", FREE).check(&[("/Api/x", "paid 1 /Api/*"), ("/api/x", "paid 1 /Api/*")]);
    let case_sensitive = Settings { case_sensitive: true, ..FREE };
    site("paid:2 /Api/*\n paid /api/*", case_sensitive).check(&[
        ("/Api/x", "paid 2 /Api/*"),
        ("/api/x", "paid 1 /api/*"),
        ("/API/x", "free -"),
        ("/%41pi/x", "paid 2 /Api/*"),
    ]);
    site("free /Docs/x\n paid /docs/*", FREE)
        .check(&[("/Docs/x", "free /Docs/x"), ("/docs/x", "paid 1 /docs/*")]);
    site("paid /ÉCOLE/*", FREE).check(&[
        ("/%C3%A9cole/x", "paid 1 /ÉCOLE/*"),
        ("/école/x", "paid 1 /ÉCOLE/*"),
        ("/%C3%89COLE/x", "paid 1 /ÉCOLE/*"),
    ]);
}

#[test]
fn escaped_patterns() {
    site("paid /a%2Fb/{x}\n paid:2 /100%25/*\n paid:3 /%2520/*", FREE).check(&[
        ("/a%2Fb/c", "paid 1 /a%2Fb/{x}"),
        ("/a%2fb/c", "paid 1 /a%2Fb/{x}"),
        ("/%61%2fb/c", "paid 1 /a%2Fb/{x}"),
        ("/a/b/c", "free -"),
        ("/100%25/x", "paid 2 /100%25/*"),
        ("/100%/x", "paid 2 /100%25/*"),
        ("/%2520/x", "paid 3 /%2520/*"),
        ("/z/%2e%2e/%2520/x", "paid 3 /%2520/*"),
    ]);
}

#[test]
fn explained() {
    let rules = "paid:2 /a/*\n free /b/*";
    type Line = (&'static str, Option<RuleRef>, Access);
    let table: &[(&str, Settings, &[Line])] = &[
        ("/a/x", FREE, &[("/a/x", Some(RuleRef::Rule(0)), Access::Paid)]),
        (
            "/B/../A/x",
            FREE,
            &[
                ("/B/../A/x", None, Access::Free),
                ("/b/../a/x", Some(RuleRef::Rule(1)), Access::Free),
                ("/A/x", None, Access::Free),
                ("/a/x", Some(RuleRef::Rule(0)), Access::Paid),
            ],
        ),
        (
            "/b/",
            PAID,
            &[
                ("/b/", Some(RuleRef::Rule(1)), Access::Free),
                ("/b", Some(RuleRef::Rule(1)), Access::Free),
            ],
        ),
        ("/c", PAID, &[("/c", Some(RuleRef::Default), Access::Paid)]),
    ];
    for (path, settings, expected) in table {
        let found = site(rules, *settings).matcher.spellings(b"GET", path.as_bytes());
        let found: Vec<_> =
            found.iter().map(|line| (line.text.as_str(), line.rule, line.access)).collect();
        assert_eq!(found, *expected, "{path}");
    }
}
