//! Request heads as data: every known way to be ambiguous, and the facts of what passes.
//! Every row is parsed at once and byte by byte.

use super::*;
use crate::http1::request_line::EMPTY_LINES_MAX;
use crate::http1::scan::is_token;

/// Everything observable about a parsed head.
pub(super) type Seen =
    (RequestFacts, Vec<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>);

fn observe(input: &[u8], head: &RequestHead) -> Seen {
    let request = head.view(input);
    (
        request.facts(),
        [request.method(), request.target(), request.path()].map(<[u8]>::to_vec).to_vec(),
        request.query().map(<[u8]>::to_vec),
        request.host().map(<[u8]>::to_vec),
        request.headers().map(|h| (h.name.to_vec(), h.value.to_vec())).collect(),
    )
}

/// Feeds the input in pieces that end at `cuts`, with one head that is reused throughout.
pub(super) fn feed(
    input: &[u8],
    cuts: impl Iterator<Item = usize>,
    limits: &Limits,
) -> Result<Option<(usize, Seen)>, HeadError> {
    let mut head = RequestHead::new();
    let mut seen = 0;
    for cut in cuts.chain([input.len()]) {
        if let Parse::Complete { len } = parse_request(&input[..cut], seen, limits, &mut head)? {
            return Ok(Some((len, observe(input, &head))));
        }
        seen = cut;
    }
    Ok(None)
}

pub(super) fn whole(input: &[u8]) -> Result<Option<(usize, Seen)>, HeadError> {
    feed(input, std::iter::empty(), &Limits::default())
}

fn check_refused(input: &[u8], status: u16, cause: &str) {
    let shown = input.escape_ascii().to_string();
    let error = whole(input).expect_err(&shown);
    assert_eq!((error.status(), error.cause()), (status, cause), "{shown}");
    let bytewise = feed(input, 0..input.len(), &Limits::default());
    assert_eq!(bytewise, Err(error), "byte by byte: {shown}");
}

fn accept(input: &[u8]) -> Seen {
    let shown = input.escape_ascii().to_string();
    let parsed = whole(input).unwrap_or_else(|error| panic!("{error}: {shown}"));
    let (len, seen) = parsed.unwrap_or_else(|| panic!("incomplete: {shown}"));
    let bytewise = feed(input, 0..input.len(), &Limits::default());
    assert_eq!(bytewise, Ok(Some((len, seen.clone()))), "byte by byte: {shown}");
    seen
}

