//! Response heads: no input panics, and what is accepted has one framing and clean lines.

#![no_main]

use dataplane::http1::{Limits, Parse, ResponseHead, parse_response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((flag, data)) = data.split_first() else { return };
    let (limits, mut head) = (Limits::default(), ResponseHead::new());
    let was_head = flag & 1 == 1;
    let whole = parse_response(data, 0, was_head, &limits, &mut head);
    if let Ok(Parse::Complete { len }) = whole {
        assert!(len <= data.len());
        let view = head.view(data);
        for header in view.headers() {
            let clean = |bytes: &[u8]| bytes.iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            assert!(!header.name.is_empty() && clean(header.name) && clean(header.value));
        }
    }
    let ended = [data, b"\r\n\r\n"].concat();
    if ended.len() > 2048 {
        return;
    }
    let whole = parse_response(&ended, 0, was_head, &limits, &mut head);
    let mut seen = 0;
    for end in 1..=ended.len() {
        match parse_response(&ended[..end], seen, was_head, &limits, &mut head) {
            Ok(Parse::Partial) => seen = end,
            verdict => {
                assert_eq!(
                    verdict.is_ok(),
                    whole.is_ok(),
                    "{verdict:?} after {end}, {whole:?} at once"
                );
                return;
            }
        }
    }
    assert!(matches!(whole, Ok(Parse::Partial)), "partial to the end, {whole:?} at once");
});
