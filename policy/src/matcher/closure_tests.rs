//! The search for spellings: what it finds, what it refuses, and that it stops.

use std::collections::BTreeSet;

use super::*;

fn found(path: &[u8]) -> Result<BTreeSet<String>, RejectCause> {
    let mut closure = Closure::default();
    closure.fill(path)?;
    Ok(closure.iter().map(|(text, _)| text.escape_ascii().to_string()).collect())
}

#[test]
fn sets() {
    let table: &[(&[u8], &[&str])] = &[
        (b"/", &["/"]),
        (b"/api/v1", &["/api/v1"]),
        (b"/.well-known/x", &["/.well-known/x"]),
        (b"/a/", &["/a/", "/a"]),
        (b"/%61", &["/%61", "/a"]),
        (b"/%2561", &["/%2561", "/%61", "/a"]),
        (b"/%252561", &["/%252561", "/%2561", "/%61"]),
        (b"/a/../b", &["/a/../b", "/b"]),
        (b"/a%2Fb", &["/a%2Fb", "/a/b"]),
        (b"/a\\b", &["/a\\\\b", "/a/b"]),
        (b"/a;x/b", &["/a;x/b", "/a/b"]),
        (b"/a//b", &["/a//b", "/a/b"]),
        (b"//h/b", &["//h/b", "/h/b", "/b"]),
        (b"/a%3Fb", &["/a%3Fb", "/a?b", "/a"]),
    ];
    for (path, expected) in table {
        let expected = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(found(path), Ok(expected), "{}", path.escape_ascii());
    }
}

#[test]
fn refusals() {
    let table: &[(&[u8], RejectCause)] = &[
        (b"/a\0", RejectCause::ControlByte),
        (b"/a%00b", RejectCause::ControlByte),
        (b"/a%2500b", RejectCause::ControlByte),
        (b"/a%0d%0ab", RejectCause::ControlByte),
        (b"/a%7f", RejectCause::ControlByte),
        (b"/a%c0%80", RejectCause::ControlByte),
        (b"/a%u0000", RejectCause::ControlByte),
        (b"/..", RejectCause::AboveRoot),
        (b"/a/../..", RejectCause::AboveRoot),
        (b"/a/..;/..;/x", RejectCause::AboveRoot),
        (b"/a\\..\\..\\x", RejectCause::AboveRoot),
        (b"/a/%2e%2e/%2e%2e/x", RejectCause::AboveRoot),
        (b"/a/%252e%252e/%252e%252e/x", RejectCause::AboveRoot),
        (b"/a/..%2f..%2fx", RejectCause::AboveRoot),
        (b"/a/..%255c..%255cx", RejectCause::AboveRoot),
        (b"/a/%c0%ae%c0%ae/%c0%ae./x", RejectCause::AboveRoot),
        (b"/a//../../x", RejectCause::AboveRoot),
    ];
    for (path, cause) in table {
        assert_eq!(found(path), Err(*cause), "{}", path.escape_ascii());
    }
    assert!(found(b"/a/%25252e%25252e/%25252e%25252e/x").is_ok(), "three times is not decoded");
}

#[test]
fn a_hostile_path_is_refused_within_bounds() {
    let unit = b"/%2561;%3b\\%5c./%2e/a/..//%c0%af%252f?";
    let path = unit.repeat(8000 / unit.len());
    let mut closure = Closure::default();
    assert_eq!(closure.fill(&path), Err(RejectCause::TooManySpellings));
    assert!(closure.nodes.len() <= SPELLINGS_MAX);
    assert!(closure.work_bytes <= WORK_BYTES_MAX + path.len());
}

#[test]
fn a_long_honest_path_is_not_refused() {
    let table = ["/a/a/a/", "/caf%C3%A9/x%20y/", "/a;v=1/b%20c/", "/x%252Fy//z/"];
    for unit in table {
        let path = unit.as_bytes().repeat(8000 / unit.len());
        assert_eq!(Closure::default().fill(&path), Ok(()), "{unit}");
    }
}