#[test]
fn start_lines_that_are_refused() {
    for (line, status, cause) in [
        ("GET /", 505, "version"),
        ("POST /", 400, "request_line"),
        ("GET / HTTP/0.9", 505, "version"),
        ("GET / HTTP/1.2", 505, "version"),
        ("GET / HTTP/2.0", 505, "version"),
        ("PRI * HTTP/2.0", 505, "version"),
        ("GET / HTTP/1.1 ", 400, "request_line"),
        ("GET / HTTP/1.10", 400, "request_line"),
        ("GET / HTTP/11", 400, "request_line"),
        ("GET / http/1.1", 400, "request_line"),
        ("GET / HTTPS/1.1", 400, "request_line"),
        ("GET /a b HTTP/1.1", 400, "request_line"),
        ("GET  / HTTP/1.1", 400, "request_line"),
        ("GET /  HTTP/1.1", 400, "request_line"),
        ("GET\t/ HTTP/1.1", 400, "method"),
        ("GET /\tHTTP/1.1", 400, "request_line"),
        ("GET", 400, "request_line"),
        (" GET / HTTP/1.1", 400, "method"),
        ("G(T / HTTP/1.1", 400, "method"),
        ("G\u{e9}T / HTTP/1.1", 400, "method"),
        ("\u{16}\u{3}\u{1} / HTTP/1.1", 400, "method"),
        ("G\0T / HTTP/1.1", 400, "method"),
        ("CONNECT a:443 HTTP/1.1", 405, "method_refused"),
        ("CONNECT / HTTP/1.1", 405, "method_refused"),
        ("TRACE / HTTP/1.1", 405, "method_refused"),
        ("GET a:80 HTTP/1.1", 400, "target"),
        ("GET a HTTP/1.1", 400, "target"),
        ("GET * HTTP/1.1", 400, "target"),
        ("OPTIONS *a HTTP/1.1", 400, "target"),
        ("GET ?q HTTP/1.1", 400, "target"),
        ("GET /#f HTTP/1.1", 400, "target"),
        ("GET /?q#f HTTP/1.1", 400, "target"),
        ("GET /\u{e9} HTTP/1.1", 400, "target"),
        ("GET /\u{7f} HTTP/1.1", 400, "target"),
        ("GET /\u{0} HTTP/1.1", 400, "target"),
        ("GET /\u{b} HTTP/1.1", 400, "target"),
        ("GET /\r/ HTTP/1.1", 400, "target"),
        ("GET ftp://a/ HTTP/1.1", 400, "target"),
        ("GET http:/a/ HTTP/1.1", 400, "target"),
        ("GET //a HTTP/1.1\r\nHost: b", 400, "host_repeated"),
        ("GET http:///x HTTP/1.1", 400, "host_invalid"),
        ("GET http://u@a/ HTTP/1.1", 400, "host_invalid"),
        ("GET http://a\\@b/ HTTP/1.1", 400, "host_invalid"),
        ("GET http://b/ HTTP/1.1", 400, "host_mismatch"),
        ("GET http://a:8080/ HTTP/1.1", 400, "host_mismatch"),
        ("GET http://a:443/ HTTP/1.1", 400, "host_mismatch"),
        ("GET https://a:80/ HTTP/1.1", 400, "host_mismatch"),
        ("GET http://a.b/ HTTP/1.1", 400, "host_mismatch"),
    ] {
        check_refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), status, cause);
    }
    let latin1 = b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n";
    check_refused(latin1, 400, "target");
}

