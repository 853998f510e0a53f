//! Patterns: what is taken, what is refused, and with which words.

use super::*;

#[test]
fn accepted() {
    let table = [
        "/",
        "/api",
        "/api/",
        "/api/*",
        "/*",
        "/**",
        "/**/x",
        "/a/**/b",
        "/a/**/b/*",
        "/a/*/b",
        "/a/{id}",
        "/a/{user_id-2.x}/*",
        "/café/*",
        "/caf%C3%A9/*",
        "/a%2Fb",
        "/a;v=1/b",
        "/a%2Ab",
        "/100%25",
        "/~a+b,c!$&'()=:@",
        "/.well-known/*",
        "/.../x",
        "/a.b",
        "/**/a/**/b/**/c",
        "/**/**",
        "/a/**/**/**/b",
        "/**/a/**/b/**/c/**/d/**/e/**/f/**/g/**/**/h",
    ];
    for text in table {
        match Pattern::parse(text) {
            Ok(pattern) => assert_eq!(pattern.as_str(), text),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

#[test]
fn refused() {
    let table = [
        ("", "begins with `/`"),
        ("*", "begins with `/`"),
        ("api/*", "begins with `/`"),
        ("/a//b", "empty segment"),
        ("//", "empty segment"),
        ("/a*b", "mixes text and wildcard"),
        ("/v{n}", "mixes text and wildcard"),
        ("/***", "mixes text and wildcard"),
        ("/a}", "mixes text and wildcard"),
        ("/{}", "no parameter"),
        ("/{a b}", "no parameter"),
        ("/{*}", "no parameter"),
        ("/a?b=1", "holds `?`"),
        ("/a#b", "holds `#`"),
        ("/a\\b", "holds `\\`"),
        ("/a%zz", "two hex digits"),
        ("/a%2", "two hex digits"),
        ("/a%", "two hex digits"),
        ("/a/./b", "dot segment"),
        ("/a/../b", "dot segment"),
        ("/a/%2e%2E/b", "dot segment"),
        ("/a/.%2e", "dot segment"),
        ("/a%00", "control byte"),
        ("/a\tb", "control byte"),
        ("/a%7F", "control byte"),
        ("/**/a/**/b/**/c/**/d/**/e/**/f/**/g/**/h/**", "9 times; at most 8"),
    ];
    for (text, expected) in table {
        match Pattern::parse(text) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
        }
    }
}

#[test]
fn repeated_many_is_one() {
    for (text, expected) in [
        ("/**/**", "/**"),
        ("/a/**/**/**/b", "/a/**/b"),
        ("/**/**/*", "/**/*"),
        ("/**/{x}/**/**/", "/**/{x}/**/"),
    ] {
        let segments = |text| Pattern::parse(text).expect(text).segments().to_vec();
        assert_eq!(segments(text), segments(expected), "{text}");
    }
}

#[test]
fn bounds() {
    let long = format!("/{}", "a".repeat(PATTERN_BYTES_MAX));
    assert_eq!(Pattern::parse(&long), Err(PatternError::TooLong { bytes: PATTERN_BYTES_MAX + 1 }));
    assert!(Pattern::parse(&long[..PATTERN_BYTES_MAX]).is_ok());
    let deep = "/a".repeat(PATTERN_SEGMENTS_MAX + 1);
    assert_eq!(
        Pattern::parse(&deep),
        Err(PatternError::TooManySegments { segments: PATTERN_SEGMENTS_MAX + 1 })
    );
    assert!(Pattern::parse(&deep[2..]).is_ok());
}
