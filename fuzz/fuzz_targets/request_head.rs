//! Request heads: no input panics, a head that trickles in is read as one that comes at once, and what is accepted holds
//! nothing that a second reader could take for another line.

#![no_main]

use dataplane::http1::{HeadError, Limits, Parse, RequestHead, parse_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let mut head = RequestHead::new();
    let whole = parse_request(data, 0, &limits, &mut head);
    if let Ok(Parse::Complete { len }) = whole {
        assert!(len <= data.len());
        let view = head.view(data);
        let clean = |bytes: &[u8]| bytes.iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        assert!(clean(view.method()) && clean(view.target()) && clean(view.path()));
        for header in view.headers() {
            assert!(!header.name.is_empty() && clean(header.name) && clean(header.value));
            assert!(!header.name.contains(&b' ') && !header.name.contains(&b':'));
        }
    }
    // A verdict may wait for the end of a line; so both get one.
    let ended = [data, b"\r\n\r\n"].concat();
    let whole = parse_request(&ended, 0, &limits, &mut head);
    trickle(&ended, &limits, &whole);
});

/// Byte by byte, as a slow client sends: the first verdict that is not `Partial` is the whole's.
fn trickle(data: &[u8], limits: &Limits, whole: &Result<Parse, HeadError>) {
    if data.len() > 2048 {
        return;
    }
    let mut head = RequestHead::new();
    let mut seen = 0;
    for end in 1..=data.len() {
        match parse_request(&data[..end], seen, limits, &mut head) {
            Ok(Parse::Partial) => seen = end,
            verdict => {
                // Which of several faults is named may differ.
                let same = match (&verdict, whole) {
                    (Ok(Parse::Complete { len }), Ok(Parse::Complete { len: other })) => {
                        len == other
                    }
                    (verdict, whole) => verdict.is_err() && whole.is_err(),
                };
                assert!(same, "{verdict:?} after {end} bytes, {whole:?} at once");
                return;
            }
        }
    }
    assert!(matches!(whole, Ok(Parse::Partial)), "partial to the end, {whole:?} at once");
}