#[test]
fn heads_that_are_refused() {
    for (lines, status, cause) in [
        // Line endings: a lone LF or CR is a line's end to some and not to others.
        ("Host: a\n\r\n", 400, "line_ending"),
        ("Host: a\nX: y\r\n\r\n", 400, "line_ending"),
        ("Host: a\r\nX: y\n\n", 400, "line_ending"),
        ("Host: a\r\n\n", 400, "line_ending"),
        ("Host: a\r\nX: y\rZ: w\r\n\r\n", 400, "line_ending"),
        ("Host: a\r\nX: y\r\r\n\r\n", 400, "line_ending"),
        ("Host: a\r\nX:\r y\r\n\r\n", 400, "line_ending"),
        ("Host: a\r\n\r\r\n\r\n", 400, "header_name"),
        // Names.
        ("Host: a\r\nX : y\r\n\r\n", 400, "header_space_before_colon"),
        ("Host: a\r\nX\t: y\r\n\r\n", 400, "header_space_before_colon"),
        ("Host: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400, "header_space_before_colon"),
        ("Host: a\r\nContent-Length : 5\r\n\r\n", 400, "header_space_before_colon"),
        ("Host: a\r\nX\u{b}: y\r\n\r\n", 400, "header_name"),
        ("Host: a\r\n: y\r\n\r\n", 400, "header_name"),
        ("Host: a\r\nX\r\n\r\n", 400, "header_name"),
        ("Host: a\r\nX Y: z\r\n\r\n", 400, "header_name"),
        ("Host: a\r\nX\u{e9}: z\r\n\r\n", 400, "header_name"),
        ("Host: a\r\nX\0: z\r\n\r\n", 400, "header_name"),
        ("Host: a\r\n\"X\": z\r\n\r\n", 400, "header_name"),
        ("Host: a\r\nGET / HTTP/1.1\r\n\r\n", 400, "header_name"),
        // Folding.
        ("Host: a\r\nX: y\r\n z\r\n\r\n", 400, "header_folded"),
        ("Host: a\r\nX: y\r\n\tz\r\n\r\n", 400, "header_folded"),
        ("Host: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", 400, "header_folded"),
        (" Host: a\r\n\r\n", 400, "header_folded"),
        ("Host: a\r\n \r\n\r\n", 400, "header_folded"),
        // Values.
        ("Host: a\r\nX: \0\r\n\r\n", 400, "header_value"),
        ("Host: a\r\nX: y\u{1}\r\n\r\n", 400, "header_value"),
        ("Host: a\r\nX: y\u{7f}z\r\n\r\n", 400, "header_value"),
        ("Host: a\r\nX: \u{1b}[0m\r\n\r\n", 400, "header_value"),
        ("Host: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n", 400, "header_value"),
        ("Host: a\r\nTransfer-Encoding: chunked\u{c}\r\n\r\n", 400, "header_value"),
        // The first fault in the order of bytes is the one that is told.
        ("X : y\r\nHost: a\nX: \0\r\n\r\n", 400, "header_space_before_colon"),
        ("Host: a\nX : y\r\n\r\n", 400, "line_ending"),
        // Expect.
        ("Host: a\r\nExpect: 200-maybe\r\n\r\n", 400, "expect"),
        ("Host: a\r\nExpect: 100-continue, x\r\n\r\n", 400, "expect"),
        ("Host: a\r\nExpect: y 100-continue\r\n\r\n", 400, "expect"),
        ("Host: a\r\nExpect:\r\n\r\n", 400, "expect"),
        ("Host: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n", 400, "expect"),
    ] {
        check_refused(format!("GET / HTTP/1.1\r\n{lines}").as_bytes(), status, cause);
    }
}

#[test]
fn hosts_that_are_refused() {
    for (hosts, cause) in [
        ("X: y", "host_missing"),
        ("_Host: a", "host_missing"),
        ("Host: a\r\nHost: a", "host_repeated"),
        ("Host: a\r\nhost: b", "host_repeated"),
        ("Host: a\r\nX: y\r\nHOST: b", "host_repeated"),
        ("Host:", "host_invalid"),
        ("Host: :80", "host_invalid"),
        ("Host: a b", "host_invalid"),
        ("Host: a/b", "host_invalid"),
        ("Host: a?b", "host_invalid"),
        ("Host: u@a", "host_invalid"),
        ("Host: a:b", "host_invalid"),
        ("Host: a:80:80", "host_invalid"),
        ("Host: a:+80", "host_invalid"),
        ("Host: a:65536", "host_invalid"),
        ("Host: a:99999999999999999999999", "host_invalid"),
        ("Host: a%2eb", "host_invalid"),
        ("Host: a\\b", "host_invalid"),
        ("Host: a, b c", "host_invalid"),
        ("Host: \u{e9}", "host_invalid"),
        ("Host: ::1", "host_invalid"),
        ("Host: [::1", "host_invalid"),
        ("Host: []", "host_invalid"),
        ("Host: [::1]x", "host_invalid"),
        ("Host: [fe80::1%25eth0]", "host_invalid"),
        ("Host: [a]", "host_invalid"),
    ] {
        check_refused(format!("GET / HTTP/1.1\r\n{hosts}\r\n\r\n").as_bytes(), 400, cause);
    }
    check_refused(b"GET http://a/ HTTP/1.1\r\n\r\n", 400, "host_missing");
    check_refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host_repeated");
    check_refused(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n", 400, "host_invalid");
    check_refused(b"GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n", 400, "host_mismatch");
}

#[test]
fn framings_that_are_refused() {
    const CL: &str = "content_length_invalid";
    const DIFFER: &str = "content_length_conflict";
    const TE: &str = "transfer_encoding_invalid";
    const MORE: &str = "transfer_encoding_unsupported";
    const BOTH: &str = "framing_conflict";
    for (lines, status, cause) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, BOTH),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400, BOTH),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", 400, BOTH),
        ("Content-Length: 5\r\nContent-Length: 6", 400, DIFFER),
        ("Content-Length: 5, 6", 400, DIFFER),
        ("Content-Length: 0\r\nX: y\r\ncontent-length: 5", 400, DIFFER),
        ("Content-Length:", 400, CL),
        ("Content-Length: +5", 400, CL),
        ("Content-Length: -5", 400, CL),
        ("Content-Length: 5 5", 400, CL),
        ("Content-Length: 5,", 400, CL),
        ("Content-Length: ,5", 400, CL),
        ("Content-Length: 5;5", 400, CL),
        ("Content-Length: 0x5", 400, CL),
        ("Content-Length: 5.0", 400, CL),
        ("Content-Length: 1e3", 400, CL),
        ("Content-Length: \"5\"", 400, CL),
        ("Content-Length: 1_000", 400, CL),
        ("Content-Length: five", 400, CL),
        ("Content-Length: \u{665}", 400, CL),
        ("Content-Length: 18446744073709551616", 400, CL),
        ("Content-Length: 99999999999999999999999999", 400, CL),
        ("Transfer-Encoding:", 400, TE),
        ("Transfer-Encoding: xchunked", 400, TE),
        ("Transfer-Encoding: identity", 400, TE),
        ("Transfer-Encoding: gzip", 400, TE),
        ("Transfer-Encoding: cow", 400, TE),
        ("Transfer-Encoding: chunked, identity", 400, TE),
        ("Transfer-Encoding: chunked, gzip", 400, TE),
        ("Transfer-Encoding: chunked, chunked", 400, TE),
        ("Transfer-Encoding: chunked,", 400, TE),
        ("Transfer-Encoding: ,chunked", 400, TE),
        ("Transfer-Encoding: chunked;q=1", 400, TE),
        ("Transfer-Encoding: \"chunked\"", 400, TE),
        ("Transfer-Encoding: 'chunked'", 400, TE),
        ("Transfer-Encoding: chunked chunked", 400, TE),
        ("Transfer-Encoding: x chunked", 400, TE),
        ("Transfer-Encoding: x y, chunked", 400, TE),
        ("Transfer-Encoding: chunk\u{e9}d", 400, TE),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, TE),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", 400, TE),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400, TE),
        ("Transfer-Encoding: gzip, chunked", 501, MORE),
        ("Transfer-Encoding: identity, chunked", 501, MORE),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        check_refused(head.as_bytes(), status, cause);
    }
    let old = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_refused(old, 400, "transfer_encoding_version");
}

