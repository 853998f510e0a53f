//! Responses as data: framing by RFC 9112 §6.3, and what is no answer at all.

use proptest::prelude::*;

use super::*;

type Seen = (ResponseFacts, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

fn feed(
    input: &[u8],
    cuts: impl Iterator<Item = usize>,
    request_was_head: bool,
) -> Result<Option<(usize, Seen)>, ResponseError> {
    let mut head = ResponseHead::new();
    let mut seen = 0;
    for cut in cuts.chain([input.len()]) {
        let piece = &input[..cut];
        let parse = parse_response(piece, seen, request_was_head, &Limits::default(), &mut head)?;
        if let Parse::Complete { len } = parse {
            let response = head.view(input);
            let headers = response.headers().map(|h| (h.name.to_vec(), h.value.to_vec())).collect();
            return Ok(Some((len, (response.facts(), response.reason().to_vec(), headers))));
        }
        seen = cut;
    }
    Ok(None)
}

fn accept(input: &str, request_was_head: bool) -> Seen {
    let input = input.as_bytes();
    let (_, seen) = feed(input, std::iter::empty(), request_was_head)
        .unwrap_or_else(|error| panic!("{error}: {}", input.escape_ascii()))
        .unwrap_or_else(|| panic!("incomplete: {}", input.escape_ascii()));
    let bytewise = feed(input, 0..input.len(), request_was_head);
    assert_eq!(bytewise.map(|parsed| parsed.map(|(_, seen)| seen)), Ok(Some(seen.clone())));
    seen
}

#[test]
fn framings() {
    use ResponseFraming as F;
    let cl = "Content-Length: 5";
    let te = "Transfer-Encoding: chunked";
    // Columns: start line, header line, the request was HEAD, framing, the connection is reusable.
    for (start, line, head, framing, keep_alive) in [
        ("HTTP/1.1 200 OK", cl, false, F::Length(5), true),
        ("HTTP/1.1 200", cl, false, F::Length(5), true),
        ("HTTP/1.1 200 OK", "Content-Length: 0", false, F::Length(0), true),
        ("HTTP/1.1 200 OK", "Content-Length: 5, 5", false, F::Length(5), true),
        ("HTTP/1.1 200 OK", te, false, F::Chunked, true),
        ("HTTP/1.1 200 OK", "X: y", false, F::UntilClose, false),
        ("HTTP/1.1 200 OK", "Content_Length: 5", false, F::UntilClose, false),
        ("HTTP/1.1 200 OK", cl, true, F::None, true),
        ("HTTP/1.1 200 OK", te, true, F::None, true),
        ("HTTP/1.1 200 OK", "X: y", true, F::None, true),
        ("HTTP/1.1 204 No Content", "X: y", false, F::None, true),
        ("HTTP/1.1 204 No Content", "Content-Length: 0", false, F::None, true),
        ("HTTP/1.1 204 No Content", cl, false, F::None, false),
        ("HTTP/1.1 204 No Content", te, false, F::None, false),
        ("HTTP/1.1 304 Not Modified", cl, false, F::None, true),
        ("HTTP/1.1 304 Not Modified", te, false, F::None, true),
        ("HTTP/1.1 100 Continue", "X: y", false, F::None, true),
        ("HTTP/1.1 103 Early Hints", "Link: x", false, F::None, true),
        ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", false, F::None, true),
        ("HTTP/1.1 200 OK", "Connection: close\r\nContent-Length: 5", false, F::Length(5), false),
        ("HTTP/1.0 200 OK", cl, false, F::Length(5), false),
        ("HTTP/1.0 200 OK", "X: y", false, F::UntilClose, false),
        (
            "HTTP/1.0 200 OK",
            "Connection: keep-alive\r\nContent-Length: 5",
            false,
            F::Length(5),
            true,
        ),
        ("HTTP/1.0 200 OK", "Connection: keep-alive", false, F::UntilClose, false),
        ("HTTP/1.1 599 Whatever", cl, false, F::Length(5), true),
        ("HTTP/1.1 999 ", cl, false, F::Length(5), true),
    ] {
        let facts = accept(&format!("{start}\r\n{line}\r\n\r\n"), head).0;
        assert_eq!(
            (facts.framing, facts.keep_alive),
            (framing, keep_alive),
            "{start} {line} {head}"
        );
    }
    let head = accept("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).0;
    assert_eq!(head.content_length, Some(5));
}

#[test]
fn kinds_of_response() {
    for (status, interim, switching) in
        [(100, true, false), (101, false, true), (102, true, false), (200, false, false)]
    {
        let facts = accept(&format!("HTTP/1.1 {status} x y\r\n\r\n"), false);
        assert_eq!(facts.1, b"x y");
        assert_eq!((facts.0.is_interim(), facts.0.is_switching()), (interim, switching));
    }
    let upgrade = accept("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", false).0.upgrade;
    assert_eq!(upgrade, Some(Upgrade::WebSocket));
}

#[test]
fn what_is_no_answer() {
    for (input, cause) in [
        ("hello\r\n\r\n", "status_line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "status_line"),
        ("<html>", "status_line"),
        ("SSH-2.0-OpenSSH\r\n", "status_line"),
        ("http/1.1 200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 +20 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1\t200 OK\r\n\r\n", "status_line"),
        ("HTTP/1.1 200\tOK\r\n\r\n", "status_line"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "status_line"),
        ("HTTP/1.1 200 O\rK\r\n\r\n", "status_line"),
        ("HTTP/1.1\r\n\r\n", "status_line"),
        ("HTTP/1.10 200 OK\r\n\r\n", "status_line"),
        ("HTTP/2.0 200 OK\r\n\r\n", "version"),
        ("HTTP/0.9 200 OK\r\n\r\n", "version"),
        ("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\n\r\n", "header_name"),
        ("HTTP/1.1 200 OK\n\n", "line_ending"),
        ("HTTP/1.1 200 OK\r\nX: y\n\r\n", "line_ending"),
        ("HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n", "line_ending"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "header_folded"),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", "header_space_before_colon"),
        ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", "header_value"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "framing_conflict",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "content_length_conflict",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "content_length_invalid"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "transfer_encoding_invalid"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "transfer_encoding_unsupported",
        ),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_version"),
        ("HTTP/1.1 304 x\r\nContent-Length: x\r\n\r\n", "content_length_invalid"),
    ] {
        let error = feed(input.as_bytes(), std::iter::empty(), false).expect_err(input);
        assert_eq!(error.cause(), cause, "{}", input.escape_debug());
        let bytewise = feed(input.as_bytes(), 0..input.len(), false);
        // Noise at the very front is noticed with the bytes that show it, or with the next line.
        assert!(bytewise == Err(error) || !input.contains('\n'), "{}", input.escape_debug());
    }
    let limits = Limits { head_bytes_max: 60, uri_bytes_max: 60, headers_max: 2 };
    for (input, cause) in [
        (format!("HTTP/1.1 200 {}", "x".repeat(60)), "head_too_large"),
        ("HTTP/1.1 200 \r\nA:\r\nB:\r\nC:\r\n".to_owned(), "headers_too_many"),
    ] {
        let mut head = ResponseHead::new();
        let error = parse_response(input.as_bytes(), 0, false, &limits, &mut head);
        assert_eq!(error.map_err(ResponseError::cause), Err(cause));
    }
}

#[test]
fn as_many_header_lines_pass_as_the_parser_takes() {
    for (lines, expected) in
        [(HEADERS_CAP, Ok(HEADERS_CAP)), (HEADERS_CAP + 1, Err("headers_too_many"))]
    {
        let input = format!("HTTP/1.1 200 \r\n{}\r\n", "X: y\r\n".repeat(lines));
        let mut head = ResponseHead::new();
        let parsed = parse_response(input.as_bytes(), 0, false, &Limits::default(), &mut head);
        let seen = parsed.map(|_| head.view(input.as_bytes()).headers().count());
        assert_eq!(seen.map_err(ResponseError::cause), expected);
    }
}

#[test]
fn which_headers_are_forwarded() {
    let plain = "Content-Length: 5\r\n";
    for (lines, rate_limit, expected) in [
        (
            "Date: x\r\nServer: y\r\nVary: z\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n",
            false,
            "Date Server Vary Set-Cookie Set-Cookie",
        ),
        ("Connection: x-a\r\nX-A: b\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\n", false, ""),
        ("Trailer: x\r\nUpgrade: h2\r\n", false, ""),
        ("PayFence-Cost: 1\r\nPayFence-Request-Id: x\r\nPayFence_Cost: 2\r\n", false, ""),
        ("RateLimit: a\r\nX-RateLimit-Limit: b\r\nX_RateLimit_Reset: c\r\n", true, ""),
        (
            "RateLimit: a\r\nRateLimit-Policy: b\r\nX-RateLimit-Other: c\r\n",
            true,
            "X-RateLimit-Other",
        ),
        ("RateLimit: a\r\nX-RateLimit-Limit: b\r\n", false, "RateLimit X-RateLimit-Limit"),
    ] {
        let input = format!("HTTP/1.1 200 OK\r\n{plain}{lines}\r\n");
        let mut head = ResponseHead::new();
        parse_response(input.as_bytes(), 0, false, &Limits::default(), &mut head).expect("parses");
        let response = head.view(input.as_bytes());
        let names: Vec<_> = response
            .headers()
            .filter(|header| response.forwards(header, rate_limit))
            .map(|header| String::from_utf8_lossy(header.name).into_owned())
            .collect();
        assert_eq!(names.join(" "), expected, "{lines}");
    }
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        lines in prop::collection::vec(prop::sample::select(vec![
            "X: y\r\n", "X: y\n", " z\r\n", "Content-Length: 5\r\n", "Content-Length: 6\r\n",
            "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "\r\n", "X\0: y\r\n",
        ]), 0..6),
        start in prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 204\r\n", "HTTP/1.1 2x0\r\n", "HTTP/9.1 200 OK\r\n",
        ]),
        cuts in prop::collection::btree_set(0usize..80, 0..8),
    ) {
        let input = format!("{start}{}\r\n\r\n", lines.concat()).into_bytes();
        let cuts = cuts.into_iter().filter(|cut| *cut < input.len());
        let at_once = feed(&input, std::iter::empty(), false);
        prop_assert_eq!(feed(&input, cuts, false), at_once);
    }

    #[test]
    fn noise_never_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let input = [b"HTTP/1.1 200 ".as_slice(), &tail].concat();
        let _ = feed(&input, 0..input.len(), false);
        let _ = feed(&tail, 0..tail.len(), true);
    }
}
