//! Single steps, each as a table.

use super::*;

fn check(step: Step, table: &[(&[u8], &[u8])]) {
    for (path, expected) in table {
        let mut out = Vec::new();
        assert_eq!(step(path, &mut out), Ok(()), "{}", path.escape_ascii());
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{}",
            path.escape_ascii()
        );
        let mut again = Vec::new();
        assert_eq!(step(&out, &mut again), Ok(()));
    }
}

#[test]
fn dots() {
    check(
        resolve_dots,
        &[
            (b"/", b"/"),
            (b"/.", b"/"),
            (b"/a/.", b"/a/"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/a/b/../", b"/a/"),
            (b"/a/./b/../c", b"/a/c"),
            (b"/a//../b", b"/a/b"),
            (b"/a/..//b", b"//b"),
            (b"/.../..a/b..", b"/.../..a/b.."),
            (b"/a/%2e%2e/b", b"/a/%2e%2e/b"),
        ],
    );
    check(
        resolve_encoded_dots,
        &[
            (b"/a/%2e%2E/b%41", b"/b%41"),
            (b"/a/.%2e/b", b"/b"),
            (b"/a/%2e/b", b"/a/b"),
            (b"/a/%2e%2e%2e/b", b"/a/%2e%2e%2e/b"),
            (b"/a/%2ex/%2e%2ex", b"/a/%2ex/%2e%2ex"),
        ],
    );
    for path in [&b"/.."[..], b"/a/../..", b"/./../a", b"/a/b/../../.."] {
        assert_eq!(resolve_dots(path, &mut Vec::new()), Err(RejectCause::AboveRoot));
    }
    assert_eq!(resolve_encoded_dots(b"/a/%2e./.%2E", &mut Vec::new()), Err(RejectCause::AboveRoot));
}

#[test]
fn slashes() {
    check(merge_slashes, &[(b"//a///b//", b"/a/b/"), (b"/", b"/"), (b"///", b"/")]);
    check(trim_slashes, &[(b"/a/", b"/a"), (b"/a//", b"/a"), (b"/", b"/"), (b"///", b"/")]);
    check(turn_backslashes, &[(b"/a\\b\\", b"/a/b/"), (b"/a", b"/a")]);
    check(
        drop_authority,
        &[
            (b"//h/a/b", b"/a/b"),
            (b"///h/a", b"/a"),
            (b"//h", b"/"),
            (b"//", b"/"),
            (b"//h//a", b"//a"),
            (b"/a//b", b"/a//b"),
        ],
    );
}

#[test]
fn params_and_query() {
    check(drop_params, &[(b"/a;x=1/b;y;z/;w", b"/a/b/"), (b"/a/..;/b", b"/a/../b"), (b"/;", b"/")]);
    check(drop_last_params, &[(b"/a;x/b;y;z", b"/a;x/b"), (b"/a;x/", b"/a;x/"), (b"/;x", b"/")]);
    check(cut_at_query, &[(b"/a?b/c", b"/a"), (b"/a/#b", b"/a/"), (b"/?", b"/")]);
}

#[test]
fn escapes() {
    check(
        decode,
        &[
            (b"/%61%2f%2F%5C%252e", b"/a//\\%2e"),
            (b"/%", b"/%"),
            (b"/%2", b"/%2"),
            (b"/%zz%4", b"/%zz%4"),
            (b"/%%32%66", b"/%2f"),
            (b"/a+b%2Bc", b"/a+b+c"),
            (b"/%ff%C3%A9", b"/\xff\xc3\xa9"),
            (b"/%u0061", b"/%u0061"),
        ],
    );
    check(decode_segments, &[(b"/%61%2f%2F%5c%252f", b"/a%2f%2F\\%2f")]);
    check(decode_unreserved, &[(b"/%61%7E%2f%3B%25%e9%%36%31", b"/a~%2f%3B%25%e9%61")]);
    check(decode_with_u, &[(b"/%u0061%62%U002f%u12", b"/ab/%u12"), (b"/%uD800", b"/\xef\xbf\xbd")]);
    check(
        mend_overlong,
        &[
            (b"/a\xc0\xafb", b"/a/b"),
            (b"/\xc0\xae\xe0\x80\xae/", b"/../"),
            (b"/\xf0\x80\x80\xaf\xf8\x80\x80\x80\xaf\xfc\x80\x80\x80\x80\xaf", b"////"),
            (b"/\xe0\x83\xa9", "/é".as_bytes()),
            ("/é€𐍈".as_bytes(), "/é€𐍈".as_bytes()),
            (b"/\xc0/\xc0", b"/\xc0/\xc0"),
            (b"/\xc0\xc0\xaf\xff", b"/\xc0/\xff"),
        ],
    );
}