#[test]
fn framings_that_pass() {
    for (lines, framing) in [
        ("X: y", BodyFraming::None),
        ("Content-Length: 0", BodyFraming::Length(0)),
        ("Content-Length:5", BodyFraming::Length(5)),
        ("Content-Length: \t5\t ", BodyFraming::Length(5)),
        ("Content-Length: 005", BodyFraming::Length(5)),
        ("Content-Length: 18446744073709551615", BodyFraming::Length(u64::MAX)),
        ("Content-Length: 5, 5", BodyFraming::Length(5)),
        ("Content-Length: 5\r\nContent-Length: 5", BodyFraming::Length(5)),
        ("Transfer-Encoding: chunked", BodyFraming::Chunked),
        ("Transfer-Encoding:\tchunked\t", BodyFraming::Chunked),
        ("transfer-encoding: ChUnKeD", BodyFraming::Chunked),
        // Look-alikes frame nothing here, and are not passed on to an origin that may differ.
        ("Transfer_Encoding: chunked", BodyFraming::None),
        ("Content_Length: 5", BodyFraming::None),
        ("Transfer_Encoding: chunked\r\nContent-Length: 5", BodyFraming::Length(5)),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        assert_eq!(accept(head.as_bytes()).0.framing, framing, "{lines}");
    }
}

