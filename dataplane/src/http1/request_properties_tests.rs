//! Properties of request heads: pieces do not matter, what is written parses back, noise is
//! harmless.

use proptest::prelude::*;

use super::tests::{Seen, feed, whole};
use super::*;
use crate::http1::write;

/// Fragments of requests, sound and unsound, that are put together at random.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "GET /a?b HTTP/1.0\r\n",
        "POST http://a/x HTTP/1.1\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "GET /#x HTTP/1.1\r\n",
        "GET  HTTP/1.1\r\n",
        "GET / HTTP/3.0\r\n",
        "G\rT / HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "\r\n",
        "\r",
        "CONNECT a:1 HTTP/1.1\r\n",
    ]);
    let line = prop::sample::select(vec![
        "Host: a\r\n",
        "Host: a\r\n",
        "Host: a\r\n",
        "X: y\r\n",
        "X: y\r\n",
        "X_Y:\r\n",
        "X: y\n",
        "X: y\r",
        " z\r\n",
        "X : y\r\n",
        "X: \0\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: x, close\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "\r\n",
        "\n",
        "TE: trailers\r\n",
        "nonsense\r\n",
    ]);
    (start, prop::collection::vec(line, 0..8))
        .prop_map(|(start, lines)| format!("{start}{}\r\n\r\n", lines.concat()).into_bytes())
}

/// Puts a parsed head into words again, as the exchange does.
fn rewrite(seen: &Seen) -> Vec<u8> {
    let mut out = Vec::new();
    write::request_line(&mut out, &seen.1[0], &[&seen.1[1]]);
    for (name, value) in &seen.4 {
        write::header(&mut out, name, value);
    }
    write::end(&mut out);
    out
}

proptest! {
    #[test]
    fn pieces_do_not_matter(
        input in any_head(),
        cuts in prop::collection::btree_set(0usize..200, 0..12),
        max in 20usize..120,
    ) {
        let limits = Limits { head_bytes_max: max, uri_bytes_max: 8, headers_max: 4 };
        for limits in [limits, Limits::default()] {
            let cuts = cuts.iter().copied().filter(|cut| *cut < input.len());
            let at_once = feed(&input, std::iter::empty(), &limits);
            prop_assert_eq!(feed(&input, cuts, &limits), at_once);
        }
    }

    #[test]
    fn what_is_written_parses_back(input in any_head()) {
        if let Ok(Some((_, seen))) = whole(&input)
            && seen.0.version == Version::Http11
        {
            let written = rewrite(&seen);
            prop_assert_eq!(whole(&written), Ok(Some((written.len(), seen))));
        }
    }

    #[test]
    fn noise_never_panics(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = feed(&input, 0..input.len(), &Limits::default());
    }
}
