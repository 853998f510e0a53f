//! What the writers write, and what they never write.

use proptest::prelude::*;

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before|".to_vec();
    write(&mut out);
    String::from_utf8_lossy(out.strip_prefix(b"before|").expect("appends")).into_owned()
}

#[test]
fn parts() {
    for (got, expected) in [
        (
            written(|out| request_line(out, b"GET", &[b"/p", b"/a", b"?q"])),
            "GET /p/a?q HTTP/1.1\r\n",
        ),
        (written(|out| status_line(out, 404, b"Not Found")), "HTTP/1.1 404 Not Found\r\n"),
        (written(|out| status_line(out, 299, b"")), "HTTP/1.1 299 \r\n"),
        (written(|out| header(out, b"A", b"b c")), "A: b c\r\n"),
        (written(|out| header(out, b"A", b"b\r\nC: d\0\x7f\te")), "A: b  C: d  \te\r\n"),
        (written(|out| header_decimal(out, b"N", 0)), "N: 0\r\n"),
        (written(|out| header_decimal(out, b"N", u64::MAX)), "N: 18446744073709551615\r\n"),
        (written(|out| request_framing(out, BodyFraming::None)), ""),
        (written(|out| request_framing(out, BodyFraming::Length(10))), "Content-Length: 10\r\n"),
        (
            written(|out| request_framing(out, BodyFraming::Chunked)),
            "Transfer-Encoding: chunked\r\n",
        ),
        (written(|out| response_framing(out, ResponseFraming::None)), ""),
        (written(|out| response_framing(out, ResponseFraming::UntilClose)), ""),
        (written(|out| response_framing(out, ResponseFraming::Length(0))), "Content-Length: 0\r\n"),
        (
            written(|out| response_framing(out, ResponseFraming::Chunked)),
            "Transfer-Encoding: chunked\r\n",
        ),
        (written(|out| chunk(out, b"")), ""),
        (written(|out| chunk(out, b"0123456789abcdef")), "10\r\n0123456789abcdef\r\n"),
        (written(|out| last_chunk(out, std::iter::empty(), |_| true)), "0\r\n\r\n"),
        (written(end), "\r\n"),
    ] {
        assert_eq!(got, expected);
    }
    assert_eq!(reason(429), "Too Many Requests");
    assert_eq!(reason(799), "");
}

proptest! {
    #[test]
    fn numbers_are_as_the_standard_library_writes_them(number: u64, small in 0usize..100_000) {
        prop_assert_eq!(written(|out| decimal(out, number)), number.to_string());
        prop_assert_eq!(chunk_line_len(small), format!("{small:x}\r\n").len());
    }

    #[test]
    fn no_value_ends_its_line(value in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        header(&mut out, b"x", &value);
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n' || **byte == b'\r').count(), 2);
        prop_assert!(out.ends_with(b"\r\n"));
        prop_assert_eq!(out.len(), value.len() + 5);
    }
}