#[test]
fn targets_stay_as_received() {
    for (method, target, form, path, query) in [
        ("GET", "/", TargetForm::Origin, "/", None),
        ("GET", "/a?", TargetForm::Origin, "/a", Some("")),
        ("GET", "/a?b?c=d&e", TargetForm::Origin, "/a", Some("b?c=d&e")),
        ("GET", "//b/../%2e/;x\\y", TargetForm::Origin, "//b/../%2e/;x\\y", None),
        ("GET", "/\"<>^`{|}~", TargetForm::Origin, "/\"<>^`{|}~", None),
        ("GET", "/http://b/", TargetForm::Origin, "/http://b/", None),
        ("OPTIONS", "*", TargetForm::Asterisk, "*", None),
        ("GET", "http://a", TargetForm::Absolute, "/", None),
        ("GET", "http://A:80/x?y", TargetForm::Absolute, "/x", Some("y")),
        ("GET", "HTTPS://a.:443?y", TargetForm::Absolute, "/", Some("y")),
        ("GET", "http://a:?", TargetForm::Absolute, "/", Some("")),
        ("OPTIONS", "http://a", TargetForm::Absolute, "*", None),
        ("OPTIONS", "http://a?y", TargetForm::Absolute, "/", Some("y")),
    ] {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (facts, parts, got_query, host, _) = accept(head.as_bytes());
        assert_eq!(facts.target_form, form, "{target}");
        let expected = [method, target, path].map(|part| part.as_bytes().to_vec());
        assert_eq!(parts, expected, "{target}");
        assert_eq!(got_query.as_deref(), query.map(str::as_bytes), "{target}");
        assert_eq!(host.as_deref(), Some(b"a".as_slice()));
    }
    let without_host = accept(b"GET http://b:1/ HTTP/1.0\r\n\r\n");
    assert_eq!(without_host.3.as_deref(), Some(b"b:1".as_slice()));
    assert_eq!(accept(b"GET / HTTP/1.0\r\n\r\n").3, None);
}

#[test]
fn connection_facts() {
    // Columns: version, lines, keep_alive, expect_continue, te_trailers, upgrade.
    let ws = Some(Upgrade::WebSocket);
    let other = Some(Upgrade::Other);
    for (version, lines, keep_alive, expect, trailers, upgrade) in [
        ("1.1", "", true, false, false, None),
        ("1.0", "", false, false, false, None),
        ("1.1", "Connection: close\r\n", false, false, false, None),
        ("1.1", "Connection: x, CLOSE\r\n", false, false, false, None),
        ("1.1", "Connection: x\r\nConnection:,close,\r\n", false, false, false, None),
        ("1.1", "Connection: close, keep-alive\r\n", false, false, false, None),
        ("1.0", "Connection: Keep-Alive\r\n", true, false, false, None),
        ("1.0", "Connection: keep-alive, close\r\n", false, false, false, None),
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true, true, false, None),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true, true, false, None),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", true, false, false, None),
        ("1.1", "Expect: 100-continue\r\n", true, false, false, None),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false, false, false, None),
        ("1.1", "TE: trailers\r\n", true, false, true, None),
        ("1.1", "TE: gzip;q=0.5, Trailers\r\n", true, false, true, None),
        ("1.1", "TE: gzip\r\n", true, false, false, None),
        ("1.1", "Upgrade: websocket\r\n", true, false, false, None),
        ("1.1", "Connection: Upgrade\r\nUpgrade: WebSocket\r\n", true, false, false, ws),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", true, false, false, ws),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", true, false, false, other),
        ("1.1", "Connection: upgrade\r\nUpgrade: websocket/13\r\n", true, false, false, other),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false, false, false, other),
        (
            "1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
            true,
            false,
            false,
            other,
        ),
    ] {
        let facts = accept(format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes()).0;
        let got = (facts.keep_alive, facts.expect_continue, facts.te_trailers, facts.upgrade);
        assert_eq!(got, (keep_alive, expect, trailers, upgrade), "{version} {lines}");
    }
}

#[test]
fn every_byte_in_every_place() {
    for byte in 0..=255u8 {
        let at = |before: &str, after: &str| {
            let input = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            whole(&input).is_ok_and(|parsed| parsed.is_some())
        };
        let name = at("GET / HTTP/1.1\r\nHost: a\r\nx", "x: y\r\n\r\n");
        // A colon ends the name: the rest is value.
        assert_eq!(name, is_token(&[byte]) || byte == b':', "name {byte:#x}");
        let value = at("GET / HTTP/1.1\r\nHost: a\r\nx: y", "y\r\n\r\n");
        let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(value, allowed, "value {byte:#x}");
        let target = at("GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(target, byte.is_ascii_graphic() && byte != b'#', "target {byte:#x}");
        let method = at("GE", "T / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(method, is_token(&[byte]), "method {byte:#x}");
    }
}

#[test]
fn limits_hold_while_the_head_is_incomplete() {
    let limits = Limits { head_bytes_max: 300, uri_bytes_max: 100, headers_max: 3 };
    let run = |input: &[u8]| {
        let result = feed(input, std::iter::empty(), &limits);
        let bytewise = feed(input, 0..input.len(), &limits);
        // A line that trickles in may be judged only when it ends, or outgrows its limit.
        assert!(bytewise == result || (bytewise == Ok(None) && !input.contains(&b'\n')));
        result.map(|parsed| parsed.is_some()).map_err(|error| (error.status(), error.cause()))
    };
    let head = |path: usize, lines: &str| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n{lines}\r\n", "x".repeat(path)).into_bytes()
    };
    let long = Err((414, "target_too_long"));
    let large = Err((431, "head_too_large"));
    let many = Err((431, "headers_too_many"));
    assert_eq!(run(&head(99, "")), Ok(true));
    assert_eq!(run(&head(100, "")), long);
    assert_eq!(run(&[b"GET /".as_slice(), &[b'x'; 101]].concat()), long);
    assert_eq!(run(b"GET / HTTP/1.1xx"), Err((400, "request_line")));
    assert_eq!(run(&[b'G'; 65]), Err((501, "method_too_long")));
    assert_eq!(
        run(&[[b'G'; 65].as_slice(), b" / HTTP/1.1\r\n"].concat()),
        Err((501, "method_too_long"))
    );
    let fill = 300 - head(0, "X: \r\n").len();
    assert_eq!(run(&head(0, &format!("X: {}\r\n", "y".repeat(fill)))), Ok(true));
    assert_eq!(run(&head(0, &format!("X: {}\r\n", "y".repeat(fill + 1)))), large);
    assert_eq!(run(&[head(0, "")[..24].to_vec(), vec![b'y'; 300]].concat()), large);
    assert_eq!(run(&head(0, "A: b\r\nA: b\r\n")), Ok(true));
    assert_eq!(run(&head(0, "A: b\r\nA: b\r\nA: b\r\n")), many);
    assert_eq!(run(b"GET / HTTP/1.1\r\nA:\r\nA:\r\nA:\r\nA:\r\n"), many);
}

#[test]
fn what_must_pass_at_least() {
    let limits = Limits::default();
    let path = format!("/{}", "x".repeat(7_999));
    let value = "y".repeat(32 * 1024 - 8_100);
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n");
    assert!(matches!(feed(head.as_bytes(), std::iter::empty(), &limits), Ok(Some(_))));
    let lines = |count, line: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line.repeat(count)).into_bytes()
    };
    // 1,024 lines with `Host`, in a head of 4 KiB and in one of almost 32 KiB.
    for line in ["X: y\r\n".to_owned(), format!("X: {}\r\n", "y".repeat(27))] {
        assert_eq!(accept(&lines(HEADERS_CAP - 1, &line)).4.len(), HEADERS_CAP);
        check_refused(&lines(HEADERS_CAP, &line), 431, "headers_too_many");
    }
}

#[test]
fn connection_may_not_name_endless_fields() {
    let named = |count| {
        let names = vec!["x"; count].join(",");
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {names}\r\n\r\n").into_bytes()
    };
    accept(&named(fields::NOMINATED_MAX));
    check_refused(&named(fields::NOMINATED_MAX + 1), 400, "connection_options");
}

#[test]
fn empty_lines_before_a_request() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    accept(format!("\r\n{request}").as_bytes());
    accept(format!("{}{request}", "\r\n".repeat(EMPTY_LINES_MAX)).as_bytes());
    let many = "\r\n".repeat(EMPTY_LINES_MAX + 1);
    check_refused(format!("{many}{request}").as_bytes(), 400, "empty_lines");
    check_refused(format!("\n{request}").as_bytes(), 400, "line_ending");
    check_refused(format!("\r{request}").as_bytes(), 400, "line_ending");
    assert_eq!(whole(b"\r\n\r"), Ok(None));
    assert_eq!(whole(b""), Ok(None));
}

#[test]
fn the_head_ends_where_the_body_begins() {
    let input =
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\nabGET / HTTP/1.1\r\n\r\n";
    let (len, _) = whole(input).expect("parses").expect("complete");
    assert_eq!(&input[len..len + 3], b"\nab");
}

fn forwarded(lines: &str, rules: ForwardRules) -> Vec<String> {
    let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut head = RequestHead::new();
    parse_request(input.as_bytes(), 0, &Limits::default(), &mut head).expect("parses");
    let request = head.view(input.as_bytes());
    request
        .headers()
        .filter(|header| request.forwards(header, rules))
        .map(|header| String::from_utf8_lossy(header.name).into_owned())
        .collect()
}

#[test]
fn which_headers_are_forwarded() {
    let plain = ForwardRules::default();
    let overrides = ForwardRules { override_headers: true, ..plain };
    let trusted = ForwardRules { trusted_peer: true, ..plain };
    for (lines, rules, expected) in [
        ("Accept: x\r\naccept: y\r\n", plain, "Accept accept"),
        (
            "Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nTE: trailers\r\n",
            plain,
            "",
        ),
        ("Upgrade: h2c\r\nHTTP2-Settings: x\r\nExpect: 100-continue\r\n", plain, ""),
        ("Content-Length: 0\r\nTrailer: x\r\n", plain, ""),
        ("Transfer-Encoding: chunked\r\nTrailer: x\r\n", plain, "Trailer"),
        ("Connection: x-a, close\r\nX-A: 1\r\nx-b: 2\r\n", plain, "x-b"),
        ("X-A: 1\r\nConnection: x-a\r\nConnection: X-B\r\nX-B: 2\r\n", plain, ""),
        ("Authorization: x\r\nCookie: y\r\nOrigin: z\r\n", plain, "Authorization Cookie Origin"),
        ("PayFence-Customer: x\r\npayfence-anything: y\r\nPayFence_Plan: z\r\n", plain, ""),
        ("X-Forwarded-For: x\r\nX-Forwarded-Proto: x\r\nX-Forwarded-Host: x\r\n", trusted, ""),
        ("X_Forwarded_For: x\r\nX-Forwarded_For: x\r\n", trusted, ""),
        ("Forwarded: x\r\nX-Real-IP: x\r\nX_Real_IP: x\r\n", plain, ""),
        (
            "Connection: forwarded\r\nForwarded: x\r\nX-Real-IP: x\r\n",
            trusted,
            "Forwarded X-Real-IP",
        ),
        ("X_Real_IP: x\r\nX-Real_IP: y\r\nX-Real-IP: z\r\n", trusted, "X-Real-IP"),
        ("X-Original-URL: x\r\nX-Rewrite-URL: x\r\nX-HTTP-Method: x\r\n", plain, ""),
        ("X-HTTP-Method-Override: x\r\nX-Method-Override: x\r\nX_HTTP_Method: x\r\n", plain, ""),
        ("X-Original-URL: x\r\nX_Rewrite_URL: x\r\n", overrides, "X-Original-URL X_Rewrite_URL"),
        ("Transfer_Encoding: chunked\r\nContent_Length: 5\r\nKeep_Alive: x\r\n", plain, ""),
        ("X_Custom: kept\r\n", plain, "X_Custom"),
    ] {
        assert_eq!(forwarded(lines, rules).join(" "), expected, "{lines}");
    }
}

#[test]
fn a_head_over_other_bytes_is_harmless() {
    let input = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let mut head = RequestHead::new();
    parse_request(input, 0, &Limits::default(), &mut head).expect("parses");
    for other in [b"".as_slice(), b"GET", &input[..30]] {
        let request = head.view(other);
        assert!(request.method().len() <= 3 && request.headers().count() == 2);
        let _ = (request.target(), request.query(), request.host(), request.is_nominated(b"x"));
    }
}
